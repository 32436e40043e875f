//go:build unix && !darwin

package socket

import "golang.org/x/sys/unix"

// sendFlags are the flags of every write. MSG_NOSIGNAL prevents SIGPIPE when the peer is
// gone. (The Go runtime ignores that signal, except for descriptors 1 and 2, and delivers it
// to programs that have asked for SIGPIPE.)
const sendFlags = unix.MSG_NOSIGNAL | dontWait

func setNoSignal(int) error { return nil }
