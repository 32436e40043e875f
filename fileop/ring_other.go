//go:build !linux

package fileop

import (
	"errors"
	"fmt"
	"runtime"
)

// ringState is the state of a request in an io_uring.
type ringState struct{} //lint:ignore U1000 a field has this type on every system

func (q *Queue) openRing() error {
	return fmt.Errorf("%s has no io_uring: %w", runtime.GOOS, errors.ErrUnsupported)
}
