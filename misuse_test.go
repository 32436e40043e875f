//go:build unix || windows

package epore_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
)

// E3: no panic on any input from outside.

// contract: E3
func TestMisuse_ZeroValues(t *testing.T) {
	var p epore.Poll
	var r epore.Registry
	var w epore.Waker
	var s epore.Signal
	var c epore.Process
	var m epore.Mailbox[int]
	var timer epore.Timer
	events := epore.NewEvents(1)
	_, cloneErr := r.TryClone()
	_, wakerErr := epore.NewWaker(&r, 1)
	_, nilErr := epore.NewWaker(nil, 1)
	_, signalErr := epore.NewSignal(&r, 1, os.Interrupt)
	_, processErr := epore.NewProcess(&r, 1, nil)
	_, mailboxErr := epore.NewMailbox[int](&r, 1)
	_, nilMailboxErr := epore.NewBoundedMailbox[int](nil, 1, 1)
	_, boundErr := epore.NewBoundedMailbox[int](open(t).Registry(), 1, 0)
	_, timerErr := epore.NewTimer(&r, 1)
	_, nilTimerErr := epore.NewTimer(nil, 1)
	for what, err := range map[string]error{
		"Poll":          p.Poll(events, 0),
		"PollContext":   p.PollContext(context.Background(), events),
		"Close":         p.Close(),
		"Register":      r.Register(epore.FD(0), 1, epore.Readable),
		"Reregister":    r.Reregister(epore.FD(0), 1, epore.Readable),
		"Deregister":    p.Registry().Deregister(epore.FD(0)),
		"TryClone":      cloneErr,
		"NewWaker":      wakerErr,
		"NewWaker nil":  nilErr,
		"Wake":          w.Wake(),
		"Waker.Close":   w.Close(),
		"NewSignal":     signalErr,
		"Signal.Close":  s.Close(),
		"NewProcess":    processErr,
		"Process.Close": c.Close(),

		"NewMailbox":            mailboxErr,
		"NewBoundedMailbox nil": nilMailboxErr,
		"NewBoundedMailbox":     boundErr,
		"Send":                  m.Send(1),
		"CloseSend":             m.CloseSend(),
		"Mailbox.Close":         m.Close(),
		"NewTimer":              timerErr,
		"NewTimer nil":          nilTimerErr,
		"Reset":                 timer.Reset(1),
		"ResetAt":               timer.ResetAt(time.Now()),
		"Every":                 timer.Every(1),
		"Every nothing":         newTimer(t, open(t), 1).Every(0),
		"Timer.Close":           timer.Close(),
	} {
		var op *epore.OpError
		assert.ErrorAs(t, err, &op, what)
		assert.ErrorIs(t, err, fs.ErrInvalid, what)
	}
	require.Empty(t, slices.Collect(s.Received()))
	require.False(t, timer.Stop())
	require.Zero(t, timer.Ticks())
	_, ok := m.Receive()
	require.False(t, ok)
	require.Zero(t, m.Len())
	for range m.All() {
		t.Error("a value of a zero Mailbox")
	}
	require.ErrorIs(t, r.Close(), fs.ErrInvalid)
	require.NotEmpty(t, p.Backend())
	require.Equal(t, epore.Block, p.Strategy())
	require.Zero(t, p.Capabilities())
}

// contract: P3, E3
func TestMisuse_SenselessArguments(t *testing.T) {
	p := open(t, nil, epore.WithLogger(nil))
	_, err := epore.New(epore.WithStrategy(7))
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = epore.NewWith((*backendtest.Fake)(nil))
	require.ErrorIs(t, err, fs.ErrInvalid)
	//lint:ignore SA1012 that is the test
	require.ErrorIs(t, p.PollContext(nil, epore.NewEvents(1)), fs.ErrInvalid)
	require.Equal(t, 1<<20, epore.NewEvents(math.MaxInt).Cap())
	for _, timeout := range []time.Duration{math.MinInt64, -2} { // negative is for ever
		w := newWaker(t, p, 1)
		go w.Wake()
		require.NoError(t, p.Poll(epore.NewEvents(1), timeout))
	}
	require.ErrorIs(t, p.Registry().Register(silentSource{}, 1, epore.Readable), fs.ErrInvalid)
}

// silentSource has a RawConn that does not call back.
type silentSource struct{}

func (s silentSource) SyscallConn() (syscall.RawConn, error) { return s, nil }
func (silentSource) Control(func(uintptr)) error             { return nil }
func (silentSource) Read(func(uintptr) bool) error           { return nil }
func (silentSource) Write(func(uintptr) bool) error          { return nil }

// callingSource has a RawConn that calls back as often as it likes, when it likes.
type callingSource struct {
	silentSource
	control func(f func(fd uintptr)) error
}

func (s callingSource) SyscallConn() (syscall.RawConn, error) { return s, nil }
func (s callingSource) Control(f func(uintptr)) error         { return s.control(f) }

