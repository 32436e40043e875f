package measure

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// slices is the number of parts of a run. The first is a warm-up and does not count.
const parts = 11

// times runs f for the given number of rounds, in parts. It returns the time of a round in
// nanoseconds, for each part except the first.
func times(rounds int, f func()) (ns []float64) {
	return paired(rounds, f, func() {})
}

// paired is like times, but subtracts the time of the floor in the same part.
func paired(rounds int, f, floor func()) (ns []float64) {
	each := max(rounds/parts, 1)
	for part := range parts {
		begin := time.Now()
		for range each {
			f()
		}
		middle := time.Now()
		for range each {
			floor()
		}
		end := time.Now()
		if part > 0 {
			ns = append(ns, float64(middle.Sub(begin)-end.Sub(middle))/float64(each))
		}
	}
	return ns
}

// Median returns the middle value, or the mean of the two in the middle.
func Median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}

// activate puts a byte into each of the active pairs, which differ in each round, and calls
// visit for each.
func activate(pairs []Pair, active, round int, visit func(Pair)) {
	step := max(len(pairs)/active, 1)
	for i := range active {
		visit(pairs[(i*step+round)%len(pairs)])
	}
}

// Event measures the cost of an event. Open registers In of each pair, with its index as
// token. The function that open returns waits until that many events were reported, and
// calls Get(pairs[token].In) for each. With several loops, open is called by each of their
// goroutines, and the figure is the mean of what the loops measure at the same time.
func Event(a *Args, open func(pairs []Pair, edge bool) (collect func(events int), err error)) ([]Result, error) {
	loops := make([]eventLoop, a.Loops)
	errs := make([]error, a.Loops)
	var ready, done sync.WaitGroup
	ready.Add(a.Loops)
	for i := range loops {
		done.Go(func() {
			errs[i] = loops[i].prepare(a, open)
			ready.Done()
			if ready.Wait(); errors.Join(errs...) == nil {
				loops[i].measure(a)
			}
		})
	}
	done.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var ns, base, registered float64
	for _, l := range loops {
		ns += l.ns / float64(a.Loops)
		base += l.base / float64(a.Loops)
		registered += float64(len(l.pairs))
	}
	return []Result{{"ns", ns}, {"base", base}, {"registered", registered}}, nil
}

// eventLoop is one loop of the measure Event.
type eventLoop struct {
	pairs, plain []Pair // plain are those of the floor
	active, turn int    // turn is by how many sockets a round differs from the previous one
	collect      func(events int)
	ns, base     float64 // the figures
}

func (l *eventLoop) prepare(a *Args, open func(pairs []Pair, edge bool) (func(int), error)) (err error) {
	// The floor uses other sockets, and touches the same number.
	sets := 2 * a.Loops
	l.turn = 1
	if a.Rotate == "no" {
		sets, l.turn = a.Loops, 0
	}
	if l.pairs, err = Pairs(max(a.Registered, a.Active), sets); err != nil {
		return err
	}
	l.active = min(a.Active, len(l.pairs))
	floorPairs := len(l.pairs)
	if a.Rotate == "no" {
		floorPairs = l.active
	}
	if l.plain, err = Pairs(floorPairs, 1); err != nil {
		return err
	}
	l.collect, err = open(l.pairs, a.Mode == "edge")
	return err
}

func (l *eventLoop) measure(a *Args) {
	put := func(p Pair) { Put(p.Out) }
	get := func(p Pair) { Get(p.In) }
	var round, floorRound int
	base := func() {
		floorRound += l.turn
		activate(l.plain, l.active, floorRound, put)
		activate(l.plain, l.active, floorRound, get)
	}
	ns := paired(a.Rounds, func() {
		round += l.turn
		activate(l.pairs, l.active, round, put)
		l.collect(l.active)
	}, base)
	l.ns = Median(ns) / float64(l.active)
	l.base = Median(times(max(a.Rounds/10, parts), base)) / float64(l.active)
}

// Ready measures the cost of an event of a socket that stays ready. Open registers In of
// each pair, level-triggered. The function that it returns polls once without waiting, and
// returns the number of events and the sum of their tokens.
func Ready(a *Args, open func(pairs []Pair) (look func() (events, tokens int), err error)) ([]Result, error) {
	pairs, err := Pairs(max(a.Active, a.Registered), 1)
	if err != nil {
		return nil, err
	}
	active := min(a.Active, len(pairs))
	look, err := open(pairs)
	if err != nil {
		return nil, err
	}
	for _, p := range pairs[:active] {
		Put(p.Out)
	}
	ns := times(a.Rounds, func() {
		if n, sum := look(); n != active || sum != n*(n-1)/2 {
			panic(fmt.Sprintf("%d events with tokens of %d in all, of %d ready", n, sum, active))
		}
	})
	return []Result{{"ns", Median(ns) / float64(active)}, {"registered", float64(len(pairs))}}, nil
}

