package backend

import "errors"

// ErrNotPollable is returned by Add for what can never be waited for: a regular
// file, a directory. Reading and writing such a thing never reports "would
// block", so there is nothing to watch.
var ErrNotPollable = errors.New("not pollable: it never blocks, so there is no readiness to wait for (a regular file or a directory?)")
