package epore_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
)

// These tests run the core on a backend that misbehaves on demand and checks the core's
// promises to every backend.

func openFake(t *testing.T) (*epore.Poll, *backendtest.Fake) {
	t.Helper()
	f := backendtest.NewFake()
	p, err := epore.NewWith(f)
	require.NoError(t, err)
	stop := backendtest.Watchdog(t, "the core's own")
	t.Cleanup(func() {
		stop()
		require.NoError(t, p.Close())
		require.Empty(t, f.Violations(), "promises that package backend makes")
	})
	return p, f
}

func collect(events *epore.Events) (list []epore.Event) {
	for ev := range events.All() {
		list = append(list, ev)
	}
	return list
}

var (
	errSorry = errors.New("out of order")
	five     = epore.FD(5)
)

// contract: P4
func TestPoll_EINTRNeverSurfaces(t *testing.T) {
	p, f := openFake(t)
	events := epore.NewEvents(4)
	for _, early := range []error{nil, syscall.EINTR} {
		for _, timeout := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
			f.ReturnEarly(5, early)
			begin := time.Now()
			require.NoError(t, p.Poll(events, timeout))
			require.Zero(t, events.Len())
			require.GreaterOrEqual(t, time.Since(begin), timeout, "P4: what is left of the timeout is waited")
			for range 5 { // whatever is left of them
				require.NoError(t, p.Poll(events, 0))
			}
		}
		require.NoError(t, p.Registry().Register(five, 1, epore.Readable))
		f.ReturnEarly(3, early)
		go f.SetReady(5, backend.ReadyReadable)
		require.NoError(t, p.Poll(events, epore.Forever))
		require.Len(t, collect(events), 1)
		f.SetReady(5, 0)
		require.NoError(t, p.Registry().Deregister(five))
	}
}

// contract: P2, R6
func TestPoll_StaleKeysOfABackend(t *testing.T) {
	p, f := openFake(t)
	r := p.Registry()
	events := epore.NewEvents(4)
	require.NoError(t, r.Register(five, 1, epore.Readable))
	one, _ := f.KeyOf(5)
	require.NoError(t, r.Reregister(five, 2, epore.Readable))
	two, _ := f.KeyOf(5)
	require.NoError(t, r.Deregister(five))
	require.NoError(t, r.Register(five, 3, epore.Readable))
	three, _ := f.KeyOf(5)

	stale := []backend.Event{{Key: one, Ready: 1}, {Key: two, Ready: 1}}
	for _, never := range []backend.Key{0, 1, 31<<32 | 1, 32<<32 | 1, 5000<<32 | 1, 1<<63 | 1, ^backend.Key(0), 0xffffffe0<<32 | 1} {
		f.Inject(backend.Event{Key: never, Ready: 1})
		require.NoError(t, p.Poll(events, 0))
		require.Zero(t, events.Len(), "E3: a key that was never made: %#x", never)
	}
	f.Inject(stale...)
	require.NoError(t, p.Poll(events, 0))
	require.Zero(t, events.Len(), "R6: stale, whatever the backend says")

	begin := time.Now()
	f.Inject(stale...)
	require.NoError(t, p.Poll(events, 10*time.Millisecond))
	require.Zero(t, events.Len())
	require.GreaterOrEqual(t, time.Since(begin), 10*time.Millisecond, "P2: a stale event does not end a wait")

	f.Inject(stale[0], backend.Event{Key: three, Ready: 1}, stale[1])
	require.NoError(t, p.Poll(events, epore.Forever))
	require.Equal(t, []epore.Event{{Token: 3, Ready: 1}}, collect(events))
	require.Equal(t, 1, events.Len())
}

