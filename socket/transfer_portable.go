//go:build unix && (!linux || portable)

package socket

import (
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// The same for every other Unix, with what package unix has for all of them. It allocates
// the addresses of datagrams, and the list for the kernel of several buffers. The build
// tag portable takes it on Linux, too, for tests.

// inheritsNoDelay says that accepted connections have the option of their listener. Most
// systems do that; it is not written down.
const inheritsNoDelay = false

// sysRead reads from a stream; 0 and nil at its end.
func sysRead(h handle, b []byte) (n int, err error) {
	err = again(func() (err error) {
		n, err = unix.Read(int(h), b)
		return err
	})
	return sent("read", n, err)
}

// sysWrite writes to a stream.
func sysWrite(h handle, b []byte) (int, error) { return sendMessage(h, b, nil) }

// sysReceive receives a datagram.
func sysReceive(h handle, b []byte) (int, error) {
	n, _, err := receiveMessage(h, b)
	return n, err
}

// sysSend sends a datagram to where h is connected.
func sysSend(h handle, b []byte) (int, error) { return sendMessage(h, b, nil) }

// sysReceiveFrom is sysReceive, and tells who sent it.
func sysReceiveFrom(h handle, b []byte) (int, netip.AddrPort, error) {
	n, from, err := receiveMessage(h, b)
	return n, addrPortOf(from), err
}

// sysSendTo sends a datagram from a socket of the given family.
func sysSendTo(h handle, f family, b []byte, to netip.AddrPort) (int, error) {
	return sendMessage(h, b, sockaddrOf(f, to))
}

// someOf leaves out what one call does not take, and says whether anything is left.
func someOf(bufs [][]byte) ([][]byte, bool) {
	most := 1024 // IOV_MAX; some have 16
	if runtime.GOOS == "aix" || runtime.GOOS == "solaris" {
		most = 16
	}
	size, room := 0, false
	for i, b := range bufs {
		if i == most || size+len(b) > maxTransfer {
			return bufs[:max(i, 1)], room
		}
		size += len(b)
		room = room || len(b) > 0
	}
	return bufs, room
}

// sysReadBuffers is sysRead into several buffers; wanted: one of them had room.
func sysReadBuffers(h handle, bufs [][]byte) (n int, wanted bool, err error) {
	bufs, wanted = someOf(bufs)
	if !wanted {
		return 0, false, nil
	}
	err = again(func() (err error) {
		n, _, _, _, err = unix.RecvmsgBuffers(int(h), bufs, nil, 0)
		return err
	})
	n, err = sent("recvmsg", n, err)
	return n, true, err
}

// sysWriteBuffers is sysWrite from several buffers.
func sysWriteBuffers(h handle, bufs [][]byte) (n int, err error) {
	bufs, _ = someOf(bufs)
	err = again(func() (err error) {
		n, err = unix.SendmsgBuffers(int(h), bufs, nil, nil, sendFlags)
		return err
	})
	return sent("sendmsg", n, err)
}

// sysAccept accepts one connection.
func sysAccept(h handle) (handle, error) {
	for {
		fd, err := acceptOne(int(h))
		switch err {
		case nil:
			if err = setNoSignal(fd); err == nil {
				return handle(fd), nil
			}
			_ = unix.Close(fd) // reset already: the next one
		case unix.EAGAIN:
			return 0, ErrWouldBlock
		case unix.EINTR, unix.ECONNABORTED: // the latter was given up by the peer
		default:
			return 0, os.NewSyscallError("accept", err)
		}
	}
}
