package socket

import (
	"os"

	"golang.org/x/sys/windows"
)

// The options by which Winsock says what a socket is.
const (
	soType       = 0x1008
	soAcceptConn = 0x2
)

// kindOf asks the system what h is.
func kindOf(h handle) (k kind, err error) {
	if err := startup(); err != nil {
		return k, err
	}
	n, err := windows.GetsockoptInt(windows.Handle(h), windows.SOL_SOCKET, soType)
	switch {
	case err == windows.WSAENOTSOCK:
		return k, errNotSocket
	case err != nil:
		return k, os.NewSyscallError("getsockopt", err)
	}
	t := typeStream
	switch n {
	case windows.SOCK_STREAM:
	case windows.SOCK_DGRAM:
		t = typeDatagram
	case windows.SOCK_RAW:
		t = typeRaw
	default:
		return k, errSeqPacket
	}
	f := otherFamily
	switch sa, _ := windows.Getsockname(windows.Handle(h)); sa.(type) { // WSAEINVAL: it is not bound
	case *windows.SockaddrInet4:
		f = inet4
	case *windows.SockaddrInet6:
		f = inet6
	case *windows.SockaddrUnix:
		f = unixDomain
	}
	listening, _ := windows.GetsockoptInt(windows.Handle(h), windows.SOL_SOCKET, soAcceptConn)
	return classify(t, f, t == typeStream && listening != 0), nil
}

// prepareTaken gives a handle from elsewhere the flags of those that are made here.
func prepareTaken(h handle) error {
	if err := windows.SetHandleInformation(windows.Handle(h), windows.HANDLE_FLAG_INHERIT, 0); err != nil {
		return os.NewSyscallError("SetHandleInformation", err)
	}
	return setNonblock(h)
}

// duplicateAny is duplicate without the family.
func duplicateAny(h handle) (handle, error) {
	d, _, err := duplicate(h)
	return d, err
}
