//go:build unix

package conformance_test

import (
	"math/rand/v2"

	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/socket"
)

// rawLink is a bare descriptor.
type rawLink int

func (fd rawLink) Read(p []byte) (int, error)  { return fixture.ReadFD(int(fd), p) }
func (fd rawLink) Write(p []byte) (int, error) { return fixture.WriteFD(int(fd), p) }
func (fd rawLink) CloseWrite() error           { return unix.Shutdown(int(fd), unix.SHUT_WR) }
func (fd rawLink) Close() error                { return unix.Close(int(fd)) }

// soakPair makes two connected sockets: bare descriptors, or sockets of package socket.
func soakPair(random *rand.Rand) (here, there link, source epore.Source, bare bool, err error) {
	if random.IntN(4) == 0 {
		a, b, err := socket.Pair()
		return a, b, a, false, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, nil, false, err
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, nil, nil, false, err
		}
	}
	return rawLink(fds[0]), rawLink(fds[1]), epore.FD(fds[0]), true, nil
}
