package backend

import "errors"

// ErrNotPollable is returned by Add for what can never be waited for: a regular
// file, a directory. Reading and writing such a thing never reports "would
// block", so there is nothing to watch.
var ErrNotPollable = errors.New("not pollable: it never blocks, so there is no readiness to wait for (a regular file, a directory, a device that is always ready?)")

// ErrLost is returned by Modify when the handle is no longer watched, although
// it should be: the old registration had to go first, and the new one failed.
// The core puts the old one back.
var ErrLost = errors.New("the registration could not be replaced in place")

// ErrWrongThread is returned by Wait on a queue that belongs to one thread
// (Capabilities.OneThread), when called on another one.
var ErrWrongThread = errors.New("the queue belongs to the thread that waited on it first: lock the goroutine that polls to its thread (runtime.LockOSThread), and poll from no other")
