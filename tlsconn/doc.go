// Package tlsconn runs crypto/tls above a socket that never blocks, so that a loop can
// serve TLS connections without a goroutine for each of them.
//
//	c := tlsconn.Server(sock, config)
//	...
//	switch err := c.Handshake(); err { // at each event, until it is nil
//	case nil, socket.ErrWouldBlock:
//	default:
//		c.Close()
//	}
//
// crypto/tls is used as it is: TLS 1.2 and 1.3, client certificates, ALPN, SNI, resumption
// and key updates work as they do above package net. Only renegotiation is refused, because
// its handshake would run inside Read.
//
// # What to wait for
//
// Register [Conn.Socket] with a Poll for Readable, and also for Writable while
// [Conn.Buffered] is above zero. At each event:
//
//   - call [Conn.Flush] if the event is Writable;
//   - call [Conn.Handshake] until it returns nil, then [Conn.Read];
//   - Read until it returns [socket.ErrWouldBlock], or, level-triggered, until
//     [Conn.Pending] is false. A record that crypto/tls has read from the socket, but that
//     no Read has returned, gives no event. A loop that stops earlier must read the Conn
//     again without waiting for an event;
//   - check Buffered again. Handshake and Read also write: alerts, answers to key updates.
//
// # Back-pressure
//
// [Conn.Write] takes everything, because crypto/tls keeps the first error of a Write for
// ever, and ErrWouldBlock would be such an error. What the system does not take stays in
// memory. A program that does not want to hold an unbounded amount for a peer that never
// reads checks Buffered, and neither writes nor reads while it is large.
//
// # Goroutines
//
// A Conn belongs to one goroutine at a time. An established connection has no goroutine.
// While it is idle, it has no buffers except those of crypto/tls.
//
// The handshake runs as a coroutine (see [iter.Pull]) that waits whenever the socket would
// block. The calls that may resume it are Handshake and, before Handshake has returned nil,
// Read, Write and Close. The runtime requires that all of them come under the same thread
// lock as the first one; otherwise it ends the process. Two ways are safe:
//
//   - they come from one goroutine, locked to its thread or not, that neither locks nor unlocks
//     it in between. (On a queue that belongs to one thread, as an io_uring does, the first Poll
//     locks the goroutine: call Poll once, with a timeout of zero, before the first Handshake);
//   - they come from several goroutines, one at a time, and none is locked to its thread.
//
// The second way takes the work of handshakes off the loop: a signature with an RSA key of
// 2,048 bits takes about a millisecond, during which the loop would do nothing else. See
// the example of Handshake. A key on the curve P-256 takes 30 microseconds and needs none
// of this.
//
// # What it rests on
//
// crypto/tls does not keep an error of the connection below it that is a [net.Error] whose
// Temporary method returns true; socket.ErrWouldBlock is one. So Read of a tls.Conn may be
// called again after it. If a release of Go changes this, the tests of this package fail
// and say so.
package tlsconn
