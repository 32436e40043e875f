//go:build unix && (!linux || portable)

package socket

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// sysReadBatch reads datagrams one at a time, until there are no more, or no more messages.
func sysReadBatch(h handle, p proto, ms []Message) (int, error) {
	for i := range ms {
		m := &ms[i]
		n, controlN, flags, from, err := receiveWithControl(h, m.Data, m.Control)
		if err != nil {
			_, err = transferResult("recvmsg", 0, err)
			return i, err
		}
		m.N, m.ControlN, m.Addr = n, controlN, netip.AddrPort{}
		m.Truncated = flags&unix.MSG_TRUNC != 0
		m.ControlTruncated = flags&unix.MSG_CTRUNC != 0
		if p != unixDatagram {
			m.Addr = addrPortOf(from)
		}
	}
	return len(ms), nil
}

// sysWriteBatch writes datagrams one at a time.
func sysWriteBatch(h handle, c *PacketConn, ms []Message) (int, error) {
	for i := range ms {
		m := &ms[i]
		if err := c.check(m); err != nil {
			return i, err
		}
		var to unix.Sockaddr
		if m.Addr.IsValid() {
			to = sockaddrOf(c.family, m.Addr)
		}
		n, err := sendWithControl(h, m.Data, m.Control, to)
		if err != nil {
			return i, err
		}
		m.N = n
	}
	return len(ms), nil
}

// sysReadMsg reads from a stream, with control data.
func sysReadMsg(h handle, b, control []byte) (n, controlN int, err error) {
	n, controlN, flags, _, err := receiveWithControl(h, b, control)
	if err != nil {
		_, err = transferResult("recvmsg", 0, err)
		return 0, 0, err
	}
	if flags&unix.MSG_CTRUNC != 0 {
		err = ErrControlTruncated
	}
	return n, controlN, err
}

// sysWriteMsg writes to a stream, with control data.
func sysWriteMsg(h handle, b, control []byte) (int, error) {
	return sendWithControl(h, b, control, nil)
}

// receiveWithControl is recvmsg(2). It holds ForkLock until received descriptors are
// close-on-exec, so that no program inherits them.
func receiveWithControl(h handle, b, control []byte) (n, controlN, flags int, from unix.Sockaddr, err error) {
	if len(control) > 0 {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
	}
	err = retryInterrupted(func() (err error) {
		n, controlN, flags, from, err = unix.Recvmsg(int(h), b, control, receiveFlags)
		return err
	})
	if err == nil && controlN > 0 {
		closeOnExec(control[:controlN])
	}
	return n, controlN, flags, from, err
}

// closeOnExec sets the flag of the descriptors in control data.
func closeOnExec(control []byte) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return // truncated, or of a kind that only the caller knows
	}
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			for _, fd := range fds {
				unix.CloseOnExec(fd)
			}
		}
	}
}

// sendWithControl is sendmsg(2); to may be nil.
func sendWithControl(h handle, b, control []byte, to unix.Sockaddr) (n int, err error) {
	err = retryInterrupted(func() (err error) {
		n, err = unix.SendmsgN(int(h), b, control, to, sendFlags)
		return err
	})
	return transferResult("sendmsg", n, err)
}
