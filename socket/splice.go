package socket

import (
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/epore/epore/backend"
)

// SpliceFrom moves n bytes from src to c, and returns the number of bytes that c has written.
// If that is less than n, the error is the reason:
//
//   - ErrWouldBlock while [Conn.SplicePending] is zero: src has no data. Continue when src is
//     readable.
//   - ErrWouldBlock while SplicePending is not zero: c has no room. Continue when c is
//     writable.
//   - io.EOF: src has ended, and c has written all its data.
//   - Any other error comes from src or from c, and contains the address of that Conn. It
//     matches fs.ErrInvalid if src is nil or c itself, or n is negative.
//
// To move everything until src ends, pass math.MaxInt64. SpliceFrom then returns only when
// one of the two would block.
//
// Bytes that were read from src and that c has no room for stay with c, at most 1 MiB. The
// next SpliceFrom to c writes them first, even if it has another src. Until then do not
// call Write, or its bytes come before them. Close drops them. Only one goroutine at a time
// may splice to a Conn.
//
// On Linux the data passes through a pipe, and not through the program (splice(2)). If the
// peer is gone, the kernel then sends SIGPIPE, which only a program that has subscribed to it
// (os/signal) notices. When src has only a few KiB, they are copied, which costs less. On other
// systems the data is always copied.
func (c *Conn) SpliceFrom(src *Conn, n int64) (written int64, err error) {
	d := c.descriptor()
	if !d.Acquire() {
		return 0, c.closed("write")
	}
	defer d.Release()
	switch {
	case src == nil:
		return 0, c.failed("write", fmt.Errorf("splice from a nil Conn: %w", fs.ErrInvalid))
	case src == c: // it would wait for itself
		return 0, c.failed("write", fmt.Errorf("splice from the Conn to itself: %w", fs.ErrInvalid))
	case n < 0:
		return 0, c.failed("write", fmt.Errorf("splice %d bytes: negative: %w", n, fs.ErrInvalid))
	}
	s := src.descriptor()
	if !s.Acquire() {
		return 0, src.closed("read")
	}
	defer s.Release()
	r := pendings.take(c)
	if r == nil {
		r = relays.Get().(*relay)
	}
	r.begin(s.Handle(), d.Handle())
	for written < n && err == nil {
		if r.pending() == 0 {
			m, failed := r.fill(s.Handle(), d.Handle(), n-written)
			switch {
			case failed != nil:
				err = src.transferError("read", backend.Readable, failed)
			case m == 0:
				err = src.endOfStream()
			default:
				src.noteTransfer()
			}
			if m == 0 {
				break
			}
		}
		m, failed := r.drain(d.Handle(), n-written)
		written += int64(m)
		if m > 0 {
			c.noteTransfer()
		}
		if failed != nil {
			err = c.transferError("write", backend.Writable, failed)
		}
	}
	if r.pending() > 0 {
		pendings.keep(c, r)
	} else {
		relays.Put(r)
	}
	return written, err
}

// SplicePending returns the number of bytes that [Conn.SpliceFrom] has read for c and that c
// has not written yet.
func (c *Conn) SplicePending() int {
	r := pendings.take(c)
	if r == nil {
		return 0
	}
	n := r.pending()
	pendings.keep(c, r)
	return n
}

// Close deregisters the Conn from every Poll and closes it: no event of it is delivered any
// more, not even one in the current batch. Close does not wait for operations that other
// goroutines have begun: they complete first, and then the descriptor is closed. Later
// operations fail with net.ErrClosed, and so does a second Close.
func (c *Conn) Close() error {
	err := c.base.Close()
	if r := pendings.take(c); r != nil {
		r.drop()
	}
	return err
}

// relay holds bytes on their way from one stream to another.
type relay struct {
	pipe         // on Linux
	buf          *[copySize]byte
	begins, ends int // what of buf is on its way
}

var relays = sync.Pool{New: func() any { return new(relay) }}

// pending returns how many bytes are on their way.
func (r *relay) pending() int { return r.inPipe() + r.ends - r.begins }

// fillCopy reads into the buffer, which is empty.
func (r *relay) fillCopy(src handle, most int64) (int, error) {
	if r.buf == nil {
		r.buf = copyBuffers.Get().(*[copySize]byte)
	}
	n, err := read(src, r.buf[:min(most, copySize)])
	r.begins, r.ends = 0, n
	return n, err
}

// drainCopy writes from the buffer.
func (r *relay) drainCopy(dst handle, most int64) (int, error) {
	n, err := write(dst, r.buf[r.begins:][:min(most, int64(r.ends-r.begins))])
	if r.begins += n; r.begins == r.ends {
		copyBuffers.Put(r.buf)
		r.buf, r.begins, r.ends = nil, 0, 0
	}
	return n, err
}

// relaysInUse are the relays with pending bytes. A Conn has no field for its relay, because
// most Conns never need one.
type relaysInUse struct {
	count atomic.Int32
	mu    sync.Mutex
	of    map[*Conn]*relay
}

var pendings relaysInUse

// take removes and returns the relay of a Conn, or nil.
func (u *relaysInUse) take(c *Conn) *relay {
	if u.count.Load() == 0 {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.of[c]
	if r != nil {
		delete(u.of, c)
		u.count.Add(-1)
	}
	return r
}

// keep stores a relay for a Conn. If the Conn was closed meanwhile, its Close has looked
// already, so keep drops the relay.
func (u *relaysInUse) keep(c *Conn, r *relay) {
	u.mu.Lock()
	if u.of == nil {
		u.of = make(map[*Conn]*relay)
	}
	u.of[c] = r
	u.count.Add(1)
	u.mu.Unlock()
	if c.descriptor().Acquire() {
		c.descriptor().Release()
	} else if r := u.take(c); r != nil {
		r.drop()
	}
}
