// Package loop serves connections with a handler, on one goroutine for each loop: it has
// what every program on package epore would otherwise write by itself. It accepts, reads,
// keeps what could not be sent, switches what a connection waits for, ends what is idle, and
// ends everything in order.
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
// It is one thin layer on what packages epore, socket and tlsconn offer to everybody, and
// has no privileges. A program can leave it at any point: [Conn.Detach] gives a connection
// back, [Loop.Handle] and [Loop.Poll] let it watch other things, and a loop written by hand
// does the same with a few hundred lines more.
//
// # Messages
//
// Data gets bytes, not messages, and says how many it has used. What it leaves comes again
// with what has arrived since. So framing needs no buffer and no copy: find the end of a
// message in b, handle it, go on behind it, and return where the first incomplete message
// begins. See the examples.
//
// # Back-pressure
//
// What the system does not take is kept and sent later. A connection with half of MaxOut
// waiting is not read until all of it is sent. So a peer that asks and does not read gets no
// more answers, and a handler that only answers never sees ErrFull. One that sends to other
// connections, as a chat does, decides what ErrFull means: drop the message, or the
// connection, or Pause the source until Drained.
//
// # Goroutines
//
// A handler that computes or waits keeps its loop from everything else ([Config] has OnStall
// to find it). Such work belongs on a goroutine, which brings its result back with
// [Loop.Post]. Pause the connection until then if answers have an order.
//
// # Time
//
// Idle, the limit of a handshake and SetDeadline end connections. They are kept in one heap
// for each loop and cost no timer each. For a peer that sends one byte a second Idle does
// nothing: set a deadline when a message begins, and take it back when it is complete.
package loop
