//go:build !(linux || freebsd)

package socket

import (
	"errors"
	"fmt"
)

func setDeferAccept(handle, int) error { return errNoOption("TCP_DEFER_ACCEPT") }

// errNoOption says that the system has no such option.
func errNoOption(name string) error {
	return fmt.Errorf("this system has no %s: %w", name, errors.ErrUnsupported)
}
