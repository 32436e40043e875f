//go:build unix

package socket_test

import (
	"math"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/socket"
)

// A buffer that is larger than what one system call transfers is used in part.
func TestBuffers_LargerThanACall(t *testing.T) {
	if math.MaxInt == math.MaxInt32 {
		t.Skip("no room for the buffer")
	}
	huge, err := unix.Mmap(-1, 0, 1<<30+1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Skipf("no room for the buffer: %v", err)
	}
	defer func() { require.NoError(t, unix.Munmap(huge)) }()
	for name, bufs := range map[string][][]byte{"first": {huge}, "after an empty one": {nil, huge}, "after another": {make([]byte, 1), huge}} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			_, err := a.Write([]byte("h"))
			require.NoError(t, err)
			n, err := b.ReadBuffers(bufs)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			sent := append(net.Buffers(nil), bufs...)
			written, err := a.WriteBuffers(&sent)
			require.Equal(t, socket.ErrWouldBlock, err)
			require.Positive(t, written)
		})
	}
}
