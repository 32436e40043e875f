//go:build !unix && !windows

package queuetest

// all is empty: this system has no queue.
var all []Queue
