package micro_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/epoll"
	"github.com/epore/epore/backend/iouring"
	"github.com/epore/epore/backend/pollfd"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/socket"
)

// rawEpoll is the floor: epoll by raw system calls.
type rawEpoll struct {
	fd  int
	buf []unix.EpollEvent
}

func newRawEpoll(b *testing.B, room int) *rawEpoll {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	require.NoError(b, err)
	b.Cleanup(func() { unix.Close(fd) })
	return &rawEpoll{fd, make([]unix.EpollEvent, room)}
}

func (e *rawEpoll) ctl(op, fd int, bits uint32, data int) {
	ev := unix.EpollEvent{Events: bits, Fd: int32(data)}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(e.fd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	if errno != 0 {
		panic(errno)
	}
}

func (e *rawEpoll) wait() []unix.EpollEvent {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(e.fd), uintptr(unsafe.Pointer(&e.buf[0])), uintptr(len(e.buf)), 0, 0, 0)
	if errno != 0 {
		panic(errno)
	}
	return e.buf[:n]
}

var oneByte [8]byte

func put(fd int) {
	if n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&oneByte)), 1); n != 1 {
		panic(errno)
	}
}

func get(fd int) {
	if n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&oneByte)), 1); n != 1 {
		panic(errno)
	}
}

// pairs returns n connected pairs, or as many as the limit of descriptors allows
// for each of sets.
func pairs(b *testing.B, n, sets int) [][2]int {
	n = min(n, (fixture.DescriptorLimit(b)-256)/(2*sets))
	ends, closeAll := fixture.ManyPairs(b, n)
	b.Cleanup(closeAll)
	return ends
}

func benchPoll(b *testing.B, s epore.Strategy) *epore.Poll { return open(b, epore.WithStrategy(s)) }

// uringPoll is a Poll on io_uring, for the goroutine that calls, which is locked
// to its thread for the rest of the benchmark.
func uringPoll(b *testing.B, s epore.Strategy) *epore.Poll {
	p, err := epore.NewWith(iouring.New(), epore.WithStrategy(s))
	skipWithout(b, err)
	b.Cleanup(func() { require.NoError(b, p.Close()) })
	runtime.LockOSThread()
	return p
}

// What one event costs, edge-triggered: 64 of 2,000 sockets get a byte, the
// loop collects them and reads; less the writes and reads.
func BenchmarkEventEdge(b *testing.B) { benchmarkEvent(b, 2000, epore.Edge) }

// The same with level.
func BenchmarkEventLevel(b *testing.B) { benchmarkEvent(b, 2000, 0) }

// The same by the number of registered descriptors.
func BenchmarkEventByRegistered(b *testing.B) {
	for _, n := range []int{100, 1000, 9000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			const sets = 3
			plain, raws, parks := pairs(b, n, sets), pairs(b, n, sets), pairs(b, n, sets)
			versus(b, active, plainRound(plain),
				contestant{name: "raw", round: rawRound(b, raws, epore.Edge)},
				contestant{name: "park", round: eporeRound(b, benchPoll(b, epore.Park), parks, epore.Edge)})
			b.ReportMetric(float64(len(parks)), "registered")
		})
	}
}

// What a look costs that finds one of n registered descriptors ready: on epoll
// nearly the same for every n, on poll(2) not.
func BenchmarkOneReadyOf(b *testing.B) {
	for _, n := range []int{1, 10, 30, 100, 1000, 9000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ends := pairs(b, n, 1)
			put(ends[0][1])
			raw := newRawEpoll(b, 256)
			fds := make([]unix.PollFd, len(ends))
			for i := range ends {
				raw.ctl(unix.EPOLL_CTL_ADD, ends[i][0], unix.EPOLLIN|unix.EPOLLRDHUP, i)
				fds[i] = unix.PollFd{Fd: int32(ends[i][0]), Events: unix.POLLIN | unix.POLLRDHUP}
			}
			look := func(p *epore.Poll, err error) func() {
				require.NoError(b, err)
				b.Cleanup(func() { require.NoError(b, p.Close()) })
				for i := range ends {
					require.NoError(b, p.Registry().Register(epore.FD(ends[i][0]), epore.Token(i), epore.Readable))
				}
				events := epore.NewEvents(256)
				return func() {
					if err := p.Poll(events, 0); err != nil || events.Len() != 1 {
						panic(fmt.Sprint(events.Len(), err))
					}
				}
			}
			versus(b, 1, nil,
				contestant{name: "raw", round: func() { raw.wait() }},
				contestant{name: "epoll", round: look(epore.NewWith(epoll.New()))},
				contestant{name: "rawpoll", round: func() { _, _ = unix.Poll(fds, 0) }},
				contestant{name: "pollfd", round: look(epore.NewWith(pollfd.New()))},
			)
			b.ReportMetric(float64(len(ends)), "registered")
		})
	}
}

