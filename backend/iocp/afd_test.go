//go:build windows

package iocp

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
)

// next waits until there are events.
func next(t *testing.T, q *IOCP) []backend.Event {
	t.Helper()
	dst := make([]backend.Event, 8)
	for begin := time.Now(); time.Since(begin) < fixture.Soon; {
		n, err := q.Wait(dst, fixture.Soon)
		require.NoError(t, err)
		if n > 0 {
			return dst[:n]
		}
	}
	require.Fail(t, "no event came")
	return nil
}

// now returns what is there, and nothing of what comes later.
func now(t *testing.T, q *IOCP) []backend.Event {
	t.Helper()
	dst := make([]backend.Event, 8)
	n, err := q.Wait(dst, 0)
	require.NoError(t, err)
	return dst[:n]
}

// inUse counts the requests that are in use.
func (q *IOCP) inUse() (n int) {
	for _, g := range q.requests.groups {
		if g == nil {
			continue
		}
		for i := range g.requests {
			if g.free&(1<<i) == 0 {
				n++
			}
		}
	}
	return n
}

// groups counts the pages of requests.
func (q *IOCP) groups() (n int) {
	for _, g := range q.requests.groups {
		if g != nil {
			n++
		}
	}
	return n
}

const (
	readable = backend.Readable
	writable = backend.Writable
)

// inEachState runs a test on a registered socket in each state that it can be in.
func inEachState(t *testing.T, run func(t *testing.T, q *IOCP, a, b *fixture.End)) {
	for name, s := range map[state]struct {
		in    backend.Interest
		reach func(t *testing.T, q *IOCP)
	}{
		idle:  {writable | backend.OneShot, func(t *testing.T, q *IOCP) { require.Len(t, next(t, q), 1) }},
		due:   {writable, func(t *testing.T, q *IOCP) { require.Len(t, next(t, q), 1) }},
		armed: {readable, func(*testing.T, *IOCP) {}},
		ready: {writable, func(t *testing.T, q *IOCP) {
			q.mu.Lock()
			defer q.mu.Unlock()
			for q.lists[ready].first == nil {
				require.NoError(t, q.progress())
			}
		}},
	} {
		t.Run([...]string{"idle", "due", "armed", "ready"}[name], func(t *testing.T) {
			q := openQueue(t)
			a, b := fixture.TCPPair(t)
			require.NoError(t, q.Add(a.Handle(), 1, s.in))
			s.reach(t, q)
			require.Equal(t, name, q.socks[a.Handle()].state)
			run(t, q, a, b)
		})
	}
}

// A socket that is closed while it is registered is forgotten by the next Wait, with
// all that was asked about it.
func TestClosedWhileRegistered(t *testing.T) {
	inEachState(t, func(t *testing.T, q *IOCP, a, b *fixture.End) {
		a.Close()
		for len(q.socks) > 0 || q.inUse() > 0 {
			for _, ev := range next0(t, q) {
				require.Equal(t, backend.Key(1), ev.Key)
			}
		}
		require.ErrorIs(t, q.Delete(a.Handle()), fs.ErrNotExist)
	})
}

// next0 is a Wait that blocks for a moment at most.
func next0(t *testing.T, q *IOCP) []backend.Event {
	dst := make([]backend.Event, 8)
	n, err := q.Wait(dst, 10*time.Millisecond)
	require.NoError(t, err)
	return dst[:n]
}

