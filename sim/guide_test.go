//go:build unix || windows

package sim_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/sim"
	"github.com/epore/epore/slab"
	"github.com/epore/epore/socket"
)

// The code of docs/simulation.md.

// planted has the server lose what a write did not take.
var planted = os.Getenv("EPORE_SIM_TEST_PLANT") != ""

type peer struct {
	conn   *socket.Conn
	unsent []byte
	ended  bool // the client sends nothing more
}

// echo is one step of the server for a connection: it reads when nothing is unsent, writes
// what is unsent, and returns what the connection waits for. Zero means that it is over.
func echo(p *peer, buf []byte) (epore.Interest, error) {
	if len(p.unsent) == 0 && !p.ended {
		n, err := p.conn.Read(buf)
		if p.ended = err == io.EOF; err != nil && err != socket.ErrWouldBlock && !p.ended {
			return 0, err
		}
		p.unsent = append(p.unsent, buf[:n]...)
	}
	if len(p.unsent) > 0 {
		n, err := p.conn.Write(p.unsent)
		if err != nil && err != socket.ErrWouldBlock {
			return 0, err
		}
		p.unsent = p.unsent[n:]
		if planted {
			p.unsent = nil
		}
	}
	switch {
	case len(p.unsent) > 0:
		return epore.Writable, nil
	case p.ended:
		return 0, nil
	}
	return epore.Readable, nil
}

// serve is the loop of the server. On a real machine it would get a Poll of epore.New and a
// Listener of socket.Listen.
func serve(poll *epore.Poll, l *socket.Listener) error {
	const listening = 0
	registry := poll.Registry()
	if err := registry.Register(l, listening, epore.Readable); err != nil {
		return err
	}
	var peers slab.Slab[*peer]
	buf := make([]byte, 4096)
	for events := epore.NewEvents(64); ; {
		if err := poll.Poll(events, epore.Forever); err != nil {
			return err
		}
		for ev := range events.All() {
			if ev.Token == listening {
				conn, err := l.Accept()
				if err == nil {
					err = registry.Register(conn, peers.Insert(&peer{conn: conn}), epore.Readable)
				}
				if err != nil && err != socket.ErrWouldBlock {
					return err
				}
				continue
			}
			p, ok := peers.Get(ev.Token)
			if !ok {
				continue // it was closed earlier in this batch
			}
			waitsFor, err := echo(p, buf)
			if err == nil && waitsFor != 0 {
				err = registry.Reregister(p.conn, ev.Token, waitsFor)
			}
			if err != nil || waitsFor == 0 {
				peers.Remove(ev.Token)
				if err := p.conn.Close(); err != nil {
					return err
				}
			}
		}
	}
}

// ask sends a question, and returns what comes back until the end of the stream.
func ask(task *sim.Task, question string) (answer string, err error) {
	conn, err := task.Host().Dial("tcp", "server:7")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	rest, buf := []byte(question), make([]byte, 1000)
	for {
		if len(rest) > 0 {
			n, err := conn.Write(rest)
			if rest = rest[n:]; len(rest) == 0 {
				err = conn.CloseWrite()
			}
			if err != nil && err != socket.ErrWouldBlock {
				return answer, err
			}
		}
		n, err := conn.Read(buf)
		answer += string(buf[:n])
		switch {
		case err == io.EOF:
			return answer, nil
		case err == socket.ErrWouldBlock:
			err = task.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			return answer, err
		}
	}
}

// start starts the server on a host. It ends with the host or the World.
func start(t *testing.T, server *sim.Host) {
	poll, err := epore.NewWith(server.Backend())
	require.NoError(t, err)
	l, err := server.Listen("tcp", ":7")
	require.NoError(t, err)
	server.Go(func(*sim.Task) {
		if err := serve(poll, l); !errors.Is(err, sim.ErrEnded) && !errors.Is(err, sim.ErrCrashed) {
			t.Errorf("the server: %v", err)
		}
	})
}

func echoWorld(t *testing.T, w *sim.World) {
	server, client := w.Host("server"), w.Host("client")
	w.Faults(sim.Swarm())
	start(t, server)

	question := strings.Repeat("is anybody there? ", 100)
	var answer string
	var err error
	client.Go(func(task *sim.Task) { answer, err = ask(task, question) })

	w.Sleep(time.Minute) // in a world with faults
	w.Faults()
	w.Sleep(time.Hour) // in a world without
	require.NoError(t, err)
	require.Equal(t, len(question), len(answer))
	require.Equal(t, question, answer)
}

func TestEcho(t *testing.T) { sim.Explore(t, 100, echoWorld) }

func TestEcho_Repeats(t *testing.T) { sim.Check(t, 1, echoWorld) }

// What a test can do to a world, step by step.
func TestEcho_PartitionCrashAndRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(t)
		server, client := w.Host("server"), w.Host("client")
		w.Faults(sim.Latency(10*time.Millisecond, 20*time.Millisecond), sim.ShortReads(0.5))
		w.Link(server, client, sim.Bandwidth(10_000))
		start(t, server)
		var answer string
		var err error
		asks := func(task *sim.Task) {
			answer, err = "none yet", nil
			answer, err = ask(task, "hello")
		}

		w.Partition(server, client)
		client.Go(asks)
		w.Sleep(time.Minute)
		require.Equal(t, "none yet", answer)
		w.Heal()
		w.Sleep(10 * time.Second)
		require.NoError(t, err)
		require.Equal(t, "hello", answer)

		server.Crash()
		server.Restart()
		client.Go(asks)
		w.Sleep(time.Second)
		require.ErrorIs(t, err, syscall.ECONNREFUSED, "its program does not run")

		start(t, server)
		w.Rule(func(p *sim.Packet) sim.Verdict {
			if p.Kind == sim.Data && p.From == server {
				return sim.Sever // the answer
			}
			return sim.Deliver
		})
		client.Go(asks)
		w.Sleep(time.Second)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.Empty(t, answer)

		w.Rule(nil)
		client.Go(asks)
		w.Sleep(time.Second)
		require.NoError(t, err)
		require.Equal(t, "hello", answer)
	})
}

// With its planted bug, the example fails, prints a seed, and fails with that seed again, in
// the same way. It fails in processes of its own.
func TestGuide_PlantedBugRepeatsWithItsSeed(t *testing.T) {
	if planted {
		t.Skip("this is the process that shall fail")
	}
	run := func(env ...string) (output string) {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestEcho$", "-test.timeout=30s")
		child.Env = append(append(os.Environ(), "EPORE_SIM_TEST_PLANT=1"), env...)
		out, err := child.CombinedOutput()
		var failed *exec.ExitError
		require.True(t, errors.As(err, &failed), "%v\n%s", err, out)
		return string(out)
	}
	report := regexp.MustCompile(`(?s)to repeat: (EPORE_SIM_SEED=(\d+)) go test -run '\^TestEcho\$'\n(.*?)\n *(--- FAIL|FAIL|\S+\.go)`)
	first := report.FindStringSubmatch(run(sim.SeedVariable + "="))
	require.NotNil(t, first)
	again := report.FindStringSubmatch(run(first[1]))
	require.NotNil(t, again)
	require.Equal(t, first[1], again[1])
	require.Equal(t, first[3], again[3], "the trace")
	t.Logf("seed %s:\n%s", first[2], first[3])
}
