//go:build unix

package sharedfd

import (
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

// closeHandle closes a descriptor. This may take long, because SO_LINGER also waits on a
// non-blocking socket, so it is not a raw system call. EINTR is not a failure: the descriptor
// is closed.
func closeHandle(h backend.Handle) error {
	if err := unix.Close(int(h)); err != nil && err != unix.EINTR {
		return err
	}
	return nil
}
