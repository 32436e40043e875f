//go:build unix || windows

package conformance_test

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/queuetest"
)

// The same random sequence of everything that can be done to sources and registrations runs
// on each queue of this system, each with its own sources, and is compared with a model of
// the contract: every event is one that the model allows, and every event that the model
// demands comes.

// contract: R3, R4, R6, M1, S2, S3, S6
func TestDifferential(t *testing.T) {
	for _, w := range worlds(t, nil) {
		t.Log("compared:", w.name)
		require.NoError(t, w.close())
	}
	rounds := 2
	if backendtest.Long() {
		rounds = 50
	}
	for round := range rounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			guard(t, "all queues behave in the same way, as the contract says: R1 to R7, M1 to M9, P5, S1 to S3, S6")
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			rapid.Check(t, func(r *rapid.T) { runSequence(t, r) })
		})
	}
}

// worlds opens a world for each queue and each strategy that it supports.
func worlds(t *testing.T, kinds []*kind) (all []*world) {
	for _, queue := range queuetest.All() {
		for _, s := range []epore.Strategy{epore.Park, epore.Block} {
			p, err := epore.NewWith(queue.New(), epore.WithStrategy(s))
			if errors.Is(err, errors.ErrUnsupported) {
				continue // the others are compared without it
			}
			require.NoError(t, err)
			if p.Strategy() != s {
				require.NoError(t, p.Close())
				continue
			}
			all = append(all, newWorld(t, fmt.Sprint(queue.Name, ", ", s), p, kinds))
		}
	}
	return all
}

func runSequence(t *testing.T, r *rapid.T) {
	const sources = 4
	anyKind := rapid.SampledFrom(kinds)
	var chosen []*kind
	for range sources {
		chosen = append(chosen, anyKind.Draw(r, "kind"))
	}
	all := worlds(t, chosen)
	defer func() {
		for _, w := range all {
			require.NoError(r, w.close())
		}
	}()
	token := epore.Token(0)

	// each does the same thing in every world.
	each := func(do func(w *world) error) {
		for _, w := range all {
			if err := do(w); err != nil {
				r.Fatal(err)
			}
		}
	}
	anySource := rapid.IntRange(0, sources-1)
	// on does something to the same file in every world, if it can be done there.
	on := func(do func(s *modelled) bool) func(r *rapid.T) {
		return func(r *rapid.T) {
			i := anySource.Draw(r, "source")
			for _, w := range all {
				if !do(w.sources[i]) {
					r.Skip("it cannot be done to this file")
				}
			}
		}
	}
	// interest draws an interest that makes sense.
	interest := func(r *rapid.T, k *kind) (in epore.Interest) {
		if k.reads && (!k.writes || rapid.Bool().Draw(r, "readable")) {
			in |= epore.Readable
		}
		if k.writes && (in == 0 || rapid.Bool().Draw(r, "writable")) {
			in |= epore.Writable
		}
		return in | rapid.SampledFrom([]epore.Interest{0, 0, epore.OneShot, epore.Edge, epore.Edge | epore.OneShot}).Draw(r, "mode")
	}
	r.Repeat(map[string]func(*rapid.T){
		"": func(*rapid.T) { each((*world).inHand) },
		"register": func(r *rapid.T) {
			i := anySource.Draw(r, "source")
			in := interest(r, all[0].sources[i].kind)
			token++
			each(func(w *world) error { return w.register(w.sources[i], token, in) })
		},
		"reregister": func(r *rapid.T) {
			i := anySource.Draw(r, "source")
			in := interest(r, all[0].sources[i].kind)
			token++
			each(func(w *world) error { return w.reregister(w.sources[i], token, in) })
		},
		"deregister": func(r *rapid.T) {
			i := anySource.Draw(r, "source")
			each(func(w *world) error { return w.deregister(w.sources[i]) })
		},
		"close, and reuse the number": func(r *rapid.T) {
			i, k := anySource.Draw(r, "source"), anyKind.Draw(r, "kind")
			first := rapid.Bool().Draw(r, "deregister first")
			keep := rapid.IntRange(0, 9).Draw(r, "keep a duplicate") == 9
			each(func(w *world) error { return w.replace(w.sources[i], k, first, keep) })
		},
		"peer writes":      on((*modelled).peerWrites),
		"peer reads":       on((*modelled).peerReads),
		"peer half-closes": on((*modelled).peerHalfCloses),
		"peer closes":      on((*modelled).peerCloses),
		"peer resets":      on((*modelled).peerResets),
		"read":             on((*modelled).read),
		"drain":            on((*modelled).drain),
		"write":            on((*modelled).write),
		"fill":             on((*modelled).fill),
		"shut down":        on((*modelled).shutdown),
		"wake":             func(*rapid.T) { each((*world).wake) },
		"send":             func(*rapid.T) { each((*world).send) },
		"receive": func(r *rapid.T) {
			n := rapid.SampledFrom([]int{1, 100, 100}).Draw(r, "at most")
			each(func(w *world) error { return w.receive(n) })
		},
		"set the timer": func(r *rapid.T) {
			d := rapid.SampledFrom([]time.Duration{unset, 0, 0, time.Hour}).Draw(r, "to")
			each(func(w *world) error { return w.setTimer(d) })
		},
		"poll": func(r *rapid.T) {
			capacity := rapid.SampledFrom([]int{1, 2, 3, 16, 16}).Draw(r, "capacity")
			patient := rapid.IntRange(0, 5).Draw(r, "patient") == 5
			each(func(w *world) error { return w.poll(capacity, patient) })
		},
		"poll, again and again": func(r *rapid.T) {
			capacity := rapid.SampledFrom([]int{1, 1, 16}).Draw(r, "capacity")
			each(func(w *world) error {
				for range 3 {
					if err := w.poll(capacity, false); err != nil {
						return err
					}
				}
				return nil
			})
		},
	})
	each(func(w *world) error { return w.poll(16, false) })
}

