package main

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

// server is some loops that listen on one address.
type server struct {
	loops   []*loop
	began   time.Time
	running sync.WaitGroup
	errs    []error       // of each loop, when it has ended
	failed  chan struct{} // closed when one has failed
	failing sync.Once
}

// start opens the loops and begins to serve.
func start(cfg config, newPoll func() (*epore.Poll, error)) (*server, error) {
	s := &server{began: time.Now(), errs: make([]error, cfg.loops), failed: make(chan struct{})}
	var opts []socket.Option
	if cfg.loops > 1 {
		opts = append(opts, socket.ReusePort())
	}
	addr := cfg.addr
	for range cfg.loops {
		l, err := newLoop(cfg, addr, opts, newPoll)
		if err != nil {
			if len(opts) > 0 && errors.Is(err, errors.ErrUnsupported) {
				err = fmt.Errorf("-loops %d: %w", cfg.loops, err)
			}
			for _, l := range s.loops {
				err = errors.Join(err, l.close())
			}
			return nil, err
		}
		s.loops = append(s.loops, l)
		addr = s.addr() // if the port was 0, the others get the one that was found
	}
	for i, l := range s.loops {
		s.running.Go(func() {
			if l.poll.Capabilities().OneThread { // the first one that polls
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
			}
			if s.errs[i] = errors.Join(l.run(), l.close()); s.errs[i] != nil {
				s.failing.Do(func() { close(s.failed) })
				s.stop()
			}
		})
	}
	return s, nil
}

// addr returns the address that the server listens on.
func (s *server) addr() string { return s.loops[0].addr.String() }

// stop has the loops end: no new connections, and what clients are still to get is sent.
func (s *server) stop() {
	for _, l := range s.loops {
		_ = l.stop.Wake() // it fails for a loop that has ended
	}
}

// wait returns when all loops have ended, and why if not by stop.
func (s *server) wait() error {
	s.running.Wait()
	return errors.Join(s.errs...)
}

// statistics are what a loop counts.
type statistics struct {
	accepted, ended, reset, idle, stopped, pauses int
	received, sent                                int64
}

// summary says what the server did. After wait.
func (s *server) summary() string {
	var sum statistics
	for _, l := range s.loops {
		sum.accepted += l.stats.accepted
		sum.ended += l.stats.ended
		sum.reset += l.stats.reset
		sum.idle += l.stats.idle
		sum.stopped += l.stats.stopped
		sum.pauses += l.stats.pauses
		sum.received += l.stats.received
		sum.sent += l.stats.sent
	}
	var how []string
	add := func(n int, what string) {
		if n > 0 {
			how = append(how, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(sum.ended, "ended by the client")
	add(sum.reset, "broken off")
	add(sum.idle, "idle")
	add(sum.stopped, "closed at the end")
	text := fmt.Sprintf("%s in %.3fs", count(sum.accepted, "connection"), time.Since(s.began).Seconds())
	if len(how) > 0 {
		text += ": " + strings.Join(how, ", ")
	}
	text += fmt.Sprintf("\n%d bytes received, %d sent\n", sum.received, sum.sent)
	if sum.pauses > 0 {
		text += fmt.Sprintf("accepting was paused %s: out of descriptors?\n", count(sum.pauses, "time"))
	}
	return text
}

// count is "1 loop", "2 loops".
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
