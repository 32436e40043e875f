// Package iocp is the backend for Windows: an I/O completion port, and polls of AFD,
// the driver behind its sockets.
//
//	p, err := epore.NewWith(iocp.New())
//
// makes a Poll on it; on Windows it is the queue of epore.New.
//
// # How it works
//
// A completion port reports what was done, not what could be. But AFD has a request
// that ends when a socket is ready for something, and its end is reported to the port.
// The request is made on a helper handle of this package (\Device\Afd\Epore), not on
// the socket, which need not be associated with the port. So the sockets of package
// net, which belong to the port of Go's runtime, can be watched as they are.
//
// A poll of AFD reports once what is the case. One-shot is just that; level makes the
// request again before the next wait, if the source had an event.
//
// # What it can do
//
// Sockets: level, one-shot, and urgent data. Edge, only for sources that say when an
// operation would have blocked, since that is when the request is made again
// ([backend.EdgeEmulator]). Not Exclusive. What is not a socket is refused with
// ErrNotPollable: files, consoles and pipes have no readiness on Windows.
//
// A waiting Poll holds its thread, whatever its strategy: Go's runtime waits at a port
// of its own, and cannot wait at another one for us.
//
// A timeout of less than 32 milliseconds is kept by a high-resolution timer, exact to
// half a millisecond or better, where Windows has one (10, version 1803, or later).
// Everything else is rounded up to the millisecond, and late by what Windows' clock
// tick makes it, which is up to 16 milliseconds.
//
// # What to know
//
// What a socket is registered under is its handle, and handles are used again. A
// second request for each socket, which ends only when it is closed, tells whether a
// handle is still what was registered: exactly, unless the socket has a duplicate
// (WSADuplicateSocket, DuplicateHandle, a child that inherited it). Then closing one
// handle ends nothing; the registration stays until the last one is closed, and when
// the number is used again it stands in the way: Register says fs.ErrExist. So:
// deregister before closing.
//
// ReadClosed comes with Readable only. WriteClosed comes with a reset only, since AFD
// does not tell that this side has shut down sending.
//
// Two requests a socket take 128 bytes of memory and a share of a helper handle, of
// which there is one for 32 sockets.
//
// The interface to AFD is not documented, but libuv, and after it wepoll and mio,
// made so many programs depend on it that it has not changed since Windows Vista.
package iocp