// Late measures how much longer than its timeout a wait without events takes: the median, in
// microseconds.
func Late(a *Args, wait func(time.Duration)) ([]Result, error) {
	timeout := time.Duration(a.Micros) * time.Microsecond
	var late []float64
	for range a.Rounds {
		begin := time.Now()
		wait(timeout)
		late = append(late, float64(time.Since(begin)-timeout)/float64(time.Microsecond))
	}
	return []Result{{"us", Median(late)}}, nil
}

// Register measures a registration and its deregistration. Open returns a function that
// registers In of all pairs, polls once without waiting, deregisters all, and polls again.
func Register(a *Args, open func(pairs []Pair) (round func(), err error)) ([]Result, error) {
	pairs, err := Pairs(a.Registered, 1)
	if err != nil {
		return nil, err
	}
	round, err := open(pairs)
	if err != nil {
		return nil, err
	}
	return []Result{{"ns", Median(times(a.Rounds, round)) / float64(len(pairs))}}, nil
}

// Memory measures the anonymous memory that a registration takes. Open makes a queue, waits
// once, and returns a function that registers In of all pairs, in addition to those of
// earlier calls, and keeps them registered.
func Memory(a *Args, open func() (register func(pairs []Pair) error, err error)) ([]Result, error) {
	const warmUp = 512 // the first registrations take memory that later ones share
	pairs, err := Pairs(a.Registered+warmUp, 1)
	if err != nil {
		return nil, err
	}
	register, err := open()
	if err != nil {
		return nil, err
	}
	warm := min(warmUp, len(pairs)/2)
	if err := register(pairs[:warm]); err != nil {
		return nil, err
	}
	before, err := resident()
	if err != nil {
		return nil, err
	}
	if err := register(pairs[warm:]); err != nil {
		return nil, err
	}
	after, err := resident()
	runtime.KeepAlive(register)
	n := float64(len(pairs) - warm)
	return []Result{{"bytes", float64(after-before) / n}, {"registered", n}}, err
}

// resident returns the bytes in use after a garbage collection.
func resident() (int, error) {
	for range 3 { // the first collection itself takes memory
		debug.FreeOSMemory()
	}
	kb, err := Status("RssAnon")
	return kb * 1024, err
}

// Wakes measures a wake that merges with an earlier, pending one.
func Wakes(a *Args, wake func()) ([]Result, error) {
	const many = 1000 // wakes in a round, so that the loop around them does not count
	ns := times(max(a.Rounds/many, parts), func() {
		for range many {
			wake()
		}
	})
	return []Result{{"ns", Median(ns) / many}}, nil
}

// WakeWaiting measures the time to wake a waiting goroutine and to get its answer. wake
// wakes it, and it answers by calling the function that it was given.
func WakeWaiting(a *Args, start func(answer func()) (wake, stop func(), err error)) ([]Result, error) {
	answered := make(chan struct{}, 1)
	wake, stop, err := start(func() { answered <- struct{}{} })
	if err != nil {
		return nil, err
	}
	ns := times(a.Rounds, func() {
		wake()
		<-answered
	})
	stop()
	return []Result{{"ns", Median(ns)}}, nil
}

// Timers is one contestant's implementation of n timers, numbered from 0.
type Timers struct {
	Set  func(i int, d time.Duration)
	Stop func(i int)
	Run  func() // runs what is due, or waits until it has run
	// Fired returns how many have fired since the last call.
	Fired func() int
}