// The next socket under a handle is another one, whatever state the one before was in.
func TestHandleUsedAgain(t *testing.T) {
	change := map[string]func(t *testing.T, q *IOCP, a *fixture.End){
		"Add": func(t *testing.T, q *IOCP, a *fixture.End) {
			require.NoError(t, q.Add(a.Handle(), 2, readable))
			require.ErrorIs(t, q.Add(a.Handle(), 3, readable), fs.ErrExist)
		},
		"Modify": func(t *testing.T, q *IOCP, a *fixture.End) {
			require.ErrorIs(t, q.Modify(a.Handle(), 2, readable), fs.ErrNotExist)
			require.NoError(t, q.Add(a.Handle(), 2, readable))
		},
		"Delete": func(t *testing.T, q *IOCP, a *fixture.End) {
			require.ErrorIs(t, q.Delete(a.Handle()), fs.ErrNotExist)
			require.NoError(t, q.Add(a.Handle(), 2, readable))
		},
		"Rearm": func(t *testing.T, q *IOCP, a *fixture.End) {
			q.Rearm(a.Handle(), readable)
			require.NoError(t, q.Add(a.Handle(), 2, readable))
		},
		"Wait": func(t *testing.T, q *IOCP, a *fixture.End) {
			next0(t, q)
			require.NoError(t, q.Add(a.Handle(), 2, readable))
		},
	}
	for name, change := range change {
		t.Run(name, func(t *testing.T) {
			inEachState(t, func(t *testing.T, q *IOCP, a, _ *fixture.End) {
				a.Close()
				c, d := fixture.PairAt(t, a.FD)
				change(t, q, c)
				d.Write("x")
				require.Equal(t, []backend.Event{{Key: 2, Ready: backend.ReadyReadable}}, next(t, q))
				require.NoError(t, q.Delete(c.Handle()))
				require.Empty(t, q.socks)
			})
		})
	}
}

// A second Add changes nothing about the first registration, whatever its state.
func TestExistIsHarmless(t *testing.T) {
	inEachState(t, func(t *testing.T, q *IOCP, a, b *fixture.End) {
		before := q.socks[a.Handle()].state
		for range 3 {
			require.ErrorIs(t, q.Add(a.Handle(), 9, readable), fs.ErrExist)
		}
		if after := q.socks[a.Handle()].state; after != before {
			require.Equal(t, armed, before)
			require.Equal(t, ready, after)
		}
		require.LessOrEqual(t, q.inUse(), 2)
		b.Write("x")
		if before != idle {
			require.Equal(t, backend.Key(1), next(t, q)[0].Key)
		}
	})
}

// Edges are of one condition each: what is told of writing is not told again because
// there was nothing to read.
func TestRearm(t *testing.T) {
	q := openQueue(t)
	a, b := fixture.TCPPair(t)
	require.NoError(t, q.Add(a.Handle(), 1, readable|writable|backend.Edge))
	require.Equal(t, []backend.Event{{Key: 1, Ready: backend.ReadyWritable}}, next(t, q))
	require.Empty(t, next0(t, q))
	b.Write("x")
	require.Equal(t, []backend.Event{{Key: 1, Ready: backend.ReadyReadable}}, next(t, q))
	require.Empty(t, next0(t, q), "an edge is not repeated")
	b.Write("y")
	require.Empty(t, next0(t, q), "nobody said that reading would have blocked")
	a.Drain()
	q.Rearm(a.Handle(), readable)
	require.Empty(t, next0(t, q))
	b.Write("z")
	require.Equal(t, []backend.Event{{Key: 1, Ready: backend.ReadyReadable}}, next(t, q))
	// Beside one that is armed, another condition.
	a.Drain()
	q.Rearm(a.Handle(), readable)
	a.Fill()
	q.Rearm(a.Handle(), writable)
	require.Empty(t, now(t, q))
	for drained := false; !drained; { // the system may have more to send than fits
		b.Drain()
		for _, ev := range next0(t, q) {
			require.Equal(t, backend.ReadyWritable, ev.Ready)
			drained = true
		}
	}
	b.Write("x")
	require.Equal(t, []backend.Event{{Key: 1, Ready: backend.ReadyReadable}}, next(t, q))

	// It concerns no other mode, and nothing that is not asked for.
	q.Rearm(a.Handle(), backend.Priority)
	require.NoError(t, q.Modify(a.Handle(), 2, readable|backend.OneShot))
	require.Len(t, next(t, q), 1)
	q.Rearm(a.Handle(), readable)
	require.NoError(t, q.Modify(a.Handle(), 2, readable|backend.OneShot|backend.Edge))
	require.Len(t, next(t, q), 1)
	q.Rearm(a.Handle(), readable)
	require.Empty(t, next0(t, q))
}