// active is how many sockets get a byte in a round.
const active = 64

func benchmarkEvent(b *testing.B, registered int, mode epore.Interest) {
	// A set of sockets for each, so that none pays for the other's registrations.
	const sets = 6
	versus(b, active, plainRound(pairs(b, registered, sets)),
		contestant{name: "raw", round: rawRound(b, pairs(b, registered, sets), mode)},
		contestant{name: "park", round: eporeRound(b, benchPoll(b, epore.Park), pairs(b, registered, sets), mode)},
		contestant{name: "block", round: eporeRound(b, benchPoll(b, epore.Block), pairs(b, registered, sets), mode)},
		contestant{name: "uring", round: eporeRound(b, uringPoll(b, epore.Block), pairs(b, registered, sets), mode)},
		contestant{name: "uring-park", round: eporeRound(b, uringPoll(b, epore.Park), pairs(b, registered, sets), mode)},
	)
}

// activate writes a byte to each of the active sockets, which are others in
// each round.
func activate(ends [][2]int, round int) {
	for i := range active {
		put(ends[(i*(len(ends)/active)+round)%len(ends)][1])
	}
}

func plainRound(ends [][2]int) func() {
	round := 0
	return func() {
		round++
		activate(ends, round)
		for i := range active {
			get(ends[(i*(len(ends)/active)+round)%len(ends)][0])
		}
	}
}

func rawRound(b *testing.B, ends [][2]int, mode epore.Interest) func() {
	bits := uint32(unix.EPOLLIN | unix.EPOLLRDHUP)
	if mode == epore.Edge {
		bits |= unix.EPOLLET
	}
	raw := newRawEpoll(b, 256)
	for i := range ends {
		raw.ctl(unix.EPOLL_CTL_ADD, ends[i][0], bits, i)
	}
	round := 0
	return func() {
		round++
		activate(ends, round)
		for left := active; left > 0; {
			evs := raw.wait()
			for i := range evs {
				get(ends[evs[i].Fd][0])
			}
			left -= len(evs)
		}
	}
}

func eporeRound(b *testing.B, p *epore.Poll, ends [][2]int, mode epore.Interest) func() {
	for i := range ends {
		require.NoError(b, p.Registry().Register(epore.FD(ends[i][0]), epore.Token(i), epore.Readable|mode))
	}
	events := epore.NewEvents(256)
	round := 0
	return func() {
		round++
		activate(ends, round)
		readActive(p, events, ends)
	}
}

// readActive is the loop of a user.
func readActive(p *epore.Poll, events *epore.Events, ends [][2]int) {
	for left := active; left > 0; {
		if err := p.Poll(events, epore.Forever); err != nil {
			panic(err)
		}
		for ev := range events.All() {
			get(ends[ev.Token][0])
			left--
		}
	}
}

