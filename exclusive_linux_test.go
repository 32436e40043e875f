package epore_test

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
)

// herd is eight Polls that wait for one listener. A loop that gets an event reports it and
// then waits for permission to continue, so that it can be counted.
type herd struct {
	t       *testing.T
	l       *fixture.End
	port    int
	polls   []*epore.Poll
	threads []int // of the loops, when they block
	woken   chan int
	goOn    chan struct{}
}

const loops = 8

func newHerd(t *testing.T, s epore.Strategy, in epore.Interest) *herd {
	h := &herd{t: t, woken: make(chan int, loops), goOn: make(chan struct{})}
	h.l, h.port = fixture.Listen(t)
	threads := make(chan int, loops)
	var work sync.WaitGroup
	for i := range loops {
		p := open(t, epore.WithStrategy(s))
		if lacking := in &^ p.Capabilities().Interests; lacking != 0 {
			t.Skipf("%s has no %v", p.Backend(), lacking)
		}
		register(t, p, h.l, 1, in)
		h.polls = append(h.polls, p)
		work.Go(func() {
			if s == epore.Block {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				threads <- unix.Gettid()
			}
			events := epore.NewEvents(4)
			for p.Poll(events, forever) == nil {
				h.woken <- i
				<-h.goOn
			}
		})
	}
	if s == epore.Block {
		for range loops {
			h.threads = append(h.threads, <-threads)
		}
	}
	t.Cleanup(func() {
		close(h.goOn)
		for _, p := range h.polls {
			assert.NoError(t, p.Close())
		}
		work.Wait()
	})
	return h
}

// asleep waits until every loop sleeps in the kernel: in its Poll, or waiting for
// permission.
func (h *herd) asleep() {
	for _, tid := range h.threads {
		for {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", tid))
			require.NoError(h.t, err)
			// The state is the field after the name, which is in parentheses.
			if fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]); string(fields[0]) == "S" {
				break
			}
			runtime.Gosched()
		}
	}
}

// settle waits until every loop is in its Poll. It lets loops continue whose event came too
// late to be counted for the previous connection.
func (h *herd) settle() {
	for _, p := range h.polls {
		for !p.Sleeps() {
			select {
			case <-h.woken:
				h.goOn <- struct{}{}
			default:
				runtime.Gosched()
			}
		}
	}
	h.asleep()
}

// connect makes one connection and returns how many loops it woke.
func (h *herd) connect() int {
	h.settle()
	c := fixture.Inet(h.t, unix.SOCK_STREAM, "TCP")
	require.NoError(h.t, c.Connect(h.port))
	<-h.woken // at least one
	h.asleep()
	woken := 1 + len(h.woken)
	for range woken - 1 {
		<-h.woken
	}
	h.l.Accept().Close()
	c.Close()
	for range woken {
		h.goOn <- struct{}{}
	}
	return woken
}

// contract: R10, M4
func TestExclusive_WakesNotAll(t *testing.T) {
	const connections = 20
	for _, mode := range []epore.Interest{0, epore.Edge} {
		t.Run(mode.String(), func(t *testing.T) {
			guard(t, "M4: Exclusive, blocking: a wake-up goes to at least one of several Polls, and not to all")
			with := newHerd(t, epore.Block, epore.Readable|epore.Exclusive|mode)
			without := newHerd(t, epore.Block, epore.Readable|mode)
			woken, all := 0, 0
			for range connections {
				n := with.connect()
				require.Less(t, n, loops)
				woken += n
				all += without.connect()
			}
			t.Logf("%d connections, %d Polls: %d wake-ups with Exclusive, %d without", connections, loops, woken, all)
			require.Less(t, woken, all, "or the test would see nothing")
		})
	}
}

// contract: M4
func TestExclusive_ParkedWakesAtLeastOne(t *testing.T) {
	guard(t, "M4: Exclusive, parked: at least one")
	const connections = 20
	h := newHerd(t, epore.Park, epore.Readable|epore.Exclusive)
	woken := 0
	for range connections {
		woken += h.connect()
	}
	t.Logf("%d connections, %d parked Polls: at least %d wake-ups", connections, loops, woken)
}
