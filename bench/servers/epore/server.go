package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

// server is one or more loops that listen on the same address.
type server struct {
	loops   []*loop
	began   time.Time
	running sync.WaitGroup
	errs    []error       // of each loop, once it has ended
	failed  chan struct{} // closed when a loop has failed
	failing sync.Once
}

// start opens the loops and starts to serve.
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
		addr = s.addr() // if the port was 0, the other loops use the one that was chosen
	}
	for i, l := range s.loops {
		s.running.Go(func() {
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

// stop makes the loops end. They accept no new connections, and send the pending data.
func (s *server) stop() {
	for _, l := range s.loops {
		_ = l.stop.Wake() // fails for a loop that has ended
	}
}

// wait waits until all loops have ended. It returns the errors of those that failed.
func (s *server) wait() error {
	s.running.Wait()
	return errors.Join(s.errs...)
}

// statistics are the counters of a loop.
type statistics struct {
	accepted, ended, reset, idle, stopped, pauses int
	received, sent                                int64
}

// summary describes what the server did. Call it after wait.
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
	add(sum.reset, "reset")
	add(sum.idle, "idle")
	add(sum.stopped, "closed by the server")
	text := fmt.Sprintf("%s in %.3fs", count(sum.accepted, "connection"), time.Since(s.began).Seconds())
	if len(how) > 0 {
		text += ": " + strings.Join(how, ", ")
	}
	text += fmt.Sprintf("\n%d bytes received, %d sent\n", sum.received, sum.sent)
	if sum.pauses > 0 {
		text += fmt.Sprintf("accepting was paused %s, probably because descriptors ran out\n", count(sum.pauses, "time"))
	}
	return text
}

// count formats a count: "1 loop", "2 loops".
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
