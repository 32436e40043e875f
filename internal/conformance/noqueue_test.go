//go:build !unix && !windows

package conformance_test

import (
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
)

// On a system without a queue New says so and names the system, and NewWith works.
// contract: R9
func TestNew_WithoutAQueue(t *testing.T) {
	_, err := epore.New()
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, runtime.GOOS)
	p, err := epore.NewWith(backendtest.NewFake())
	require.NoError(t, err)
	require.NoError(t, p.Poll(epore.NewEvents(1), 0))
	require.NoError(t, p.Close())
}