// A Register that fails has changed nothing, and one that succeeds has changed what it was
// called for, whatever the source does.
// contract: R13, E3
func TestMisuse_OddControl(t *testing.T) {
	q := backendtest.NewFake()
	p, err := epore.NewWith(q)
	require.NoError(t, err)
	defer p.Close()
	register := func(control func(f func(fd uintptr)) error) error {
		return p.Registry().Register(callingSource{control: control}, 1, epore.Readable)
	}
	watched := func(h backend.Handle) bool {
		_, is := q.KeyOf(h)
		return is
	}
	require.NoError(t, register(func(f func(uintptr)) error {
		f(1)
		f(1) // which would find that 1 is registered
		return nil
	}))
	require.True(t, watched(1))
	require.NoError(t, register(func(f func(uintptr)) error {
		f(2)
		return errSorry // too late
	}))
	require.True(t, watched(2))
	require.ErrorIs(t, register(func(func(uintptr)) error { return errSorry }), errSorry)

	var late func(fd uintptr)
	require.ErrorIs(t, register(func(f func(uintptr)) error {
		late = f
		return nil
	}), fs.ErrInvalid)
	require.NoError(t, register(func(f func(uintptr)) error {
		late(3) // of the call before
		f(4)
		return nil
	}))
	require.False(t, watched(3))
	require.True(t, watched(4))
}

// The number -1 means that there is no descriptor, also for a queue that takes any number.
// contract: E3
func TestMisuse_NoDescriptor(t *testing.T) {
	p, err := epore.NewWith(backendtest.NewFake())
	require.NoError(t, err)
	defer p.Close()
	require.ErrorIs(t, p.Registry().Register(epore.FD(-1), 1, epore.Readable), net.ErrClosed)
	_, err = epore.NewHook(p.Registry(), epore.FD(-1), func() {}, nil)
	require.ErrorIs(t, err, net.ErrClosed)
	require.Empty(t, p.Sources())
}

// noLogger is a logger that is nil.
type noLogger struct{ hclog.Logger }

// contract: E3
func TestMisuse_NilLogger(t *testing.T) {
	p := open(t, epore.WithLogger((*noLogger)(nil)))
	a, _ := fixture.Pair(t)
	register(t, p, a, 1, epore.Readable)
}

// contract: P5, E3
func TestPoll_NoEventsAfterAnError(t *testing.T) {
	p := open(t)
	w, events := newWaker(t, p, 1), epore.NewEvents(2)
	for what, poll := range map[string]func() error{
		//lint:ignore SA1012 that is the test
		"nil Context": func() error { return p.PollContext(nil, events) },
		"zero Poll":   func() error { return new(epore.Poll).Poll(events, 0) },
	} {
		require.NoError(t, w.Wake())
		require.Len(t, next(t, p, events), 1)
		require.ErrorIs(t, poll(), fs.ErrInvalid)
		require.Zero(t, events.Len(), what)
	}
}

// contract: P12
func TestPoll_InsideTheLoop(t *testing.T) {
	p := open(t)
	for token := range epore.Token(3) {
		a, b := fixture.Pair(t)
		b.Write("x")
		register(t, p, a, token, epore.Readable)
	}
	events := epore.NewEvents(8)
	require.Len(t, next(t, p, events), 3)
	turns := 0
	for range events.All() {
		turns++
		require.NoError(t, p.Poll(events, 0))
		require.Len(t, all(events), 3)
	}
	require.Equal(t, 1, turns, "the loop over the old batch is over")
}

// The number belongs to a regular file by now. The error says that it is not registered,
// rather than not pollable.
// contract: R4
func TestDeregister_NumberIsNowARegularFile(t *testing.T) {
	p := open(t)
	for _, change := range []func(epore.Source) error{
		p.Registry().Deregister,
		func(s epore.Source) error { return p.Registry().Reregister(s, 2, epore.Readable) },
	} {
		f := fixture.RegularFile(t)
		a, _ := fixture.Pair(t)
		register(t, p, a, 1, epore.Readable)
		number := a.FD
		a.Close()
		f = f.MoveTo(number)
		require.ErrorIs(t, change(fd(f)), fs.ErrNotExist)
		f.Close()
		b, c := fixture.PairAt(t, number)
		register(t, p, b, 3, epore.Readable)
		c.Write("x")
		require.Equal(t, []epore.Token{3}, tokens(t, p))
		require.NoError(t, p.Registry().Deregister(fd(b)))
	}
}

