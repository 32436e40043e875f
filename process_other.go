//go:build !unix

package epore

import (
	"errors"
	"fmt"
	"runtime"
)

// noSignal is one that nothing sends: asking for it tells whether there is a process.
const noSignal = unsent("no signal")

type unsent string

func (unsent) Signal()          {}
func (s unsent) String() string { return string(s) }

// processExists is for kernels that take a process that has ended for none.
func processExists(int) bool { return false }

func openProcess(int) (fd int, err error) {
	return -1, fmt.Errorf("%s has no descriptors of processes: %w", runtime.GOOS, errors.ErrUnsupported)
}

func closeDescriptor(int) error { return nil }

func (p *Poll) watchBySignal(Token, int) (end func() error, err error) {
	return nil, fmt.Errorf("nor SIGCHLD: %w", errors.ErrUnsupported)
}
