package socket

import (
	"net"
	"syscall"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/sharedfd"
)

// handle is a descriptor in the form that the system calls of this package take.
type handle = backend.Handle

// sharedSocket makes a type a socket of this package: Polls record in it where it is
// registered, and Close deregisters it there. The alias keeps the embedded field unexported.
type sharedSocket = sharedfd.Socket

// base is the part that all sockets have in common.
type base struct {
	sharedSocket
	proto  proto
	family family
}

func (b *base) descriptor() *sharedfd.Descriptor { return sharedfd.In(&b.sharedSocket) }

// open makes h the descriptor of b.
func (b *base) open(h handle, p proto, f family) {
	b.proto, b.family = p, f
	b.descriptor().Open(h)
}

// wouldBlock returns ErrWouldBlock. Every operation that can do nothing now returns through
// here, because this is when Polls that emulate edges must ask for the next one. Called
// between Acquire and Release.
func (b *base) wouldBlock(in backend.Interest) error {
	if emulatesEdges {
		b.descriptor().WouldBlock(in)
	}
	return ErrWouldBlock
}

// Close deregisters the socket from every Poll that it is registered with, and closes it. No
// event of it is delivered any more, not even one in the current batch.
//
// Close does not wait for operations that other goroutines have begun: they complete first,
// and then the descriptor is closed. Later operations fail with net.ErrClosed, and so does a
// second Close.
func (b *base) Close() error {
	closed, err := b.descriptor().Close()
	if !closed {
		return b.closed("close")
	}
	if err != nil {
		return &net.OpError{Op: "close", Net: b.proto.String(), Err: err}
	}
	return nil
}

// SyscallConn makes the socket an epore.Source and gives access to its descriptor. The
// descriptor is not closed while a function passed to Control, Read or Write runs.
//
// Read and Write call their function once. When it returns false, they do not wait: they
// return ErrWouldBlock. A function that operates on the descriptor must return false when
// the operation would block: where edges are emulated (Windows), the Polls need to know.
//
// Some options of Linux make the kernel queue reports: IP_RECVERR, SO_TIMESTAMPING,
// SO_ZEROCOPY. If you set one, read its reports with recvmsg and MSG_ERRQUEUE. While the queue
// is not empty, every level-triggered event has the bit Error.
func (b *base) SyscallConn() (syscall.RawConn, error) {
	if !b.descriptor().Acquire() {
		return nil, b.closed("raw-control")
	}
	b.descriptor().Release()
	return (*rawConn)(b), nil
}

// rawConn is a socket as a syscall.RawConn.
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
	if !b.descriptor().Acquire() {
		return b.closed(op)
	}
	defer b.descriptor().Release()
	if !f(uintptr(b.descriptor().Handle())) {
		return b.wouldBlock(in)
	}
	return nil
}

// do calls f with the descriptor. It is for operations off the hot path.
func (b *base) do(op string, f func(h handle) error) error {
	if !b.descriptor().Acquire() {
		return b.closed(op)
	}
	defer b.descriptor().Release()
	if err := f(b.descriptor().Handle()); err != nil {
		return b.failed(op, err)
	}
	return nil
}

// address asks the system for an address. It returns nil if there is none, or b is closed.
func (b *base) address(ask func(handle, proto) net.Addr) net.Addr {
	if !b.descriptor().Acquire() {
		return nil
	}
	defer b.descriptor().Release()
	return ask(b.descriptor().Handle(), b.proto)
}
