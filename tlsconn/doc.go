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
// it would shake hands inside Read.
//
// # What to wait for
//
// Register [Conn.Socket] with a Poll for Readable, and also for Writable while
// [Conn.Buffered] is above zero. At each event:
//
//   - call [Conn.Flush] if the event is Writable;
//   - call [Conn.Handshake] until it returns nil, then [Conn.Read];
//   - Read until it returns [socket.ErrWouldBlock], or, level-triggered, until [Conn.Pending]
//     is false. A record that crypto/tls has read from the socket, but that no Read has
//     returned, gives no event. A loop that stops earlier remembers the Conn and comes back
//     by itself;
//   - look at Buffered again. Handshake and Read write, too: alerts, answers to key updates.
//
// # Back-pressure
//
// [Conn.Write] takes everything, because crypto/tls keeps the first error of a Write for
// ever, and ErrWouldBlock would be one. What the system does not take stays in memory. A
// program that does not want to hold an unbounded amount for a peer that never reads looks
// at Buffered, and neither writes nor reads while that is large.
//
// # Goroutines
//
// A Conn belongs to one goroutine at a time. An established connection has no goroutine of
// its own, and no buffer while it is idle except those of crypto/tls.
//
// The handshake runs as a coroutine (see [iter.Pull]) that waits whenever the socket would
// block. The runtime asks that all calls that may resume it, which are Handshake, and Read
// and Write and Close before Handshake has returned nil, come under the same thread lock as
// the first one. It ends the process otherwise. Two ways are safe:
//
//   - all of them come from the same goroutine, locked to its thread or not;
//   - all of them come from goroutines that are not locked, one at a time.
//
// The second way takes the work of handshakes off the loop: a signature with an RSA key of
// 2,048 bits takes about a millisecond, in which the loop does nothing else. See the example
// of Handshake. A key on the curve P-256 takes 30 microseconds and needs none of this.
//
// # What it rests on
//
// crypto/tls does not keep an error of the connection below it that is a [net.Error] whose
// Temporary method returns true; socket.ErrWouldBlock is one. So Read of a tls.Conn may be
// called again after it. Should a release of Go change this, the tests of this package fail
// and say so.
package tlsconn
