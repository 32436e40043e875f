// Package loop serves connections with a handler, on one goroutine for each event loop. It
// accepts, dials, reads, keeps unsent data, changes what each connection waits for, enforces
// time limits, and shuts down in order, with or without TLS.
//
//	type echo struct{}
//
//	func (echo) Open(*loop.Conn)                        {}
//	func (echo) Data(c *loop.Conn, b []byte) (used int) { c.Write(b); return len(b) }
//	func (echo) Close(*loop.Conn, error)                {}
//
//	err := loop.Run(ctx, 1, loop.Config{}, func(l *loop.Loop) error {
//		_, err := l.Listen("tcp", ":7777", nil, echo{})
//		return err
//	})
//
// It is a thin layer on the public API of packages epore, socket and tlsconn. A program can
// leave it at any point: [Conn.Detach] returns the socket of a connection, and [Loop.Handle]
// and [Loop.Poll] watch other sources in the same loop.
//
// # Messages
//
// Data receives bytes, not messages, and returns how many it has used. The loop passes the
// others again, together with the bytes that arrive next. So a handler needs no buffer: it
// handles the complete messages in b, and returns the offset of the first incomplete one.
// See the examples.
//
// # Back-pressure
//
// The loop keeps data that the system does not accept, and sends it later. While more than
// 16 KiB are unsent on a connection, the loop does not read from it. So a handler that only
// answers requests needs no limit. A handler that writes to other connections, as a chat or
// a proxy does, decides what to do when Write returns [ErrFull]: drop the message, abort
// the connection, or Pause the source until Drained.
//
// The two directions of one connection depend on each other: if both peers write more than the
// system's buffers hold before they read, each waits for the other, until a time limit, if one
// is set, ends the connection.
//
// If no data is unsent, Write takes any length, and keeps it in memory. Write a long answer in
// pieces, until ErrFull, and continue in Drained: see the example of [Drainer].
//
// # Goroutines
//
// A handler that computes for long, or waits, holds up all connections of its loop; OnStall in
// [Config] finds such handlers. Do such work on a goroutine, and return to the loop with
// [Loop.Post]. If answers must keep the order of requests, Pause the connection until then.
//
// # Time
//
// Idle, Handshake, Grace and [Conn.SetDeadline] limit the time of connections. They do not
// need a timer for each connection. A peer that sends one byte per second is not idle: set
// a deadline when a message begins, and clear it when the message is complete.
package loop
