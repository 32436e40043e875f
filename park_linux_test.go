package epore_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/epoll"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/queuetest"
)

// envFree is how many descriptors are free when a process that
// TestNew_FewDescriptorsLeft starts opens its first Poll.
const envFree = "EPORE_TEST_FREE_DESCRIPTORS"

// Before package testing opens the runtime's poller, by a timer.
func init() {
	if free, err := strconv.Atoi(os.Getenv(envFree)); err == nil {
		if err := newWithFew(free); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// New needs descriptors for the queue, and the runtime needs some for its poller. If those
// are missing, the runtime would end the program. New must fail instead, and release what it
// has opened.
// contract: E4
func TestNew_FewDescriptorsLeft(t *testing.T) {
	if os.Getenv(queuetest.Env) != "" {
		t.Skip("on one queue, once")
	}
	for free := range 8 {
		t.Run(fmt.Sprint(free), func(t *testing.T) {
			self := exec.Command(os.Args[0])
			self.Env = append(os.Environ(), fmt.Sprint(envFree, "=", free))
			out, err := self.CombinedOutput()
			require.NoError(t, err, "%s", out)
		})
	}
}

// newWithFew opens a Poll while the given number of descriptors is free. It fails unless
// that works, or fails with EMFILE and works once descriptors are free again.
func newWithFew(free int) error {
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 32, Max: 32}); err != nil {
		return err
	}
	var taken []int
	for {
		fd, err := unix.Dup(0)
		if err != nil {
			break
		}
		taken = append(taken, fd)
	}
	closeAll := func(fds []int) {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
	closeAll(taken[:free])
	p, err := epore.NewWith(epoll.New())
	if err == nil {
		if free < 5 { // epoll, eventfd and a duplicate; the runtime's epoll and eventfd
			return fmt.Errorf("New works with %d descriptors left", free)
		}
		return errors.Join(p.Poll(epore.NewEvents(1), 5*time.Millisecond), p.Close())
	}
	if free >= 5 || !errors.Is(err, unix.EMFILE) {
		return fmt.Errorf("with %d descriptors left: %w", free, err)
	}
	for range free {
		if _, err := unix.Dup(0); err != nil {
			return fmt.Errorf("New has left descriptors open: %w", err)
		}
	}
	closeAll(taken[free:])
	if p, err = epore.NewWith(epoll.New()); err != nil {
		return fmt.Errorf("with descriptors free again: %w", err)
	}
	return errors.Join(p.Poll(epore.NewEvents(1), 5*time.Millisecond), p.Close())
}

// interrupted is an epoll whose looks without waiting are sometimes interrupted, which no
// rule forbids.
type interrupted struct {
	*epoll.Epoll
	looks int
}

func (e *interrupted) Wait(dst []backend.Event, timeout time.Duration) (int, error) {
	if timeout == 0 {
		if e.looks++; e.looks%3 != 0 {
			return 0, syscall.EINTR
		}
	}
	return e.Epoll.Wait(dst, timeout)
}

// A look before parking that saw nothing because it was interrupted must be repeated.
// Otherwise nothing would wake the goroutine for what is ready already.
// contract: P1
func TestPark_AfterAnInterruptedLook(t *testing.T) {
	guard(t, "P1, P4: signals never surface, and never hide an event")
	p, err := epore.NewWith(&interrupted{Epoll: epoll.New()})
	require.NoError(t, err)
	defer p.Close()
	require.Equal(t, epore.Park, p.Strategy())
	a, b := fixture.Pair(t)
	events := epore.NewEvents(2)
	for token := range epore.Token(50) {
		b.Write("x")
		register(t, p, a, token, epore.Readable|epore.Edge)
		require.Equal(t, token, next(t, p, events)[0].Token)
		require.NoError(t, p.Registry().Deregister(fd(a)))
	}
}

// notPollable is an epoll on a descriptor that Go's runtime cannot watch.
type notPollable struct {
	*epoll.Epoll
	fd int
}

func (e *notPollable) Descriptor() int { return e.fd }

// os.NewFile does not report that the runtime cannot watch the descriptor. The Poll must
// notice it, and block.
// contract: P11
func TestPark_UnparkableQueueBlocks(t *testing.T) {
	guard(t, "P11: where the platform cannot park, the Poll blocks")
	p, err := epore.NewWith(&notPollable{epoll.New(), fixture.RegularFile(t).FD})
	require.NoError(t, err)
	defer p.Close()
	a, b := fixture.Pair(t)
	register(t, p, a, 1, epore.Readable)
	go b.Write("x")
	events := epore.NewEvents(2)
	require.Len(t, next(t, p, events), 1)
	a.Drain()
	begin := time.Now()
	require.NoError(t, p.Poll(events, 20*time.Millisecond))
	require.GreaterOrEqual(t, time.Since(begin), 20*time.Millisecond)
	require.Equal(t, epore.Block, p.Strategy(), "and it says so")
	w := newWaker(t, p, 2)
	go w.Wake()
	require.Equal(t, epore.Token(2), next(t, p, events)[0].Token)
}

// The runtime's poller may refuse a queue for reasons that pass: the kernel has no memory, or
// the user watches too many descriptors. Here epoll instances are nested too deeply, which
// ends with a Deregister. The Poll blocks meanwhile, logs it once, and parks again later.
// contract: P11
func TestPark_TriesAgainAfterFailure(t *testing.T) {
	guard(t, "P11: where the platform cannot park, the Poll blocks")
	var sink lockedBuffer
	log := hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: &sink, DisableTime: true})
	p, err := epore.NewWith(epoll.New(), epore.WithLogger(log))
	require.NoError(t, err)
	defer p.Close()
	chain := epollChain(t, 4) // the kernel allows five levels: these and the Poll's
	require.NoError(t, p.Registry().Register(epore.FD(chain), 1, epore.Readable))
	events := epore.NewEvents(1)
	begin := time.Now()
	require.NoError(t, p.Poll(events, 350*time.Millisecond), "two attempts fail")
	require.GreaterOrEqual(t, time.Since(begin), 350*time.Millisecond, "early")
	require.Equal(t, epore.Block, p.Strategy())
	sink.await(t, "cannot park now")
	require.Contains(t, sink.String(), unix.ELOOP.Error())
	w := newWaker(t, p, 2)
	go w.Wake()
	require.Equal(t, epore.Token(2), next(t, p, events)[0].Token)

	require.NoError(t, p.Registry().Deregister(epore.FD(chain)))
	for p.Strategy() == epore.Block { // the attempts become rarer, but come
		require.NoError(t, p.Poll(events, 50*time.Millisecond))
	}
	sink.await(t, "can park again")
	require.Equal(t, 2, strings.Count(sink.String(), "\n"), "a line for each change: %s", sink.String())
	go w.Wake()
	require.Equal(t, epore.Token(2), next(t, p, events)[0].Token)
	require.NoError(t, p.Poll(events, 5*time.Millisecond))
	require.Zero(t, events.Len())
}