// MeasureTimers measures setting and stopping 100,000 timers that are due much later, and
// running 100,000 timers that are all due.
func MeasureTimers(a *Args, open func(n int) (*Timers, error)) ([]Result, error) {
	t, err := open(a.N)
	if err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(1, 2))
	far, early := make([]time.Duration, a.N), make([]time.Duration, a.N)
	for i := range far {
		far[i] = time.Hour + time.Duration(random.IntN(int(time.Hour)))
		early[i] = time.Duration(random.IntN(int(10 * time.Microsecond)))
	}
	var set, stop, fire []float64
	ns := func(begin time.Time) float64 { return float64(time.Since(begin)) / float64(a.N) }
	for range a.Rounds + 1 {
		begin := time.Now()
		for i, d := range far {
			t.Set(i, d)
		}
		set = append(set, ns(begin))
		begin = time.Now()
		for i := range far {
			t.Stop(i)
		}
		stop = append(stop, ns(begin))
		// All are due within ten microseconds, long after they were set. So the timed part
		// contains all the work, even where the runtime runs the timers.
		due := time.Now().Add(300*time.Millisecond + 4*time.Duration(a.N)*time.Microsecond)
		for i, d := range early {
			t.Set(i, time.Until(due)-d)
		}
		for time.Until(due) > 0 {
			// spin, so that no thread has to be woken
		}
		begin = due
		for left := a.N; left > 0; left -= t.Fired() {
			t.Run()
		}
		fire = append(fire, ns(begin))
	}
	return []Result{{"set", Median(set[1:])}, {"stop", Median(stop[1:])}, {"fire", Median(fire[1:])}}, nil
}

// Waiter is a queue with one source, for one goroutine.
type Waiter interface {
	// Wait waits until the source is ready. It returns false if it was stopped.
	Wait() bool
	// Stop ends the Wait in progress, or else the next one.
	Stop()
}

// Threads counts the threads of the process while many goroutines wait.
func Threads(a *Args, open func(p Pair) (Waiter, error)) ([]Result, error) {
	pairs, err := Pairs(a.Queues, 1)
	if err != nil {
		return nil, err
	}
	waiters := make([]Waiter, len(pairs))
	woken := make(chan struct{}, len(pairs))
	var all sync.WaitGroup
	for i, p := range pairs {
		if waiters[i], err = open(p); err != nil {
			return nil, fmt.Errorf("queue %d: %w", i, err)
		}
	}
	for i, p := range pairs {
		all.Go(func() {
			for waiters[i].Wait() {
				Get(p.In)
				woken <- struct{}{}
			}
		})
	}
	for range 2 { // before the second round, each has waited once
		for _, p := range pairs {
			Put(p.Out)
		}
		for range pairs {
			<-woken
		}
	}
	threads, err := standing("Threads", 500*time.Millisecond)
	for _, w := range waiters {
		w.Stop()
	}
	all.Wait()
	return []Result{{"threads", float64(threads)}, {"queues", float64(len(pairs))}}, err
}

// standing returns a number from /proc/self/status once it has not changed for a while.
// Nothing else shows that a goroutine waits in the kernel.
func standing(name string, still time.Duration) (int, error) {
	number, since := -1, time.Now()
	for time.Since(since) < still {
		n, err := Status(name)
		if err != nil {
			return 0, err
		}
		if n != number {
			number, since = n, time.Now()
		}
		time.Sleep(time.Millisecond)
	}
	return number, nil
}

// Side is one side of a ping-pong: a queue with one socket of each pair.
type Side interface {
	// Turn waits for events, gets a byte for each, and puts one back for those among
	// the first answers. It returns how many events there were, or false when it was
	// stopped.
	Turn(answers int) (events int, ok bool)
	// Stop ends the Turn that another goroutine has in progress, or else its next one.
	Stop()
}

// PingPong measures the round trip of a byte between two goroutines with a queue each,
// connected by some pairs. Open registers the sockets with their indexes as tokens.
func PingPong(a *Args, open func(fds []int) (Side, error)) ([]Result, error) {
	pairs, err := Pairs(a.Pairs, 1)
	if err != nil {
		return nil, err
	}
	var fds [2][]int
	for _, p := range pairs {
		fds[0], fds[1] = append(fds[0], p.In), append(fds[1], p.Out)
	}
	var sides [2]Side
	for i := range sides {
		if sides[i], err = open(fds[i]); err != nil {
			return nil, err
		}
	}
	var echo sync.WaitGroup
	echo.Go(func() {
		for ok := true; ok; {
			_, ok = sides[1].Turn(len(pairs))
		}
	})
	// Each part begins and ends with no byte in flight.
	each := max(a.Trips/parts, len(pairs))
	ns := times(parts, func() {
		for _, fd := range fds[0] {
			Put(fd)
		}
		for back := 0; back < each; {
			n, _ := sides[0].Turn(each - len(pairs) - back)
			back += n
		}
	})
	sides[1].Stop()
	echo.Wait()
	return []Result{{"ns", Median(ns) / float64(each)}}, nil
}
