//go:build unix

package epore

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// noSignal is what kill(2) takes to look whether it could send one.
const noSignal = syscall.Signal(0)

// processExists reports that the number is some process's: also of one that has ended
// and is to be waited for, as POSIX has it, where other calls know it no more.
func processExists(pid int) bool {
	err := unix.Kill(pid, 0)
	return err == nil || err == unix.EPERM
}

func closeDescriptor(fd int) error { return unix.Close(fd) }

// children are those of this process that are watched by SIGCHLD.
var children childWatch

// childWatch has a goroutine for as long as there is anything in it. A SIGCHLD does not
// say of whom it is, and several are one: each has all children looked at.
type childWatch struct {
	mu      sync.Mutex
	watched map[*watchedChild]struct{}
	signals chan os.Signal
	done    chan struct{}
}

type watchedChild struct {
	pid   int
	waker *Waker
	ended bool
}

// watchBySignal has SIGCHLD tell of the process.
func (p *Poll) watchBySignal(token Token, pid int) (end func() error, err error) {
	w, err := newWaker(p, token)
	if err != nil {
		return nil, err
	}
	c := &watchedChild{pid: pid, waker: w}
	end = func() error {
		children.remove(c)
		return w.Close()
	}
	if err := children.add(c); err != nil {
		return nil, errors.Join(err, end())
	}
	return end, nil
}

// add watches c. What ends after the signal was asked for is told by that; what ended
// before is seen now.
func (w *childWatch) add(c *watchedChild) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.watched) == 0 {
		w.watched = make(map[*watchedChild]struct{})
		w.signals, w.done = make(chan os.Signal, 1), make(chan struct{})
		signal.Notify(w.signals, unix.SIGCHLD)
		go w.run(w.signals, w.done)
	}
	w.watched[c] = struct{}{}
	var err error
	switch c.ended, err = childEnded(c.pid); {
	case err == unix.ECHILD && processExists(c.pid):
		return fmt.Errorf("it is no child of this process, and SIGCHLD tells of no other: %w", errors.ErrUnsupported)
	case err == unix.ECHILD:
		return fmt.Errorf("%w: %w", os.ErrProcessDone, err)
	case c.ended:
		_ = c.waker.Wake()
	}
	return err
}

// remove watches c no more. When it was the last one, the goroutine has ended.
func (w *childWatch) remove(c *watchedChild) {
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
	<-done // without the lock, which it may need
}

func (w *childWatch) run(signals <-chan os.Signal, done chan<- struct{}) {
	defer close(done)
	for range signals {
		w.sweep()
	}
}

// sweep wakes for those that have ended since the last time: they are to be waited
// for, or have been waited for already.
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
			_ = c.waker.Wake()
		}
	}
}
