//go:build !unix

package system

import "os"

// Uncatchable holds the signals that no program can catch.
var Uncatchable = []os.Signal{os.Kill}