// contract: M5, M6
func TestEvents_OnlyWhatWasAskedFor(t *testing.T) {
	p, f := openFake(t)
	events := epore.NewEvents(4)
	const (
		r, w, pri  = backend.ReadyReadable, backend.ReadyWritable, backend.ReadyPriority
		e, rc, wc  = backend.ReadyError, backend.ReadyReadClosed, backend.ReadyWriteClosed
		in, out, u = epore.Readable, epore.Writable, epore.Priority
	)
	for _, c := range []struct {
		asked     epore.Interest
		told, see epore.Readiness
	}{
		{in, r | w | pri, r}, {out, r | w | pri, w}, {u, r | w | pri, pri}, {in | out | u, r | w | pri, r | w | pri},
		{in, w, 0}, {out, r | pri, 0},
		{in, e, r | e}, {out, e, w | e}, {in | out, e, r | w | e}, {u, e, e},
		{in, rc, r | rc}, {in | out, rc, r | rc}, {out, rc, rc}, {out, wc, w | wc}, {in, wc, wc},
		{in | out, rc | wc, r | w | rc | wc}, {in, rc | wc | e, r | rc | wc | e},
	} {
		require.NoError(t, p.Registry().Register(five, 1, c.asked))
		key, _ := f.KeyOf(5)
		f.Inject(backend.Event{Key: key, Ready: c.told})
		require.NoError(t, p.Poll(events, 0))
		var see epore.Readiness
		for ev := range events.All() {
			see |= ev.Ready
			require.Equal(t, see.Has(r), ev.Readable())
			require.Equal(t, see.Has(w), ev.Writable())
			require.Equal(t, see.Has(pri), ev.Priority())
			require.Equal(t, see.Has(e), ev.Error())
			require.Equal(t, see.Has(rc), ev.ReadClosed())
			require.Equal(t, see.Has(wc), ev.WriteClosed())
		}
		require.Equal(t, c.see, see, "interest %v, reported %v: M5, M6", c.asked, c.told)
		require.NoError(t, p.Registry().Deregister(five))
	}
}

// contract: R13, E4
func TestRegistry_FailuresChangeNothing(t *testing.T) {
	p, f := openFake(t)
	r := p.Registry()
	events := epore.NewEvents(4)
	f.FailNext("Add", errSorry)
	err := r.Register(five, 1, epore.Readable)
	require.ErrorIs(t, err, errSorry)
	require.ErrorContains(t, err, "register fd 5")
	require.ErrorIs(t, r.Deregister(five), fs.ErrNotExist, "R13: as it was, not registered")

	require.NoError(t, r.Register(five, 2, epore.Readable))
	f.SetReady(5, backend.ReadyReadable|backend.ReadyWritable)
	require.NoError(t, p.Poll(events, 0))
	for _, method := range []string{"Modify", "Delete"} {
		f.FailNext(method, errSorry)
		if method == "Modify" {
			err = r.Reregister(five, 3, epore.Writable)
		} else {
			err = r.Deregister(five)
		}
		require.ErrorIs(t, err, errSorry)
		require.Equal(t, []epore.Event{{Token: 2, Ready: 1}}, collect(events), "the event in hand is still good")
		require.NoError(t, p.Poll(events, 0))
		require.Equal(t, []epore.Event{{Token: 2, Ready: 1}}, collect(events), "R13: as it was")
	}
	require.NoError(t, r.Deregister(five))
	require.Zero(t, f.Watched())
}

// contract: E1, E4
func TestPoll_FailingWait(t *testing.T) {
	p, f := openFake(t)
	events := epore.NewEvents(4)
	w, err := epore.NewWaker(p.Registry(), 9)
	require.NoError(t, err)
	f.FailNext("Wait", errSorry)
	err = p.Poll(events, epore.Forever)
	require.ErrorIs(t, err, errSorry)
	require.ErrorContains(t, err, "poll the fake queue")
	require.Empty(t, collect(events))

	for range 2 { // whether the wake goes first or second in the batch
		require.NoError(t, w.Wake())
		f.FailNext("Wait", errSorry)
		var seen []epore.Event
		for len(seen) == 0 {
			if err := p.Poll(events, epore.Forever); err != nil {
				require.ErrorIs(t, err, errSorry)
			}
			seen = collect(events)
		}
		require.Equal(t, epore.Token(9), seen[0].Token, "a wake is not lost to an error")
		_ = p.Poll(events, 0)
	}
}

// contract: E2
func TestNew_BackendFails(t *testing.T) {
	f := backendtest.NewFake()
	f.FailNext("Open", errSorry)
	_, err := epore.NewWith(f)
	require.ErrorIs(t, err, errSorry)
	require.ErrorContains(t, err, "open the fake queue")
	_, err = epore.NewWith(nil)
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.Empty(t, f.Violations(), "nothing else was called")
}

func TestClose_BackendFails(t *testing.T) {
	f := backendtest.NewFake()
	p, err := epore.NewWith(f)
	require.NoError(t, err)
	f.FailNext("Close", errSorry)
	err = p.Close()
	require.ErrorIs(t, err, errSorry)
	require.ErrorContains(t, err, "close the fake queue")
	require.NoError(t, p.Close(), "closed it is")
}

