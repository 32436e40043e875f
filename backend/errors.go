package backend

import "errors"

// ErrNotPollable is returned by Add for something that the system reports no readiness for:
// a regular file, a directory or a device that is always ready, none of which blocks. On
// Windows it is also returned for a pipe or a console, which do block.
var ErrNotPollable = errors.New("not pollable: the system reports no readiness for this kind of file; use it directly, or in a goroutine that sends to a Mailbox")

// ErrLost is returned by Modify when the handle is no longer watched: the old
// registration had to be removed first, and adding the new one failed. The core
// then restores the old registration.
var ErrLost = errors.New("registration lost: it could not be replaced in place")

// ErrWrongThread is returned by Wait on a queue that belongs to one thread
// (Capabilities.OneThread) if another thread calls it.
var ErrWrongThread = errors.New("wrong thread: the queue belongs to the goroutine that first polled it, and to its thread; poll it from that goroutine only")
