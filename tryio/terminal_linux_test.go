package tryio_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/tryio"
)

// contract: N18
func TestTerminal(t *testing.T) {
	guard(t)
	master, slave := fixture.Terminal(t)
	require.NoError(t, unix.SetNonblock(slave.FD, false))
	buf := make([]byte, 16)
	_, err := tryio.Read(epore.FD(slave.FD), buf)
	require.Equal(t, tryio.ErrWouldBlock, err)
	master.Write("typed\n")
	fixture.AwaitReadable(t, slave.FD)
	n, err := tryio.Read(epore.FD(slave.FD), buf)
	require.NoError(t, err)
	require.Equal(t, "typed\n", string(buf[:n]))
	_, err = tryio.Write(epore.FD(slave.FD), []byte("shown"))
	require.NoError(t, err)
}
