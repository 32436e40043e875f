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
	// Control is the control data to write with it, or the room to read control data
	// into; see cmsg(3). It may be empty. Control data gives access to what the system
	// knows about one datagram: the interface and the address it arrived at, ECN,
	// segmentation (GSO, GRO), timestamps.
	Control []byte
	// Addr is the destination, or the sender. It is not valid for a Unix socket. To write
	// to a connected socket, leave it zero.
	Addr netip.AddrPort

	// N is how many bytes of Data were read or written.
	N int
	// ControlN is how many bytes of Control were read.
	ControlN int
	// Truncated reports that the datagram was longer than Data, and that the rest is lost.
	Truncated bool
	// ControlTruncated reports that the control data was longer than Control.
	ControlTruncated bool
}

// errNoByte reports control data without data.
var errNoByte = fmt.Errorf("control data needs at least one byte of data: %w", fs.ErrInvalid)

// ErrControlTruncated reports that the control data was longer than the buffer, and that the
// rest is lost. It comes with the data that was read. It is never wrapped, and it is
// [io.ErrShortBuffer] too.
var ErrControlTruncated = fmt.Errorf("socket: control data longer than the buffer, the rest is lost: %w", io.ErrShortBuffer)

// ReadBatch reads up to len(ms) datagrams and returns their number. It sets all fields of
// each message except Data and Control. It returns ErrWouldBlock if no datagram is available.
// With edge-triggered interest, read until then: fewer than len(ms) datagrams do not mean
// that no more are available.
//
// On other errors the first n messages are valid. A truncated datagram is not an error: see
// [Message]. With an empty ms, ReadBatch reads nothing.
//
// On Linux one system call (recvmmsg(2)) reads up to 64 datagrams, and ReadBatch does not
// allocate. On other systems it is a loop.
func (c *PacketConn) ReadBatch(ms []Message) (n int, err error) {
	d := c.descriptor()
	if !d.Acquire() {
		return 0, c.closed("read")
	}
	if n, err = readBatch(d.Handle(), c.proto, ms); err == ErrWouldBlock && n > 0 {
		err = nil
	}
	if err != nil {
		err = c.transferError("read", backend.Readable, err)
	}
	d.Release()
	return n, err
}

// WriteBatch writes each message as one datagram, in order, and returns the number of
// messages written. If that is less than len(ms), the error is the reason why the next
// message was not written: ErrWouldBlock if the system has no room for it. WriteBatch sets the
// field N of each message that it has written. The addresses are as for
// [PacketConn.WriteToAddrPort].
//
// On Linux one system call (sendmmsg(2)) writes up to 64 datagrams, and WriteBatch does not
// allocate. Since Linux 5.0, consecutive messages of the same size to the same UDP address,
// without control data, pass through the kernel as one (UDP_SEGMENT, see udp(7)), which costs
// a fraction of the time. The system accepts or refuses such messages together. On other
// systems WriteBatch is a loop.
func (c *PacketConn) WriteBatch(ms []Message) (n int, err error) {
	d := c.descriptor()
	if !d.Acquire() {
		return 0, c.closed("write")
	}
	if n, err = writeBatch(d.Handle(), c, ms); err != nil {
		err = c.transferError("write", backend.Writable, err)
	}
	d.Release()
	return n, err
}

// check returns the reason why a message cannot be written to its address.
func (c *PacketConn) check(m *Message) error {
	if m.Addr == (netip.AddrPort{}) && (c.connected || c.proto != udp) {
		return nil // if the socket is not connected either, the system reports it
	}
	return c.checkDestination(m.Addr)
}

// ReadMsg is like [Conn.Read], and also reads control data, such as the descriptors that
// another process passes through a Unix socket (SCM_RIGHTS, see unix(7)). It returns the
// number of bytes read into b and into control. If the control data is longer than control,
// it returns ErrControlTruncated, and both numbers are valid. With an empty b it reads
// nothing.
//
// Received descriptors are close-on-exec. [FromFD] makes sockets of them. On Windows a
// control that is not empty is errors.ErrUnsupported.
func (c *Conn) ReadMsg(b, control []byte) (n, controlN int, err error) {
	d := c.descriptor()
	if !d.Acquire() {
		return 0, 0, c.closed("read")
	}
	defer d.Release()
	if len(b) == 0 {
		return 0, 0, nil
	}
	n, controlN, err = readMsg(d.Handle(), b[:min(len(b), maxTransfer)], control)
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

// WriteMsg is like [Conn.Write], and also writes control data, together with the first byte.
// If it returns 0, nothing was sent. Otherwise the control data was sent: write the rest of
// b with Write. Control data needs at least one byte of data.
//
// On Windows a control that is not empty is errors.ErrUnsupported.
func (c *Conn) WriteMsg(b, control []byte) (n int, err error) {
	d := c.descriptor()
	if !d.Acquire() {
		return 0, c.closed("write")
	}
	defer d.Release()
	if len(b) == 0 && len(control) > 0 {
		return 0, c.failed("write", errNoByte)
	}
	if n, err = writeMsg(d.Handle(), b[:min(len(b), maxTransfer)], control); err != nil {
		return n, c.transferError("write", backend.Writable, err)
	}
	if c.noteTransfer(); n < len(b) {
		m, err := c.Write(b[n:])
		return n + m, err
	}
	return n, nil
}
