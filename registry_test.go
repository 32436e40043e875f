//go:build unix || windows

package epore_test

import (
	"errors"
	"io/fs"
	"math"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
)

const staleRule = "R6: once Deregister or Reregister has returned, no event of the old registration is delivered, also not from the batch in hand"

// contract: R6
func TestEvents_DeregisteredInBatch(t *testing.T) {
	eachStrategy(t, staleRule, func(t *testing.T, p *epore.Poll) {
		const n = 8
		var ends [n]*fixture.End
		for i := range ends {
			a, b := fixture.Pair(t)
			b.Write("x")
			ends[i] = a
			register(t, p, a, epore.Token(i), epore.Readable)
		}
		events := epore.NewEvents(n)
		require.Len(t, next(t, p, events), n)
		var seen []epore.Token
		for ev := range events.All() {
			seen = append(seen, ev.Token)
			for i, e := range ends { // the first event removes all the others
				if epore.Token(i) != ev.Token {
					require.NoError(t, p.Registry().Deregister(fd(e)))
				}
			}
		}
		require.Len(t, seen, 1)
		require.Equal(t, n, events.Len(), "Len is what the Poll delivered")
		require.Equal(t, seen, tokens(t, p))
	})
}

// contract: R6
func TestEvents_ReregisteredInBatch(t *testing.T) {
	eachStrategy(t, staleRule, func(t *testing.T, p *epore.Poll) {
		a, b := fixture.Pair(t)
		b.Write("x")
		register(t, p, a, 1, epore.Readable)
		events := epore.NewEvents(4)
		require.Len(t, next(t, p, events), 1)
		require.NoError(t, p.Registry().Reregister(fd(a), 2, epore.Readable))
		require.Empty(t, all(events), "the event was of the old registration")
		require.Equal(t, []epore.Token{2}, tokens(t, p))
	})
}

// contract: R6
func TestEvents_NumberReusedInBatch(t *testing.T) {
	eachStrategy(t, staleRule+", also when the descriptor was closed and its number reused", func(t *testing.T, p *epore.Poll) {
		for range 20 {
			a, b := fixture.Pair(t)
			b.Write("x")
			register(t, p, a, 1, epore.Readable)
			events := epore.NewEvents(4)
			require.Len(t, next(t, p, events), 1)
			number := a.FD
			require.NoError(t, p.Registry().Deregister(fd(a)))
			a.Close()
			c, d := fixture.PairAt(t, number)
			register(t, p, c, 2, epore.Readable)
			require.Empty(t, all(events), "the event was of the closed one")
			require.Empty(t, tokens(t, p), "and the new one has nothing to read")
			d.Write("y")
			require.Equal(t, []epore.Token{2}, tokens(t, p))
			require.NoError(t, p.Registry().Deregister(fd(c)))
		}
	})
}

// contract: R7
func TestEvents_ClosedWithoutDeregister(t *testing.T) {
	eachStrategy(t, "R7: after closing first, the token of the new owner of the number is the only one delivered for it", func(t *testing.T, p *epore.Poll) {
		a, b := fixture.Pair(t)
		b.Write("x")
		register(t, p, a, 1, epore.Readable)
		events := epore.NewEvents(4)
		require.Len(t, next(t, p, events), 1)
		number := a.FD
		a.Close()
		c, d := fixture.PairAt(t, number)
		register(t, p, c, 2, epore.Readable) // no false fs.ErrExist
		require.Empty(t, all(events))
		d.Write("y")
		require.Equal(t, []epore.Token{2}, tokens(t, p))
	})
}

// On epoll, an open file that outlives its registered descriptor continues to report events.
// With room for one event it fills every batch. The events behind it must come all the same.
// contract: P1, R7
func TestPoll_StaleLevelEventHidesNothing(t *testing.T) {
	eachStrategy(t, "R7, P1: an open file kept alive by a dup disturbs no other source", func(t *testing.T, p *epore.Poll) {
		needExactClose(t, p)
		a, b := fixture.Pair(t)
		keep := a.Dup()
		b.Write("x")
		register(t, p, a, 1, epore.Readable)
		a.Close()
		require.Empty(t, tokensAfterReuse(t, p, a.FD), "reused and deregistered: the old one is stale now")
		events := epore.NewEvents(1)
		for token := epore.Token(2); token < 20; token++ {
			c, d := fixture.Pair(t)
			register(t, p, c, token, epore.Readable)
			d.Write("y")
			got := next(t, p, events)
			require.Equal(t, []epore.Event{{Token: token, Ready: 1}}, got)
			require.NoError(t, p.Registry().Deregister(fd(c)))
		}
		keep.Close()
	})
}

