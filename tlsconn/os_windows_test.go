package tlsconn_test

import (
	"testing"
	"time"

	"github.com/epore/epore/internal/fixture"
)

// readableNow reports whether a level-triggered event would come.
func readableNow(_ testing.TB, fd int) bool { return fixture.Readable(fd, 20*time.Millisecond) }
