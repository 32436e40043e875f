//go:build unix && !darwin

package tryio

import "golang.org/x/sys/unix"

// noSignal keeps a write to a peer that is gone from being a signal.
const noSignal = unix.MSG_NOSIGNAL
