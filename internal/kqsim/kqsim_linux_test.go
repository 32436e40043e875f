package kqsim

import (
	"os"
	"os/signal"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/kq"
)

// each runs a test on every profile for which has returns true.
func each(t *testing.T, has func(Profile) bool, test func(*rig)) {
	for _, p := range Profiles {
		t.Run(p.Name, func(t *testing.T) {
			if has == nil || has(p) {
				test(newRig(t, p))
			} else {
				t.Skip("this system does not have it")
			}
		})
	}
}

// on returns a condition for each: the profile has one of the names.
func on(names ...string) func(Profile) bool {
	return func(p Profile) bool {
		for _, name := range names {
			if p.Name == name {
				return true
			}
		}
		return false
	}
}

func hasUser(p Profile) bool     { return p.sys.HasUser }
func hasExcept(p Profile) bool   { return p.sys.HasExcept }
func hasDispatch(p Profile) bool { return !p.noDispatch }

// rig is a test with a queue.
type rig struct {
	*testing.T
	p   Profile
	k   *Kernel
	kq  int
	sys kq.System
}

func newRig(t *testing.T, p Profile) *rig {
	k := New(p)
	fd, err := k.Kqueue()
	require.NoError(t, err)
	t.Cleanup(func() { _ = k.Close(fd) })
	return &rig{t, p, k, fd, k.System()}
}

func (r *rig) read(fd int, flags uint32) kq.Event {
	return kq.Event{Ident: uint64(fd), Filter: r.sys.Read, Flags: flags, Udata: 7}
}

func (r *rig) write(fd int, flags uint32) kq.Event {
	return kq.Event{Ident: uint64(fd), Filter: r.sys.Write, Flags: flags, Udata: 8}
}

func (r *rig) user(flags, fflags uint32) kq.Event {
	return kq.Event{Ident: 1, Filter: r.sys.User, Flags: flags, Fflags: fflags}
}

// try applies changes without room for events.
func (r *rig) try(changes ...kq.Event) error {
	n, err := r.k.Kevent(r.kq, changes, nil, 0)
	require.Zero(r, n)
	return err
}

func (r *rig) change(changes ...kq.Event) {
	r.Helper()
	require.NoError(r, r.try(changes...))
}

// poll returns what is due, at most max events.
func (r *rig) poll(max int) []kq.Event {
	r.Helper()
	events := make([]kq.Event, max)
	n, err := r.k.Kevent(r.kq, nil, events, 0)
	require.NoError(r, err)
	return events[:n]
}

// wait calls Kevent until the signals of the runtime do not interrupt it.
func (r *rig) wait(events []kq.Event, timeout time.Duration) (int, error) {
	for {
		n, err := r.k.Kevent(r.kq, nil, events, timeout)
		if err != unix.EINTR || r.k.queue(r.kq) == nil {
			return n, err
		}
	}
}

// await waits for one event.
func (r *rig) await() kq.Event {
	r.Helper()
	events := make([]kq.Event, 1)
	n, err := r.wait(events, fixture.Soon)
	require.NoError(r, err)
	require.Equal(r, 1, n)
	return events[0]
}

func (r *rig) silent(why string) {
	r.Helper()
	events := make([]kq.Event, 8)
	n, err := r.wait(events, 2*time.Millisecond)
	require.NoError(r, err)
	require.Empty(r, events[:n], why)
}

type result struct {
	n      int
	err    error
	events []kq.Event
}

// block waits in a goroutine, and returns when that sleeps.
func (r *rig) block(timeout time.Duration) <-chan result { return r.blockIn(r.wait, timeout) }

