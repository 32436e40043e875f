package socket

import (
	"net"
	"syscall"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/sharedfd"
)

// handle is a descriptor, as the layer of system calls takes it.
type handle = backend.Handle

// ownedSocket is what makes a socket one of the project's own: Polls tell it where it
// is registered, and Close deregisters it there.
type ownedSocket = sharedfd.Socket

// base is what all sockets have in common.
type base struct {
	ownedSocket
	proto  proto
	family family
}

func (b *base) own() *sharedfd.Descriptor { return sharedfd.In(&b.ownedSocket) }

// open makes h the descriptor of b.
func (b *base) open(h handle, p proto, f family) {
	b.proto, b.family = p, f
	b.own().Open(h)
}

// wouldBlock is the answer of every operation that finds nothing to do, made here
// and nowhere else: where the kernel knows no edges, this is when the Polls have to
// ask for the next one. Between Acquire and Release.
func (b *base) wouldBlock(in backend.Interest) error {
	if rearms {
		b.own().WouldBlock(in)
	}
	return ErrWouldBlock
}

// Close deregisters the socket from every Poll with which it is registered, and closes
// it: no event of it is delivered any more, not even one in the batch in hand. Operations
// that other goroutines are in the middle of end first, without Close waiting for them;
// later ones fail with net.ErrClosed, and so does a second Close.
func (b *base) Close() error {
	closed, err := b.own().Close()
	if !closed {
		return b.closed("close")
	}
	if err != nil {
		return &net.OpError{Op: "close", Net: b.proto.String(), Err: err}
	}
	return nil
}

// SyscallConn makes the socket an epore.Source, and gives access to its descriptor,
// which is not closed while a function passed to Control, Read or Write runs. Read and
// Write call it once: when it returns false, they return ErrWouldBlock rather than
// waiting. They need that to be said of an operation that would block, where edges are
// made by hand (Windows).
func (b *base) SyscallConn() (syscall.RawConn, error) {
	if !b.own().Acquire() {
		return nil, b.closed("raw-control")
	}
	b.own().Release()
	return (*rawConn)(b), nil
}

// rawConn is a socket behind syscall.RawConn.
type rawConn base

// Control implements [syscall.RawConn].
func (r *rawConn) Control(f func(fd uintptr)) error {
	return (*base)(r).control("raw-control", 0, func(fd uintptr) bool { f(fd); return true })
}

// Read implements [syscall.RawConn].
func (r *rawConn) Read(f func(fd uintptr) bool) error {
	return (*base)(r).control("raw-read", backend.Readable, f)
}

// Write implements [syscall.RawConn].
func (r *rawConn) Write(f func(fd uintptr) bool) error {
	return (*base)(r).control("raw-write", backend.Writable, f)
}

func (b *base) control(op string, in backend.Interest, f func(fd uintptr) bool) error {
	if !b.own().Acquire() {
		return b.closed(op)
	}
	defer b.own().Release()
	if !f(uintptr(b.own().Handle())) {
		return b.wouldBlock(in)
	}
	return nil
}

// do calls f with the descriptor, for what is not done often.
func (b *base) do(op string, f func(h handle) error) error {
	if !b.own().Acquire() {
		return b.closed(op)
	}
	defer b.own().Release()
	if err := f(b.own().Handle()); err != nil {
		return b.failed(op, err)
	}
	return nil
}

// named asks the system for an address; nil: it knows none, or b is closed.
func (b *base) named(name func(handle, proto) net.Addr) net.Addr {
	if !b.own().Acquire() {
		return nil
	}
	defer b.own().Release()
	return name(b.own().Handle(), b.proto)
}
