package android

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// contract: P17
func TestFiltered(t *testing.T) {
	there := filepath.Join(t.TempDir(), "app_process")
	require.NoError(t, os.WriteFile(there, nil, 0o700))
	missing := there + ".not"
	require.True(t, filtered("android", missing))
	require.True(t, filtered("linux", there), "a program for Linux in a terminal app")
	require.False(t, filtered("linux", missing))
	require.False(t, filtered("freebsd", there))
}