// needExactClose skips a test on a queue for which a closed descriptor stays registered while
// a duplicate is open.
func needExactClose(t *testing.T, p *epore.Poll) {
	t.Helper()
	if p.Backend() == "iocp" {
		t.Skip("AFD reports only that the last handle of a socket is closed")
	}
}

// tokensAfterReuse registers and deregisters another source under a number.
func tokensAfterReuse(t *testing.T, p *epore.Poll, number int) []epore.Token {
	c, _ := fixture.PairAt(t, number)
	register(t, p, c, 99, epore.Readable)
	require.NoError(t, p.Registry().Deregister(fd(c)))
	return tokens(t, p)
}

// Deregister after close fails, and leaves epoll's registration behind when a
// dup lives. Brought back to its number, the source can be registered again.
// contract: R7
func TestRegister_AfterCloseAndDup(t *testing.T) {
	eachStrategy(t, "R7: no false fs.ErrExist", func(t *testing.T, p *epore.Poll) {
		needExactClose(t, p)
		a, b := fixture.Pair(t)
		b.Write("x")
		keep := a.Dup()
		register(t, p, a, 1, epore.Readable)
		number := a.FD
		a.Close()
		require.ErrorIs(t, p.Registry().Deregister(epore.FD(number)), fs.ErrNotExist)
		back := keep.MoveTo(number)
		require.ErrorIs(t, p.Registry().Reregister(fd(back), 2, epore.Readable), fs.ErrNotExist)
		register(t, p, back, 3, epore.Readable)
		require.Equal(t, []epore.Token{3}, tokens(t, p))
		require.ErrorIs(t, p.Registry().Register(fd(back), 4, epore.Readable), fs.ErrExist)
		require.NoError(t, p.Registry().Deregister(fd(back)))
		require.Empty(t, tokens(t, p))
	})
}

// contract: R7
func TestDeregister_ClosingFirstLeaksNothing(t *testing.T) {
	eachStrategy(t, "R7: closing without Deregister leaks nothing without bound", func(t *testing.T, p *epore.Poll) {
		closeFirst := func() {
			a, b := fixture.Pair(t)
			register(t, p, a, 1, epore.Readable)
			a.Close()
			b.Close()
		}
		for range 10 {
			closeFirst()
		}
		before := p.Slots()
		for range 500 {
			closeFirst()
		}
		more := 1
		if runtime.GOOS == "windows" { // where the runtime may get the number
			more = 50
		}
		require.LessOrEqual(t, p.Slots(), before+more, "its number is used again, and so is its slot")
	})
}

// contract: R10
func TestRegister_WithTwoPolls(t *testing.T) {
	eachStrategy(t, "R10: one source may be registered with several Polls", func(t *testing.T, p *epore.Poll) {
		q := open(t)
		a, b := fixture.Pair(t)
		register(t, p, a, 1, epore.Readable|edge(p))
		register(t, q, a, 2, epore.Readable|edge(p))
		b.Write("x")
		events := epore.NewEvents(4)
		require.Equal(t, epore.Token(1), next(t, p, events)[0].Token)
		require.Equal(t, epore.Token(2), next(t, q, events)[0].Token)
		require.NoError(t, p.Registry().Deregister(fd(a)))
		a.Drain()
		b.Write("x")
		require.Equal(t, epore.Token(2), next(t, q, events)[0].Token)
		require.Empty(t, tokens(t, p))
	})
}

// contract: R11
func TestRegistry_TwoClonesOneSource(t *testing.T) {
	eachStrategy(t, "R3, R11: clones share one queue: a source that one has registered cannot be registered by the other", func(t *testing.T, p *epore.Poll) {
		one, err := p.Registry().TryClone()
		require.NoError(t, err)
		two, err := p.Registry().TryClone()
		require.NoError(t, err)
		a, b := fixture.Pair(t)
		b.Write("x")
		require.NoError(t, one.Register(fd(a), 1, epore.Readable))
		require.ErrorIs(t, two.Register(fd(a), 2, epore.Readable), fs.ErrExist)
		require.Equal(t, []epore.Token{1}, tokens(t, p))
		require.NoError(t, two.Deregister(fd(a)))
		require.ErrorIs(t, one.Deregister(fd(a)), fs.ErrNotExist)
	})
}

