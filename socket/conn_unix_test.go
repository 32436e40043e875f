//go:build unix

package socket_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/socket"
)

// asProgram makes the test binary a program in which a socket has descriptor 1.
const asProgram = "EPORE_TEST_SOCKET_IS_STDOUT"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		_ = os.Stdout.Close()
		a, b, err := socket.Pair()
		if err == nil {
			_ = b.Close()
			_, err = a.Write([]byte("x"))
		}
		raw, _ := a.SyscallConn()
		_ = raw.Control(func(fd uintptr) { println("fd", fd) })
		println(err.Error())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestConn_SocketAsStdoutRaisesNoSignal(t *testing.T) {
	guard(t, "N3: never a SIGPIPE, not even for descriptors 1 and 2, for which the runtime does not ignore it")
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), asProgram+"=1",
		"GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0") // otherwise it takes a second longer with -race
	var out strings.Builder
	cmd.Stderr = &out
	require.NoError(t, cmd.Run(), out.String())
	require.Contains(t, out.String(), "fd 1\n")
	require.Contains(t, out.String(), "broken pipe")
}
