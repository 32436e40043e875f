//go:build unix

// Package unixfd provides what every part of this module does with Unix descriptors.
package unixfd

import "golang.org/x/sys/unix"

// Close closes a descriptor. A signal that interrupts close(2) is not an error: the
// descriptor is closed then on Linux, macOS and the BSDs. POSIX leaves it open whether it
// is, but a second call could close the descriptor of another goroutine.
//
// Close may block (SO_LINGER, even on a non-blocking socket), so it is not a raw system
// call.
func Close(fd int) error {
	if err := unix.Close(fd); err != unix.EINTR {
		return err
	}
	return nil
}