// contract: R11
func TestRegistry_ClosedClone(t *testing.T) {
	eachStrategy(t, "R11: TryClone gives an owned Registry on the same queue; closing a clone makes that clone answer ErrClosed, and no other", func(t *testing.T, p *epore.Poll) {
		one, err := p.Registry().TryClone()
		require.NoError(t, err)
		two, err := one.TryClone()
		require.NoError(t, err)
		a, b := fixture.Pair(t)
		b.Write("x")
		require.NoError(t, one.Register(fd(a), 1, epore.Readable))
		require.NoError(t, one.Close())
		require.NoError(t, one.Close())
		_, cloneErr := one.TryClone()
		_, wakerErr := epore.NewWaker(one, 1)
		for _, err := range []error{
			one.Register(fd(b), 3, epore.Readable), one.Reregister(fd(a), 3, epore.Readable),
			one.Deregister(fd(a)), cloneErr, wakerErr,
		} {
			require.ErrorIs(t, err, epore.ErrClosed)
		}
		require.Equal(t, []epore.Token{1}, tokens(t, p), "what it registered stays")
		require.NoError(t, two.Reregister(fd(a), 4, epore.Readable))
		require.Equal(t, []epore.Token{4}, tokens(t, p))
		require.NoError(t, p.Registry().Deregister(fd(a)))
	})
}

// contract: R1, R11
func TestRegistry_ClonesRegisterWhilePollWaits(t *testing.T) {
	eachStrategy(t, "R1: other goroutines register while Poll waits, through their clones", func(t *testing.T, p *epore.Poll) {
		const goroutines, rounds = 4, 10
		var registering sync.WaitGroup
		defer registering.Wait()
		for g := range goroutines {
			clone, err := p.Registry().TryClone()
			require.NoError(t, err)
			var ends [rounds]*fixture.End
			for i := range ends {
				a, b := fixture.Pair(t)
				b.Write("x")
				ends[i] = a
			}
			registering.Go(func() {
				for i, e := range ends {
					assert.NoError(t, clone.Register(fd(e), epore.Token(g*rounds+i), epore.Readable|epore.OneShot))
				}
				assert.NoError(t, clone.Close())
			})
		}
		seen := make(map[epore.Token]bool)
		events := epore.NewEvents(7)
		for len(seen) < goroutines*rounds {
			for _, ev := range next(t, p, events) {
				require.False(t, seen[ev.Token], "token %d twice", ev.Token)
				seen[ev.Token] = true
			}
		}
	})
}

// contract: D3, R13
func TestRegister_SenselessInterest(t *testing.T) {
	p := open(t)
	a, _ := fixture.Pair(t)
	register(t, p, a, 1, epore.Writable)
	b, _ := fixture.Pair(t)
	for in, text := range map[epore.Interest]string{
		0:                          "lacks Readable, Writable or Priority",
		epore.Edge:                 "Edge lacks Readable",
		epore.OneShot | epore.Edge: "lacks Readable",
		epore.Readable | 0x80:      "unknown bits",
		epore.Readable | epore.Exclusive | epore.OneShot: "exclude each other",
	} {
		err := p.Registry().Register(fd(b), 2, in)
		require.ErrorIs(t, err, fs.ErrInvalid, "%v", in)
		require.ErrorContains(t, err, text)
		require.ErrorIs(t, p.Registry().Reregister(fd(a), 2, in), fs.ErrInvalid, "%v", in)
	}
	require.Equal(t, []epore.Token{1}, tokens(t, p), "R13: as it was")
	require.ErrorIs(t, p.Registry().Deregister(fd(b)), fs.ErrNotExist)
}

// contract: R9
func TestRegister_UnsupportedInterest(t *testing.T) {
	f := backendtest.NewFake()
	p, err := epore.NewWith(f)
	require.NoError(t, err)
	defer p.Close()
	require.False(t, p.Capabilities().Interests.Has(epore.Exclusive))
	err = p.Registry().Register(epore.FD(5), 1, epore.Readable|epore.Exclusive)
	require.ErrorIs(t, err, errors.ErrUnsupported, "R9: refused, never ignored")
	require.ErrorContains(t, err, "fake does not support Exclusive")
	require.Zero(t, f.Watched())
}

