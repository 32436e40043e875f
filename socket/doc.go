// Package socket has sockets made for the loop: they never block, belong to nobody's
// poller but the Polls they are registered with, and cost little more than their
// descriptor.
//
//	l, err := socket.Listen("tcp", "127.0.0.1:8080")
//	...
//	err = poll.Registry().Register(l, token, epore.Readable)
//	...
//	c, err := l.Accept() // when token is readable; until socket.ErrWouldBlock
//
// A connection of package net registers with a Poll as well, but it is watched by the Go
// runtime at the same time, and its Read waits, where a loop wants to hear "would block".
// [FromConn] takes one over.
//
// # Would block
//
// Reading and writing are those of io.Reader and io.Writer, with one more outcome:
// [ErrWouldBlock], when there is nothing (more) to do now. Level-triggered, operate once
// or more for each event. Edge-triggered, go on until ErrWouldBlock; only then is the next
// event certain. Signals are never seen.
//
// # Closing
//
// Close deregisters the socket from all Polls first, from any goroutine, also inside a loop
// over events and beside operations of other goroutines. No operation and no Poll ever
// meets the next owner of the descriptor's number.
//
// # Systems
//
// It is complete on Linux; on the BSDs, macOS and the other Unixes, too, but for options
// that a system does not have, and it allocates a little more there.
//
// On Windows there are no datagrams of Unix sockets, and Unix sockets only from
// Windows 10, version 1803, on (not in Wine 8); Pair makes TCP sockets on the loopback
// interface; ReusePort and DeferAccept are errors.ErrUnsupported. Errors are those of
// Winsock, as in package net: WSAECONNREFUSED, where a Unix has ECONNREFUSED. A Poll has
// Edge for these sockets, though its Capabilities lack it, which are about all sources.
//
// Elsewhere there is nothing: making a socket fails with errors.ErrUnsupported.
package socket
