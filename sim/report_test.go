//go:build !plan9

package sim_test

import (
	"errors"
	"os"
	"os/exec"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/sim"
	"github.com/epore/epore/socket"
)

// failing are tests that must fail, and a part of what they say then. They run in processes
// of their own.
var failing = map[string]struct {
	say string
	run func(t *testing.T)
}{
	"spin": {"a/1 spins", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
			l, err := a.Listen("tcp", ":80")
			require.NoError(t, err)
			a.LimitDescriptors(1)
			a.Go(func(*sim.Task) {
				p, err := epore.NewWith(a.Backend())
				require.NoError(t, err)
				require.NoError(t, p.Registry().Register(l, 1, epore.Readable))
				events := epore.NewEvents(4)
				for p.Poll(events, epore.Forever) == nil {
					_, _ = l.Accept() // too many open files, again and again
				}
			})
			_, err = b.Dial("tcp", "a:80")
			require.NoError(t, err)
			w.Sleep(time.Second)
		})
	}},
	"silence": {"a/1 waits; nobody has anything to tell them", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
			p, err := epore.NewWith(a.Backend())
			require.NoError(t, err)
			require.ErrorIs(t, p.Poll(epore.NewEvents(1), epore.Forever), sim.ErrEnded)
		})
	}},
	"panic": {"EPORE_SIM_SEED=1 go test -run '^TestWorld_Reports$/^panic$'", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
			a.Go(func(*sim.Task) { panic("a defect") })
			w.Sleep(time.Second)
		})
	}},
	"panic of the test": {"EPORE_SIM_SEED=1 go test -run '^TestWorld_Reports$/^panic_of_the_test$'", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) { panic("a defect") })
	}},
	"task that goes on": {"a/task1 goes on although 10000 calls of Sleep or Poll have failed", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
			a.Go(func(task *sim.Task) {
				for {
					_ = task.Sleep(time.Second)
				}
			})
			w.Sleep(time.Minute)
		})
	}},
	"task that goes on after a crash": {"a/task1 goes on although 10000 calls of Sleep or Poll have failed", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
			a.Go(func(task *sim.Task) {
				for {
					_ = task.Sleep(time.Second)
				}
			})
			w.Settle()
			a.Crash()
			w.Sleep(time.Minute)
		})
	}},
	"poll that goes on": {"a/1 goes on although 10000 calls of Sleep or Poll have failed", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
			a.Go(func(*sim.Task) {
				p, err := epore.NewWith(a.Backend())
				require.NoError(t, err)
				for events := epore.NewEvents(1); ; {
					_ = p.Poll(events, time.Second)
				}
			})
			w.Sleep(time.Minute)
		})
	}},
	"test that waits after a failure": {"a/1 spins", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
			l, err := a.Listen("tcp", ":80")
			require.NoError(t, err)
			a.Go(func(*sim.Task) {
				p, err := epore.NewWith(a.Backend())
				require.NoError(t, err)
				require.NoError(t, p.Registry().Register(l, 1, epore.Readable))
				for events := epore.NewEvents(4); p.Poll(events, epore.Forever) == nil; {
				}
			})
			_, err = b.Dial("tcp", "a:80")
			require.NoError(t, err)
			for { // for what cannot happen
				w.Sleep(time.Millisecond)
			}
		})
	}},
	"two worlds": {"this test has a World already", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) { sim.New(t) })
	}},
	"no bubble": {"goroutine is not in a bubble: make one World", func(t *testing.T) { sim.New(t).Sleep(time.Second) }},
	"trace that cannot be written": {"writing the trace: disk full", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
			w.Trace(fullDisk{})
			w.Note("x")
		})
	}},
	"no seeds": {"Explore of 0 seeds", func(t *testing.T) { sim.Explore(t, 0, func(*testing.T, *sim.World) {}) }},
	"explore": {"EPORE_SIM_SEED=7 go test -run '^TestWorld_Reports$/^explore$'", func(t *testing.T) {
		sim.Explore(t, 100, func(t *testing.T, w *sim.World) {
			w.Host("a").Go(func(task *sim.Task) { require.NoError(t, task.Sleep(time.Second)) })
			w.Sleep(time.Minute)
			if w.Seed() == 7 {
				t.Error("found")
			}
		})
	}},
	"check": {"differ in line", func(t *testing.T) {
		n := 0
		sim.Check(t, 1, func(t *testing.T, w *sim.World) {
			n++
			w.Note("run %d", n)
		})
	}},
	"hang": {"hangs: in", func(t *testing.T) {
		defer sim.Impatient()()
		inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
			var mu sync.Mutex
			mu.Lock()
			go func() { // with the real time, which no bubble has
				for begin := sim.RealTime(); sim.RealTime().Sub(begin) < 3*time.Second; {
				}
				mu.Unlock()
			}()
			mu.Lock() // no bubble counts this as waiting
			t.Fail()
		})
	}},
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// contract: V5
func TestWorld_Reports(t *testing.T) {
	if name := os.Getenv("EPORE_SIM_TEST"); name != "" {
		t.Run(name, failing[name].run)
		return
	}
	for name, f := range failing {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWorld_Reports$", "-test.timeout=60s")
			child.Env = append(os.Environ(), "EPORE_SIM_TEST="+name, sim.SeedVariable+"=")
			out, err := child.CombinedOutput()
			require.Error(t, err)
			require.Contains(t, string(out), f.say)
		})
	}
}

