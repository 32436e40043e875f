package tlsconn

import (
	"io"
	"net"
	"sync"
	"time"

	"github.com/epore/epore/socket"
)

// link is what stands below a tls.Conn. Reading says ErrWouldBlock, or during the handshake
// waits as a coroutine; writing takes everything.
type link struct {
	sock *socket.Conn
	wait func(struct{}) bool // during the handshake: gives control back until the next event

	out     *buffer // what is to be sent; nil: nothing
	blocked bool    // the socket did not take all of it: an event says when it does

	records recordCounter

	// What ended a direction. Kept here, because crypto/tls takes some errors of the system
	// (ETIMEDOUT) for temporary and would read on, and the system tells an error once.
	readErr, writeErr error
}

// buffer is the bytes that wait to be sent.
type buffer struct {
	b    []byte
	sent int // of b
}

const (
	// eager is how much is gathered before it is sent in the middle of a Write.
	eager = 64 << 10
	// keep is the largest buffer that is used again.
	keep = 2 * eager
)

var buffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, 4<<10)} }}

// Read implements [net.Conn].
func (l *link) Read(b []byte) (int, error) {
	if l.readErr != nil {
		return 0, l.readErr
	}
	for {
		n, err := l.sock.Read(b)
		switch {
		case err == nil:
			l.records.pass(b[:n])
			return n, nil
		case err != socket.ErrWouldBlock:
			l.readErr = err
			return n, err
		case l.wait == nil:
			l.records.whole = 0 // crypto/tls asks when it has none
			return 0, err
		case !l.wait(struct{}{}): // the handshake is given up
			l.readErr = net.ErrClosed
			return 0, l.readErr
		}
	}
}

// recordCounter follows the records in the stream that crypto/tls reads, to know whether it
// holds a whole one.
type recordCounter struct {
	header [5]byte // type, version, length
	have   int     // how many bytes of the header have passed
	rest   int     // how many bytes of the record are still to come
	whole  int     // records that have passed, and may not be used up
}

// unknown is more records than ever pass at once: it stands until crypto/tls has none.
const unknown = 1 << 30

// pass takes note of bytes of the stream.
func (r *recordCounter) pass(b []byte) {
	for len(b) > 0 {
		if r.have < len(r.header) {
			n := copy(r.header[r.have:], b)
			r.have += n
			b = b[n:]
			if r.have < len(r.header) {
				return
			}
			r.rest = int(r.header[3])<<8 | int(r.header[4])
		}
		n := min(r.rest, len(b))
		r.rest -= n
		b = b[n:]
		if r.rest == 0 {
			r.have = 0
			r.whole++
		}
	}
}

// use notes that crypto/tls has used up a record, at least one, and reports whether it may
// have another.
func (r *recordCounter) use() bool {
	r.whole = max(r.whole-1, 0)
	return r.whole > 0
}

// ended reports whether err, of crypto/tls, says that the socket's stream has ended. A
// close_notify is io.EOF as well, but then the stream was not read up to its end.
func (l *link) ended(err error) bool {
	return l.readErr == io.EOF && (err == io.EOF || err == io.ErrUnexpectedEOF)
}

// Write implements [net.Conn]. It takes all of b.
func (l *link) Write(b []byte) (int, error) {
	if l.writeErr != nil {
		return 0, l.writeErr
	}
	o := l.out
	if o == nil {
		o = buffers.Get().(*buffer)
		l.out = o
	}
	if o.sent > len(o.b)/2 {
		o.b = o.b[:copy(o.b, o.b[o.sent:])]
		o.sent = 0
	}
	o.b = append(o.b, b...)
	if !l.blocked && l.buffered() >= eager {
		if err := l.flush(); err != nil && err != socket.ErrWouldBlock {
			return 0, err
		}
	}
	return len(b), nil
}

// flush sends what there is to send.
func (l *link) flush() error {
	if l.writeErr != nil || l.out == nil {
		return l.writeErr
	}
	n, err := l.sock.Write(l.out.b[l.out.sent:])
	l.out.sent += n
	l.blocked = err == socket.ErrWouldBlock
	if l.blocked {
		return err
	}
	l.writeErr = err
	l.release()
	return err
}

// release gives the buffer back, with or without something in it.
func (l *link) release() {
	if o := l.out; o != nil && cap(o.b) <= keep {
		o.b, o.sent = o.b[:0], 0
		buffers.Put(o)
	}
	l.out, l.blocked = nil, false
}

func (l *link) buffered() int {
	if l.out == nil {
		return 0
	}
	return len(l.out.b) - l.out.sent
}

// Close implements [net.Conn].
func (l *link) Close() error {
	l.release()
	return l.sock.Close()
}

// LocalAddr implements [net.Conn].
func (l *link) LocalAddr() net.Addr { return known(l.sock.LocalAddr()) }

// RemoteAddr implements [net.Conn].
func (l *link) RemoteAddr() net.Addr { return known(l.sock.RemoteAddr()) }

// known replaces an address that the system does not know any more: crypto/tls asks for
// its String without looking.
func known(a net.Addr) net.Addr {
	if a == nil {
		return noAddr{}
	}
	return a
}

type noAddr struct{}

func (noAddr) Network() string { return "tcp" }
func (noAddr) String() string  { return "unknown" }

// SetDeadline implements [net.Conn], without a deadline: nothing here waits.
func (l *link) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements [net.Conn], as SetDeadline does.
func (l *link) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements [net.Conn], as SetDeadline does.
func (l *link) SetWriteDeadline(time.Time) error { return nil }
