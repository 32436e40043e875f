package socket

import (
	"io"
	"net"
	"sync/atomic"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/simfd"
)

// Conn is a stream socket, TCP or Unix, that is connected or connecting. It never blocks. It
// is an epore.Source, an io.Reader, an io.Writer and an io.Closer.
//
// All methods may be called from any goroutine. A goroutine that reads and one that writes
// do not disturb each other. If several goroutines read, each gets part of the stream. If
// several write, the bytes of one Write may be interleaved with those of another, because a
// Write does not wait for its turn.
//
// The garbage collector never closes a Conn: close it.
type Conn struct {
	base
	connect atomic.Pointer[connectState] // nil: connected
}

// connectState is the state of an attempt to connect, and its target: the system does not
// report the peer's address before the connection exists. It is immutable.
type connectState struct {
	err error // errInProgress: the attempt has not ended
	to  target
}

func (s *connectState) inProgress() bool { return s != nil && s.err == errInProgress }

// maxTransfer is how many bytes one system call is asked to transfer: some systems refuse
// 2 GiB.
const maxTransfer = 1 << 30

// newConn returns a Conn on h.
func newConn(h handle, p proto, f family) *Conn {
	c := new(Conn)
	c.open(h, p, f)
	return c
}

// Read reads the available data, at most len(b) bytes. It returns ErrWouldBlock if no data
// is available, and io.EOF at the end of the stream. With an empty b it reads nothing, and
// returns 0 and nil. With edge-triggered interest, the next event is certain after
// ErrWouldBlock.
func (c *Conn) Read(b []byte) (int, error) {
	d := c.descriptor()
	if !d.Acquire() {
		return 0, c.closed("read")
	}
	n, err := 0, error(nil)
	if len(b) > 0 {
		if simfd.Is(d.Handle()) {
			n, err = simfd.Get(d.Handle()).Read(b)
		} else {
			n, err = sysRead(d.Handle(), b[:min(len(b), maxTransfer)])
		}
		if n == 0 && err == nil {
			err = c.endOfStream()
		} else if err != nil {
			err = c.transferError("read", backend.Readable, err)
		} else {
			c.noteTransfer()
		}
	}
	d.Release()
	return n, err
}

// Write writes as much of b as the system has room for. If that is less than len(b), it
// returns the number of bytes written and ErrWouldBlock: write the rest when the Conn is
// writable again. It has already tried to write the rest, so that with edge-triggered
// interest the next event is certain.
//
// Writing to a peer that is gone returns an error (EPIPE, ECONNRESET), and never raises a
// signal. With an empty b, Write writes nothing.
func (c *Conn) Write(b []byte) (n int, err error) {
	d := c.descriptor()
	if !d.Acquire() {
		return 0, c.closed("write")
	}
	for n < len(b) && err == nil {
		var m int
		if simfd.Is(d.Handle()) {
			m, err = simfd.Get(d.Handle()).Write(b[n:])
		} else {
			m, err = sysWrite(d.Handle(), b[n:min(len(b), n+maxWrite)])
		}
		n += m
	}
	if n > 0 {
		c.noteTransfer()
	}
	if err != nil {
		err = c.transferError("write", backend.Writable, err)
	}
	d.Release()
	return n, err
}

// ReadBuffers is like Read, but reads into several buffers with one system call. It fills
// each buffer before the next, and returns the total number of bytes. It uses at most the
// first 1,024 buffers (fewer where the system takes fewer). It does not change the slices in
// bufs.
func (c *Conn) ReadBuffers(bufs [][]byte) (int, error) {
	d := c.descriptor()
	if !d.Acquire() {
		return 0, c.closed("read")
	}
	defer d.Release()
	n, hasRoom, err := readBuffers(d.Handle(), bufs)
	if err != nil {
		return n, c.transferError("read", backend.Readable, err)
	}
	if n == 0 && hasRoom {
		return 0, c.endOfStream()
	}
	if n > 0 {
		c.noteTransfer()
	}
	return n, nil
}

