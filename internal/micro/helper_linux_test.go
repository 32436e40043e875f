package micro_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/queuetest"
)

// open returns a Poll that is closed when the benchmark ends.
func open(t testing.TB, opts ...epore.Option) *epore.Poll {
	t.Helper()
	p, err := queuetest.Open(opts...)
	skipWithout(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// skipWithout skips a benchmark if err says that the queue is not available here.
func skipWithout(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("no such queue here: %v", err)
	}
	require.NoError(t, err)
}

func newWaker(t testing.TB, p *epore.Poll, token epore.Token) *epore.Waker {
	t.Helper()
	w, err := epore.NewWaker(p.Registry(), token)
	require.NoError(t, err)
	return w
}
