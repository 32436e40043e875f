//go:build !unix && !windows

package main

import "errors"

// recvFD is recv for a descriptor: here, nobody gets to see one.
func recvFD(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
