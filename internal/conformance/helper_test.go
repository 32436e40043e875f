//go:build unix || windows

package conformance_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
)

// guard ends a test that hangs, and prints the rule when it fails.
func guard(t *testing.T, rule string) {
	stop := backendtest.Watchdog(t, rule)
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("the broken rule: %s", rule)
		}
	})
}

// skipWithout skips a test if err says that the queue is not available here.
func skipWithout(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("no such queue here: %v", err)
	}
	require.NoError(t, err)
}

// fd returns an end of a fixture as a Source.
func fd(e *fixture.End) epore.Source { return epore.FD(e.FD) }
