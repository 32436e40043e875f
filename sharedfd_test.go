//go:build unix || windows

package epore_test

import (
	"io/fs"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/sharedfd"
)

const socketRule = "R7: sockets of package socket deregister themselves in their Close"

// socketSource is like the sockets of package socket: a source that knows where it is
// registered.
type socketSource struct {
	sharedfd.Socket
	number int
}

func newSocket(fd int) *socketSource {
	s := &socketSource{number: fd}
	s.descriptor().Open(backend.Handle(fd))
	return s
}

func (s *socketSource) descriptor() *sharedfd.Descriptor { return sharedfd.In(&s.Socket) }

// socketEnd is a socket on a duplicate of e.
func socketEnd(t *testing.T, e *fixture.End) *socketSource {
	t.Helper()
	return newSocket(e.Dup().Give())
}

func (s *socketSource) SyscallConn() (syscall.RawConn, error) {
	return nil, fs.ErrInvalid // the core does not need it
}

func (s *socketSource) close(t *testing.T) {
	t.Helper()
	closed, err := s.descriptor().Close()
	require.NoError(t, err)
	require.True(t, closed)
}

// contract: R7, E1
func TestSocket_DeregistersItself(t *testing.T) {
	eachStrategy(t, socketRule, func(t *testing.T, p *epore.Poll) {
		r, events := p.Registry(), epore.NewEvents(4)
		a, b := fixture.Pair(t)
		b.Write("x")
		s := socketEnd(t, a)
		require.NoError(t, r.Register(s, 1, epore.Readable))
		require.ErrorIs(t, r.Register(s, 2, epore.Readable), fs.ErrExist)
		require.NoError(t, r.Reregister(s, 3, epore.Readable))
		require.Equal(t, epore.Token(3), next(t, p, events)[0].Token)
		s.close(t)
		require.Empty(t, all(events), "not from the batch in hand")
		require.Empty(t, ready(t, p, events), "a duplicate is open, so the kernel would go on")
		closed, err := s.descriptor().Close()
		require.NoError(t, err)
		require.False(t, closed)

		for op, err := range map[string]error{
			"register":   r.Register(s, 2, epore.Readable),
			"reregister": r.Reregister(s, 2, epore.Readable),
			"deregister": r.Deregister(s),
		} {
			require.ErrorIs(t, err, net.ErrClosed, op)
			require.NotErrorIs(t, err, epore.ErrClosed, op)
			require.NotContains(t, err.Error(), "deregister before closing", "it has deregistered itself")
		}

		// A socket that was deregistered is not deregistered again by its Close.
		s = socketEnd(t, a)
		require.NoError(t, r.Register(s, 1, epore.Readable))
		require.NoError(t, r.Deregister(s))
		require.ErrorIs(t, r.Deregister(s), fs.ErrNotExist)
		require.NoError(t, r.Register(epore.FD(s.number), 4, epore.Readable), "somebody else's")
		require.Equal(t, epore.Token(4), next(t, p, events)[0].Token)
		require.NoError(t, r.Deregister(epore.FD(s.number)))
		s.close(t)
	})
}

// contract: R7, R10
func TestSocket_OfSeveralPolls(t *testing.T) {
	guard(t, socketRule+"; R10: a source may be registered with several Polls")
	a, b := fixture.Pair(t)
	b.Write("x")
	s := socketEnd(t, a)
	polls := []*epore.Poll{open(t), open(t), open(t), open(t)}
	gone := open(t)
	require.NoError(t, gone.Registry().Register(s, 9, epore.Readable))
	for i, p := range polls {
		require.NoError(t, p.Registry().Register(s, epore.Token(i), epore.Readable))
	}
	require.NoError(t, gone.Close(), "before its source")
	require.NoError(t, polls[1].Registry().Deregister(s))
	require.NoError(t, polls[1].Registry().Register(s, 1, epore.Readable))
	clone, err := polls[2].Registry().TryClone()
	require.NoError(t, err)
	require.NoError(t, clone.Reregister(s, 2, epore.Readable))
	require.NoError(t, clone.Close(), "the registration stays")
	require.ErrorIs(t, polls[3].Registry().Close(), fs.ErrInvalid)
	events := make([]*epore.Events, len(polls))
	for i, p := range polls {
		events[i] = epore.NewEvents(4)
		require.Equal(t, epore.Token(i), next(t, p, events[i])[0].Token)
	}
	s.close(t)
	for i, p := range polls {
		require.Empty(t, all(events[i]))
		require.Empty(t, ready(t, p, events[i]), "Poll %d", i)
	}
}

