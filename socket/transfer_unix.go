//go:build unix

package socket

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxWrite is how many bytes one system call is asked to write.
const maxWrite = maxTransfer

// retryInterrupted calls f until no signal interrupts it.
func retryInterrupted(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// transferResult translates the result of a system call that reads or writes.
func transferResult(call string, n int, err error) (int, error) {
	switch err {
	case nil:
		return n, nil
	case unix.EAGAIN:
		return 0, ErrWouldBlock
	}
	return 0, os.NewSyscallError(call, err)
}

// sysReceiveFromUnix receives a Unix datagram, and returns its sender.
func sysReceiveFromUnix(h handle, b []byte) (n int, from net.Addr, err error) {
	n, sa, err := receiveMessage(h, b)
	if sa, ok := sa.(*unix.SockaddrUnix); ok && sa.Name != "" {
		from = &net.UnixAddr{Name: sa.Name, Net: unixDatagram.String()}
	}
	return n, from, err
}

// sysSendToUnix sends a datagram to the Unix socket at path. It uses package syscall, as bind
// and connect do for Unix addresses.
func sysSendToUnix(h handle, b []byte, path string) (n int, err error) {
	err = retryInterrupted(func() (err error) {
		n, err = syscall.SendmsgN(int(h), b, nil, &syscall.SockaddrUnix{Name: path}, sendFlags)
		return err
	})
	n, err = transferResult("sendmsg", n, err)
	return n, explainPath(path, err)
}

// receiveMessage receives a datagram in the way that works on every Unix.
func receiveMessage(h handle, b []byte) (n int, from unix.Sockaddr, err error) {
	flags := 0
	err = retryInterrupted(func() (err error) {
		n, _, flags, from, err = unix.Recvmsg(int(h), b, nil, receiveFlags)
		return err
	})
	switch {
	case err == unix.EAGAIN:
		return 0, nil, ErrWouldBlock
	case err != nil:
		return 0, nil, os.NewSyscallError("recvmsg", err)
	case flags&unix.MSG_TRUNC != 0:
		err = ErrTruncated
	}
	return n, from, err
}