// A change made while a Wait is at the port gets its packets from that, and a change
// without one fetches them. Each of them ends, none leaves a request behind.
func TestChangesBesideWaits(t *testing.T) {
	q := openQueue(t)
	const sockets = 8
	rounds := 400
	if backendtest.Long() {
		rounds *= 20
	}
	var pairs [sockets][2]*fixture.End
	for i := range pairs {
		pairs[i][0], pairs[i][1] = fixture.TCPPair(t)
	}
	done := make(chan struct{})
	var waiter sync.WaitGroup
	waiter.Go(func() {
		dst := make([]backend.Event, 3)
		timeouts := [...]time.Duration{0, -1, time.Millisecond, time.Second}
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			n, err := q.Wait(dst, timeouts[i%len(timeouts)])
			if err != nil || n > len(dst) {
				t.Errorf("%d, %v", n, err)
				return
			}
		}
	})
	registered := make(map[int]bool)
	for range rounds {
		i := rand.IntN(sockets)
		h := pairs[i][0].Handle()
		in := []backend.Interest{readable, writable, readable | writable, readable | backend.OneShot, writable | backend.Edge}[rand.IntN(5)]
		var err error
		switch rand.IntN(6) {
		case 0, 1:
			err = q.Add(h, backend.Key(i+1), in)
			require.Equal(t, registered[i], errors.Is(err, fs.ErrExist), "%v", err)
			registered[i] = true
		case 2:
			err = q.Modify(h, backend.Key(i+1), in)
			require.Equal(t, !registered[i], errors.Is(err, fs.ErrNotExist), "%v", err)
		case 3:
			err = q.Delete(h)
			require.Equal(t, !registered[i], errors.Is(err, fs.ErrNotExist), "%v", err)
			registered[i] = false
		case 4:
			q.Rearm(h, writable)
		case 5:
			_, err = pairs[i][1].TryWrite([]byte("x"))
			if fixture.WouldBlock(err) {
				pairs[i][0].Drain()
			}
		}
		if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) && !fixture.WouldBlock(err) {
			require.NoError(t, err)
		}
	}
	for i := range pairs {
		if registered[i] {
			require.NoError(t, q.Delete(pairs[i][0].Handle()))
		}
	}
	close(done)
	require.NoError(t, q.Wake())
	waiter.Wait()
	require.Zero(t, q.inUse())
}

// What was registered leaves nothing behind: no handle, no memory, and no request,
// also when nobody waits.
func TestRegistrationsWithoutEnd(t *testing.T) {
	const held = 100
	rounds := 3_000
	if backendtest.Long() {
		rounds = 100_000
	}
	q := openQueue(t)
	var ends []*fixture.End
	for range held / 2 {
		a, b := fixture.TCPPair(t)
		ends = append(ends, a, b)
	}
	all := func(do func(h backend.Handle) error) {
		for _, e := range ends {
			require.NoError(t, do(e.Handle()))
		}
	}
	add := func(h backend.Handle) error { return q.Add(h, 1, readable) }
	all(add)
	all(q.Delete)
	handles := func() int { return len(fixture.Descriptors(4 * 4096)) }
	open, heap := handles(), fixture.Heap()
	for range rounds / held {
		all(add)
		all(q.Delete)
	}
	require.Zero(t, q.inUse())
	require.Empty(t, q.socks)
	require.Equal(t, 1, q.groups())
	require.Equal(t, open, handles(), "handles of sockets, helpers and ports")
	require.Less(t, fixture.Heap()-heap, int64(64<<10))
	t.Logf("%d registrations, %d handles before and %d after", rounds, open, handles())
}

