// Package fileop reads, writes and syncs files without blocking the loop, and reports the end
// of each operation as an event of the Poll.
//
// Regular files have no readiness: epoll refuses them, and a read or a sync of one simply
// takes as long as the disk takes. So an operation on a file is started, and completes later.
// An [Op] is an operation, as a Timer is a point in time: it is made with a token, started,
// gives one event at its end, and is used again.
//
//	q, err := fileop.New(poll.Registry())
//	op := q.NewOp(token)
//	err = op.ReadAt(f, buf, off) // returns at once
//
// and when the event with that token comes,
//
//	n, err := op.Result() // as os.File.ReadAt
//
// # Events
//
// Each operation that was started gives exactly one event, also after [Op.Cancel]. Between the
// start and the event the file and the buffers belong to the operation. Operations have no
// order, not even those on one file, except that [Op.WriteSync] syncs after it has written.
//
// Closing an Op, its Queue or the Poll ends what is under way, waits until the system uses
// no buffer any more, and discards the event.
//
// # How operations are performed
//
// On Linux 5.13 and later, by an io_uring(7), whatever queue the Poll has. What was started
// since the last turn of the loop goes to the kernel in one system call. That is done by the
// goroutine that polls, so nothing happens without a Poll. Elsewhere, and where the system
// forbids io_uring, as container engines do by default, a pool of goroutines calls the
// methods of os.File. [Queue.Engine] says which it is.
//
// On Linux, a read of up to 64 KiB whose bytes are in the page cache is done by the call that
// starts it, on any engine. Its event comes with the next Poll, as always. That call waits for
// no device. Files opened with O_DIRECT have no page cache.
//
// The goroutines of a pool hold a thread each while they wait for the disk. More of them
// (see [WithWorkers]) reach a greater depth and take more memory.
//
// # Files
//
// Operations are for regular files and block devices. Pipes, sockets and terminals have
// readiness and are registered with the Poll instead. A file may be closed while an operation
// is under way: the operation ends as if the file were open, or with os.ErrClosed if it had
// not begun. An Op remembers its last file until it is used with another one.
package fileop