// Registering concurrently with Close either fails, or Close finds the registration. In
// either case the descriptor is closed in the end, nothing stays registered, and no other
// source that gets the number is disturbed.
// contract: R7
func TestSocket_CloseWhileRegistering(t *testing.T) {
	guard(t, socketRule)
	a, b := fixture.Pair(t)
	b.Write("x") // ready all the time
	polls := []*epore.Poll{open(t), open(t)}
	for range backendtest.Rounds(t, 300, 20_000) {
		s := socketEnd(t, a)
		var begin, done sync.WaitGroup
		begin.Add(1)
		for i, p := range polls {
			for range 2 {
				done.Go(func() {
					begin.Wait()
					r := p.Registry()
					for range 2 {
						_ = r.Register(s, epore.Token(i), epore.Readable)
						runtime.Gosched()
						_ = r.Reregister(s, epore.Token(i), epore.Readable)
						_ = r.Deregister(s)
						_ = r.Register(s, epore.Token(i), epore.Readable)
					}
				})
			}
		}
		done.Go(func() {
			begin.Wait()
			runtime.Gosched()
			s.close(t)
		})
		begin.Done()
		done.Wait()
		for _, p := range polls {
			require.Empty(t, tokens(t, p))
			require.ErrorIs(t, p.Registry().Deregister(epore.FD(s.number)), fs.ErrNotExist)
		}
		require.False(t, fixture.IsOpen(s.number))
	}
	for _, p := range polls {
		require.LessOrEqual(t, p.Slots(), 2)
	}
}

// registeringSlowly is a queue whose Add calls hook when the kernel knows the registration
// and the socket does not yet.
type registeringSlowly struct {
	*backendtest.Fake
	hook func()
}

func (r *registeringSlowly) Add(h backend.Handle, k backend.Key, in backend.Interest) error {
	err := r.Fake.Add(h, k, in)
	r.hook()
	return err
}

// A Close that begins in the middle of a Register waits for it, because only then can it
// deregister the socket. Otherwise the loop gets an event after Close has returned.
// contract: R7
func TestSocket_CloseWaitsForRegister(t *testing.T) {
	guard(t, "R6, R7: once Close has returned, no event of the socket is delivered")
	f := &registeringSlowly{Fake: backendtest.NewFake()}
	p, err := epore.NewWith(f)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	events := epore.NewEvents(4)
	const number = 1 << 20 // not in use
	s := newSocket(number)
	f.SetReady(number, backend.ReadyReadable)
	closed := make(chan struct{})
	f.hook = func() {
		go func() {
			_, _ = s.descriptor().Close() // the number is not open: the error does not matter
			close(closed)
		}()
		for s.descriptor().Acquire() { // until Close has begun
			s.descriptor().Release()
			runtime.Gosched()
		}
		for range 10_000 { // long enough for a Close that does not wait
			select {
			case <-closed:
				require.NoError(t, p.Poll(events, 0))
				require.Empty(t, collect(events), "an event after Close")
			default:
				runtime.Gosched()
			}
		}
	}
	_ = p.Registry().Register(s, 42, epore.Readable)
	<-closed
	require.NoError(t, p.Poll(events, 0))
	require.Empty(t, collect(events))
	require.Zero(t, f.Watched())
}

// The same on a real queue, with goroutines that poll all the time.
// contract: R7
func TestSocket_NoEventAfterClose(t *testing.T) {
	guard(t, "R6, R7: once Close has returned, no event of the socket is delivered")
	a, b := fixture.Pair(t)
	b.Write("x") // ready all the time
	polls := []*epore.Poll{open(t), open(t), open(t)}
	var closed atomic.Int64 // sockets whose Close has returned have tokens up to this one
	var stopping atomic.Bool
	var pollers sync.WaitGroup
	for _, p := range polls {
		pollers.Go(func() {
			// The requests of an io_uring belong to the thread that made them.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			events := epore.NewEvents(4)
			for !stopping.Load() {
				before := closed.Load()
				if err := p.Poll(events, time.Millisecond); err != nil {
					t.Errorf("poll: %v", err)
					return
				}
				for ev := range events.All() {
					if int64(ev.Token) <= before {
						t.Errorf("an event of socket %d after its Close", ev.Token)
						return
					}
				}
			}
		})
	}
	for i := range backendtest.Rounds(t, 100, 20_000) {
		s := socketEnd(t, a)
		token := epore.Token(i + 1)
		var registering sync.WaitGroup
		for _, p := range polls {
			registering.Go(func() {
				_ = p.Registry().Register(s, token, epore.Readable)
				runtime.Gosched()
				_ = p.Registry().Reregister(s, token, epore.Readable)
			})
		}
		for range i % 4 {
			runtime.Gosched()
		}
		s.close(t)
		closed.Store(int64(token))
		registering.Wait()
	}
	stopping.Store(true)
	pollers.Wait()
}

