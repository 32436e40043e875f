//go:build !unix && !windows

package tryio

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/epore/epore/socket"
)

type memory struct{}

var (
	errNone = fmt.Errorf("nothing can be tried on %s: %w", runtime.GOOS, errors.ErrUnsupported)
)

func (a *attempt) tryRead(uintptr) (int, error)  { return 0, errNone }
func (a *attempt) tryWrite(uintptr) (int, error) { return 0, errNone }
func accept(uintptr) (*socket.Conn, error)       { return nil, errNone }