// What is no socket is refused, and what is closed is called that.
func TestNoSocket(t *testing.T) {
	q := openQueue(t)
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer file.Close()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	for _, f := range []*os.File{file, r, w} {
		require.ErrorIs(t, q.Add(backend.Handle(f.Fd()), 1, readable), backend.ErrNotPollable)
	}
	a, _ := fixture.TCPPair(t)
	other := a.Handle() + 1 // to Windows, it is the same
	require.ErrorIs(t, q.Add(other, 1, readable), syscall.EBADF)
	a.Close()
	for _, h := range []backend.Handle{a.Handle(), 0, 3, 1 << 20, ^backend.Handle(0)} {
		require.ErrorIs(t, q.Add(h, 1, readable), syscall.EBADF, "%#x", h)
	}
	require.Zero(t, q.inUse())
}

// Sockets of package net, which belong to the port of Go's runtime.
func TestSocketsOfPackageNet(t *testing.T) {
	q := openQueue(t)
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer l.Close()
	handle := func(c syscall.Conn) (h backend.Handle) {
		raw, err := c.SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) { h = backend.Handle(fd) }))
		return h
	}
	require.NoError(t, q.Add(handle(l), 1, readable))
	c, err := net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	require.NoError(t, err)
	defer c.Close()
	require.Equal(t, []backend.Event{{Key: 1, Ready: backend.ReadyReadable}}, next(t, q))
	s, err := l.AcceptTCP()
	require.NoError(t, err)
	defer s.Close()
	require.Empty(t, next0(t, q))
	require.NoError(t, q.Add(handle(s), 2, readable))
	_, err = c.Write([]byte("hello"))
	require.NoError(t, err)
	require.Equal(t, []backend.Event{{Key: 2, Ready: backend.ReadyReadable}}, next(t, q))
	buf := make([]byte, 10)
	n, err := s.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "hello", string(buf[:n]))
	require.Empty(t, next0(t, q))
	require.NoError(t, c.CloseWrite())
	require.True(t, next(t, q)[0].Ready.Has(backend.ReadyReadClosed))

	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer u.Close()
	require.NoError(t, q.Delete(handle(s)))
	require.NoError(t, q.Add(handle(u), 3, readable))
	_, err = u.WriteTo([]byte("x"), u.LocalAddr())
	require.NoError(t, err)
	require.Equal(t, []backend.Event{{Key: 3, Ready: backend.ReadyReadable}}, next(t, q))
}

// A timeout below two ticks of the clock is kept by a timer, and a wait that ends
// before it leaves none behind.
func TestShortTimeouts(t *testing.T) {
	if !hasTimer() {
		t.Skip("no timers of high resolution here")
	}
	q := openQueue(t)
	require.Empty(t, next0(t, q))
	require.NotZero(t, q.timer.handle)
	dst := make([]backend.Event, 1)
	for _, timeout := range []time.Duration{1, time.Microsecond, 100 * time.Microsecond, time.Millisecond, 5 * time.Millisecond} {
		begin := time.Now()
		for time.Since(begin) < timeout { // early is legal
			_, err := q.Wait(dst, timeout-time.Since(begin))
			require.NoError(t, err)
		}
	}
	require.NoError(t, q.Wake())
	_, err := q.Wait(dst, precise-1)
	require.NoError(t, err)
	require.NoError(t, q.Close())
	require.Zero(t, q.timer.handle)
}

// Calls before Open and after Close, and a second Open, are errors.
func TestNotOpen(t *testing.T) {
	q := New()
	a, _ := fixture.TCPPair(t)
	check := func() {
		require.Error(t, q.Add(a.Handle(), 1, readable))
		require.Error(t, q.Modify(a.Handle(), 1, readable))
		require.Error(t, q.Delete(a.Handle()))
		_, err := q.Wait(make([]backend.Event, 1), 0)
		require.Error(t, err)
		require.Error(t, q.Close())
		q.Rearm(a.Handle(), readable)
	}
	check()
	require.NoError(t, q.Open(backend.Config{}))
	require.Error(t, q.Open(backend.Config{}))
	require.NoError(t, q.Add(a.Handle(), 1, readable))
	require.NoError(t, q.Close())
	check()
}
