//go:build unix

package sharedfd

import (
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
)

// closeHandle closes a descriptor. It may take its time (SO_LINGER waits also on a
// socket that does not block), so it is no raw call. EINTR is no failure: the
// descriptor is gone.
func closeHandle(h backend.Handle) error {
	if err := unix.Close(int(h)); err != nil && err != unix.EINTR {
		return err
	}
	return nil
}
