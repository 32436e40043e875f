//go:build unix && (!linux || portable)

package socket

import (
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"
)

// Reading and writing on every Unix except Linux, with what package unix offers on all of
// them. It allocates the addresses of datagrams and the list of buffers. The build tag
// portable selects it on Linux too, for tests.

// sysRead reads from a stream. It returns 0 and nil at the end of the stream. It uses
// recvfrom, because read takes no flags.
func sysRead(h handle, b []byte) (n int, err error) {
	err = retryInterrupted(func() (err error) {
		n, _, err = unix.Recvfrom(int(h), b, receiveFlags)
		return err
	})
	return transferResult("recvfrom", n, err)
}

// sysWrite writes to a stream.
func sysWrite(h handle, b []byte) (int, error) { return sendMessage(h, b, nil) }

// sysReceive receives a datagram.
func sysReceive(h handle, b []byte) (int, error) {
	n, _, err := receiveMessage(h, b)
	return n, err
}

// sysSend sends a datagram to the address that h is connected to.
func sysSend(h handle, b []byte) (int, error) { return sendMessage(h, b, nil) }

// sysReceiveFrom receives a datagram, and returns its sender.
func sysReceiveFrom(h handle, b []byte) (int, netip.AddrPort, error) {
	n, from, err := receiveMessage(h, b)
	return n, addrPortOf(from), err
}

// sysSendTo sends a datagram from a socket of the given family.
func sysSendTo(h handle, f family, b []byte, to netip.AddrPort) (int, error) {
	return sendMessage(h, b, sockaddrOf(f, to))
}

// sendMessage sends b in the way that works on every Unix; to may be nil.
func sendMessage(h handle, b []byte, to unix.Sockaddr) (n int, err error) {
	err = retryInterrupted(func() (err error) {
		n, err = unix.SendmsgN(int(h), b, nil, to, sendFlags)
		return err
	})
	return transferResult("sendmsg", n, err)
}

// limitBuffers returns the first buffers of bufs, as many as one system call takes, and
// whether they are not all empty.
func limitBuffers(bufs [][]byte) (limited [][]byte, hasRoom bool) {
	most := 1024 // IOV_MAX; on some systems it is 16
	if runtime.GOOS == "aix" || runtime.GOOS == "solaris" {
		most = 16
	}
	size := 0
	for i, b := range bufs {
		switch {
		case i == most:
			return bufs[:i], hasRoom
		case size+len(b) <= maxTransfer:
		case size == 0:
			return [][]byte{b[:maxTransfer]}, true
		default:
			return bufs[:i], hasRoom
		}
		size += len(b)
		hasRoom = hasRoom || len(b) > 0
	}
	return bufs, hasRoom
}

// sysReadBuffers reads from a stream into several buffers. hasRoom: they are not all empty.
func sysReadBuffers(h handle, bufs [][]byte) (n int, hasRoom bool, err error) {
	bufs, hasRoom = limitBuffers(bufs)
	if !hasRoom {
		return 0, false, nil
	}
	err = retryInterrupted(func() (err error) {
		n, _, _, _, err = unix.RecvmsgBuffers(int(h), bufs, nil, receiveFlags)
		return err
	})
	n, err = transferResult("recvmsg", n, err)
	return n, true, err
}

// sysWriteBuffers writes several buffers to a stream.
func sysWriteBuffers(h handle, bufs [][]byte) (n int, err error) {
	bufs, _ = limitBuffers(bufs)
	err = retryInterrupted(func() (err error) {
		n, err = unix.SendmsgBuffers(int(h), bufs, nil, nil, sendFlags)
		return err
	})
	return transferResult("sendmsg", n, err)
}
