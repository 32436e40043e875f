//go:build unix || windows

package backendtest

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// modeCases test level, edge, one-shot, and which bits are reported.
var modeCases = []wantedCase{
	// contract: M1
	{
		name: "level repeats until drained",
		rule: "M1: every wait reports a level-triggered source while the condition holds",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			q.add(a, 1, backend.Readable)
			b.Write("hello")
			for range 5 {
				require.Equal(t, backend.ReadyReadable, q.expect(1))
			}
			require.Equal(t, "he", a.Read(2))
			require.Equal(t, backend.ReadyReadable, q.expect(1), "three bytes are left")
			a.Drain()
			q.silent("drained")
			b.Write("x")
			require.Equal(t, backend.ReadyReadable, q.expect(1))
		},
	},
	// contract: M2
	{
		name:  "edge does not repeat",
		rule:  "M2: a source that is neither drained nor changed is not reported again",
		needs: backend.Edge,
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			q.add(a, 1, backend.Readable|backend.Edge)
			b.Write("hello")
			require.Equal(t, backend.ReadyReadable, q.expect(1))
			q.silent("unchanged")
			a.Read(2)
			q.silent("drained in part, no new data")
		},
	},
	// contract: M2
	{
		name:  "edge after would-block",
		rule:  "M2: another event is certain once the operation has returned would-block and the condition has come back",
		needs: backend.Edge,
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			q.add(a, 1, backend.Readable|backend.Edge)
			for range 100 {
				b.Write("hello")
				require.Equal(t, backend.ReadyReadable, q.expect(1))
				n, _ := a.Drain()
				require.Equal(t, 5, n)
			}
			q.silent("drained")
		},
	},
	// contract: M2
	{
		name:  "edge for writing after would-block",
		rule:  "M2: for Writable, too, another event is certain after would-block",
		needs: backend.Edge,
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			q.add(a, 1, backend.Writable|backend.Edge)
			require.Equal(t, backend.ReadyWritable, q.expect(1))
			for range 10 {
				n := a.Fill()
				require.Positive(t, n)
				// The reader has not made room yet.
				require.Empty(t, q.wait(4, 0))
				got, _ := b.Drain()
				require.Equal(t, n, got)
				require.Equal(t, backend.ReadyWritable, q.expect(1))
			}
		},
	},
	// contract: M3
	{
		name:  "one-shot is silent until armed again",
		rule:  "M3: one event, then none for the whole registration until Reregister",
		needs: backend.OneShot,
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			q.add(a, 1, backend.Readable|backend.OneShot)
			q.silent("nothing to read yet")
			for k := backend.Key(1); k < 5; k++ {
				b.Write("x")
				require.Equal(t, backend.ReadyReadable, q.expect(k))
				q.silent("shot")
				b.Write("y")
				q.silent("shot, though data arrives")
				a.Drain()
				q.modify(a, k+1, backend.Readable|backend.OneShot)
			}
		},
	},
	// contract: M3
	{
		name:  "one-shot silences both directions",
		rule:  "M3: one event, whichever bit, then none in either direction",
		needs: backend.OneShot,
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			both := backend.Readable | backend.Writable
			q.add(a, 1, both|backend.OneShot)
			require.Equal(t, backend.ReadyWritable, q.expect(1))
			b.Write("x")
			q.silent("readable now, but writable was the one shot")
			q.modify(a, 2, both|backend.OneShot)
			require.True(t, q.expect(2)&(backend.ReadyReadable|backend.ReadyWritable) != 0)
			b.Write("y")
			q.silent("shot")
		},
	},
	// contract: M3
	{
		name:  "one-shot silences the end of the stream too",
		rule:  "M3: after its one event, a registration does not report hang-ups or errors either",
		needs: backend.OneShot,
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			q.add(a, 1, backend.Readable|backend.OneShot)
			b.Write("x")
			require.Equal(t, backend.ReadyReadable, q.expect(1))
			if fixture.EndAfterData() {
				a.Drain()
			}
			b.Close()
			q.silent("shot")
			q.modify(a, 2, backend.Readable|backend.OneShot)
			require.True(t, q.expect(2).Has(backend.ReadyReadable|backend.ReadyReadClosed))
		},
	},
	// contract: R3, M3
	{
		name:  "deregister after a one-shot event",
		rule:  "M3, R3: after its one event, a one-shot source is still registered",
		needs: backend.OneShot,
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			b.Write("x")
			q.add(a, 1, backend.Readable|backend.OneShot)
			q.expect(1)
			require.ErrorIs(t, q.Add(a.Handle(), 2, backend.Readable), fs.ErrExist)
			q.remove(a)
			require.ErrorIs(t, q.Delete(a.Handle()), fs.ErrNotExist)
		},
	},
	// contract: R5
	{
		name:  "switching modes on a live registration",
		rule:  "R5: Reregister replaces the whole mode: level, edge, one-shot",
		needs: backend.OneShot,
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			b.Write("x")
			q.add(a, 1, backend.Readable)
			for range 3 {
				require.Equal(t, backend.ReadyReadable, q.expect(1), "level")
			}
			edge := edgeOr(q, 0)
			q.modify(a, 2, backend.Readable|edge)
			require.Equal(t, backend.ReadyReadable, q.expect(2), "edge")
			if edge != 0 {
				q.silent("edge does not repeat")
			}
			b.Write("y")
			a.Drain()
			b.Write("z")
			require.Equal(t, backend.ReadyReadable, q.expect(2), "edge, after would-block")
			q.modify(a, 3, backend.Readable|backend.OneShot)
			require.Equal(t, backend.ReadyReadable, q.expect(3), "one-shot")
			a.Drain()
			b.Write("z")
			q.silent("shot")
			q.modify(a, 4, backend.Readable)
			for range 3 {
				require.Equal(t, backend.ReadyReadable, q.expect(4), "level again")
			}
			q.modify(a, 5, backend.Readable|backend.OneShot|edge)
			require.Equal(t, backend.ReadyReadable, q.expect(5), "edge and one-shot")
			a.Drain()
			b.Write("z")
			q.silent("shot")
		},
	},
	// contract: M4
	{
		name:  "exclusive reports like its mode",
		rule:  "M4: Exclusive is compatible with level and edge; it changes which queues are woken, not what is reported",
		needs: backend.Exclusive | backend.Edge,
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			b.Write("x")
			q.add(a, 1, backend.Readable|backend.Exclusive)
			for range 3 {
				require.Equal(t, backend.ReadyReadable, q.expect(1))
			}
			q.modify(a, 2, backend.Readable|backend.Exclusive|backend.Edge)
			require.Equal(t, backend.ReadyReadable, q.expect(2))
			q.silent("edge does not repeat")
			q.modify(a, 3, backend.Readable)
			for range 3 {
				require.Equal(t, backend.ReadyReadable, q.expect(3), "level, not exclusive")
			}
			q.modify(a, 4, backend.Readable|backend.Exclusive)
			require.Equal(t, backend.ReadyReadable, q.expect(4), "exclusive again")
			q.remove(a)
			require.ErrorIs(t, q.Delete(a.Handle()), fs.ErrNotExist)
			require.ErrorIs(t, q.Modify(a.Handle(), 5, backend.Readable|backend.Exclusive), fs.ErrNotExist)
		},
	},
	// contract: M5
	{
		name: "only what was asked for",
		rule: "M5: only requested bits are reported",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			b.Write("x")
			q.add(a, 1, backend.Readable)
			require.Equal(t, backend.ReadyReadable, q.expect(1), "the socket is also writable")
			q.modify(a, 2, backend.Writable)
			require.Equal(t, backend.ReadyWritable, q.expect(2), "the socket is also readable")
		},
	},
	// contract: P6
	{
		name: "readable and writable together",
		rule: "P6: both bits of one registration come in one event or in two; a batch never has the same bit twice",
		run: func(t *testing.T, q *queue) {
			for _, mode := range modesOf(q) {
				a, b := fixture.Pair(t)
				b.Write("x")
				q.add(a, 1, backend.Readable|backend.Writable|mode)
				want := backend.ReadyReadable | backend.ReadyWritable
				if mode.Has(backend.OneShot) {
					require.NotZero(t, q.expect(1)&want, "at least one of them")
				} else {
					require.Equal(t, want, q.expectBits(1, want))
				}
				q.remove(a)
			}
		},
	},
	// contract: M9
	{
		name: "spurious events are rare",
		rule: "M9: at most 1 in 1,000 events is spurious",
		run: func(t *testing.T, q *queue) {
			a, b := fixture.Pair(t)
			q.add(a, 1, backend.Readable)
			const rounds = 1000
			spurious := 0
			for range rounds {
				b.Write("x")
				q.expect(1)
				if n, _ := a.Drain(); n == 0 {
					spurious++
				}
				for range q.wait(4, 0) {
					spurious++
				}
			}
			require.LessOrEqual(t, spurious, rounds/1000)
		},
	},
}
