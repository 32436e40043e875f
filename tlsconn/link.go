package tlsconn

import (
	"io"
	"net"
	"sync"
	"time"

	"github.com/epore/epore/socket"
)

// link is the net.Conn below a tls.Conn. Read returns ErrWouldBlock, or waits as a coroutine
// during the handshake. Write takes everything.
type link struct {
	sock *socket.Conn
	wait func(struct{}) bool // during the handshake: returns control until the next event

	out     *buffer // unsent bytes, or nil
	records recordCounter
	blocked bool // the socket did not accept all of them: a Writable event follows
	direct  bool // Write sends at once, because nothing follows
	failed  bool // readErr or writeErr is not nil

	// The errors that ended a direction. They are kept here, because crypto/tls takes some
	// errors of the system (ETIMEDOUT) for temporary and would read on, and the system reports
	// an error only once.
	readErr, writeErr error
}

// buffer holds bytes to be sent.
type buffer struct {
	b    []byte
	sent int // of b
}

const (
	// eager is the size at which a Write sends before it is complete.
	eager = 64 << 10
	// keep is the size of the largest buffer that is reused.
	keep = 2 * eager
	// oneRecord is a length that crypto/tls never divides. (With a CBC cipher of TLS 1.0 it
	// sends the first byte separately.) The smallest records that it fills fit into 1,208
	// bytes of TCP.
	oneRecord = 1 << 10
)

var buffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, 4<<10)} }}

// Read implements [net.Conn].
func (l *link) Read(b []byte) (int, error) {
	if l.failed && l.readErr != nil {
		return 0, l.readErr
	}
	for {
		n, err := l.sock.Read(b)
		switch {
		case err == nil:
			l.records.pass(b[:n])
			return n, nil
		case err != socket.ErrWouldBlock:
			l.readErr, l.failed = err, true
			return n, err
		case l.wait == nil:
			l.records.whole = 0 // crypto/tls reads only if it holds none
			return 0, err
		case !l.wait(struct{}{}): // Close ends the handshake
			l.readErr, l.failed = net.ErrClosed, true
			return 0, l.readErr
		}
	}
}

// recordCounter counts the records in the stream that crypto/tls reads, to know whether
// crypto/tls holds a complete one.
type recordCounter struct {
	header [5]byte // type, version, length
	have   uint8   // bytes of the header that have passed
	rest   uint16  // bytes of the record that are still to come
	whole  int32   // complete records that have passed and may not be used up
}

// unknown is more records than can pass at once. The count stays high until crypto/tls reads
// from the socket and would block.
const unknown = 1 << 30

// pass counts the records in b, the next bytes of the stream.
func (r *recordCounter) pass(b []byte) {
	for len(b) > 0 {
		if int(r.have) < len(r.header) {
			n := copy(r.header[r.have:], b)
			r.have += uint8(n)
			b = b[n:]
			if int(r.have) < len(r.header) {
				return
			}
			r.rest = uint16(r.header[3])<<8 | uint16(r.header[4])
		}
		n := min(int(r.rest), len(b))
		r.rest -= uint16(n)
		b = b[n:]
		if r.rest == 0 {
			r.have = 0
			r.whole = min(r.whole+1, unknown)
		}
	}
}

// use is called when crypto/tls has used up at least one record. It reports whether crypto/tls
// may hold another one.
func (r *recordCounter) use() bool {
	r.whole = max(r.whole-1, 0)
	return r.whole > 0
}

// ended reports whether err, from crypto/tls, means that the socket's stream has ended. After a
// close_notify alert, crypto/tls returns io.EOF without reading to the end of the stream.
func (l *link) ended(err error) bool {
	return (err == io.EOF || err == io.ErrUnexpectedEOF) && l.readErr == io.EOF
}

// Write implements [net.Conn]. It takes all of b.
func (l *link) Write(b []byte) (int, error) {
	if l.failed && l.writeErr != nil {
		return 0, l.writeErr
	}
	size := len(b)
	o := l.out
	if o == nil {
		if l.direct {
			n, err := l.sock.Write(b)
			l.blocked = err == socket.ErrWouldBlock
			if !l.blocked {
				if err != nil { // flush returns it
					l.writeErr, l.failed = err, true
				}
				return size, nil
			}
			b = b[n:]
		}
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
	return size, nil
}

// flush sends the unsent bytes.
func (l *link) flush() error {
	if l.failed && l.writeErr != nil {
		return l.writeErr
	}
	if l.out == nil {
		return nil
	}
	n, err := l.sock.Write(l.out.b[l.out.sent:])
	l.out.sent += n
	l.blocked = err == socket.ErrWouldBlock
	if l.blocked {
		return err
	}
	if err != nil {
		l.writeErr, l.failed = err, true
	}
	l.release()
	return err
}

// release drops the unsent bytes, and returns their buffer for reuse.
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

// known replaces a nil address, which the system returns after the end of a connection:
// crypto/tls calls String without a check.
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
