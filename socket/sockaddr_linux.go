//go:build !portable

package socket

import "golang.org/x/sys/unix"

// The kernel's socket addresses: see sockaddr_raw.go.
type (
	rawSockaddr4 = unix.RawSockaddrInet4
	rawSockaddr6 = unix.RawSockaddrInet6
)

const (
	afInet4 = unix.AF_INET
	afInet6 = unix.AF_INET6
)