// Explore stops at the first failure, and repeats one seed.
//
// contract: V5
func TestExplore_Seeds(t *testing.T) {
	var mu sync.Mutex
	ran := make(map[uint64]int)
	run := func(t *testing.T, w *sim.World) {
		mu.Lock()
		defer mu.Unlock()
		ran[w.Seed()]++
	}
	sim.Explore(t, 20, run)
	require.Len(t, ran, 20)
	t.Setenv(sim.SeedVariable, "12345")
	sim.Explore(t, 20, run)
	require.Len(t, ran, 21)
	require.Equal(t, 1, ran[12345])
}

// Tasks and the goroutine of the test act one at a time, in an order that the seed decides.
//
// contract: V2
func TestTask_OrderIsTheSeeds(t *testing.T) {
	order := func(seed uint64) (s string) {
		synctest.Test(t, func(t *testing.T) {
			w := sim.NewSeed(t, seed)
			h := w.Host("a")
			for _, name := range []string{"a", "b", "c", "d"} {
				h.Go(func(task *sim.Task) {
					for range 3 {
						s += name // without a lock: only one runs
						require.NoError(t, task.Sleep(time.Millisecond))
					}
				})
			}
			w.Sleep(10 * time.Millisecond)
		})
		return s
	}
	different := false
	for seed := range uint64(20) {
		require.Len(t, order(seed), 12)
		require.Equal(t, order(seed), order(seed))
		different = different || order(seed) != order(0)
	}
	require.True(t, different)
}

// Settle returns when nobody can do anything more at this instant.
//
// contract: V2
func TestWorld_Settle(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		begin := time.Now()
		steps := 0
		a.Go(func(task *sim.Task) {
			for steps < 50 {
				steps++
				require.NoError(t, task.Sleep(0))
			}
			require.ErrorIs(t, task.Sleep(time.Second), sim.ErrEnded)
			steps++
		})
		w.Settle()
		require.Equal(t, 50, steps)
		require.Zero(t, time.Since(begin))
	})
}

// An edge is reported again only after an operation that would have blocked: with less, a
// program that reads once for each event would pass here and hang elsewhere.
//
// contract: V3
func TestQueue_EdgesAreWeak(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		_, server, client := connect(t, w, a, b)
		p, err := epore.NewWith(a.Backend())
		require.NoError(t, err)
		defer p.Close()
		require.NoError(t, p.Registry().Register(server, 1, epore.Readable|epore.Edge))
		events := epore.NewEvents(4)
		polled := func() int {
			require.NoError(t, p.Poll(events, time.Second))
			return events.Len()
		}
		write := func() {
			_, err := client.Write([]byte("xx"))
			require.NoError(t, err)
		}
		write()
		require.Equal(t, 1, polled())
		buf := make([]byte, 1)
		_, err = server.Read(buf)
		require.NoError(t, err)
		write()
		require.Zero(t, polled(), "it has not read until it would block")
		for err == nil {
			_, err = server.Read(buf)
		}
		require.Equal(t, socket.ErrWouldBlock, err)
		require.Zero(t, polled())
		write()
		require.Equal(t, 1, polled())
	})
}

// Faults leave one-shot registrations exact: one event, also where others are split in two.
//
// contract: V3
func TestQueue_OneShotIsNotSplit(t *testing.T) {
	inWorld(t, func(t *testing.T, w *sim.World, a, b *sim.Host) {
		_, server, client := connect(t, w, a, b)
		_, err := client.Write([]byte("x"))
		require.NoError(t, err)
		w.Faults(sim.SplitEvents(1))
		p, err := epore.NewWith(a.Backend())
		require.NoError(t, err)
		defer p.Close()
		events := epore.NewEvents(4)
		for mode, want := range map[epore.Interest]int{0: 2, epore.OneShot: 1} {
			require.NoError(t, p.Registry().Register(server, 1, epore.Readable|epore.Writable|mode))
			require.NoError(t, p.Poll(events, 0))
			require.Equal(t, want, events.Len(), "mode %v", mode)
			require.NoError(t, p.Registry().Deregister(server))
		}
	})
}
