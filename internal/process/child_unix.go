//go:build unix

package process

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/unixfd"
)

// noSignal makes kill(2) check whether it could send a signal, without sending one.
const noSignal = syscall.Signal(0)

// Exists reports whether a process has the number pid. As POSIX says of kill(2), this
// includes a process that has ended but was not waited for, which other calls no longer
// know.
func Exists(pid int) bool {
	err := unix.Kill(pid, 0)
	return err == nil || err == unix.EPERM
}

// Close closes a descriptor that Open returned.
func Close(fd int) error { return unixfd.Close(fd) }

// WatchChild calls ended, once and from another goroutine or before it returns, when pid, a
// child of this process, has ended or was waited for. It learns of that by SIGCHLD. stop
// ends it; ended is not called after stop has returned. ended must not call WatchChild or a
// stop function.
//
// One goroutine serves all children. It exists for as long as any child is watched.
func WatchChild(pid int, ended func()) (stop func(), err error) {
	c := &child{pid: pid, notify: ended}
	stop = func() { children.remove(c) }
	if err := children.add(c); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// children holds the children that are watched by SIGCHLD.
var children childWatch

// childWatch runs a goroutine while it watches any child. A SIGCHLD does not say which
// child it concerns, and several signals coalesce, so each one makes it look at all
// children.
type childWatch struct {
	mu      sync.Mutex
	watched map[*child]struct{}
	signals chan os.Signal
	done    chan struct{}
}

type child struct {
	pid    int
	notify func()
	ended  bool
}

// add watches c. If c ends after the signal was subscribed to, the signal reports it; if c
// ended before, this sees it.
func (w *childWatch) add(c *child) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.watched) == 0 {
		w.watched = make(map[*child]struct{})
		w.signals, w.done = make(chan os.Signal, 1), make(chan struct{})
		signal.Notify(w.signals, unix.SIGCHLD)
		go w.run(w.signals, w.done)
	}
	w.watched[c] = struct{}{}
	var err error
	switch c.ended, err = childEnded(c.pid); {
	case err == unix.ECHILD && isThread(c.pid):
		return errThread
	case err == unix.ECHILD && Exists(c.pid):
		return fmt.Errorf("it is not a child of this process, and SIGCHLD reports only children: %w", errors.ErrUnsupported)
	case err == unix.ECHILD:
		return fmt.Errorf("%w: %w", os.ErrProcessDone, err)
	case c.ended:
		c.notify()
	}
	return err
}

// remove stops watching c. If c was the last child, the goroutine has ended when remove
// returns.
func (w *childWatch) remove(c *child) {
	w.mu.Lock()
	delete(w.watched, c)
	if len(w.watched) > 0 {
		w.mu.Unlock()
		return
	}
	signal.Stop(w.signals)
	close(w.signals)
	done := w.done
	w.mu.Unlock()
	<-done // without the lock, which the goroutine may need
}

func (w *childWatch) run(signals <-chan os.Signal, done chan<- struct{}) {
	defer close(done)
	for range signals {
		w.sweep()
	}
}

// sweep notifies for the children that have ended since the last sweep, including those
// that were waited for already.
func (w *childWatch) sweep() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.watched {
		if c.ended {
			continue
		}
		var err error
		if c.ended, err = childEnded(c.pid); c.ended || err == unix.ECHILD {
			c.ended = true
			c.notify()
		}
	}
}
