// Package epore waits for many things at once: sockets, pipes, terminals,
// whatever has a descriptor, and events of one's own, with one goroutine, on the
// event queue of the operating system. It is a small layer: one API and one
// written contract over epoll, io_uring, kqueue, the completion ports of Windows, and
// poll(2), and over any queue that somebody writes a backend for.
//
// # A loop
//
// A [Poll] owns the queue. Its [Registry] takes sources, each with a [Token]
// and an [Interest]; Poll waits, and fills [Events]; the loop looks at the
// tokens:
//
//	p, err := epore.New()
//	...
//	err = p.Registry().Register(conn, token, epore.Readable)
//	...
//	events := epore.NewEvents(256)
//	for {
//		if err := p.Poll(events, epore.Forever); err != nil {
//			return err
//		}
//		for ev := range events.All() {
//			handle(ev.Token)
//		}
//	}
//
// One goroutine polls. Every other goroutine may register, deregister and wake
// ([Waker]) at any time, also while the first one waits.
//
// # More than descriptors
//
// A [Mailbox] brings values from other goroutines to the loop, a [Timer] tells that
// it is time. They are made on the Registry and give events with a Token, as everything
// does; they need no descriptor and no goroutine, and are the same on every queue. A
// [Signal] makes events of signals, a [Process] of the end of a process.
//
// # What is promised
//
//   - A source is reported while it is ready (the default), or when it becomes
//     ready ([Edge]), or once ([OneShot]); [Interest] has the modes.
//   - After Deregister or Reregister has returned, no event of the old
//     registration is delivered: not from the kernel, not from the batch in
//     hand, not when the descriptor's number is in use again.
//   - Whether a source is registered is known exactly: a second Register is
//     fs.ErrExist and changes nothing.
//   - A timeout is never early; signals never surface.
//   - A wake is never lost, nor a value that was sent, and both mostly cost no
//     system call.
//   - A Timer is never early, and one that was stopped is silent.
//   - In the steady state nothing is allocated.
//
// docs/contract.md has all of it, rule by rule, with the test that holds each.
//
// # Waiting
//
// By default a Poll that has nothing to report parks its goroutine, like a read
// in package net, and holds no thread: thousands of them may wait. [Block]
// waits in the kernel on the calling thread instead; see [Strategy] for when.
//
// # Reading and writing
//
// Epore says when to read and write; doing so is the caller's, and should not
// block. The simple way with a connection of package net: level-triggered, one
// Read for each event. There is something to read then, so it does not wait; a
// second Read might, in the runtime's poller instead of here. The same goes for
// Accept of a listener, unless several Polls watch it and another one may be
// faster.
//
// Package socket has sockets that say "would block" by themselves.
//
// Edge-triggered, one reads until "would block", which a net.Conn's own methods
// never say. Its descriptor does: SyscallConn, then RawConn.Read with a function
// that reads the descriptor and returns true; for a listener, RawConn.Control and
// accept4 (its RawConn.Read is not implemented in package net). See
// examples/delayed.
package epore
