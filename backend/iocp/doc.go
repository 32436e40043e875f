// Package iocp is the backend for Windows: an I/O completion port, and polls of AFD,
// the kernel driver that implements sockets.
//
//	p, err := epore.NewWith(iocp.New())
//
// makes a Poll on it. On Windows it is the default queue of epore.New.
//
// # How it works
//
// A completion port reports finished operations, not readiness. But AFD accepts a request
// that completes when a socket becomes ready, and the completion is reported to the port.
// The request is made on a helper handle of this package (\Device\Afd\Epore), not on
// the socket, so the socket need not be associated with the port. Therefore the sockets
// of package net, which are associated with the port of Go's runtime, can be watched
// unchanged.
//
// Each request reports once. One-shot mode is exactly that. In level-triggered mode, the
// next wait repeats the request of each source that had an event.
//
// # What it supports
//
// Sockets: level-triggered, one-shot, and urgent data. Edge-triggered only for sources
// that report when an operation would have blocked, because that is when the request is
// made again ([backend.EdgeEmulator]). Not Exclusive. Other handles are refused with
// ErrNotPollable: files, consoles and pipes have no readiness on Windows.
//
// A waiting Poll holds its thread, whatever its strategy: Go's runtime waits on a
// completion port of its own and cannot wait on a second one.
//
// Where Windows has high-resolution timers (Windows 10, version 1803, or later), one of
// them times timeouts of less than 32 milliseconds, to half a millisecond or better. All
// other timeouts are rounded up to the millisecond, and may end late by one tick of the
// system clock, up to 16 milliseconds.
//
// # Limitations
//
// A socket is registered under its handle, and Windows reuses handles. A second request
// for each socket, which completes only when the socket is closed, detects whether a
// handle still is the socket that was registered. This is exact unless the socket has a
// duplicate (WSADuplicateSocket, DuplicateHandle, a child process that inherited it).
// Then closing one handle completes nothing: the registration stays until the last handle
// is closed. If the number is reused before that, the old registration is in the way, and
// Register fails with fs.ErrExist. So deregister before closing.
//
// ReadClosed is reported together with Readable only. WriteClosed is reported together
// with a reset only, because AFD does not report that this side has shut down sending.
//
// The two requests of a socket take 128 bytes of memory and a share of a helper handle;
// 32 sockets share one.
//
// Microsoft does not document the interface to AFD. But libuv, and after it wepoll and
// mio, made so many programs depend on it that it has not changed since Windows Vista.
package iocp