// WriteBuffers is like Write, but writes several buffers, up to 1,024 of them with one
// system call (fewer where the system takes fewer). Like the method WriteTo of [net.Buffers],
// it removes from *bufs what it has written, and shortens the buffer that it has written in
// part. So after ErrWouldBlock the same bufs can be passed again.
func (c *Conn) WriteBuffers(bufs *net.Buffers) (written int64, err error) {
	d := c.descriptor()
	if !d.Acquire() {
		return 0, c.closed("write")
	}
	defer d.Release()
	if bufs == nil {
		return 0, c.failed("write", errNilBuffers)
	}
	for consume(bufs, 0); len(*bufs) > 0 && err == nil; {
		var n int
		n, err = writeBuffers(d.Handle(), *bufs)
		written += int64(n)
		consume(bufs, n)
	}
	if written > 0 {
		c.noteTransfer()
	}
	if err != nil {
		err = c.transferError("write", backend.Writable, err)
	}
	return written, err
}

// consume removes n bytes from bufs, and the empty buffers that follow them.
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

// noteTransfer records, after bytes were transferred, that the attempt to connect has
// succeeded. Otherwise a later error would be taken for the result of the attempt, if
// ConnectError was never called.
func (c *Conn) noteTransfer() {
	if state := c.connect.Load(); state.inProgress() {
		c.noteConnected(state)
	}
}

// noteConnected records that the attempt to connect that was in progress has succeeded.
func (c *Conn) noteConnected(was *connectState) {
	if c.connect.CompareAndSwap(was, nil) && !simfd.Is(c.descriptor().Handle()) {
		dropQueuedErrors(c.descriptor().Handle())
	}
}

// transferError translates err, the error of a read or write. Called between Acquire and
// Release.
func (c *Conn) transferError(op string, in backend.Interest, err error) error {
	if state := c.connect.Load(); state.inProgress() {
		if err != ErrWouldBlock {
			err = c.connectResult(state, err)
		} else if connected(c.descriptor().Handle()) {
			c.noteConnected(state)
		}
	}
	if err == ErrWouldBlock {
		return c.wouldBlock(in)
	}
	return c.failed(op, err)
}

// connectResult records the end of an attempt that was in progress when a read or write
// failed with err, and returns the error of that read or write: ErrWouldBlock if the attempt
// goes on.
func (c *Conn) connectResult(was *connectState, err error) error {
	h := c.descriptor().Handle()
	if why := connectError(h); why != nil { // Windows reports it only here
		err = why
	} else if connected(h) {
		c.noteConnected(was)
		return err // of the connection, such as EPIPE after CloseWrite
	} else if isNotConnected(err) { // Windows and the BSDs: the attempt goes on
		return ErrWouldBlock
	}
	// The system reports it once. ConnectError will need it.
	c.connect.CompareAndSwap(was, &connectState{err, was.to})
	return err
}

// endOfStream returns what a read returns when the system reports the end of the stream.
// Systems also report it after a failed attempt to connect: then it is the reason for the
// failure. Called between Acquire and Release.
func (c *Conn) endOfStream() error {
	state := c.connect.Load()
	if state.inProgress() {
		state = c.updateConnectState(c.descriptor().Handle(), state)
	}
	if state == nil || state.inProgress() {
		return io.EOF
	}
	return c.failed("read", state.err)
}

// failed returns the error of an operation on c. As in package net, a Conn that is not
// connected is named by its target.
func (c *Conn) failed(op string, err error) error {
	if state := c.connect.Load(); state != nil {
		return &net.OpError{Op: op, Net: c.proto.String(), Addr: state.to.addr(), Err: err}
	}
	return c.base.failed(op, err)
}

// CloseRead shuts down the reading side: later reads return io.EOF. (On Linux, data that
// arrives later is still read first.)
func (c *Conn) CloseRead() error {
	return c.do("close", func(h handle) error { return shutdown(h, true) })
}

// CloseWrite shuts down the writing side. The peer reads all that was written, and then the
// end of the stream. Reading on this side still works.
func (c *Conn) CloseWrite() error {
	return c.do("close", func(h handle) error { return shutdown(h, false) })
}

// LocalAddr returns the local address, a *net.TCPAddr or *net.UnixAddr. It asks the system
// each time. It returns nil if the Conn is closed, and on some systems (NetBSD, DragonFly) if
// the connection was reset. Unlike in package net, check for nil before you call a method.
func (c *Conn) LocalAddr() net.Addr { return c.address(localAddress) }

// RemoteAddr returns the address of the peer, as LocalAddr does. It also returns nil if the
// connection is not established yet, or was reset, even before Accept returned it. Unlike in
// package net, check for nil before you call a method.
func (c *Conn) RemoteAddr() net.Addr { return c.address(remoteAddress) }
