package tryio

import "golang.org/x/sys/unix"

// dontWait keeps one operation on a socket from waiting, whatever the mode of its
// descriptor.
const dontWait = unix.MSG_NONBLOCK
