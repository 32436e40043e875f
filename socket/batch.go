package socket

import (
	"fmt"
	"io"
	"io/fs"
	"net/netip"

	"github.com/epore/epore/backend"
)

// Message is a datagram of [PacketConn.ReadBatch] and [PacketConn.WriteBatch].
type Message struct {
	// Data is the datagram to write, or the room to read one into.
	Data []byte
	// Control is the control data to write with it, or the room to read that into; see
	// cmsg(3). It may be empty. Control data gives access to what the system has for single
	// datagrams: the interface and address they arrived at, ECN, segmentation (GSO, GRO),
	// timestamps.
	Control []byte
	// Addr is where to write to, or who has sent it. It is not valid for a Unix socket.
	// To write to a connected socket, leave it zero.
	Addr netip.AddrPort

	// N is how many bytes of Data were read or written.
	N int
	// ControlN is how many bytes of Control were read.
	ControlN int
	// Truncated says that the datagram was longer than Data, and that its rest is lost.
	Truncated bool
	// ControlTruncated says that there was more control data than Control has room for.
	ControlTruncated bool
}

// errNoByte reports control data without data.
var errNoByte = fmt.Errorf("control data needs at least one byte of data: %w", fs.ErrInvalid)

// ErrControlTruncated is returned, never wrapped, with what was read, when there was more
// control data than room for it; the rest is lost. It is [io.ErrShortBuffer] too.
var ErrControlTruncated = fmt.Errorf("socket: control data longer than the buffer, the rest is lost: %w", io.ErrShortBuffer)

// ReadBatch reads datagrams, at most len(ms), and returns how many. It sets the fields of
// each message except Data and Control. With no datagram there it returns ErrWouldBlock.
// Edge-triggered, go on until then: fewer than len(ms) do not mean that there are no more.
//
// On Linux (recvmmsg(2)) one system call reads up to 64, and nothing is allocated. Elsewhere
// it is a loop. An empty ms reads nothing.
//
// An error may come after some datagrams, which are valid. One that is truncated is no error:
// see [Message].
func (c *PacketConn) ReadBatch(ms []Message) (n int, err error) {
	d := c.descriptor()
	if !d.Acquire() {
		return 0, c.closed("read")
	}
	if n, err = sysReadBatch(d.Handle(), c.proto, ms); err == ErrWouldBlock && n > 0 {
		err = nil
	}
	if err != nil {
		err = c.transferError("read", backend.Readable, err)
	}
	d.Release()
	return n, err
}

// WriteBatch writes each message as one datagram, in order, and returns how many. If that is
// less than len(ms), the error says why the next one was not written: ErrWouldBlock when
// there is no room for it. It sets the field N of those that it has written. Addresses are as
// for [PacketConn.WriteToAddrPort].
//
// On Linux (sendmmsg(2)) one system call writes up to 64, and nothing is allocated. From
// Linux 5.0 on, consecutive messages of one size to one UDP address, without control data, go
// through the kernel as one (UDP_SEGMENT) and are written or refused together, which costs a
// fraction. Elsewhere it is a loop.
func (c *PacketConn) WriteBatch(ms []Message) (n int, err error) {
	d := c.descriptor()
	if !d.Acquire() {
		return 0, c.closed("write")
	}
	if n, err = sysWriteBatch(d.Handle(), c, ms); err != nil {
		err = c.transferError("write", backend.Writable, err)
	}
	d.Release()
	return n, err
}

// check returns why a message cannot be written to where it says.
func (c *PacketConn) check(m *Message) error {
	if m.Addr == (netip.AddrPort{}) && (c.connected || c.proto != udp) {
		return nil // the system reports it if there is no address at all
	}
	return c.checkDestination(m.Addr)
}

// ReadMsg is [Conn.Read] with control data: it also reads what was sent along into control,
// such as the descriptors that another process passes through a Unix socket (SCM_RIGHTS), and
// returns how many bytes of it there were. When there is no room for all of it, it returns
// ErrControlTruncated with the bytes that were read. Received descriptors are not inherited by
// other programs; [FromFD] makes sockets of them. An empty b reads nothing. On Windows control
// must be empty, or the error is errors.ErrUnsupported.
func (c *Conn) ReadMsg(b, control []byte) (n, controlN int, err error) {
	d := c.descriptor()
	if !d.Acquire() {
		return 0, 0, c.closed("read")
	}
	defer d.Release()
	if len(b) == 0 {
		return 0, 0, nil
	}
	n, controlN, err = sysReadMsg(d.Handle(), b[:min(len(b), maxTransfer)], control)
	switch {
	case err == ErrControlTruncated:
		c.noteTransfer()
	case err != nil:
		err = c.transferError("read", backend.Readable, err)
	case n == 0:
		err = c.endOfStream()
	default:
		c.noteTransfer()
	}
	return n, controlN, err
}

// WriteMsg is [Conn.Write] with control data, which goes along with the first byte. When it
// returns 0 nothing was sent; otherwise the control data was, and the rest of b is to be
// written by Write. b must not be empty, since systems send no control data without a byte.
// On Windows control must be empty, or the error is errors.ErrUnsupported.
func (c *Conn) WriteMsg(b, control []byte) (n int, err error) {
	d := c.descriptor()
	if !d.Acquire() {
		return 0, c.closed("write")
	}
	defer d.Release()
	if len(b) == 0 && len(control) > 0 {
		return 0, c.failed("write", errNoByte)
	}
	if n, err = sysWriteMsg(d.Handle(), b[:min(len(b), maxTransfer)], control); err != nil {
		return n, c.transferError("write", backend.Writable, err)
	}
	if c.noteTransfer(); n < len(b) {
		m, err := c.Write(b[n:])
		return n + m, err
	}
	return n, nil
}
