//go:build unix || windows

package loop_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/loop"
	"github.com/epore/epore/sim"
)

// runOn runs a loop on a simulated host, until the World ends.
func runOn(h *sim.Host, start func(*loop.Loop) error) {
	cfg := loop.Config{
		NewPoll: func() (*epore.Poll, error) { return epore.NewWith(h.Backend()) },
		Network: h,
	}
	h.Go(func(*sim.Task) {
		if err := loop.Run(context.Background(), 1, cfg, start); !errors.Is(err, sim.ErrEnded) {
			panic(err)
		}
	})
}

// asker sends a line in two parts, and keeps what comes back.
type asker struct{ answer string }

func (h *asker) Open(c *loop.Conn) {
	h.send(c, "hel")
	c.Loop().After(time.Second, func() { h.send(c, "lo\n") })
}

func (h *asker) send(c *loop.Conn, s string) {
	if _, err := c.Write([]byte(s)); err != nil {
		c.Abort()
	}
}

func (h *asker) Data(c *loop.Conn, b []byte) (used int) {
	h.answer += string(b)
	return len(b)
}

func (h *asker) Close(c *loop.Conn, err error) { h.answer += "closed" }

func (h *asker) Failed(c *loop.Conn, err error) { h.answer = err.Error() }

// A server and a client in 100 worlds. Each has other faults: lost packets, short reads and
// writes, spurious events. An hour in such a world takes some milliseconds.
func TestSimulation_ServerAnswersInAnyWorld(t *testing.T) {
	sim.Explore(t, 100, func(t *testing.T, w *sim.World) {
		w.Faults(sim.Swarm(), sim.Latency(time.Millisecond, 100*time.Millisecond))
		runOn(w.Host("server"), func(l *loop.Loop) error {
			_, err := l.Listen("tcp", ":80", nil, upper{})
			return err
		})
		w.Sleep(time.Second)
		client := new(asker)
		runOn(w.Host("client"), func(l *loop.Loop) error {
			_, err := l.Dial("tcp", "server:80", time.Minute, nil, client)
			return err
		})
		w.Sleep(time.Hour)
		require.Equal(t, "HELLO\n", client.answer)
	})
}
