// Package backendtest tests that a backend keeps the contract of package backend.
//
// [Run] takes a function that opens a queue and runs named cases on real
// descriptors. A case that fails prints the rule that is broken, and a watchdog
// ends a case that hangs. This test is all that a new backend needs:
//
//	func TestContract(t *testing.T) {
//		backendtest.Run(t, func() (backend.Backend, error) {
//			b := mine.New()
//			return b, b.Open()
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
	"time"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// EnvLong is the environment variable that enables long runs, with more rounds
// and operations. Any value except the empty one enables them. A duration, such as
// "10m", is also the time for tests that run as long as they are given; see Time.
const EnvLong = "EPORE_LONG"

// Long reports whether EnvLong enables long runs.
func Long() bool { return os.Getenv(EnvLong) != "" }

// Time returns how long a test runs that does as much as time allows: short, or, if
// long runs are enabled, the duration in EnvLong, or one minute if EnvLong has none.
func Time(short time.Duration) time.Duration {
	if !Long() {
		return short
	}
	if d, err := time.ParseDuration(os.Getenv(EnvLong)); err == nil {
		return d
	}
	return time.Minute
}

// wantedCase tests one behavior. rule is printed if the case fails; needs lists
// the interests that the queue must support.
type wantedCase struct {
	name  string
	rule  string
	needs backend.Interest
	run   func(t *testing.T, q *queue)
}

// Exception names a case that a queue cannot pass as it is, and the reason.
type Exception struct {
	Case, Why string
	// Missing has the hints that may be missing in this case, as the contract allows:
	// bits of ReadyError, ReadyReadClosed and ReadyWriteClosed. The rest of the case must
	// pass. If it is 0, the case is skipped: that is a gap in the contract, which the
	// documentation of the backend describes.
	Missing backend.Readiness
}

// PollExceptions are the exceptions of a queue on a poll(2) that reports neither when a peer
// half-closes (POLLRDHUP) nor errors of sockets (POLLERR). The poll(2) of FreeBSD and NetBSD
// is such.
var PollExceptions = []Exception{
	pollHints("connect is refused", backend.ReadyError),
	pollHints("the peer closes", backend.ReadyReadClosed),
	pollHints("the peer half-closes", backend.ReadyReadClosed),
	pollHints("the peer resets", backend.ReadyError|backend.ReadyReadClosed|backend.ReadyWriteClosed),
	pollHints("the peer closes with data unread", backend.ReadyReadClosed),
	pollHints("a local shutdown of the write side", backend.ReadyReadClosed),
	pollHints("both sides shut down", backend.ReadyReadClosed|backend.ReadyWriteClosed),
	pollHints("a datagram nobody wants", backend.ReadyError),
}

func pollHints(name string, missing backend.Readiness) Exception {
	return Exception{Case: name, Why: "poll(2) of this system does not report it", Missing: missing}
}

// Run runs every case on a new queue, which open returns opened, with the exceptions in
// except. A case is skipped if open fails with an error that is errors.ErrUnsupported. A
// name in except that no case has is an error.
func Run(t *testing.T, open func() (backend.Backend, error), except ...Exception) {
	if reason := fixture.Missing(); reason != "" {
		t.Skip(reason)
	}
	excepted := make(map[string]Exception)
	for _, e := range except {
		excepted[e.Case] = e
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
			exception, excepted := take(excepted, c.name)
			t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
				if excepted && exception.Missing == 0 {
					t.Skipf("exception: %s", exception.Why)
				}
				fixture.Bubble(t, func(t *testing.T) { c.on(t, open, exception.Missing) })
			})
		}
	}
}

// take removes k from m and returns its value.
func take(m map[string]Exception, k string) (v Exception, ok bool) {
	v, ok = m[k]
	delete(m, k)
	return v, ok
}

// on runs the case on a new queue, of which hints may be missing.
func (c wantedCase) on(t *testing.T, open func() (backend.Backend, error), missing backend.Readiness) {
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
	q.missing = missing
	if lacking := c.needs &^ b.Capabilities().Interests; lacking != 0 {
		t.Skipf("%s does not support %v on this system", b.Name(), lacking)
	}
	c.run(t, q)
}
