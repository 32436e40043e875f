package socket

import "golang.org/x/sys/unix"

// SO_REUSEPORT alone gives all connections to one socket.
func setReusePort(h handle) error { return setInt(h, unix.SOL_SOCKET, unix.SO_REUSEPORT_LB, true) }

// setMulticastReuse lets several sockets receive from the same group.
func setMulticastReuse(h handle) error {
	if err := setReuseAddr(h); err != nil {
		return err
	}
	return setInt(h, unix.SOL_SOCKET, unix.SO_REUSEPORT, true)
}
