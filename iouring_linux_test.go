package epore_test

import (
	"bytes"
	"io/fs"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/iouring"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/socket"
)

// An io_uring belongs to the goroutine that polls it first.

// ring returns a Poll on an io_uring.
func ring(t *testing.T) *epore.Poll {
	t.Helper()
	p, err := epore.NewWith(iouring.New())
	skipWithout(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	require.Equal(t, "io_uring", p.Backend())
	require.True(t, p.Capabilities().OneThread)
	require.Equal(t, epore.Block, p.Strategy())
	return p
}

// onGoroutine runs do on a goroutine of its own, that ends.
func onGoroutine(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	<-done
}

const threadRule = "P11: where the queue belongs to one thread, a Poll on another is ErrWrongThread, and disturbs nothing"

// Nobody but the goroutine of the first Poll can poll, at once and always, whatever
// there is to report; nobody has locked anything.
// contract: P11
func TestPoll_WrongThread(t *testing.T) {
	guard(t, threadRule)
	p := ring(t)
	a, b := fixture.Pair(t)
	events := epore.NewEvents(4)
	register(t, p, a, 1, epore.Readable)
	w := newWaker(t, p, 2)
	timer, err := epore.NewTimer(p.Registry(), 3)
	require.NoError(t, err)
	require.NoError(t, p.Poll(events, 0))
	refused := func() {
		t.Helper()
		for range 20 {
			for _, timeout := range []time.Duration{0, time.Microsecond, time.Hour, forever} {
				var err error
				theirs := epore.NewEvents(1)
				onGoroutine(func() { err = p.Poll(theirs, timeout) })
				require.ErrorIs(t, err, epore.ErrWrongThread)
				require.ErrorContains(t, err, "poll the io_uring queue")
				require.NotErrorIs(t, err, fs.ErrExist, "what the kernel says")
				require.Zero(t, theirs.Len())
			}
			runtime.Gosched() // where nothing keeps it, the goroutine changes its thread
		}
	}
	refused()
	b.Write("x")
	refused()
	require.Equal(t, []epore.Event{{Token: 1, Ready: 1}}, next(t, p, events))
	a.Drain()
	require.NoError(t, w.Wake())
	refused()
	require.NoError(t, timer.Reset(0))
	refused()
	seen := map[epore.Token]bool{}
	for len(seen) < 2 {
		for _, ev := range next(t, p, events) {
			seen[ev.Token] = true
		}
	}
	require.Equal(t, map[epore.Token]bool{2: true, 3: true}, seen)
}

// locked reports whether the calling goroutine is locked to its thread: the runtime
// says so in the first line of a trace.
func locked() bool {
	trace := make([]byte, 200)
	line, _, _ := bytes.Cut(trace[:runtime.Stack(trace, false)], []byte{'\n'})
	return bytes.Contains(line, []byte("locked to thread"))
}

// The lock of the first Poll ends with the Poll, whoever closes it, and leaves one of
// the caller alone.
// contract: P11
func TestPoll_LocksItsThread(t *testing.T) {
	guard(t, "P11: the first Poll locks its goroutine to its thread, until the Poll is closed")
	poll := func(t *testing.T, p *epore.Poll, want error) {
		t.Helper()
		require.ErrorIs(t, p.Poll(epore.NewEvents(1), 0), want)
	}
	for _, callersLock := range []bool{false, true} {
		for name, end := range map[string]func(t *testing.T, p *epore.Poll){
			"closed by the one that polls": func(t *testing.T, p *epore.Poll) { require.NoError(t, p.Close()) },
			"closed by another": func(t *testing.T, p *epore.Poll) {
				onGoroutine(func() { require.NoError(t, p.Close()) })
				require.True(t, locked(), "until it gets to know")
				poll(t, p, epore.ErrClosed)
			},
			"closed during the Poll": func(t *testing.T, p *epore.Poll) {
				own := make(chan struct{})
				go func() {
					defer close(own)
					p.AwaitSleep(nil)
					require.NoError(t, p.Close())
				}()
				require.ErrorIs(t, p.Poll(epore.NewEvents(1), forever), epore.ErrClosed)
				<-own
			},
		} {
			t.Run(name, func(t *testing.T) { // on a goroutine of its own
				if callersLock {
					runtime.LockOSThread()
				}
				require.Equal(t, callersLock, locked())
				p := ring(t)
				require.Equal(t, callersLock, locked(), "New locks nothing")
				poll(t, p, nil)
				require.True(t, locked())
				poll(t, p, nil)
				end(t, p)
				require.Equal(t, callersLock, locked())
				poll(t, p, epore.ErrClosed)
				require.Equal(t, callersLock, locked())
				if callersLock {
					runtime.UnlockOSThread()
				}
				require.False(t, locked())
			})
		}
	}
}

// When the goroutine that polls has ended, nobody can poll; all else works.
// contract: P11
func TestPoll_GoroutineThatPolledHasEnded(t *testing.T) {
	guard(t, threadRule)
	p := ring(t)
	a, _ := fixture.Pair(t)
	register(t, p, a, 1, epore.Readable)
	onGoroutine(func() { require.NoError(t, p.Poll(epore.NewEvents(1), 0)) })
	for range 100 {
		require.ErrorIs(t, p.Poll(epore.NewEvents(1), 0), epore.ErrWrongThread)
		require.False(t, locked())
	}
	require.NoError(t, p.Registry().Deregister(fd(a)))
	require.NoError(t, p.Close())
}

// An address is free again when the Close of what had it returns, while there is a Poll that
// waits.
// contract: R14
func TestListener_RebindBesideAWaitingPoll(t *testing.T) {
	guard(t, "R14: after Deregister, closing the source takes effect at once")
	p := ring(t)
	w := newWaker(t, p, 9)
	ended := make(chan error, 1)
	go func() {
		events := epore.NewEvents(4)
		for {
			if err := p.Poll(events, forever); err != nil || events.Len() > 0 {
				ended <- err
				return
			}
		}
	}()
	p.AwaitSleep(nil)
	stream, packet := "127.0.0.1:0", "127.0.0.1:0"
	for range 300 {
		l, err := socket.Listen("tcp", stream)
		require.NoError(t, err)
		c, err := socket.ListenPacket("udp", packet)
		require.NoError(t, err)
		stream, packet = l.Addr().String(), c.LocalAddr().String()
		require.NoError(t, p.Registry().Register(l, 1, epore.Readable))
		require.NoError(t, p.Registry().Register(c, 2, epore.Readable))
		require.NoError(t, c.Close())
		require.NoError(t, l.Close())
	}
	require.NoError(t, w.Wake())
	require.NoError(t, <-ended)
}

// Registrations survive the threads that polled.
// contract: R1
func TestPoll_PollingThreadsEnd(t *testing.T) {
	eachStrategy(t, "R1: a registration belongs to the queue: the thread that polled may end", func(t *testing.T, p *epore.Poll) {
		events := epore.NewEvents(4)
		a, b := fixture.Pair(t)
		register(t, p, a, 1, epore.Readable)
		for range 10 {
			for _, timeout := range []time.Duration{0, time.Microsecond, 3 * time.Millisecond} {
				var err error
				fixture.OnEndingThread(t, func() { err = p.Poll(epore.NewEvents(4), timeout) })
				require.NoError(t, err)
			}
			b.Write("x")
			require.Equal(t, []epore.Event{{Token: 1, Ready: 1}}, next(t, p, events))
			a.Drain()
		}
		w := newWaker(t, p, 2)
		woken := asleep(p, func() error { return p.Poll(events, forever) })
		require.NoError(t, w.Wake())
		require.NoError(t, <-woken)
		require.Equal(t, []epore.Event{{Token: 2, Ready: 1}}, all(events))
	})
}