// TestDifferential_Sequences repeats sequences in which a queue, or the model, was once wrong.
func TestDifferential_Sequences(t *testing.T) {
	type step = func(w *world, s *modelled) error
	register := func(in epore.Interest) step {
		return func(w *world, s *modelled) error { return w.register(s, 1, in) }
	}
	do := func(op func(*modelled) bool) step {
		return func(w *world, s *modelled) error {
			if !op(s) {
				return w.mismatch("the step is impossible")
			}
			return nil
		}
	}
	poll := func(w *world, _ *modelled) error { return w.poll(16, false) }
	for name, c := range map[string]struct {
		kind  *kind
		steps []step
	}{
		"an edge whose error has been fetched": {kindTCP, []step{ // io_uring reports it all the same
			register(epore.Writable | epore.Edge), poll, poll,
			do((*modelled).peerResets), do((*modelled).drain), poll, poll,
		}},
		"closed, and the number goes to another kind": {kindStream, []step{
			register(epore.Readable), do((*modelled).peerWrites), poll,
			func(w *world, s *modelled) error { return w.replace(s, kindOther, false, false) },
			do((*modelled).peerWrites), poll, register(epore.Readable), poll,
		}},
		"closed with an event in hand": {kindStream, []step{
			register(epore.Readable | epore.OneShot), do((*modelled).peerWrites), poll,
			func(w *world, s *modelled) error { return w.replace(s, kindStream, false, false) }, (*world).inHandStep,
			do((*modelled).peerWrites), register(epore.Readable), (*world).inHandStep, poll,
		}},
		"a narrower interest, and a reset": {kindTCP, []step{
			register(epore.Readable | epore.Writable), poll,
			func(w *world, s *modelled) error { return w.reregister(s, 2, epore.Readable) },
			do((*modelled).peerResets), poll,
		}},
		"closed while a duplicate lives": {kindStream, []step{
			register(epore.Readable), do((*modelled).peerWrites), poll,
			func(w *world, s *modelled) error { return w.replace(s, kindStream, false, true) },
			poll, register(epore.Readable), do((*modelled).peerWrites), poll, poll, poll,
		}},
		"shut down on both sides, then closed": {kindTCP, []step{
			do((*modelled).shutdown), do((*modelled).peerHalfCloses), register(epore.Writable), poll,
			do((*modelled).peerCloses), poll,
		}},
		"a reset reported after a half-close": {kindTCP, []step{
			do((*modelled).peerHalfCloses), do((*modelled).peerResets), register(epore.Readable), poll,
			do((*modelled).drain), poll,
		}},
		"written until the peer closes": {kindTCP, []step{
			do((*modelled).write), do((*modelled).peerWrites), do((*modelled).drain),
			do((*modelled).write), do((*modelled).write), do((*modelled).peerCloses),
			register(epore.Readable | epore.Writable), poll,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			guard(t, "all queues behave in the same way, as the contract says")
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for _, w := range worlds(t, []*kind{c.kind}) {
				for i, step := range c.steps {
					require.NoError(t, step(w, w.sources[0]), "step %d", i)
				}
				require.NoError(t, w.close())
			}
		})
	}
}

func (w *world) inHandStep(*modelled) error { return w.inHand() }
