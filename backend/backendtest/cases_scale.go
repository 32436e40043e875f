//go:build unix || windows

package backendtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// scaleCases test many descriptors and many operations.
var scaleCases = []wantedCase{
	// contract: P5, E4
	{
		name: "ten thousand descriptors",
		rule: "P5, E4: of many active descriptors none is lost, and none is reported twice",
		run: func(t *testing.T, q *queue) {
			const wanted = 10_000
			pairs, close := fixture.ManyPairs(t, fixture.Affordable(t, wanted/2))
			defer close()
			var fds []int // both ends of each pair, next to each other
			for _, pair := range pairs {
				fds = append(fds, pair[:]...)
			}
			n := len(fds)
			for i, fd := range fds {
				require.NoError(t, q.Add(backend.Handle(fd), backend.Key(i+1), backend.Readable))
				_, err := fixture.WriteFD(fds[i^1], []byte("x"))
				require.NoError(t, err)
			}
			seen := make([]bool, n)
			buf := make([]byte, 8)
			for left := n; left > 0; {
				events := q.wait(1024, soon)
				require.NotEmpty(t, events, "%d of %d are missing", left, n)
				for _, ev := range events {
					i := int(ev.Key) - 1
					require.False(t, seen[i], "%d came twice, though it was drained", i)
					seen[i] = true
					left--
					got, err := fixture.ReadFD(fds[i], buf)
					require.NoError(t, err)
					require.Equal(t, 1, got)
				}
			}
			require.Empty(t, q.wait(1024, 0))
			for _, fd := range fds {
				require.NoError(t, q.Delete(backend.Handle(fd)))
			}
			t.Logf("reached %d of %d registered descriptors, all active (limit %d)", n, wanted, fixture.DescriptorLimit(t))
		},
	},
	// contract: R3, E4
	{
		name: "registering repeatedly leaks nothing",
		rule: "R3, E4: registering and deregistering leaks nothing",
		run: func(t *testing.T, q *queue) {
			pairs := 10_000
			switch {
			case Long():
				pairs = 1_000_000
			case fixture.Wine: // slow: each takes several requests to its server
				pairs = 2000
			}
			a, b := fixture.Pair(t)
			b.Write("x")
			churn := func(n int) {
				for i := range n {
					if err := q.Backend.Add(a.Handle(), backend.Key(i+1), backend.Readable); err != nil {
						t.Fatalf("Add %d: %v", i, err)
					}
					if i%1000 == 0 {
						q.interest[backend.Key(i+1)] = backend.Readable
						require.Len(t, q.wait(4, soon), 1)
						delete(q.interest, backend.Key(i+1))
					}
					if err := q.Backend.Delete(a.Handle()); err != nil {
						t.Fatalf("Delete %d: %v", i, err)
					}
				}
			}
			churn(1000)
			before := fixture.Heap()
			churn(pairs)
			grown := fixture.Heap() - before
			require.Less(t, grown, int64(64<<10), "bytes leaked by %d pairs", pairs)
			t.Logf("reached %d of 1,000,000 pairs (%s=1 for all), the heap grew by %d bytes", pairs, EnvLong, grown)
		},
	},
	// contract: R6
	{
		name: "deregistering many in a batch",
		rule: "R6: none of many deregistered sources is reported",
		run: func(t *testing.T, q *queue) {
			const wanted = 400
			n := fixture.Affordable(t, wanted)
			t.Logf("reached %d of %d", n, wanted)
			ends, close := fixture.ManyPairs(t, n)
			defer close()
			for i, e := range ends {
				require.NoError(t, q.Add(backend.Handle(e[0]), backend.Key(i+1), backend.Readable))
				_, err := fixture.WriteFD(e[1], []byte("x"))
				require.NoError(t, err)
			}
			for i := 0; i < n; i += 2 {
				require.NoError(t, q.Delete(backend.Handle(ends[i][0])))
			}
			seen := make(map[backend.Key]bool)
			for _, ev := range q.wait(n, soon) {
				require.Zero(t, ev.Key%2, "key %d was deregistered", ev.Key)
				seen[ev.Key] = true
			}
			require.Len(t, seen, n/2)
		},
	},
}
