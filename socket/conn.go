package socket

import (
	"io"
	"net"
	"sync/atomic"

	"github.com/epore/epore/backend"
)

// Conn is a connected, or connecting, stream socket that never blocks: TCP or Unix. It
// is an epore.Source to be registered as it is, an io.Reader, an io.Writer and an
// io.Closer.
//
// All methods may be called from any goroutine. One that reads and one that writes do
// not disturb each other. Of several that read each gets part of the stream; of several
// that write, one may find its bytes behind those of another in the middle of a Write,
// since it does not wait for its turn.
//
// A Conn that is not closed is never closed by the garbage collector.
type Conn struct {
	base
	connect atomic.Pointer[connectState] // nil: connected
}

// connectState is how an attempt to connect stands, and where to: the system does not
// tell before there is a connection. It is never changed.
type connectState struct {
	err error // errInProgress: it has not ended
	to  target
}

func (s *connectState) inProgress() bool { return s != nil && s.err == errInProgress }

// maxTransfer is what one system call is asked to transfer at most: some refuse 2 GiB.
const maxTransfer = 1 << 30

// newConn returns a Conn on h.
func newConn(h handle, p proto, f family) *Conn {
	c := new(Conn)
	c.open(h, p, f)
	return c
}

// Read reads what is there, at most len(b) bytes. With nothing there it returns
// ErrWouldBlock, and at the end of the stream io.EOF. An empty b reads nothing, and
// returns 0 and nil. Edge-triggered, the next event is certain after ErrWouldBlock.
func (c *Conn) Read(b []byte) (int, error) {
	d := c.own()
	if !d.Acquire() {
		return 0, c.closed("read")
	}
	n, err := 0, error(nil)
	if len(b) > 0 {
		if n, err = sysRead(d.Handle(), b[:min(len(b), maxTransfer)]); n == 0 && err == nil {
			err = c.end()
		} else if err != nil {
			err = c.transferError("read", backend.Readable, err)
		}
	}
	d.Release()
	return n, err
}

// Write writes what there is room for. If that is less than len(b) it returns how much,
// and ErrWouldBlock: the rest is to be written when the Conn is writable again. It has
// tried to write that, too, so that edge-triggered the next event is certain. Writing to
// a peer that is gone is an error (EPIPE, ECONNRESET) and never a signal. An empty b
// writes nothing.
func (c *Conn) Write(b []byte) (n int, err error) {
	d := c.own()
	if !d.Acquire() {
		return 0, c.closed("write")
	}
	for n < len(b) && err == nil {
		var m int
		m, err = sysWrite(d.Handle(), b[n:min(len(b), n+maxTransfer)])
		n += m
	}
	if err != nil {
		err = c.transferError("write", backend.Writable, err)
	}
	d.Release()
	return n, err
}

// ReadBuffers is Read into several buffers with one system call, each filled before the
// next; it returns how many bytes there were. It uses the first 1,024 buffers at most
// (fewer where the system takes fewer). The buffers stay as they are: see [Conn.Read].
func (c *Conn) ReadBuffers(bufs [][]byte) (int, error) {
	d := c.own()
	if !d.Acquire() {
		return 0, c.closed("read")
	}
	defer d.Release()
	n, wanted, err := sysReadBuffers(d.Handle(), bufs)
	if err != nil {
		return n, c.transferError("read", backend.Readable, err)
	}
	if n == 0 && wanted {
		return 0, c.end()
	}
	return n, nil
}

// WriteBuffers is Write from several buffers, 1,024 of them with one system call (fewer
// where the system takes fewer). As with the method WriteTo of [net.Buffers], what has
// been written is taken out of *bufs, and of the buffer it ends in; so what is left after
// ErrWouldBlock can be passed again.
func (c *Conn) WriteBuffers(bufs *net.Buffers) (written int64, err error) {
	d := c.own()
	if !d.Acquire() {
		return 0, c.closed("write")
	}
	defer d.Release()
	for consume(bufs, 0); len(*bufs) > 0 && err == nil; {
		var n int
		n, err = sysWriteBuffers(d.Handle(), *bufs)
		written += int64(n)
		consume(bufs, n)
	}
	if err != nil {
		err = c.transferError("write", backend.Writable, err)
	}
	return written, err
}

// consume takes n bytes out of bufs, and the empty buffers that follow them.
func consume(bufs *net.Buffers, n int) {
	for len(*bufs) > 0 {
		first := &(*bufs)[0]
		if len(*first) > n {
			*first = (*first)[n:]
			return
		}
		n -= len(*first)
		*first = nil
		*bufs = (*bufs)[1:]
	}
}

// transferError is what reading or writing returns for err. Between Acquire and
// Release.
func (c *Conn) transferError(op string, in backend.Interest, err error) error {
	if state := c.connect.Load(); err != ErrWouldBlock && state.inProgress() {
		if why := pendingError(c.own().Handle()); why != nil { // Windows tells it here only
			err = why
		} else if isNotConnected(err) { // how Windows and the BSDs say that it goes on
			err = ErrWouldBlock
		}
		if err != ErrWouldBlock {
			// The system tells it once: it is what ConnectError will be asked for.
			c.connect.CompareAndSwap(state, &connectState{err, state.to})
		}
	}
	if err == ErrWouldBlock {
		return c.wouldBlock(in)
	}
	return c.failed(op, err)
}

// end is what reading returns at the end of the stream. Systems say so, too, after an
// attempt to connect that failed; then it is why. Between Acquire and Release.
func (c *Conn) end() error {
	state := c.connect.Load()
	if state.inProgress() {
		state = c.askConnected(c.own().Handle(), state)
	}
	if state == nil || state.inProgress() {
		return io.EOF
	}
	return c.failed("read", state.err)
}

// failed is the error of an operation on c. Of a Conn that is not connected, what it was
// to be connected to is its address, as in package net.
func (c *Conn) failed(op string, err error) error {
	if state := c.connect.Load(); state != nil {
		return &net.OpError{Op: op, Net: c.proto.String(), Addr: state.to.addr(), Err: err}
	}
	return c.base.failed(op, err)
}

// CloseRead shuts down the reading side: reading gives io.EOF. (On Linux, data that
// arrives later is still read before that.)
func (c *Conn) CloseRead() error {
	return c.do("close", func(h handle) error { return shutdownRead(h) })
}

// CloseWrite shuts down the writing side: the peer reads what was written, and then the
// end of the stream. This side goes on reading.
func (c *Conn) CloseWrite() error {
	return c.do("close", func(h handle) error { return shutdownWrite(h) })
}

// LocalAddr returns the local address, asked of the system at each call: a
// *net.TCPAddr or *net.UnixAddr. It is nil when the Conn is closed.
func (c *Conn) LocalAddr() net.Addr { return c.named(localName) }

// RemoteAddr returns the address of the peer, as LocalAddr does. It is nil also when the
// connection is not made yet, or reset.
func (c *Conn) RemoteAddr() net.Addr { return c.named(remoteName) }