// One registration and its end. The Poll "parked" has waited before: its
// queue is watched by Go's runtime, which makes registering dearer; "nested" is
// the floor for that.
func BenchmarkRegisterDeregister(b *testing.B) {
	const batch = 200
	ends := pairs(b, batch, 1)
	raw, nested, outer := newRawEpoll(b, 8), newRawEpoll(b, 8), newRawEpoll(b, 8)
	outer.ctl(unix.EPOLL_CTL_ADD, nested.fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLET, 0)
	fresh, parked := benchPoll(b, epore.Park), benchPoll(b, epore.Park)
	shared, owned := uringPoll(b, epore.Park), uringPoll(b, epore.Block)
	require.NoError(b, parked.Poll(epore.NewEvents(1), 3*time.Millisecond))
	rawPairs := func(e *rawEpoll) func() {
		return func() {
			for i := range ends {
				e.ctl(unix.EPOLL_CTL_ADD, ends[i][0], unix.EPOLLIN|unix.EPOLLRDHUP, i)
				e.ctl(unix.EPOLL_CTL_DEL, ends[i][0], 0, 0)
			}
		}
	}
	eporePairs := func(p *epore.Poll) func() {
		r := p.Registry()
		return func() {
			for i := range ends {
				if r.Register(epore.FD(ends[i][0]), epore.Token(i), epore.Readable) != nil || r.Deregister(epore.FD(ends[i][0])) != nil {
					panic("a registration failed")
				}
			}
		}
	}
	versus(b, len(ends), nil,
		contestant{name: "raw", round: rawPairs(raw)},
		contestant{name: "epore", round: eporePairs(fresh)},
		contestant{name: "nested", round: rawPairs(nested)},
		contestant{name: "parked", round: eporePairs(parked)},
		contestant{name: "uring", round: eporePairs(owned)},
		contestant{name: "uring-park", round: eporePairs(shared)},
	)
}

// Registering from several goroutines, each with its own Poll, per pair: Polls that never
// parked, compared with Polls that parked before, and that poll now and then without parking.
// contract: P15
func BenchmarkRegisterFromSeveralPolls(b *testing.B) {
	const batch = 200
	for _, n := range []int{1, 2} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			round := func(park bool) func() {
				var polls []*epore.Poll
				var ends [][][2]int
				for range n {
					p := benchPoll(b, epore.Park)
					if park {
						require.NoError(b, p.Poll(epore.NewEvents(1), 3*time.Millisecond))
					}
					polls = append(polls, p)
					ends = append(ends, pairs(b, batch, 1))
				}
				return func() {
					var wg sync.WaitGroup
					for i, p := range polls {
						wg.Go(func() {
							r, events := p.Registry(), epore.NewEvents(8)
							for j, e := range ends[i] {
								if r.Register(epore.FD(e[0]), epore.Token(j), epore.Readable) != nil || r.Deregister(epore.FD(e[0])) != nil {
									panic("a registration failed")
								}
								if j%64 == 63 && p.Poll(events, 0) != nil {
									panic("Poll failed")
								}
							}
						})
					}
					wg.Wait()
				}
			}
			versus(b, batch*n, nil,
				contestant{name: "never", round: round(false)},
				contestant{name: "parked", round: round(true)},
			)
		})
	}
}

// The same with a Poll in between, which sees all that was registered: the dearest
// case for io_uring, since each deregistration must then be cancelled at once.
func BenchmarkRegisterPollDeregister(b *testing.B) {
	const batch = 200
	ends := pairs(b, batch, 1)
	raw := newRawEpoll(b, 8)
	rounds := func(p *epore.Poll) func() {
		r, events := p.Registry(), epore.NewEvents(8)
		return func() {
			for i := range ends {
				if r.Register(epore.FD(ends[i][0]), epore.Token(i), epore.Readable|epore.Edge) != nil {
					panic("Register failed")
				}
			}
			if p.Poll(events, 0) != nil {
				panic("Poll failed")
			}
			for i := range ends {
				if r.Deregister(epore.FD(ends[i][0])) != nil {
					panic("Deregister failed")
				}
			}
		}
	}
	versus(b, len(ends), nil,
		contestant{name: "raw", round: func() {
			for i := range ends {
				raw.ctl(unix.EPOLL_CTL_ADD, ends[i][0], unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLET, i)
			}
			raw.wait()
			for i := range ends {
				raw.ctl(unix.EPOLL_CTL_DEL, ends[i][0], 0, 0)
			}
		}},
		contestant{name: "epore", round: rounds(benchPoll(b, epore.Block))},
		contestant{name: "uring", round: rounds(uringPoll(b, epore.Block))},
		contestant{name: "uring-park", round: rounds(uringPoll(b, epore.Park))},
	)
}

