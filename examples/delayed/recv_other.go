//go:build !unix && !windows

package main

import "errors"

// recvFD always fails: this system has no descriptors.
func recvFD(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
