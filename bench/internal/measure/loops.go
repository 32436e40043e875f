package measure

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// slices are the parts of a run; the first warms up and does not count.
const parts = 11

// times runs f as often as rounds says, in parts, and returns how long a round of each
// part took, in nanoseconds, without the first part.
func times(rounds int, f func()) (ns []float64) {
	return paired(rounds, f, func() {})
}

// paired is times, less what the floor took in the same part.
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

// activate puts a byte into each of the active pairs, which are others in each round,
// and calls visit for each.
func activate(pairs []Pair, active, round int, visit func(Pair)) {
	step := max(len(pairs)/active, 1)
	for i := range active {
		visit(pairs[(i*step+round)%len(pairs)])
	}
}

// Event measures what an event costs. Open registers In of each pair, with its number
// as token; what it returns waits until that many events were reported, and does
// Get(pairs[token].In) for each.
func Event(a *Args, open func(pairs []Pair, edge bool) (collect func(events int), err error)) ([]Result, error) {
	// The floor has sockets of its own, of which it touches as many.
	sets, turn := 2, 1
	if a.Rotate == "no" {
		sets, turn = 1, 0
	}
	pairs, err := Pairs(max(a.Registered, a.Active), sets)
	if err != nil {
		return nil, err
	}
	active := min(a.Active, len(pairs))
	floorPairs := len(pairs)
	if a.Rotate == "no" {
		floorPairs = active
	}
	plain, err := Pairs(floorPairs, 1)
	if err != nil {
		return nil, err
	}
	collect, err := open(pairs, a.Mode == "edge")
	if err != nil {
		return nil, err
	}
	put := func(p Pair) { Put(p.Out) }
	get := func(p Pair) { Get(p.In) }
	var round, floorRound int
	base := func() {
		floorRound += turn
		activate(plain, active, floorRound, put)
		activate(plain, active, floorRound, get)
	}
	ns := paired(a.Rounds, func() {
		round += turn
		activate(pairs, active, round, put)
		collect(active)
	}, base)
	floor := times(max(a.Rounds/10, parts), base)
	return []Result{
		{"ns", Median(ns) / float64(active)},
		{"base", Median(floor) / float64(active)},
		{"registered", float64(len(pairs))},
	}, nil
}

// Ready measures what it costs to hear of one that is ready and stays so. Open
// registers In of each pair, level-triggered; what it returns looks once, without
// waiting, and returns how many events there were, and the sum of their tokens.
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

// Late measures by how much a wait that nothing ends is longer than it should be: the
// median of all, in microseconds.
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

// Register measures a registration together with its end. Open returns what registers
// In of all pairs, looks once without waiting, ends all registrations, and looks again.
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

// Memory measures the memory that a registration takes, of that which no file backs.
// Open makes a queue, waits once, and returns what registers In of all pairs, in
// addition to those of earlier calls, and keeps them registered.
func Memory(a *Args, open func() (register func(pairs []Pair) error, err error)) ([]Result, error) {
	const warmUp = 512 // what a program takes once, with its first registrations
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

// resident returns the bytes in use, after what the collector can free is freed.
func resident() (int, error) {
	for range 3 { // the collector takes memory itself, when it first runs
		debug.FreeOSMemory()
	}
	kb, err := Status("RssAnon")
	return kb * 1024, err
}

// Wakes measures a wake that joins an earlier one which nobody has taken.
func Wakes(a *Args, wake func()) ([]Result, error) {
	const many = 1000 // in a round, so that the loop is no part of what is measured
	ns := times(max(a.Rounds/many, parts), func() {
		for range many {
			wake()
		}
	})
	return []Result{{"ns", Median(ns) / many}}, nil
}

// WakeWaiting measures how long it takes to wake a goroutine that waits and to hear
// from it: wake wakes it, and it answers by calling the function that it was given.
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

// Timers are what one contestant does with n timers, numbered from 0 on.
type Timers struct {
	Set  func(i int, d time.Duration)
	Stop func(i int)
	Run  func() // runs what is due, or waits until it has run
	// Fired returns how many have fired since the last call.
	Fired func() int
}

// MeasureTimers measures setting and stopping a hundred thousand timers that are not
// due for long, and letting as many fire that all are due.
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
		// All are due within ten microseconds, long after they were set: where the
		// runtime fires them, nothing of that lies outside of what is timed.
		due := time.Now().Add(300*time.Millisecond + 4*time.Duration(a.N)*time.Microsecond)
		for i, d := range early {
			t.Set(i, time.Until(due)-d)
		}
		for time.Until(due) > 0 {
			// busy, so that nobody has to be woken
		}
		begin = due
		for left := a.N; left > 0; left -= t.Fired() {
			t.Run()
		}
		fire = append(fire, ns(begin))
	}
	return []Result{{"set", Median(set[1:])}, {"stop", Median(stop[1:])}, {"fire", Median(fire[1:])}}, nil
}

// Waiter is a goroutine's queue with one source.
type Waiter interface {
	// Wait waits until the source is ready, or returns false when it was stopped.
	Wait() bool
	// Stop ends a Wait, now or later.
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
	for range 2 { // the second time, each has waited after the first
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

// standing returns a number of /proc/self/status when it has not changed for a while.
// That a goroutine waits in the kernel is not to be seen in another way.
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
	// Stop ends a Turn of another goroutine, now or later.
	Stop()
}

// PingPong measures a round trip of a byte between two goroutines with a queue each,
// with some pairs between them. Open registers the sockets, by their numbers as tokens.
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
	// Each part begins and ends with nothing under way.
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