// A Poll that waits indefinitely tries again, too.
// contract: P11
func TestPark_TriesAgainDuringAWait(t *testing.T) {
	guard(t, "P11: where the platform cannot park, the Poll blocks")
	p, err := epore.NewWith(epoll.New())
	require.NoError(t, err)
	defer p.Close()
	chain := epollChain(t, 4)
	require.NoError(t, p.Registry().Register(epore.FD(chain), 1, epore.Readable))
	w := newWaker(t, p, 2)
	result := asleep(p, func() error { return p.Poll(epore.NewEvents(1), forever) })
	for p.Strategy() == epore.Park {
		runtime.Gosched()
	}
	require.NoError(t, p.Registry().Deregister(epore.FD(chain)))
	for p.Strategy() == epore.Block {
		runtime.Gosched()
	}
	require.NoError(t, w.Wake())
	require.NoError(t, <-result)
}

// epollChain returns an epoll instance that watches another one, and so on: n in all.
func epollChain(t *testing.T, n int) (outer int) {
	t.Helper()
	for i := range n {
		epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		require.NoError(t, err)
		t.Cleanup(func() { _ = unix.Close(epfd) })
		if i > 0 {
			require.NoError(t, unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, outer, &unix.EpollEvent{Events: unix.EPOLLIN}))
		}
		outer = epfd
	}
	return outer
}

