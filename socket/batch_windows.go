package socket

import (
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// sysReadBatch reads datagrams one at a time, until there are no more, or no more messages.
func sysReadBatch(h handle, _ proto, ms []Message) (int, error) {
	for i := range ms {
		m := &ms[i]
		m.ControlN, m.ControlTruncated = 0, false
		var err error
		if len(m.Control) == 0 {
			m.N, m.Addr, err = sysReceiveFrom(h, m.Data)
			m.Truncated = err == ErrTruncated
		} else {
			err = receiveWithControl(h, m)
		}
		if err != nil && err != ErrTruncated {
			return i, err
		}
	}
	return len(ms), nil
}

// The flags of WSARecvMsg.
const (
	msgTruncated        = 0x100
	msgControlTruncated = 0x200
)

// receiveWithControl is WSARecvMsg.
func receiveWithControl(h handle, m *Message) error {
	buf := buffer(m.Data)
	var rsa rawSockaddr6
	msg := windows.WSAMsg{
		Name: (*syscall.RawSockaddrAny)(unsafe.Pointer(&rsa)), Namelen: int32(unsafe.Sizeof(rsa)),
		Buffers: &buf, BufferCount: 1, Control: buffer(m.Control),
	}
	var n uint32
	err := windows.WSARecvMsg(windows.Handle(h), &msg, &n, nil, nil)
	switch err {
	case nil, windows.WSAEMSGSIZE:
	case windows.WSAEWOULDBLOCK:
		return ErrWouldBlock
	default:
		return os.NewSyscallError("WSARecvMsg", err)
	}
	m.N, m.ControlN, m.Addr = min(int(n), len(m.Data)), int(msg.Control.Len), fromRaw(&rsa)
	m.Truncated = msg.Flags&msgTruncated != 0
	m.ControlTruncated = msg.Flags&msgControlTruncated != 0
	return nil
}

// sysWriteBatch writes datagrams one at a time.
func sysWriteBatch(h handle, c *PacketConn, ms []Message) (int, error) {
	for i := range ms {
		m := &ms[i]
		err := c.check(m)
		switch {
		case err != nil:
		case len(m.Control) > 0:
			m.N, err = sendWithControl(h, c.family, m)
		case m.Addr.IsValid():
			m.N, err = sysSendTo(h, c.family, m.Data, m.Addr)
		default:
			m.N, err = sysSend(h, m.Data)
		}
		if err != nil {
			return i, err
		}
	}
	return len(ms), nil
}

// sendWithControl is WSASendMsg.
func sendWithControl(h handle, f family, m *Message) (int, error) {
	buf := buffer(m.Data)
	msg := windows.WSAMsg{Buffers: &buf, BufferCount: 1, Control: buffer(m.Control)}
	var rsa rawSockaddr6
	if m.Addr != (netip.AddrPort{}) {
		msg.Namelen = int32(toRaw(&rsa, f, m.Addr))
		msg.Name = (*syscall.RawSockaddrAny)(unsafe.Pointer(&rsa))
	}
	var n uint32
	err := windows.WSASendMsg(windows.Handle(h), &msg, 0, &n, nil, nil)
	return transferResult("WSASendMsg", int(n), err)
}

// sysReadMsg reads from a stream, without control data.
func sysReadMsg(h handle, b, control []byte) (n, controlN int, err error) {
	if len(control) > 0 {
		return 0, 0, errUnsupported
	}
	n, err = sysRead(h, b)
	return n, 0, err
}

// sysWriteMsg writes to a stream, without control data.
func sysWriteMsg(h handle, b, control []byte) (int, error) {
	if len(control) > 0 {
		return 0, errUnsupported
	}
	return sysWrite(h, b)
}
