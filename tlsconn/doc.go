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
// it would run a handshake inside Read.
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
//     returned, gives no event. A loop that stops earlier must remember the Conn, and
//     call Read again without an event;
//   - look at Buffered again. Handshake and Read write, too: alerts, answers to key updates.
//
// # Back-pressure
//
// [Conn.Write] takes everything, because crypto/tls keeps the first error of a Write, and
// ErrWouldBlock would be one. Data that the system does not accept stays in memory. To bound
// it, neither write nor read while Buffered is large: reading writes, too, so a peer that never
// reads could otherwise make it grow.
//
// # Goroutines
//
// One goroutine at a time may use a Conn. An established connection has no goroutine, and an
// idle one has no buffers except those of crypto/tls (about 7 KiB).
//
// The handshake runs as a coroutine (see [iter.Pull]) that waits when the socket would block.
// Until Handshake has returned nil, Handshake, Read, Write and Close may resume it. The Go
// runtime ends the process if a coroutine is resumed on another locked thread than it was
// created on. So one of these must hold for these calls:
//
//   - they come from one goroutine, locked to its thread or not, that neither locks nor unlocks
//     it in between. (On a queue that belongs to one thread, as an io_uring does, the first Poll
//     locks the goroutine: call Poll once, with a timeout of zero, before the first Handshake);
//   - they come from several goroutines, one at a time, and none is locked to its thread.
//
// The second way moves handshakes out of the loop. This is worth it for RSA keys, because one
// signature takes about a millisecond; with a key on the curve P-256, the whole handshake takes
// less than half of that. See the example of [Conn.Handshake].
//
// # What it rests on
//
// The Read method of a tls.Conn does not keep an error of the connection below if that is a
// [net.Error] whose Temporary method returns true, as that of socket.ErrWouldBlock does. So Read
// can be called again. If a release of Go changes this, the tests of this package fail and name
// the reason.
package tlsconn