// rearming is a queue that emulates edges.
type rearming struct {
	*backendtest.Fake
	told []backend.Interest
}

// That holds for the rest of a batch, too, if the loop has closed the Poll first.
// contract: R7
func TestSocket_NoEventAfterPollAndSocketAreClosed(t *testing.T) {
	guard(t, "R6, R7: once Close has returned, no event of the socket is delivered")
	p := open(t)
	var sockets []*socketSource
	for token := range epore.Token(3) {
		a, b := fixture.Pair(t)
		b.Write("x")
		s := socketEnd(t, a)
		require.NoError(t, p.Registry().Register(s, token, epore.Readable))
		sockets = append(sockets, s)
	}
	events, turns := epore.NewEvents(4), 0
	for events.Len() < 3 {
		require.NoError(t, p.Poll(events, fixture.Soon))
	}
	for range events.All() {
		turns++
		require.NoError(t, p.Close())
		for _, s := range sockets {
			s.close(t)
		}
	}
	require.Equal(t, 1, turns)
}

func (r *rearming) Rearm(h backend.Handle, in backend.Interest) { r.told = append(r.told, in) }

// contract: M2
func TestSocket_WouldBlockReachesTheEdgeEmulator(t *testing.T) {
	guard(t, "M2: after would-block the next edge is certain, also where the core emulates it")
	f := &rearming{Fake: backendtest.NewFake()}
	p, err := epore.NewWith(f)
	require.NoError(t, err)
	other, _ := openFake(t)
	r, d := p.Registry(), newSocket(1<<20) // a number that is not in use
	wouldBlock := func(want ...backend.Interest) {
		t.Helper()
		f.told = nil
		d.descriptor().WouldBlock(epore.Readable)
		d.descriptor().WouldBlock(epore.Writable)
		require.Equal(t, want, f.told)
	}
	wouldBlock()
	require.NoError(t, other.Registry().Register(d, 1, epore.Readable|epore.Edge))
	require.NoError(t, r.Register(d, 1, epore.Readable|epore.Edge))
	wouldBlock(epore.Readable)
	require.NoError(t, r.Reregister(d, 1, epore.Readable|epore.Writable|epore.Edge))
	wouldBlock(epore.Readable, epore.Writable)
	require.NoError(t, r.Reregister(d, 1, epore.Readable|epore.Writable))
	wouldBlock() // level needs nothing
	require.NoError(t, r.Reregister(d, 1, epore.Writable|epore.Edge))
	wouldBlock(epore.Writable)
	require.NoError(t, r.Deregister(d))
	wouldBlock()
	require.NoError(t, r.Register(d, 1, epore.Writable|epore.Edge))
	require.NoError(t, p.Close())
	wouldBlock()
	closed, err := d.descriptor().Close()
	require.True(t, closed)
	require.ErrorIs(t, err, fixture.NotOpen, "the only thing that is wrong with it")
	_, registered := f.KeyOf(1 << 20)
	require.True(t, registered, "a closed Poll is not asked any more")
}

// An operation in progress keeps the descriptor open.
// contract: R7
func TestSocket_StaysOpenWhileInUse(t *testing.T) {
	guard(t, "no operation reaches the next owner of a descriptor number")
	a, _ := fixture.Pair(t)
	s := socketEnd(t, a)
	d := s.descriptor()
	require.True(t, d.Acquire())
	require.True(t, d.Acquire())
	s.close(t)
	require.False(t, d.Acquire())
	require.True(t, fixture.IsOpen(s.number))
	d.Release()
	require.True(t, fixture.IsOpen(s.number))
	d.Release()
	require.False(t, fixture.IsOpen(s.number))

	var zero sharedfd.Descriptor
	require.False(t, zero.Acquire())
}

// contract: P10
func TestAllocs_Sockets(t *testing.T) {
	eachStrategy(t, "P10: no allocation in the steady state", func(t *testing.T, p *epore.Poll) {
		a, _ := fixture.Pair(t)
		s := socketEnd(t, a)
		defer s.close(t)
		r := p.Registry()
		noAllocs(t, "Register, Reregister and Deregister of a socket", 0, func() error {
			if err := r.Register(s, 1, epore.Readable); err != nil {
				return err
			}
			if err := r.Reregister(s, 1, epore.Writable); err != nil {
				return err
			}
			return r.Deregister(s)
		})
	})
}
