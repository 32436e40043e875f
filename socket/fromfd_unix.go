//go:build unix

package socket

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// kindOf asks the system what h is.
func kindOf(h handle) (k kind, err error) {
	n, err := unix.GetsockoptInt(int(h), unix.SOL_SOCKET, unix.SO_TYPE)
	switch {
	case err == unix.ENOTSOCK:
		return k, errNotSocket
	case err != nil:
		return k, os.NewSyscallError("getsockopt", err)
	}
	t := typeStream
	switch n {
	case unix.SOCK_STREAM:
	case unix.SOCK_DGRAM:
		t = typeDatagram
	case unix.SOCK_RAW:
		t = typeRaw
	default:
		return k, errSeqPacket
	}
	f := otherFamily
	sa, err := unix.Getsockname(int(h))
	switch sa.(type) {
	case *unix.SockaddrInet4:
		f = inet4
	case *unix.SockaddrInet6:
		f = inet6
	case *unix.SockaddrUnix:
		f = unixDomain
	}
	if err != nil && err != unix.EAFNOSUPPORT { // package unix does not know the family
		return k, os.NewSyscallError("getsockname", err)
	}
	listening, _ := unix.GetsockoptInt(int(h), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return classify(t, f, t == typeStream && listening != 0), nil
}

// prepareTaken gives a descriptor from elsewhere the flags of those that are made here.
func prepareTaken(h handle) error {
	unix.CloseOnExec(int(h))
	if err := unix.SetNonblock(int(h), true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	return os.NewSyscallError("setsockopt", setNoSignal(int(h)))
}

// duplicateAny is duplicate for sockets of any family.
func duplicateAny(h handle) (handle, error) {
	fd, err := makeDuplicate(int(h))
	if err != nil {
		return 0, os.NewSyscallError("fcntl", err)
	}
	if err := prepareTaken(handle(fd)); err != nil {
		return 0, errors.Join(err, unix.Close(fd))
	}
	return handle(fd), nil
}