func (r *rig) blockIn(wait func([]kq.Event, time.Duration) (int, error), timeout time.Duration) <-chan result {
	done := make(chan result, 1)
	go func() {
		events := make([]kq.Event, 8)
		n, err := wait(events, timeout)
		done <- result{n, err, events[:max(n, 0)]}
	}()
	q := r.k.queue(r.kq)
	for {
		q.mu.Lock()
		asleep := q.waiting > 0
		q.mu.Unlock()
		if asleep || len(done) > 0 { // it has returned if a signal of the runtime interrupted it
			return done
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func (r *rig) result(done <-chan result) result {
	r.Helper()
	select {
	case res := <-done:
		return res
	case <-time.After(fixture.Soon):
		r.Fatal("the Kevent does not return")
		return result{}
	}
}

func filters(events []kq.Event) (f []int32) {
	for _, e := range events {
		f = append(f, e.Filter)
	}
	return f
}

func idents(events []kq.Event) (f []uint64) {
	for _, e := range events {
		f = append(f, e.Ident)
	}
	return f
}

func TestSystem_Numbers(t *testing.T) {
	want := []kq.System{
		{Name: "freebsd", Read: -1, Write: -2, Proc: -5, User: -11, HasUser: true},
		{Name: "netbsd", Read: 0, Write: 1, Proc: 4, SilentFullPipe: true},
		{Name: "openbsd", Read: -1, Write: -2, Proc: -5, Except: -9, OOB: 4, HasExcept: true},
		{Name: "dragonfly", Read: -1, Write: -2, Proc: -5, User: -9, HasUser: true, Except: -8, OOB: 2, HasExcept: true},
		{Name: "darwin", Read: -1, Write: -2, Proc: -5, User: -10, HasUser: true, Except: -15, OOB: 2, HasExcept: true},
	}
	for i, p := range Profiles {
		require.Equal(t, want[i], New(p).System())
	}
}

func TestKqueue_CloseOnExec(t *testing.T) {
	each(t, nil, func(r *rig) {
		flags, err := unix.FcntlInt(uintptr(r.kq), unix.F_GETFD, 0)
		require.NoError(r, err)
		require.Equal(r, unix.FD_CLOEXEC, flags)
		require.NoError(r, r.k.Close(r.kq))
		require.Equal(r, unix.EBADF, r.k.Close(r.kq))
		require.Equal(r, unix.EBADF, r.try())
	})
}

func TestLevel_RepeatsWhileTrue(t *testing.T) {
	each(t, nil, func(r *rig) {
		a, b := fixture.Pair(r)
		r.change(r.read(a.FD, kq.Add))
		r.silent("nothing to read")
		b.Write("abc")
		e := r.await()
		flags := uint32(kq.Add)
		if r.p.eventDropsActions {
			flags = 0
		}
		require.Equal(r, kq.Event{Ident: uint64(a.FD), Filter: r.sys.Read, Flags: flags, Data: 3, Udata: 7}, e)
		a.Read(1)
		require.EqualValues(r, 2, r.await().Data)
		a.Drain()
		r.silent("read")
		b.Write("d")
		require.EqualValues(r, 1, r.await().Data)
	})
}

func TestClear_ReportsWhatIsNew(t *testing.T) {
	each(t, nil, func(r *rig) {
		for _, pair := range []func(testing.TB) (*fixture.End, *fixture.End){fixture.Pair, fixture.TCPPair, fixture.Pipe} {
			a, b := pair(r)
			r.change(r.read(a.FD, kq.Add|kq.Clear))
			b.Write("abc")
			e := r.await()
			require.NotZero(r, e.Flags&kq.Clear)
			r.silent("delivered")
			b.Write("d")
			require.EqualValues(r, 4, r.await().Data)
			r.silent("delivered again")
			r.change(r.read(a.FD, kq.Delete))
		}
	})
}

func TestClear_DirectionsAreIndependent(t *testing.T) {
	each(t, nil, func(r *rig) {
		a, b := fixture.Pair(r)
		r.change(r.read(a.FD, kq.Add|kq.Clear), r.write(a.FD, kq.Add|kq.Clear))
		require.Equal(r, []int32{r.sys.Write}, filters(r.poll(8)))
		b.Write("x")
		require.Equal(r, []int32{r.sys.Read}, filters(r.poll(8)))
		r.silent("both delivered")
		a.Fill()
		r.silent("no room is no event")
		b.Drain()
		require.Equal(r, r.sys.Write, r.await().Filter)
	})
}

func TestOneShot_DeletedWhenDelivered(t *testing.T) {
	each(t, nil, func(r *rig) {
		a, b := fixture.Pair(r)
		r.change(r.read(a.FD, kq.Add|kq.OneShot))
		b.Write("x")
		require.NotZero(r, r.await().Flags&kq.OneShot)
		r.silent("delivered")
		require.Equal(r, unix.ENOENT, r.try(r.read(a.FD, kq.Delete)))
		require.Equal(r, unix.ENOENT, r.try(r.read(a.FD, kq.Enable)))
	})
}

func TestOneShot_Stale(t *testing.T) {
	each(t, nil, func(r *rig) {
		a, b := fixture.Pair(r)
		b.Write("x")
		r.change(r.read(a.FD, kq.Add|kq.OneShot))
		a.Drain()
		r.silent("the condition no longer holds")

		r.k.StaleOneShots(true)
		b.Write("xy")
		r.change(r.read(a.FD, kq.Add))
		a.Drain()
		if r.p.Name == "darwin" {
			r.silent("the condition no longer holds")
		} else {
			require.EqualValues(r, 2, r.await().Data)
		}
	})
}

func TestDispatch_Disables(t *testing.T) {
	each(t, hasDispatch, func(r *rig) {
		a, b := fixture.Pair(r)
		b.Write("x")
		r.change(r.read(a.FD, kq.Add|kq.Dispatch))
		r.await()
		r.silent("disabled")
		b.Write("y")
		r.silent("still disabled")
		r.change(r.read(a.FD, kq.Add))
		r.silent("adding does not enable")
		r.change(r.read(a.FD, kq.Enable))
		require.EqualValues(r, 2, r.await().Data)
		r.silent("disabled again")
	})
}

func TestNetBSD_IgnoresDispatchAndReceipt(t *testing.T) {
	r := newRig(t, NetBSD)
	a, b := fixture.Pair(r)
	b.Write("x")
	events := make([]kq.Event, 4)
	n, err := r.k.Kevent(r.kq, []kq.Event{r.read(a.FD, kq.Add|kq.Dispatch|kq.Receipt)}, events, 0)
	require.NoError(r, err)
	require.Equal(r, 1, n)
	require.Zero(r, events[0].Flags&kq.Error, "an event, not a receipt")
	r.await()
	r.await()
}

func TestAdd_ExistingKnote(t *testing.T) {
	each(t, nil, func(r *rig) {
		a, b := fixture.Pair(r)
		b.Write("x")
		r.change(r.read(a.FD, kq.Add|kq.Clear))
		r.await()
		r.silent("delivered")

		again := r.read(a.FD, kq.Add|kq.OneShot)
		again.Udata = 9
		r.change(again)
		e := r.await()
		require.EqualValues(r, 9, e.Udata)
		require.Zero(r, e.Flags&kq.OneShot, "the mode stays")
		r.silent("the mode stays")
		r.change(r.read(a.FD, kq.Add))
		r.await()
		r.silent("the mode stays")

		r.change(r.read(a.FD, kq.Disable))
		r.change(r.read(a.FD, kq.Add))
		r.silent("it does not enable")
		r.change(r.read(a.FD, kq.Add|kq.Enable))
		r.await()

		r.change(r.read(a.FD, kq.Delete), r.read(a.FD, kq.Add))
		r.await()
		r.await() // level now
	})
}

func TestEnable(t *testing.T) {
	each(t, nil, func(r *rig) {
		a, b := fixture.Pair(r)
		require.Equal(r, unix.ENOENT, r.try(r.read(a.FD, kq.Enable)))
		require.Equal(r, unix.ENOENT, r.try(r.read(a.FD, kq.Disable)))
		r.change(r.read(a.FD, kq.Add|kq.Disable|kq.Clear))
		b.Write("x")
		r.silent("made disabled")
		r.change(r.read(a.FD, kq.Enable))
		r.await()
		r.silent("delivered")
		r.change(r.read(a.FD, kq.Disable))
		r.change(r.read(a.FD, kq.Enable))
		if r.p.Name == "netbsd" {
			r.silent("nothing new happened")
		} else {
			r.await()
		}
	})
}

func TestEnable_Udata(t *testing.T) {
	each(t, nil, func(r *rig) {
		a, b := fixture.Pair(r)
		b.Write("x")
		r.change(r.read(a.FD, kq.Add))
		enable := r.read(a.FD, kq.Enable)
		enable.Udata = 9
		r.change(enable)
		want := uint32(7)
		if on("freebsd", "dragonfly", "darwin")(r.p) {
			want = 9
		}
		require.Equal(r, want, r.await().Udata)
	})
}

func TestOrder_TwoFilters(t *testing.T) {
	each(t, nil, func(r *rig) {
		a, b := fixture.Pair(r)
		c, d := fixture.Pair(r)
		b.Write("x")
		d.Write("x")
		r.change(r.read(c.FD, kq.Add), r.write(a.FD, kq.Add), r.read(a.FD, kq.Add))
		require.Equal(r, []int32{r.sys.Read, r.sys.Write, r.sys.Read}, filters(r.poll(8)))
		require.Equal(r, []uint64{uint64(c.FD), uint64(a.FD)}, idents(r.poll(2)))
		// What was delivered goes to the end.
		require.Equal(r, []uint64{uint64(a.FD), uint64(c.FD), uint64(a.FD)}, idents(r.poll(3)))
		require.Equal(r, []int32{r.sys.Read}, filters(r.poll(1)))
		require.Equal(r, []int32{r.sys.Read}, filters(r.poll(1)))
		require.Equal(r, []int32{r.sys.Write}, filters(r.poll(1)))
	})
}

func TestErrors_WithRoom(t *testing.T) {
	each(t, nil, func(r *rig) {
		a, b := fixture.Pair(r)
		b.Write("x")
		events := make([]kq.Event, 2)
		n, err := r.k.Kevent(r.kq, []kq.Event{
			r.read(a.FD, kq.Delete), r.read(a.FD, kq.Add), r.write(-1, kq.Add),
		}, events, -1)
		require.NoError(r, err)
		require.Equal(r, 2, n, "errors only, at once")
		own := func(flags uint32) uint32 {
			if r.p.Name == "darwin" {
				return kq.Error | flags
			}
			return kq.Error
		}
		nowhere := -1
		require.Equal(r, []kq.Event{
			{Ident: uint64(a.FD), Filter: r.sys.Read, Flags: own(kq.Delete), Data: int64(unix.ENOENT), Udata: 7},
			{Ident: uint64(nowhere), Filter: r.sys.Write, Flags: own(kq.Add), Data: int64(unix.EBADF), Udata: 8},
		}, events)
		require.Equal(r, []int32{r.sys.Read}, filters(r.poll(8)), "the good change stands")
	})
}

func TestErrors_WithoutRoom(t *testing.T) {
	each(t, nil, func(r *rig) {
		a, b := fixture.Pair(r)
		b.Write("x")
		require.Equal(r, unix.ENOENT, r.try(r.write(a.FD, kq.Add), r.read(a.FD, kq.Delete), r.read(a.FD, kq.Add)))
		require.Equal(r, []int32{r.sys.Write}, filters(r.poll(8)), "earlier changes stand, later ones are skipped")
	})
}

func TestErrors_BeyondRoom(t *testing.T) {
	each(t, nil, func(r *rig) {
		a, _ := fixture.Pair(r)
		call := func() (int, error) {
			return r.k.Kevent(r.kq, []kq.Event{r.read(a.FD, kq.Delete), r.write(a.FD, kq.Delete), r.read(a.FD, kq.Add)},
				make([]kq.Event, 1), 0)
		}
		if r.p.Name == "dragonfly" {
			require.PanicsWithValue(r, "kqsim: dragonfly writes the answer to change 1 past the room for 1 events: memory is corrupt",
				func() { _, _ = call() })
			return
		}
		n, err := call()
		require.Zero(r, n)
		require.Equal(r, unix.ENOENT, err)
		require.Equal(r, unix.ENOENT, r.try(r.read(a.FD, kq.Delete)), "the third was skipped")
	})
}

func TestReceipts(t *testing.T) {
	each(t, func(p Profile) bool { return !p.noReceipt }, func(r *rig) {
		a, b := fixture.Pair(r)
		b.Write("x")
		events := make([]kq.Event, 4)
		n, err := r.k.Kevent(r.kq, []kq.Event{r.read(a.FD, kq.Add|kq.Receipt), r.write(a.FD, kq.Add)}, events, 0)
		require.NoError(r, err)
		require.Equal(r, 1, n, "receipts only")
		require.NotZero(r, events[0].Flags&kq.Error)
		require.Zero(r, events[0].Data)
		require.Len(r, r.poll(8), 2)
	})
}

func TestAdd_UnknownFilter(t *testing.T) {
	each(t, nil, func(r *rig) {
		a, _ := fixture.Pair(r)
		for _, filter := range []int32{-7, -13, 9} {
			require.Equal(r, unix.EINVAL, r.try(kq.Event{Ident: uint64(a.FD), Filter: filter, Flags: kq.Add}))
		}
		if !r.sys.HasUser {
			for _, filter := range []int32{-10, -11} {
				require.Equal(r, unix.EINVAL, r.try(kq.Event{Ident: 1, Filter: filter, Flags: kq.Add}))
			}
		}
	})
}

func TestDescriptor_CloseDropsKnotes(t *testing.T) {
	each(t, nil, func(r *rig) {
		for _, pair := range []func(testing.TB) (*fixture.End, *fixture.End){fixture.Pair, fixture.Pipe} {
			a, b := pair(r)
			dup := a.Dup()
			b.Write("x")
			r.change(r.read(a.FD, kq.Add))
			r.await()
			a.Close()
			r.silent("closed, though a dup is open")
			require.Equal(r, unix.EBADF, r.try(r.read(a.FD, kq.Delete)))
			b.Write("y")
			r.silent("the dup is not watched")

			// The same file under the same number is a new registration.
			back := dup.MoveTo(a.FD)
			require.Equal(r, unix.ENOENT, r.try(r.read(back.FD, kq.Delete)))
			r.change(r.read(back.FD, kq.Add|kq.Clear))
			r.await()
			r.silent("delivered")
			b.Write("z")
			r.await()
			back.Close()
			r.silent("closed")
		}
	})
}

func TestDescriptor_NumberReused(t *testing.T) {
	each(t, nil, func(r *rig) {
		a, b := fixture.Pair(r)
		b.Write("x")
		r.change(r.read(a.FD, kq.Add), r.write(a.FD, kq.Add))
		dup := a.Dup()
		defer dup.Close()
		a.Close()
		c, d := fixture.PairAt(r, a.FD)
		d.Write("y")
		require.Equal(r, unix.ENOENT, r.try(r.write(c.FD, kq.Delete)))
		r.silent("neither is there")
		r.change(r.read(c.FD, kq.Add))
		r.await()
		require.Len(r, r.k.queue(r.kq).knotes, 1)
	})
}

func TestDescriptor_NumberOfFileReused(t *testing.T) {
	each(t, nil, func(r *rig) {
		f := fixture.RegularFile(r)
		f.Write("x")
		r.change(r.write(f.FD, kq.Add))
		r.await()
		f.Close()
		a, _ := fixture.PairAt(r, f.FD)
		r.silent("the file is closed")
		require.Equal(r, unix.ENOENT, r.try(r.write(a.FD, kq.Delete)))
	})
}

func TestEOF_Stream(t *testing.T) {
	each(t, nil, func(r *rig) {
		for _, pair := range []func(testing.TB) (*fixture.End, *fixture.End){fixture.Pair, fixture.TCPPair} {
			a, b := pair(r)
			r.change(r.read(a.FD, kq.Add), r.write(a.FD, kq.Add|kq.Clear))
			require.Equal(r, r.sys.Write, r.await().Filter)
			b.Write("ab")
			b.ShutdownWrite()
			eventually(r, func() bool {
				got := r.poll(8)
				for _, e := range got {
					if e.Filter == r.sys.Write {
						require.Zero(r, e.Flags&kq.EOF, "a half-close is no end of writing")
					}
				}
				return len(got) > 0 && got[0].Filter == r.sys.Read && got[0].Flags&kq.EOF != 0 && got[0].Data == 2 &&
					got[0].Flags&0x1000 == 0
			})
			a.Drain()
			e := r.await()
			require.NotZero(r, e.Flags&kq.EOF)
			require.Zero(r, e.Data)
			require.Zero(r, e.Fflags)
			require.Equal(r, r.p.Name == "dragonfly", e.Flags&0x1000 != 0)
			r.change(r.read(a.FD, kq.Delete), r.write(a.FD, kq.Delete))
		}
	})
}

func TestEOF_Pipe(t *testing.T) {
	each(t, nil, func(r *rig) {
		rd, wr := fixture.Pipe(r)
		r.change(r.read(rd.FD, kq.Add))
		wr.Write("x")
		wr.Close()
		e := r.await()
		require.NotZero(r, e.Flags&kq.EOF)
		require.EqualValues(r, 1, e.Data)
		r.change(r.read(rd.FD, kq.Delete))

		rd, wr = fixture.Pipe(r)
		r.change(r.write(wr.FD, kq.Add|kq.Clear))
		require.Zero(r, r.await().Flags&kq.EOF)
		rd.Close()
		r.change(r.write(wr.FD, kq.Add)) // there already: no error
		e = r.await()
		require.Equal(r, r.sys.Write, e.Filter)
		require.NotZero(r, e.Flags&kq.EOF)
		require.Equal(r, r.p.Name == "dragonfly", e.Flags&0x1000 != 0)

		want := unix.EPIPE
		if r.p.Name == "netbsd" {
			want = unix.EBADF
		}
		r.change(r.write(wr.FD, kq.Delete))
		require.Equal(r, want, r.try(r.write(wr.FD, kq.Add)))
	})
}

// The writer of a full pipe learns that its reader has gone, except on NetBSD; there it
// learns it from a filter for reading.
func TestEOF_FullPipe(t *testing.T) {
	each(t, nil, func(r *rig) {
		rd, wr := fixture.Pipe(r)
		wr.Fill()
		r.change(r.write(wr.FD, kq.Add), r.read(wr.FD, kq.Add|kq.Clear))
		r.silent("full")
		rd.Close()
		got := r.poll(8)
		want := []int32{r.sys.Read}
		if !r.sys.SilentFullPipe {
			want = append(want, r.sys.Write)
		}
		require.ElementsMatch(r, want, filters(got))
		for _, e := range got {
			require.NotZero(r, e.Flags&kq.EOF)
		}
	})
}

func TestEOF_LocalShutdown(t *testing.T) {
	each(t, nil, func(r *rig) {
		for _, pair := range []func(testing.TB) (*fixture.End, *fixture.End){fixture.Pair, fixture.TCPPair} {
			a, _ := pair(r)
			r.change(r.read(a.FD, kq.Add), r.write(a.FD, kq.Add|kq.Clear))
			require.Zero(r, r.await().Flags&kq.EOF)
			r.silent("delivered")
			a.ShutdownWrite()
			e := r.await()
			require.Equal(r, r.sys.Write, e.Filter)
			require.NotZero(r, e.Flags&kq.EOF)
			require.Zero(r, e.Fflags)
			r.change(r.read(a.FD, kq.Delete), r.write(a.FD, kq.Delete))
		}
	})
}

func TestEOF_Reset(t *testing.T) {
	each(t, nil, func(r *rig) {
		for _, pair := range [][2]*fixture.End{
			ends(fixture.TCPPair(r)),
			ends(fixture.Pair(r)), // closed with unread data
		} {
			a, b := pair[0], pair[1]
			r.change(r.read(a.FD, kq.Add))
			if b.String()[:4] == "Unix" {
				a.Write("x")
				b.Close()
			} else {
				b.Reset()
			}
			e := r.await()
			r.change(r.write(a.FD, kq.Add))
			require.NotZero(r, e.Flags&kq.EOF)
			require.EqualValues(r, unix.ECONNRESET, e.Fflags)
			got := r.poll(8)
			require.Len(r, got, 2)
			for _, e := range got {
				require.NotZero(r, e.Flags&kq.EOF)
				require.EqualValues(r, unix.ECONNRESET, e.Fflags)
			}
			require.Equal(r, unix.ECONNRESET, a.PendingError(), "the application's own")
			require.Zero(r, r.await().Fflags, "taken")
			r.change(r.read(a.FD, kq.Delete), r.write(a.FD, kq.Delete))
		}
	})
}

// eventually calls look until it returns true.
func eventually(r *rig, look func() bool) {
	r.Helper()
	for begin := time.Now(); !look(); time.Sleep(100 * time.Microsecond) {
		require.Less(r, time.Since(begin), fixture.Soon)
	}
}

func ends(a, b *fixture.End) [2]*fixture.End { return [2]*fixture.End{a, b} }

func TestEOF_FailedConnect(t *testing.T) {
	each(t, nil, func(r *rig) {
		l, port := fixture.Listen(r)
		l.Close()
		a := fixture.Inet(r, unix.SOCK_STREAM, "TCP")
		r.change(r.read(a.FD, kq.Add), r.write(a.FD, kq.Add))
		r.silent("not connected")
		require.NoError(r, a.Connect(port))
		r.await()
		got := r.poll(8)
		require.ElementsMatch(r, []int32{r.sys.Read, r.sys.Write}, filters(got))
		for _, e := range got {
			require.NotZero(r, e.Flags&kq.EOF)
			require.EqualValues(r, unix.ECONNREFUSED, e.Fflags)
		}
		require.Equal(r, unix.ECONNREFUSED, a.PendingError())
	})
}

func TestSockets_ConnectAndAccept(t *testing.T) {
	each(t, nil, func(r *rig) {
		l, port := fixture.Listen(r)
		r.change(r.read(l.FD, kq.Add|kq.Clear))
		var clients []*fixture.End
		for i := range 3 {
			c := fixture.Inet(r, unix.SOCK_STREAM, "TCP")
			r.change(r.write(c.FD, kq.Add|kq.OneShot))
			require.NoError(r, c.Connect(port))
			clients = append(clients, c)
			seen := map[int32]kq.Event{}
			for len(seen) < 2 {
				e := r.await()
				seen[e.Filter] = e
			}
			require.EqualValues(r, i+1, seen[r.sys.Read].Data, "connections to accept")
			require.EqualValues(r, c.FD, seen[r.sys.Write].Ident)
			require.Zero(r, seen[r.sys.Write].Flags&kq.EOF)
			require.Positive(r, seen[r.sys.Write].Data)
		}
		r.silent("all delivered")
		require.Len(r, clients, 3)
	})
}

func TestSockets_Datagrams(t *testing.T) {
	each(t, nil, func(r *rig) {
		a, b := fixture.UDPPair(r)
		r.change(r.read(a.FD, kq.Add))
		b.Write("abc")
		require.EqualValues(r, 3, r.await().Data)
		a.Read(10)
		b.Close()
		a.Write("x") // nobody wants it
		e := r.await()
		require.Zero(r, e.Flags&kq.EOF, "a passing error")
		require.Zero(r, e.Fflags)
		require.Equal(r, unix.ECONNREFUSED, a.PendingError())
		r.silent("taken")
	})
}

func TestSockets_UrgentData(t *testing.T) {
	each(t, hasExcept, func(r *rig) {
		a, b := fixture.TCPPair(r)
		except := kq.Event{Ident: uint64(a.FD), Filter: r.sys.Except, Flags: kq.Add, Fflags: r.sys.OOB}
		r.change(except)
		r.silent("nothing urgent")
		b.SendUrgent('!')
		e := r.await()
		require.Equal(r, r.sys.Except, e.Filter)
		require.Equal(r, r.sys.OOB, e.Fflags)
		p, _ := fixture.Pipe(r)
		except.Ident = uint64(p.FD)
		require.Equal(r, unix.EINVAL, r.try(except))
	})
}

func TestUserEvents(t *testing.T) {
	each(t, hasUser, func(r *rig) {
		require.Equal(r, unix.ENOENT, r.try(r.user(0, kq.Trigger)))
		r.change(r.user(kq.Add|kq.Clear, 0))
		r.silent("not triggered")
		r.change(r.user(0, kq.Trigger))
		r.change(r.user(0, kq.Trigger))
		e := r.await()
		require.EqualValues(r, 1, e.Ident)
		require.Equal(r, r.sys.User, e.Filter)
		r.silent("cleared")
		r.change(r.user(0, kq.Trigger|0xc0000000|5))
		require.EqualValues(r, 5, r.await().Fflags)
		r.change(r.user(0, 0x40000000|4))
		r.change(r.user(0, kq.Trigger|0x80000000|2))
		require.EqualValues(r, 6, r.await().Fflags)
		r.change(r.user(kq.Delete, 0))
		require.Equal(r, unix.ENOENT, r.try(r.user(kq.Delete, 0)))

		// Without EV_CLEAR it stays.
		r.change(r.user(kq.Add, 0))
		r.change(r.user(kq.Add, kq.Trigger))
		r.await()
		r.await()
	})
}

func TestUserEvents_TriggerOfNewKnote(t *testing.T) {
	each(t, hasUser, func(r *rig) {
		r.change(r.user(kq.Add|kq.Clear, kq.Trigger))
		if r.p.Name == "freebsd" {
			r.silent("lost")
			r.change(r.user(kq.Add, kq.Trigger)) // not new
		}
		r.await()
	})
}

func TestFiles_Regular(t *testing.T) {
	each(t, nil, func(r *rig) {
		f := fixture.RegularFile(r)
		r.change(r.read(f.FD, kq.Add))
		r.silent("at the end")
		_, err := unix.Pwrite(f.FD, []byte("abc"), 0)
		require.NoError(r, err)
		require.EqualValues(r, 3, r.await().Data)
		f.Read(2)
		require.EqualValues(r, 1, r.await().Data)
		f.Drain()
		r.silent("at the end again")
		r.change(r.read(f.FD, kq.Delete))

		_, err = unix.Pwrite(f.FD, []byte("abcd"), 0)
		require.NoError(r, err)
		r.change(r.read(f.FD, kq.Add|kq.Clear))
		r.await()
		r.silent("delivered")
		r.change(r.read(f.FD, kq.Add))
		r.await()
		_, err = unix.Pwrite(f.FD, []byte("abcde"), 0)
		require.NoError(r, err)
		r.await()
		r.silent("delivered")
		r.change(r.read(f.FD, kq.Delete), r.write(f.FD, kq.Add))
		r.await()
		r.change(r.write(f.FD, kq.Delete))

		r.change(r.read(fixture.Directory(r).FD, kq.Add))
	})
}

func TestFiles_Devices(t *testing.T) {
	each(t, nil, func(r *rig) {
		null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
		require.NoError(r, err)
		defer func() { _ = null.Close() }()
		err = r.try(r.read(int(null.Fd()), kq.Add))
		switch r.p.Name {
		case "freebsd":
			require.Equal(r, unix.ENODEV, err)
		case "darwin":
			require.Equal(r, unix.EINVAL, err)
		default:
			require.NoError(r, err)
			r.await()
		}

		_, tty := fixture.Terminal(r)
		fd, writer := fixture.FIFO(r)
		for _, fd := range []int{tty.FD, fd.FD, writer.FD} {
			err := r.try(r.read(fd, kq.Add))
			if r.p.Name == "darwin" {
				require.Equal(r, unix.EINVAL, err)
			} else {
				require.NoError(r, err)
			}
		}
		pipe, _ := fixture.Pipe(r)
		r.change(r.read(pipe.FD, kq.Add))
	})
}

func TestFiles_Eventfd(t *testing.T) {
	each(t, nil, func(r *rig) {
		e := fixture.Eventfd(r)
		r.change(r.read(e.FD, kq.Add))
		r.silent("zero")
		e.Write("\x01\x00\x00\x00\x00\x00\x00\x01")
		require.EqualValues(r, e.FD, r.await().Ident)
	})
}

func TestNesting(t *testing.T) {
	each(t, nil, func(r *rig) {
		in, err := r.k.Kqueue()
		require.NoError(r, err)
		defer func() { _ = r.k.Close(in) }()
		require.Equal(r, unix.EINVAL, r.try(r.write(in, kq.Add)))
		require.Equal(r, unix.EINVAL, r.try(r.read(r.kq, kq.Add)), "itself")
		r.change(r.read(in, kq.Add))
		r.silent("it is empty")

		a, b := fixture.Pair(r)
		done := r.block(-1)
		_, err = r.k.Kevent(in, []kq.Event{r.read(a.FD, kq.Add)}, nil, 0)
		require.NoError(r, err)
		b.Write("x")
		res := r.result(done)
		require.NoError(r, res.err)
		require.Equal(r, []uint64{uint64(in)}, idents(res.events))
		require.EqualValues(r, 1, res.events[0].Data)
		a.Drain()
		r.silent("it is empty again")
		require.NoError(r, r.k.Close(in))
		r.silent("it is closed")
		require.Equal(r, unix.EBADF, r.try(r.read(in, kq.Delete)))
	})
}

func TestTimeout_TooLong(t *testing.T) {
	each(t, nil, func(r *rig) {
		events := make([]kq.Event, 1)
		n, err := r.k.Kevent(r.kq, nil, events, maxTimeout+1)
		require.Zero(r, n)
		if r.p.Name == "netbsd" {
			require.NoError(r, err)
		} else {
			require.Equal(r, unix.EINVAL, err)
		}
		_, err = r.k.Kevent(r.kq, nil, nil, maxTimeout+1)
		require.NoError(r, err, "without room nothing waits")
		a, _ := fixture.Pair(r)
		r.change(r.write(a.FD, kq.Add))
		n, err = r.k.Kevent(r.kq, nil, events, maxTimeout)
		require.NoError(r, err)
		require.Equal(r, 1, n)
	})
}

func TestTimeout_NotEarly(t *testing.T) {
	each(t, nil, func(r *rig) {
		begin := time.Now()
		n, err := r.wait(make([]kq.Event, 1), 3*time.Millisecond)
		require.NoError(r, err)
		require.Zero(r, n)
		require.GreaterOrEqual(r, time.Since(begin), 3*time.Millisecond)
	})
}

func TestChanges_ReachWaiter(t *testing.T) {
	each(t, nil, func(r *rig) {
		a, b := fixture.Pair(r)
		b.Write("x")
		done := r.block(-1)
		r.change(r.read(a.FD, kq.Add|kq.Disable))
		r.change(r.read(a.FD, kq.Enable))
		res := r.result(done)
		require.NoError(r, res.err)
		require.Equal(r, []uint64{uint64(a.FD)}, idents(res.events))
		r.change(r.read(a.FD, kq.Delete))

		f := fixture.RegularFile(r)
		done = r.block(-1)
		r.change(r.write(f.FD, kq.Add|kq.OneShot))
		require.Equal(r, []uint64{uint64(f.FD)}, idents(r.result(done).events))

		if r.sys.HasUser {
			r.change(r.user(kq.Add|kq.Clear, 0))
			done = r.block(-1)
			r.change(r.user(0, kq.Trigger))
			require.Equal(r, []int32{r.sys.User}, filters(r.result(done).events))
		}

		// And a deletion: what arrives now is nobody's.
		r.change(r.read(a.FD, kq.Add|kq.Clear))
		r.await()
		done = r.block(5 * time.Millisecond)
		r.change(r.read(a.FD, kq.Delete))
		b.Write("y")
		require.Empty(r, r.result(done).events)
	})
}

func TestInterrupt(t *testing.T) {
	each(t, nil, func(r *rig) {
		once := func(events []kq.Event, timeout time.Duration) (int, error) {
			return r.k.Kevent(r.kq, nil, events, timeout)
		}
		done := r.blockIn(once, -1)
		r.k.Interrupt(r.kq)
		require.Equal(r, unix.EINTR, r.result(done).err)
		r.silent("once")

		r.k.Interrupt(r.kq)
		require.Empty(r, r.poll(1), "it would not have blocked")
		a, _ := fixture.Pair(r)
		r.change(r.write(a.FD, kq.Add|kq.OneShot))
		r.await()
		_, err := r.k.Kevent(r.kq, nil, make([]kq.Event, 1), -1)
		require.Equal(r, unix.EINTR, err)
	})
}

func TestInterrupt_BySignal(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, fixture.UserSignal)
	defer signal.Stop(signals)
	each(t, nil, func(r *rig) {
		thread := make(chan int, 1)
		done := r.blockIn(func(events []kq.Event, timeout time.Duration) (int, error) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			thread <- fixture.Thread()
			return r.k.Kevent(r.kq, nil, events, timeout)
		}, -1)
		id := <-thread
		for {
			fixture.Signal(r, id) // the first may come before it sleeps
			select {
			case res := <-done:
				require.Equal(r, unix.EINTR, res.err)
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
}

func TestClose_WhileWaiting(t *testing.T) {
	each(t, nil, func(r *rig) {
		a, b := fixture.Pair(r)
		r.change(r.read(a.FD, kq.Add))
		limit := fixture.Soon
		if on("freebsd", "dragonfly")(r.p) {
			limit = 20 * time.Millisecond
		}
		done := r.block(limit)
		require.NoError(r, r.k.Close(r.kq))
		b.Write("x")
		res := r.result(done)
		require.Empty(r, res.events)
		if on("freebsd", "dragonfly")(r.p) {
			if res.err != unix.EINTR {
				require.NoError(r, res.err, "only the timeout ends it")
			}
		} else {
			require.Equal(r, unix.EBADF, res.err)
		}
	})
}

func TestScale_ManyDescriptors(t *testing.T) {
	r := newRig(t, FreeBSD)
	pairs, closeAll := fixture.ManyPairs(t, fixture.Affordable(t, 10_000))
	defer closeAll()
	begin := time.Now()
	for _, p := range pairs {
		r.change(r.read(p[0], kq.Add|kq.Clear))
	}
	for range 3 {
		for _, p := range pairs {
			_, err := unix.Write(p[1], []byte("x"))
			require.NoError(t, err)
		}
		seen := make(map[uint64]bool)
		for len(seen) < len(pairs) {
			got := r.poll(128)
			require.NotEmpty(t, got)
			for _, e := range got {
				require.False(t, seen[e.Ident], "twice")
				seen[e.Ident] = true
			}
		}
		require.Empty(t, r.poll(1))
	}
	t.Logf("%d pairs: %v", len(pairs), time.Since(begin))
}

func TestScale_ChurnLeaksNothing(t *testing.T) {
	each(t, nil, func(r *rig) {
		limit := min(fixture.DescriptorLimit(r), 4096)
		before := fixture.OpenDescriptors(limit)
		for i := range 300 {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			require.NoError(r, err)
			r.change(r.read(fds[0], kq.Add), r.write(fds[0], kq.Add|kq.OneShot), r.write(fds[1], kq.Add))
			require.Len(r, r.poll(8), 2)
			if i%2 == 0 {
				r.change(r.read(fds[0], kq.Delete), r.write(fds[1], kq.Delete))
			}
			require.NoError(r, unix.Close(fds[0]))
			require.NoError(r, unix.Close(fds[1]))
			other, err := r.k.Kqueue()
			require.NoError(r, err)
			require.NoError(r, r.k.Close(other))
		}
		r.poll(8)
		q := r.k.queue(r.kq)
		assert.LessOrEqual(r, len(q.knotes), 2, "knotes of closed numbers that no change named since")
		assert.Len(r, q.byKey, len(q.knotes))
		assert.Empty(r, q.files)
		assert.LessOrEqual(r, q.due.Len(), 2)
		assert.Len(r, r.k.queues, 1)
		assert.Equal(r, before, fixture.OpenDescriptors(limit))
	})
}

// One goroutine waits, others change and write: every write has an event.
func TestConcurrency_ChangesAndWaits(t *testing.T) {
	each(t, nil, func(r *rig) {
		const workers, rounds = 4, 100
		var wg sync.WaitGroup
		seen := make([]chan struct{}, workers)
		byFD := make(map[uint64]chan struct{})
		type end struct{ a, b *fixture.End }
		pairs := make([]end, workers)
		for i := range workers {
			a, b := fixture.Pair(r)
			pairs[i], seen[i] = end{a, b}, make(chan struct{}, 1)
			byFD[uint64(a.FD)] = seen[i]
		}
		for i, p := range pairs {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range rounds {
					if err := r.try(r.read(p.a.FD, kq.Add|kq.OneShot)); !assert.NoError(r, err) {
						return
					}
					_, _ = p.b.TryWrite([]byte("x"))
					select {
					case <-seen[i]:
					case <-time.After(fixture.Soon):
						r.Error("nothing came")
						return
					}
					_, _ = p.a.TryRead(make([]byte, 1))
				}
			}()
		}
		over := make(chan struct{})
		go func() { wg.Wait(); close(over) }()
		events := make([]kq.Event, 3)
		for {
			select {
			case <-over:
				return
			default:
			}
			n, err := r.k.Kevent(r.kq, nil, events, 5*time.Millisecond)
			if err != unix.EINTR {
				require.NoError(r, err)
			}
			for _, e := range events[:n] {
				byFD[e.Ident] <- struct{}{}
			}
		}
	})
}

func TestKqueue_DescriptorLimit(t *testing.T) {
	k := New(FreeBSD)
	// With room for some of what a queue needs, too.
	for spare := range 4 {
		var fds []int
		for range spare {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			require.NoError(t, err)
			fds = append(fds, fd)
		}
		restore := fixture.LowerDescriptorLimit(t)
		for _, fd := range fds {
			require.NoError(t, unix.Close(fd))
		}
		_, err := k.Kqueue()
		restore()
		require.Equal(t, unix.EMFILE, err)
		again, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		require.NoError(t, err)
		require.NoError(t, unix.Close(again))
		if spare > 0 {
			require.Equal(t, fds[0], again, "the descriptors were not released")
		}
	}
}

func (r *rig) exit(pid int, flags uint32) kq.Event {
	return kq.Event{Ident: uint64(pid), Filter: r.sys.Proc, Flags: flags, Fflags: kq.Exit, Udata: 9}
}

func TestProcess_Ends(t *testing.T) {
	each(t, nil, func(r *rig) {
		child, p := fixture.NewChild(t)
		require.ErrorIs(r, r.try(r.exit(p.Pid, kq.Enable)), unix.ENOENT)
		r.change(r.exit(p.Pid, kq.Add))
		r.silent("it runs")
		child.Release()
		e := r.await()
		require.Equal(r, uint64(p.Pid), e.Ident)
		require.Equal(r, r.sys.Proc, e.Filter)
		require.Equal(r, uint32(kq.Exit), e.Fflags)
		require.EqualValues(r, 9, e.Udata)
		require.EqualValues(r, kq.EOF|kq.OneShot, e.Flags&(kq.EOF|kq.OneShot))
		require.ErrorIs(r, r.try(r.exit(p.Pid, kq.Delete)), unix.ENOENT, "it went with its event")
		r.silent("once")

		switch r.p.Name {
		case "freebsd", "dragonfly":
			r.change(r.exit(p.Pid, kq.Add|kq.OneShot))
			require.Len(r, r.poll(2), 1)
		default:
			require.ErrorIs(r, r.try(r.exit(p.Pid, kq.Add)), unix.ESRCH)
		}
		child.Wait(p.Pid)
		require.ErrorIs(r, r.try(r.exit(p.Pid, kq.Add)), unix.ESRCH)
		r.silent("nothing is left")
	})
}

// The end of a process is reported even if it was reaped since.
func TestProcess_Reaped(t *testing.T) {
	each(t, nil, func(r *rig) {
		child, p := fixture.NewChild(t)
		other, q := fixture.NewChild(t)
		r.change(r.exit(p.Pid, kq.Add), r.exit(q.Pid, kq.Add))
		child.Release()
		child.Wait(p.Pid)
		require.EqualValues(r, p.Pid, r.await().Ident)
		r.change(r.exit(q.Pid, kq.Delete))
		other.Release()
		other.Wait(q.Pid)
		r.silent("deleted")
	})
}

func TestProcess_LeaksNothing(t *testing.T) {
	each(t, nil, func(r *rig) {
		_, p := fixture.NewChild(t)
		before := fixture.OpenDescriptors(1024)
		for range 20 {
			k := New(r.p)
			fd, err := k.Kqueue()
			require.NoError(r, err)
			_, err = k.Kevent(fd, []kq.Event{r.exit(p.Pid, kq.Add)}, nil, 0)
			require.NoError(r, err)
			require.NoError(r, k.Close(fd))
		}
		require.Less(r, fixture.OpenDescriptors(1024), before+20)
	})
}
