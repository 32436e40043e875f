//go:build !unix && !windows

package socket

func kindOf(handle) (kind, error)         { return kind{}, errUnsupported }
func prepareTaken(handle) error           { return errUnsupported }
func duplicateAny(handle) (handle, error) { return 0, errUnsupported }
