//go:build unix || windows

package loop_test

import (
	"bytes"
	"runtime/pprof"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/loop"
)

// contract: L12
func TestRun_LabelsItsGoroutines(t *testing.T) {
	guard(t, "a profile tells the loops apart")
	s := serve(t, 2, loop.Config{}, nil, new(echo))
	var b bytes.Buffer
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&b, 1))
	require.Contains(t, b.String(), `"epore-loop":"0"`)
	require.Contains(t, b.String(), `"epore-loop":"1"`)
	require.NoError(t, s.end())
}
