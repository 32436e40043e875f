//go:build !unix

package epore

import "os"

// uncatchable holds the signals that no program can catch.
var uncatchable = []os.Signal{os.Kill}