// A coalesced wake, and one while no Poll sleeps, cost no system call.
// contract: S1
func TestWaker_CoalescedWakesMakeNoSystemCall(t *testing.T) {
	p, f := openFake(t)
	events := epore.NewEvents(4)
	w, err := epore.NewWaker(p.Registry(), 9)
	require.NoError(t, err)
	for range 100 {
		require.NoError(t, w.Wake())
	}
	require.NoError(t, p.Poll(events, epore.Forever))
	require.Len(t, collect(events), 1)
	require.Zero(t, f.Wakes())
}

// The descriptor is closed, and with it its registration; then the number is reused.
// contract: R7
func TestRegistry_KernelForgetsByItself(t *testing.T) {
	p, f := openFake(t)
	r := p.Registry()
	events := epore.NewEvents(4)
	require.NoError(t, r.Register(five, 1, epore.Readable))
	f.SetReady(5, backend.ReadyReadable)
	require.NoError(t, p.Poll(events, 0))
	f.CloseHandle(5)
	require.NoError(t, r.Register(five, 2, epore.Readable), "R7: no false fs.ErrExist")
	require.Empty(t, collect(events), "R6: the event was of the closed one")
	f.SetReady(5, backend.ReadyReadable)
	require.NoError(t, p.Poll(events, 0))
	require.Equal(t, []epore.Event{{Token: 2, Ready: 1}}, collect(events))
	f.CloseHandle(5)
	require.ErrorIs(t, r.Reregister(five, 3, epore.Readable), fs.ErrNotExist)
	require.ErrorIs(t, r.Deregister(five), fs.ErrNotExist)
	require.NoError(t, r.Register(five, 4, epore.Readable))
}

// Everything runs concurrently, while the Fake checks the core's promises: one change at a
// time, one waiter, nothing after Close.
func TestPoll_KeepsPromisesToBackend(t *testing.T) {
	for round := range backendtest.Rounds(t, 20, 5000) {
		f := backendtest.NewFake()
		p, err := epore.NewWith(f)
		require.NoError(t, err)
		var work sync.WaitGroup
		for range 2 {
			work.Go(func() {
				events := epore.NewEvents(3)
				for {
					err := p.Poll(events, 5*time.Millisecond)
					if errors.Is(err, epore.ErrClosed) {
						return
					}
					if err != nil {
						assert.ErrorIs(t, err, epore.ErrBusy)
					}
				}
			})
		}
		for g := range 3 {
			work.Go(func() {
				random := rand.New(rand.NewPCG(uint64(round), uint64(g)))
				h := backend.Handle(g)
				source := epore.FD(g)
				w, err := epore.NewWaker(p.Registry(), 1)
				for err == nil || !errors.Is(err, epore.ErrClosed) {
					switch random.IntN(6) {
					case 0:
						err = p.Registry().Register(source, epore.Token(g), epore.Readable)
					case 1:
						err = p.Registry().Reregister(source, epore.Token(g), epore.Writable|epore.Edge)
					case 2:
						err = p.Registry().Deregister(source)
					case 3:
						f.SetReady(h, backend.Readiness(random.IntN(4)))
					case 4:
						f.CloseHandle(h)
					case 5:
						err = w.Wake()
					}
				}
			})
		}
		work.Go(func() { assert.NoError(t, p.Close()) })
		work.Wait()
		require.Empty(t, f.Violations())
	}
}

// recordingFake records the timeouts that it is given, and calls asleep, if that is set,
// before it waits.
type recordingFake struct {
	*backendtest.Fake
	timeouts []time.Duration
	asleep   func()
}

func (f *recordingFake) Wait(dst []backend.Event, timeout time.Duration) (int, error) {
	f.timeouts = append(f.timeouts, timeout)
	if timeout != 0 && f.asleep != nil {
		f.asleep()
	}
	return f.Fake.Wait(dst, timeout)
}

// Backends do not check that they are opened once, because the core guarantees it.
// contract: P13
func TestNewWith_BackendInUse(t *testing.T) {
	f := backendtest.NewFake()
	p, err := epore.NewWith(f)
	require.NoError(t, err)
	_, err = epore.NewWith(f)
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorContains(t, err, "already serves a Poll")
	require.Empty(t, f.Violations())
	require.NoError(t, p.Registry().Register(five, 1, epore.Readable))
	require.NoError(t, p.Poll(epore.NewEvents(1), 0))
	require.NoError(t, p.Close())
}
