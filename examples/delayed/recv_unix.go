//go:build unix

package main

import (
	"io"
	"os"
	"syscall"
)

// recvFD is recv for a descriptor. Package net makes its descriptors non-blocking.
func recvFD(fd uintptr, b []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), b)
		switch {
		case err == syscall.EINTR:
			// Interrupted by a signal: read again.
		case err == syscall.EAGAIN:
			return 0, errWouldBlock
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