// lockedBuffer is a log that goroutines write.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// await returns when the log contains text.
func (b *lockedBuffer) await(t *testing.T, text string) {
	t.Helper()
	for begin := time.Now(); !strings.Contains(b.String(), text); runtime.Gosched() {
		require.Less(t, time.Since(begin), fixture.Soon, "the log lacks %q: %s", text, b.String())
	}
}

// Another queue is a source; the descriptors of the Poll itself are not.
// contract: R13
func TestRegister_QueueAsSource(t *testing.T) {
	eachStrategy(t, "R8: a queue can be watched by another; R13: what fails changes nothing", func(t *testing.T, p *epore.Poll) {
		inner, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		require.NoError(t, err)
		defer unix.Close(inner)
		a, b := fixture.Pair(t)
		require.NoError(t, unix.EpollCtl(inner, unix.EPOLL_CTL_ADD, a.FD, &unix.EpollEvent{Events: unix.EPOLLIN}))
		r := p.Registry()
		require.NoError(t, r.Register(epore.FD(inner), 1, epore.Readable))
		if p.Capabilities().Interests.Has(epore.Exclusive) {
			// The kernel refuses that, but only after the old registration was removed.
			require.ErrorIs(t, r.Reregister(epore.FD(inner), 2, epore.Readable|epore.Exclusive), unix.EINVAL)
		}
		require.ErrorIs(t, r.Register(epore.FD(inner), 2, epore.Readable), fs.ErrExist)
		b.Write("x")
		events := epore.NewEvents(2)
		require.Equal(t, []epore.Event{{Token: 1, Ready: 1}}, next(t, p, events))
	})
}

// While the runtime watches the queue, registering waits for a lock of the whole kernel. A
// Poll that registers many sources without parking detaches, and attaches again to park.
// contract: P15
func TestPark_DetachesForManyRegistrations(t *testing.T) {
	guard(t, "P11, P15: a parked Poll is attached, one that registers many sources is not")
	p := open(t)
	if p.Strategy() != epore.Park {
		t.Skip("this queue cannot park")
	}
	events := epore.NewEvents(4)
	park := func() { require.NoError(t, p.Poll(events, 3*time.Millisecond)) }
	a, b := fixture.Pair(t)
	registerOften := func(n int) {
		for range n {
			register(t, p, a, 1, epore.Readable)
			require.NoError(t, p.Registry().Deregister(fd(a)))
		}
	}
	require.False(t, p.Attached())
	park()
	require.True(t, p.Attached())
	registerOften(63)
	require.NoError(t, p.Poll(events, 0))
	require.True(t, p.Attached(), "not yet worthwhile")
	park()
	registerOften(63)
	require.NoError(t, p.Poll(events, 0))
	require.True(t, p.Attached(), "there was a park in between")
	registerOften(1)
	require.NoError(t, p.Poll(events, 0))
	require.False(t, p.Attached())
	register(t, p, a, 2, epore.Readable)
	go b.Write("x")
	require.Equal(t, epore.Token(2), next(t, p, events)[0].Token)
	a.Drain()
	park()
	require.True(t, p.Attached())
	w := newWaker(t, p, 3)
	polled := asleep(p, func() error { return p.Poll(events, forever) })
	require.NoError(t, w.Wake())
	require.NoError(t, <-polled)
}
