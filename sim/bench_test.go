//go:build unix

package sim_test

import (
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/sim"
	"github.com/epore/epore/socket"
)

// The unit of these benchmarks is processor time, because the machine may have other work.

// inBubble runs f in a bubble. testing/synctest asks for a T, which a benchmark does not have.
func inBubble(b *testing.B, f func(w *sim.World)) {
	var once sync.Once // RunTests runs a test for each -cpu and -count
	ok := testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: b.Name(), F: func(t *testing.T) {
		once.Do(func() { synctest.Test(t, func(t *testing.T) { f(sim.NewSeed(t, 1)) }) })
	}}})
	require.True(b, ok)
}

// processorTime returns what the process has used so far.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// answerer writes a byte for each that it reads, on all its connections. It keeps count of its
// events, and ends when the World does.
type answerer struct {
	poll   *epore.Poll
	conns  []*socket.Conn
	events int
	limit  int // then it sends nothing more
}

func newAnswerer(b *testing.B, h *sim.Host, limit int) *answerer {
	poll, err := epore.NewWith(h.Backend())
	require.NoError(b, err)
	return &answerer{poll: poll, limit: limit}
}

func (a *answerer) add(b *testing.B, c *socket.Conn) {
	require.NoError(b, a.poll.Registry().Register(c, epore.Token(len(a.conns)), epore.Readable))
	a.conns = append(a.conns, c)
}

func (a *answerer) run(*sim.Task) {
	events, buf := epore.NewEvents(256), make([]byte, 16)
	for a.poll.Poll(events, epore.Forever) == nil {
		for ev := range events.All() {
			a.events++
			n, err := a.conns[ev.Token].Read(buf)
			if err == nil && a.events < a.limit {
				_, err = a.conns[ev.Token].Write(buf[:n])
			}
			if err != nil && err != socket.ErrWouldBlock {
				panic(err)
			}
		}
	}
}

// exchange lets two hosts answer each other on so many connections, until a host has had its
// half of b.N events.
func exchange(b *testing.B, conns int) {
	inBubble(b, func(w *sim.World) {
		server, client := w.Host("server"), w.Host("client")
		l, err := server.Listen("tcp", ":7")
		require.NoError(b, err)
		limit := (b.N + 1) / 2
		s, c := newAnswerer(b, server, limit), newAnswerer(b, client, limit)
		for range conns {
			conn, err := client.Dial("tcp", "server:7")
			require.NoError(b, err)
			w.Settle()
			accepted, err := l.Accept()
			require.NoError(b, err)
			s.add(b, accepted)
			c.add(b, conn)
		}
		for _, conn := range c.conns {
			_, err := conn.Write([]byte("x"))
			require.NoError(b, err)
		}
		b.ResetTimer()
		begin := processorTime(b)
		server.Go(s.run)
		client.Go(c.run)
		w.Sleep(24 * time.Hour)
		used := processorTime(b) - begin
		b.StopTimer()
		require.GreaterOrEqual(b, s.events, limit)
		b.ReportMetric(0, "ns/op") // of virtual time
		b.ReportMetric(float64(s.events+c.events)/used.Seconds(), "events/cpu-s")
		b.ReportMetric(float64(used)/float64(s.events+c.events), "cpu-ns/event")
	})
}

func BenchmarkWorld_BatchesOfOne(b *testing.B)        { exchange(b, 1) }
func BenchmarkWorld_ThousandConnections(b *testing.B) { exchange(b, 1000) }

// An hour in which nothing happens, except for the ticks of a Timer, one each second.
func BenchmarkWorld_IdleHour(b *testing.B) {
	inBubble(b, func(w *sim.World) {
		host := w.Host("a")
		p, err := epore.NewWith(host.Backend())
		require.NoError(b, err)
		timer, err := epore.NewTimer(p.Registry(), 1)
		require.NoError(b, err)
		require.NoError(b, timer.Every(time.Second))
		ticks := 0
		host.Go(func(*sim.Task) {
			for events := epore.NewEvents(1); p.Poll(events, epore.Forever) == nil; {
				ticks += events.Len()
			}
		})
		b.ResetTimer()
		begin := processorTime(b)
		for range b.N {
			w.Sleep(time.Hour)
		}
		used := processorTime(b) - begin
		b.StopTimer()
		require.InDelta(b, 3600*b.N, ticks, 1)
		b.ReportMetric(0, "ns/op") // of virtual time
		b.ReportMetric(float64(used)/1e6/float64(b.N), "cpu-ms/hour")
	})
}
