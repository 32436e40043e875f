// Package socket provides sockets for event loops. They never block, they are watched only by
// the Polls that they are registered with, and they cost little more than their descriptor.
//
//	l, err := socket.Listen("tcp", "127.0.0.1:8080")
//	...
//	err = poll.Registry().Register(l, token, epore.Readable)
//	...
//	c, err := l.Accept() // when token is readable; until socket.ErrWouldBlock
//
// A connection of package net can be registered with a Poll as well. But the Go runtime
// watches it at the same time, and its Read waits where a loop needs the answer "would
// block". [FromConn] converts it to a [Conn].
//
// # Would block
//
// Reading and writing follow io.Reader and io.Writer, with one more outcome:
// [ErrWouldBlock], when nothing (more) can be done now. With level-triggered interest,
// operate once or more for each event. With edge-triggered interest, continue until
// ErrWouldBlock: only then is the next event certain. Operations never return EINTR.
//
// On Unix this holds even if another program that shares the socket, such as a child
// process, makes it blocking (O_NONBLOCK belongs to the open file). Two operations may then
// wait, but they block only their own goroutine: an Accept, if another process takes the
// same connection; and on macOS a write that finds no room.
//
// # Closing
//
// Close first deregisters the socket from all Polls. It may be called from any goroutine,
// inside a loop over events, and concurrently with operations of other goroutines. No
// operation and no Poll ever reaches the next socket that gets the same descriptor number.
//
// # Systems
//
// The package is complete on Linux. On the BSDs, macOS and the other Unixes it is complete
// except for options that a system lacks, and it allocates a little more.
//
// On Windows, Unix datagrams are missing; Unix streams need Windows 10, version 1803, or
// later (and do not work in Wine 8); Pair creates TCP sockets on the loopback interface;
// ReusePort and DeferAccept fail with errors.ErrUnsupported. Errors are those of Winsock, as
// in package net: WSAECONNREFUSED where Unix has ECONNREFUSED. A Poll supports Edge for these
// sockets, although its Capabilities, which apply to all sources, do not include it.
//
// On other systems, creating a socket fails with errors.ErrUnsupported.
package socket
