package pollfd

import (
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/linux"
	"github.com/epore/epore/internal/unixfd"
)

// native is Linux, which has timeouts in nanoseconds and exact identities.
var native = system{
	resolution:    time.Nanosecond,
	newCaller:     func() caller { return new(linuxCaller) },
	newIdentities: func() identities { return new(linuxIdentities) },
	reportsOnce: func(h backend.Handle) bool {
		once, errno := linux.Consumed(h)
		return once && errno == 0
	},
}

// linuxCaller calls ppoll(2). If the process is stopped and continued, the kernel restarts
// the call with the time that was left when it stopped, so the timeout is late by as much.
// A timer is not: long timeouts are timers in the array.
type linuxCaller struct {
	timer int // a timerfd plus 1; 0 if there is none yet
}

// timerTimeout is the shortest timeout that is a timer. A shorter one can only be late by
// itself.
const timerTimeout = 10 * time.Millisecond

func (c *linuxCaller) poll(array []unix.PollFd, timeout time.Duration) (int, error) {
	if timeout < timerTimeout || !c.setTimer(timeout) {
		return ppoll(array, timeout)
	}
	e := &array[callerIndex]
	*e = unix.PollFd{Fd: int32(c.timer - 1), Events: unix.POLLIN}
	n, err := ppoll(array, -1)
	if err == nil && e.Revents != 0 {
		n--
	}
	*e = unix.PollFd{Fd: -1}
	return n, err
}

// setTimer sets the timer. It reports false if the process has no descriptor left for it, or
// may not create one.
func (c *linuxCaller) setTimer(timeout time.Duration) bool {
	if c.timer == 0 {
		fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
		if err != nil {
			return false
		}
		c.timer = fd + 1
	}
	spec := unix.ItimerSpec{Value: timespec(timeout)}
	return unix.TimerfdSettime(c.timer-1, 0, &spec, nil) == nil
}

func (c *linuxCaller) close() error {
	if c.timer == 0 {
		return nil
	}
	fd := c.timer - 1
	c.timer = 0
	return unixfd.Close(fd)
}

// ppoll calls ppoll(2).
func ppoll(array []unix.PollFd, timeout time.Duration) (int, error) {
	if timeout < 0 {
		return unix.Ppoll(array, nil, nil)
	}
	ts := timespec(timeout)
	return unix.Ppoll(array, &ts, nil)
}

// timespec translates a timeout. It cuts it to 68 years, because seconds have 32 bits on
// some architectures.
func timespec(timeout time.Duration) unix.Timespec {
	return unix.NsecToTimespec(int64(min(timeout, math.MaxInt32*time.Second)))
}

// linuxIdentities adapts linux.Identities.
type linuxIdentities struct{ linux.Identities }

func (b *linuxIdentities) record(h backend.Handle, was fileID, known bool) (fileID, error) {
	id, errno := b.Record(h, linux.FileID(was.inode), known)
	return fileID{inode: uint64(id)}, linux.RecordError(errno)
}

func (b *linuxIdentities) check(h backend.Handle, was fileID) error {
	return linux.CtlError(b.Check(h, linux.FileID(was.inode)))
}

func (b *linuxIdentities) forget(h backend.Handle, was fileID) error {
	return linux.CtlError(b.Forget(h, linux.FileID(was.inode)))
}

func (b *linuxIdentities) unknown(h backend.Handle) error { return linux.Unknown(h) }
func (b *linuxIdentities) close() error                   { return b.Close() }
