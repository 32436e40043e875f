package sim_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/sim"
)

// These examples are bodies of tests. They are compiled, and not run. docs/simulation.md has
// a whole test, which runs as TestEcho.

// A test of one World. EPORE_SIM_SEED repeats it.
func ExampleNew() {
	var t *testing.T // the parameter of the test
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(t)
		server := w.Host("server")
		poll, err := epore.NewWith(server.Backend())
		if err != nil {
			t.Fatal(err)
		}
		listener, err := server.Listen("tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		server.Go(func(*sim.Task) {
			if err := poll.Registry().Register(listener, 0, epore.Readable); err != nil {
				t.Error(err)
			}
			// the loop of the server, until Poll fails with sim.ErrEnded
		})
		w.Sleep(time.Hour) // and then check what has happened
	})
}

// A test of a thousand Worlds, each with faults of its own.
func ExampleExplore() {
	var t *testing.T // the parameter of the test
	sim.Explore(t, 1000, func(t *testing.T, w *sim.World) {
		server, client := w.Host("server"), w.Host("client")
		w.Faults(sim.Swarm())
		// start the programs of both hosts
		w.Sleep(time.Minute)
		w.Partition(server, client)
		w.Sleep(time.Minute)
		w.Heal()
		w.Faults()
		w.Sleep(time.Hour) // and then everything must have been answered
	})
}

// A test that fails if a program does something that the seed does not repeat.
func ExampleCheck() {
	var t *testing.T // the parameter of the test
	for seed := range uint64(10) {
		sim.Check(t, seed, func(t *testing.T, w *sim.World) {
			w.Faults(sim.Swarm())
			// the same as for Explore
		})
	}
}

// The first answer to each connection is lost for good, as by a machine that fails then.
func ExampleWorld_Rule() {
	var t *testing.T // the parameter of the test
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(t)
		server := w.Host("server")
		severed := map[uint16]bool{} // ports of clients
		w.Rule(func(p *sim.Packet) sim.Verdict {
			if p.From == server && p.Kind == sim.Data && !severed[p.ToPort] {
				severed[p.ToPort] = true
				return sim.Sever
			}
			return sim.Deliver
		})
		// start the programs
	})
}
