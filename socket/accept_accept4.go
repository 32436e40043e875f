//go:build unix && !(aix || darwin) && (!linux || portable)

package socket

import "syscall"

func acceptOne(listener int) (int, error) {
	fd, _, err := syscall.Accept4(listener, newFlags)
	return fd, err
}
