// Package epore waits for events of many sources at once: sockets, pipes, terminals and
// everything else that has a descriptor, and events that the program itself creates. One
// goroutine waits, on the event queue of the operating system. The package is a small
// layer: one API and one written contract over epoll, io_uring, kqueue, the completion
// ports of Windows, and poll(2), and over any queue for which a backend exists.
//
// # A loop
//
// A [Poll] owns the queue. Its [Registry] registers sources, each with a [Token] and an
// [Interest]. Poll waits and fills [Events]. The loop looks at the tokens:
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
// One goroutine polls. All other goroutines may register, deregister and wake ([Waker]) at
// any time, even while the first one waits.
//
// # More than descriptors
//
// A [Mailbox] carries values from other goroutines to the loop. A [Timer] gives an event at
// a point in time. They are created with the Registry and give events with a Token, as
// every source does. They need neither a descriptor nor a goroutine, and work the same on
// every queue. A [Signal] makes events of signals, and a [Process] of the end of a process.
//
// # What is promised
//
//   - A source is reported while it is ready (the default), or when it becomes ready
//     ([Edge]), or once ([OneShot]); see [Interest].
//   - After Deregister or Reregister has returned, no event of the old registration is
//     delivered: not from the kernel, not from the current batch, and not when the
//     descriptor number is in use again.
//   - Whether a source is registered is known exactly: a second Register fails with
//     fs.ErrExist and changes nothing.
//   - A timeout never ends early, and signals never end a wait.
//   - A wake is never lost, nor is a value that was sent. Both mostly cost no system call.
//   - A Timer is never early, and a Timer that was stopped gives no event.
//   - A registered source is not closed by the garbage collector.
//   - In the steady state nothing is allocated.
//
// The file docs/contract.md has every rule, and docs/contract-index.md the tests that hold it.
//
// # Waiting
//
// By default a Poll that has nothing to report parks its goroutine, like a read in package
// net, and holds no thread. Thousands of Polls may wait. With [Block] it waits in the kernel
// on the calling thread; see [Strategy] for when to use it.
//
// # Reading and writing
//
// Epore reports when to read and write. The caller reads and writes, with operations that never
// wait. The methods of a connection or listener of package net do wait: if an event is spurious,
// or another goroutine has read the data first, the whole loop stops. Package tryio reads, writes
// and accepts on any source without waiting:
//
//	n, err := tryio.Read(conn, buf)
//	if err == tryio.ErrWouldBlock {
//		continue // wait for the next event
//	}
//
// The sockets of package socket report "would block" by themselves. With an edge-triggered
// registration, read until then. See examples/delayed.
package epore
