package epore_test

import (
	"os"
	"syscall"
	"testing"

	"github.com/epore/epore/internal/fixture"
)

// Signals to test with. Only one can be sent without ending the program.
const (
	sig1 = syscall.SIGINT
	sig2 = syscall.SIGINT
)

// uncatchable is one that no program can catch.
var uncatchable = os.Kill

// raise sends one to this process, and returns when Go's runtime has it.
func raise(t testing.TB, _ syscall.Signal) { t.Helper(); fixture.Interrupt(t) }
