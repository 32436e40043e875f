//go:build !(linux || freebsd)

package socket

import (
	"errors"
	"fmt"
)

func setDeferAccept(handle, int) error { return errNoOption("TCP_DEFER_ACCEPT") }

// errNoOption returns the error of an option that the system lacks.
func errNoOption(name string) error {
	return fmt.Errorf("no %s on this system: %w", name, errors.ErrUnsupported)
}