// contract: E1
func TestOpError_SaysWhatAndWhy(t *testing.T) {
	p := open(t)
	a, _ := fixture.Pair(t)
	register(t, p, a, 1, epore.Readable)
	file := fixture.RegularFile(t)
	other, _ := fixture.Pair(t)
	closed, _ := fixture.Pair(t)
	closed.Close()
	r := p.Registry()
	for _, c := range []struct {
		op    string
		err   error
		is    []error
		texts []string
	}{
		{"register", r.Register(fd(a), 2, epore.Readable), []error{fs.ErrExist, syscall.EEXIST}, []string{a.Number(), "Reregister"}},
		{"reregister", r.Reregister(fd(other), 2, epore.Readable), []error{fs.ErrNotExist, syscall.ENOENT}, []string{other.Number(), "Register first"}},
		{"deregister", r.Deregister(fd(other)), []error{fs.ErrNotExist, syscall.ENOENT}, []string{other.Number()}},
		{"register", r.Register(epore.FD(closed.FD), 2, epore.Readable), []error{net.ErrClosed, syscall.EBADF}, []string{closed.Number(), "is closed"}},
		{"register", r.Register(epore.FD(-1), 2, epore.Readable), []error{net.ErrClosed, syscall.EBADF}, []string{"fd -1"}},
		{"register", r.Register(epore.FD(math.MaxInt32), 2, epore.Readable), []error{net.ErrClosed, syscall.EBADF}, nil},
		{"register", r.Register(fd(file), 2, epore.Readable), []error{epore.ErrNotPollable, fixture.NotPollable}, []string{file.Number(), "not pollable"}},
	} {
		var op *epore.OpError
		require.ErrorAs(t, c.err, &op)
		require.Equal(t, c.op, op.Op)
		for _, is := range c.is {
			require.ErrorIs(t, c.err, is)
		}
		for _, text := range append(c.texts, "epore: "+c.op) {
			require.ErrorContains(t, c.err, text)
		}
	}
	require.NotErrorIs(t, r.Register(epore.FD(closed.FD), 2, epore.Readable), fs.ErrNotExist)
}

// oddSource is a syscall.Conn as a program may implement it.
type oddSource struct {
	raw syscall.RawConn
	err error
}

func (s oddSource) SyscallConn() (syscall.RawConn, error) { return s.raw, s.err }

// contract: E3
func TestRegister_OddSources(t *testing.T) {
	p := open(t)
	sorry := errors.New("not today")
	for _, c := range []struct {
		source epore.Source
		is     error
	}{
		{nil, fs.ErrInvalid},
		{(*net.TCPConn)(nil), fs.ErrInvalid},
		{(*fixtureSource)(nil), fs.ErrInvalid},
		{oddSource{nil, nil}, fs.ErrInvalid},
		{oddSource{nil, sorry}, sorry},
		{&net.UDPConn{}, syscall.EINVAL},
	} {
		r := p.Registry()
		for _, err := range []error{
			r.Register(c.source, 1, epore.Readable), r.Reregister(c.source, 1, epore.Readable), r.Deregister(c.source),
		} {
			require.ErrorIs(t, err, c.is, "%T", c.source)
			var op *epore.OpError
			require.ErrorAs(t, err, &op)
		}
	}
	for _, d := range []epore.Source{epore.FD(3), epore.FD(1 << 22), epore.FD(uintptr(1 << 22))} {
		raw, err := d.SyscallConn()
		require.NoError(t, err)
		calls := 0
		require.NoError(t, raw.Control(func(uintptr) { calls++ }))
		require.NoError(t, raw.Read(func(uintptr) bool { calls++; return true }))
		require.NoError(t, raw.Write(func(uintptr) bool { calls++; return true }))
		require.Equal(t, 3, calls)
	}
	require.Equal(t, epore.FD(7), epore.FD(uintptr(7)), "equal numbers are equal Sources")
}

type fixtureSource struct{ *fixture.End }

func (s *fixtureSource) SyscallConn() (syscall.RawConn, error) { return fd(s.End).SyscallConn() }

func TestRegistry_FailedRegistersLeaveNoSlot(t *testing.T) {
	f := backendtest.NewFake()
	p, err := epore.NewWith(f)
	require.NoError(t, err)
	defer p.Close()
	require.NoError(t, p.Registry().Register(epore.FD(1), 1, epore.Readable))
	for range 100 {
		require.ErrorIs(t, p.Registry().Register(epore.FD(1), 2, epore.Readable), fs.ErrExist)
		f.FailNext("Add", fs.ErrInvalid)
		require.ErrorIs(t, p.Registry().Register(epore.FD(2), 2, epore.Readable), fs.ErrInvalid)
	}
	require.Equal(t, 2, p.Slots())
}