// What a goroutine woke is there when the same goroutine polls, even if others wake as well.
// contract: S1
func TestWaker_WakeFromTheLoop(t *testing.T) {
	eachStrategy(t, wakeRule, func(t *testing.T, p *epore.Poll) {
		w := newWaker(t, p, 1)
		var stop atomic.Bool
		var others sync.WaitGroup
		for range 3 {
			others.Go(func() {
				for !stop.Load() {
					assert.NoError(t, w.Wake())
				}
			})
		}
		events := epore.NewEvents(1)
		for range 5000 {
			require.NoError(t, w.Wake())
			require.NoError(t, p.Poll(events, 0))
			if events.Len() != 1 {
				t.Error("woken, and no event")
				break
			}
		}
		stop.Store(true)
		others.Wait()
	})
}

// slowToClose closes slowly, and reports when it is done.
type slowToClose struct {
	*backendtest.Fake
	done atomic.Bool
}

func (s *slowToClose) Close() error {
	for range 100 {
		runtime.Gosched()
	}
	defer s.done.Store(true)
	return s.Fake.Close()
}

// contract: P9
func TestClose_EachCallWaits(t *testing.T) {
	guard(t, "P9: when Close returns, the queue is closed, whichever goroutine closed it")
	for range 200 {
		b := &slowToClose{Fake: backendtest.NewFake()}
		p, err := epore.NewWith(b)
		require.NoError(t, err)
		var closing sync.WaitGroup
		for range 4 {
			closing.Go(func() {
				assert.NoError(t, p.Close())
				assert.True(t, b.done.Load(), "closed it is not")
			})
		}
		closing.Wait()
	}
}

// losing is a backend that cannot replace a registration in place.
type losing struct {
	*backendtest.Fake
	next error
}

func (l *losing) Modify(h backend.Handle, k backend.Key, in backend.Interest) error {
	if l.next == nil {
		return l.Fake.Modify(h, k, in)
	}
	defer func() { l.next = nil }()
	return errors.Join(backend.ErrLost, l.next, l.Fake.Delete(h))
}

// contract: R13
func TestReregister_LostRegistrationIsRestored(t *testing.T) {
	b := &losing{Fake: backendtest.NewFake()}
	p, err := epore.NewWith(b)
	require.NoError(t, err)
	defer p.Close()
	r := p.Registry()
	events := epore.NewEvents(4)
	require.NoError(t, r.Register(five, 1, epore.Readable))
	b.SetReady(5, backend.ReadyReadable|backend.ReadyWritable)
	b.next = errSorry
	require.ErrorIs(t, r.Reregister(five, 2, epore.Writable), errSorry)
	require.NoError(t, p.Poll(events, 0))
	require.Equal(t, []epore.Event{{Token: 1, Ready: 1}}, all(events), "R13: as it was")

	b.next = errSorry
	again := errors.New("nor back")
	b.FailNext("Add", again)
	err = r.Reregister(five, 2, epore.Writable)
	require.ErrorIs(t, err, errSorry)
	require.ErrorIs(t, err, again)
	require.ErrorContains(t, err, "it is gone")
	require.Empty(t, all(events), "its event in hand with it")
	require.NoError(t, r.Register(five, 3, epore.Readable), "and it can be registered again")
	require.Empty(t, b.Violations())
}

// feedback is a log sink that uses the Poll that the lines are about.
type feedback struct {
	bytes.Buffer
	do func()
}

func (f *feedback) Write(p []byte) (int, error) {
	if f.do != nil {
		f.do()
	}
	return f.Buffer.Write(p)
}

func TestPoll_Logging(t *testing.T) {
	eachStrategy(t, "errors, not logs: debug lines for opening, trace lines for registration, nothing in the wait path; and no lock held meanwhile", func(t *testing.T, p *epore.Poll) {
		var sink feedback
		log := hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &sink, DisableTime: true})
		p = open(t, epore.WithStrategy(p.Strategy()), epore.WithLogger(log))
		w := newWaker(t, p, 1)
		a, b := fixture.Pair(t)
		sink.do = func() { _ = w.Wake(); _, _ = p.Registry().TryClone() }
		register(t, p, a, 7, epore.Readable)
		sink.do = nil
		require.Contains(t, sink.String(), "opened")
		require.Contains(t, sink.String(), "register: ")
		require.Contains(t, sink.String(), "token=7")
		c, _ := fixture.Pair(t)
		register(t, p, c, 8, epore.Readable|epore.OneShot)
		require.Contains(t, sink.String(), "interest=Readable|OneShot error")
		length := sink.Len()
		b.Write("x")
		events := epore.NewEvents(4)
		for range 3 {
			require.NotEmpty(t, next(t, p, events))
		}
		require.Equal(t, length, sink.Len(), "nothing in the wait path")
		sink.do = func() {
			assert.ErrorIs(t, p.Poll(events, 0), net.ErrClosed)
			assert.NoError(t, p.Close())
		}
		require.NoError(t, p.Close())
		require.Contains(t, sink.String(), "closed")

		var quiet bytes.Buffer
		info := hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: &quiet})
		q := open(t, epore.WithLogger(info))
		register(t, q, a, 7, epore.Readable)
		require.Zero(t, quiet.Len())
	})
}