// Collecting 64 ready level-triggered descriptors, for each.
func BenchmarkReadyLevel(b *testing.B) {
	const batches = 10
	ends := pairs(b, active, 1)
	raw, p := newRawEpoll(b, 256), benchPoll(b, epore.Park)
	for i, e := range ends {
		raw.ctl(unix.EPOLL_CTL_ADD, e[0], unix.EPOLLIN|unix.EPOLLRDHUP, i)
		require.NoError(b, p.Registry().Register(epore.FD(e[0]), epore.Token(i), epore.Readable))
		put(e[1])
	}
	events := epore.NewEvents(256)
	sum := 0
	versus(b, active*batches, nil,
		contestant{name: "raw", round: func() {
			for range batches {
				evs := raw.wait()
				for i := range evs {
					sum += int(evs[i].Fd)
				}
			}
		}},
		contestant{name: "epore", round: func() {
			for range batches {
				if err := p.Poll(events, 0); err != nil {
					panic(err)
				}
				for ev := range events.All() {
					sum += int(ev.Token)
				}
			}
		}},
	)
	require.NotZero(b, sum)
}

// A byte goes to and fro between two sides; a round trip. Epore's sides are
// one goroutine and one Poll each, net's are a goroutine for each socket. Sockets are read
// and written by unix.Read and unix.Write, those of "own" by package socket.
func BenchmarkPingPong(b *testing.B) {
	for _, n := range []int{1, 10, 200} {
		b.Run(fmt.Sprintf("%d pairs", n), func(b *testing.B) {
			const trips = 2000 // of a round, over all pairs
			park, stopPark := eporePingPong(b, descriptorPeers(b, n), epore.Park)
			own, stopOwn := eporePingPong(b, ownPeers(b, n), epore.Park)
			block, stopBlock := eporePingPong(b, descriptorPeers(b, n), epore.Block)
			conns, stopConns := netPingPong(b, n)
			defer stopPark()
			defer stopOwn()
			defer stopBlock()
			defer stopConns()
			versus(b, trips, nil,
				contestant{name: "net", round: func() { conns(trips) }},
				contestant{name: "park", round: func() { park(trips) }},
				contestant{name: "own", round: func() { own(trips) }},
				contestant{name: "block", round: func() { block(trips) }},
			)
		})
	}
}

// peer is an end of a pair.
type peer interface {
	epore.Source
	io.ReadWriter
}

// descriptorPeer is one that is nothing but a descriptor.
type descriptorPeer struct {
	epore.Source
	fd int
}

func (p descriptorPeer) Read(b []byte) (int, error)  { return unix.Read(p.fd, b) }
func (p descriptorPeer) Write(b []byte) (int, error) { return unix.Write(p.fd, b) }

func descriptorPeers(b *testing.B, n int) (ends [][2]peer) {
	for _, e := range pairs(b, n, 1) {
		ends = append(ends, [2]peer{descriptorPeer{epore.FD(e[0]), e[0]}, descriptorPeer{epore.FD(e[1]), e[1]}})
	}
	return ends
}

func ownPeers(b *testing.B, n int) (ends [][2]peer) {
	for range n {
		x, y, err := socket.Pair()
		require.NoError(b, err)
		b.Cleanup(func() { x.Close(); y.Close() })
		ends = append(ends, [2]peer{x, y})
	}
	return ends
}

func eporePingPong(b *testing.B, ends [][2]peer, s epore.Strategy) (trips func(int), stop func()) {
	n := len(ends)
	here, there := benchPoll(b, s), benchPoll(b, s)
	for i, e := range ends {
		require.NoError(b, here.Registry().Register(e[0], epore.Token(i), epore.Readable|epore.Edge))
		require.NoError(b, there.Registry().Register(e[1], epore.Token(i), epore.Readable|epore.Edge))
	}
	echo := func(p *epore.Poll, events *epore.Events, side int, buf []byte, answers int) (int, error) {
		if err := p.Poll(events, epore.Forever); err != nil {
			return 0, err
		}
		got := 0
		for ev := range events.All() {
			end := ends[ev.Token][side]
			if k, err := end.Read(buf); k != 1 {
				return got, err
			}
			if got < answers {
				if _, err := end.Write(buf[:1]); err != nil {
					return got, err
				}
			}
			got++
		}
		return got, nil
	}
	var echoing sync.WaitGroup
	echoing.Go(func() {
		events, buf := epore.NewEvents(256), make([]byte, 1)
		for {
			if _, err := echo(there, events, 1, buf, n); err != nil {
				return
			}
		}
	})
	events, buf := epore.NewEvents(256), make([]byte, 1)
	trips = func(total int) {
		for _, e := range ends {
			if _, err := e[0].Write(buf); err != nil {
				panic(err)
			}
		}
		for started, ended := n, 0; ended < total || ended < started; {
			got, err := echo(here, events, 0, buf, max(total-started, 0))
			if err != nil {
				panic(err)
			}
			started += min(got, max(total-started, 0))
			ended += got
		}
	}
	return trips, func() {
		there.Close()
		echoing.Wait()
	}
}

