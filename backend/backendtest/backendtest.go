// Package backendtest holds every backend to the same contract.
//
// [Run] takes a function that opens a queue and runs a table of named cases on
// real descriptors; each prints the rule that it checks when the rule is
// broken, and a watchdog ends a case that hangs. A new backend needs no tests
// of its own beside
//
//	func TestContract(t *testing.T) {
//		backendtest.Run(t, func() (backend.Backend, error) {
//			b := mine.New()
//			return b, b.Open(backend.Config{})
//		})
//	}
//
// [Fake] is the other side: a backend without a kernel, for tests of what
// stands on top of the contract.
package backendtest

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// EnvLong is the environment variable that asks for the long runs: more rounds,
// more operations. Any value but the empty one does.
const EnvLong = "EPORE_LONG"

// Long reports whether long runs are asked for, by EnvLong.
func Long() bool { return os.Getenv(EnvLong) != "" }

// wantedCase is one behaviour: its name, the rule that is printed when it is
// broken, what the queue must be able to do for it to make sense, and the test.
type wantedCase struct {
	name  string
	rule  string
	needs backend.Interest
	run   func(t *testing.T, q *queue)
}

// Exception is a case that a queue cannot pass, and why: it is skipped with that
// reason. What it stands for is a gap in the contract, and belongs into the
// documents of the backend.
type Exception struct{ Case, Why string }

// Run runs all cases on queues that open returns opened, one for each. When
// open fails with an error that is errors.ErrUnsupported, the case is skipped
// with that reason.
func Run(t *testing.T, open func() (backend.Backend, error), except ...Exception) {
	if reason := fixture.Missing(); reason != "" {
		t.Skip(reason)
	}
	excepted := make(map[string]string)
	for _, e := range except {
		excepted[e.Case] = e.Why
	}
	defer func() {
		for name := range excepted {
			t.Errorf("there is no case %q to except", name)
		}
	}()
	for _, group := range [][]wantedCase{
		waitCases, registrationCases, modeCases, concurrencyCases, conditionCases, sourceCases, processCases, scaleCases,
	} {
		for _, c := range group {
			why, excepted := take(excepted, c.name)
			t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
				if excepted {
					t.Skipf("an exception: %s", why)
				}
				c.on(t, open)
			})
		}
	}
}

// take takes the value of k out of m.
func take(m map[string]string, k string) (v string, ok bool) {
	v, ok = m[k]
	delete(m, k)
	return v, ok
}

// on runs the case on a queue of its own.
func (c wantedCase) on(t *testing.T, open func() (backend.Backend, error)) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the rule that is broken: %s", c.rule)
		}
	})
	stop := Watchdog(t, c.rule)
	defer stop()
	b, err := open()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("no queue to test here: %v", err)
	}
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	q := newQueue(t, b)
	if lacking := c.needs &^ b.Capabilities().Interests; lacking != 0 {
		t.Skipf("%s has no %v here", b.Name(), lacking)
	}
	c.run(t, q)
}
