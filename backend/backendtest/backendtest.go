// Package backendtest tests that a backend keeps the contract of package backend.
//
// [Run] takes a function that opens a queue and runs named cases on real
// descriptors. A case that fails prints the rule that is broken, and a watchdog
// ends a case that hangs. This test is all that a new backend needs:
//
//	func TestContract(t *testing.T) {
//		backendtest.Run(t, func() (backend.Backend, error) {
//			b := mine.New()
//			return b, b.Open(backend.Config{})
//		})
//	}
//
// [Fake] is a backend without a kernel, for tests of the code that uses backends.
// It checks the calls that a backend receives.
package backendtest

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// EnvLong is the environment variable that enables long runs, with more rounds
// and operations. Any value except the empty one enables them.
const EnvLong = "EPORE_LONG"

// Long reports whether EnvLong enables long runs.
func Long() bool { return os.Getenv(EnvLong) != "" }

// wantedCase tests one behavior. rule is printed if the case fails; needs lists
// the interests that the queue must support.
type wantedCase struct {
	name  string
	rule  string
	needs backend.Interest
	run   func(t *testing.T, q *queue)
}

// Exception names a case that a queue cannot pass, and the reason to skip it with.
// It is a gap in the contract: describe it in the documentation of the backend.
type Exception struct{ Case, Why string }

// Run runs every case on a new queue, which open returns opened. A case is skipped
// if open fails with an error that is errors.ErrUnsupported, and if except names
// the case. A name in except that no case has is an error.
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
			t.Errorf("Exception: no case is called %q", name)
		}
	}()
	for _, group := range [][]wantedCase{
		waitCases, registrationCases, modeCases, concurrencyCases, conditionCases, sourceCases, processCases, scaleCases,
	} {
		for _, c := range group {
			why, excepted := take(excepted, c.name)
			t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
				if excepted {
					t.Skipf("exception: %s", why)
				}
				c.on(t, open)
			})
		}
	}
}

// take removes k from m and returns its value.
func take(m map[string]string, k string) (v string, ok bool) {
	v, ok = m[k]
	delete(m, k)
	return v, ok
}

// on runs the case on a new queue.
func (c wantedCase) on(t *testing.T, open func() (backend.Backend, error)) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("broken rule: %s", c.rule)
		}
	})
	stop := Watchdog(t, c.rule)
	defer stop()
	b, err := open()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("queue not available: %v", err)
	}
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	q := newQueue(t, b)
	if lacking := c.needs &^ b.Capabilities().Interests; lacking != 0 {
		t.Skipf("%s does not support %v on this system", b.Name(), lacking)
	}
	c.run(t, q)
}