func netPingPong(b *testing.B, n int) (trips func(int), stop func()) {
	var here, there []net.Conn
	ends, _ := fixture.ManyPairs(b, n)
	conn := func(fd int) net.Conn {
		f := os.NewFile(uintptr(fd), "pair")
		defer f.Close()
		c, err := net.FileConn(f)
		require.NoError(b, err)
		return c
	}
	var echoing sync.WaitGroup
	for _, e := range ends {
		here, there = append(here, conn(e[0])), append(there, conn(e[1]))
	}
	for _, c := range there {
		echoing.Go(func() {
			buf := make([]byte, 1)
			for {
				if _, err := io.ReadFull(c, buf); err != nil {
					return
				}
				if _, err := c.Write(buf); err != nil {
					return
				}
			}
		})
	}
	// The near side's goroutines, too, live on: they get how many trips to make.
	orders := make([]chan int, n)
	done := make(chan struct{}, n)
	for i, c := range here {
		orders[i] = make(chan int)
		go func() {
			buf := make([]byte, 1)
			for k := range orders[i] {
				for range k {
					if _, err := c.Write(buf); err != nil {
						panic(err)
					}
					if _, err := c.Read(buf); err != nil {
						panic(err)
					}
				}
				done <- struct{}{}
			}
		}()
	}
	trips = func(total int) {
		for _, o := range orders {
			o <- total / n
		}
		for range orders {
			<-done
		}
	}
	return trips, func() {
		for i := range here {
			close(orders[i])
			here[i].Close()
			there[i].Close()
		}
		echoing.Wait()
	}
}

// A wake that coalesces, and a wake of a Poll that waits, compared with a channel
// send to a goroutine that waits, both with the way back by a channel.
func BenchmarkWake(b *testing.B) {
	b.Run("coalesced", func(b *testing.B) {
		p := benchPoll(b, epore.Park)
		w := newWaker(b, p, 1)
		b.ReportAllocs()
		for b.Loop() {
			if w.Wake() != nil {
				b.Fatal("Wake fails")
			}
		}
	})
	b.Run("waiting", func(b *testing.B) {
		const batch = 200
		woken := make(chan struct{})
		send := make(chan struct{})
		go func() {
			for range send {
				woken <- struct{}{}
			}
		}()
		defer close(send)
		wakeAll := func(s epore.Strategy) func() {
			p := benchPoll(b, s)
			w := newWaker(b, p, 1)
			go func() {
				events := epore.NewEvents(4)
				for p.Poll(events, epore.Forever) == nil {
					woken <- struct{}{}
				}
			}()
			return func() {
				for range batch {
					if err := w.Wake(); err != nil {
						panic(err)
					}
					<-woken
				}
			}
		}
		versus(b, batch, nil,
			contestant{name: "channel", round: func() {
				for range batch {
					send <- struct{}{}
					<-woken
				}
			}},
			contestant{name: "park", round: wakeAll(epore.Park)},
			contestant{name: "block", round: wakeAll(epore.Block)},
		)
	})
}

// By how much a short timeout is exceeded, in the median.
// contract: P2
func BenchmarkTimeoutOvershoot(b *testing.B) {
	for _, timeout := range []time.Duration{time.Microsecond, 100 * time.Microsecond, time.Millisecond, 1900 * time.Microsecond, 5 * time.Millisecond} {
		b.Run(timeout.String(), func(b *testing.B) {
			p := benchPoll(b, epore.Park)
			events := epore.NewEvents(1)
			var over []time.Duration
			for b.Loop() {
				begin := time.Now()
				if err := p.Poll(events, timeout); err != nil {
					b.Fatal(err)
				}
				over = append(over, time.Since(begin)-timeout)
			}
			slices.Sort(over)
			b.ReportMetric(float64(over[len(over)/2])/1e3, "µs-over")
		})
	}
}
