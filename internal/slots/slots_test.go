package slots

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fdtable"
)

func TestPages_PlacesAreContiguous(t *testing.T) {
	want := 0
	for page := range 6 {
		for offset := range uint32(firstPage << page) {
			p, o := place(uint32(want))
			require.Equal(t, page, p, "slot %d", want)
			require.Equal(t, offset, o, "slot %d", want)
			want++
		}
	}
	page, _ := place(1<<31 - firstPage)
	require.Less(t, page, len(pages{}))
}

// handles are numbers at the limits of what a system may use.
var handles = []backend.Handle{0, 1, 511, 512, 100_000, fdtable.Dense - 1, fdtable.Dense, 1 << 31, NoHandle - 1}

func TestTable_FindsHandles(t *testing.T) {
	var table Table
	for i, h := range handles {
		_, ok := table.Lookup(h)
		require.False(t, ok)
		table.Bind(h, uint32(i))
	}
	for i, h := range handles {
		got, ok := table.Lookup(h)
		require.True(t, ok)
		require.Equal(t, uint32(i), got)
		table.Unbind(h)
		_, ok = table.Lookup(h)
		require.False(t, ok)
	}
}

func TestTable_ReusesSlots(t *testing.T) {
	var table Table
	for range 10 {
		keys := make(map[backend.Key]bool)
		for range 100 {
			keys[table.Insert(NoHandle, 1, backend.Readable)] = true
		}
		require.Len(t, keys, 100)
		for k := range keys {
			require.NotZero(t, k)
			table.Remove(Index(k))
			_, ok := table.Token(k)
			require.False(t, ok)
		}
	}
	require.Equal(t, uint32(100), table.used)
}

// An event under a key that a Reregister in progress is about to make valid waits for
// that Reregister; it is not dropped.
// contract: R5
func TestTable_EventFasterThanItsReregister(t *testing.T) {
	var table Table
	old := table.Insert(5, 1, backend.Readable)
	table.Lock()
	soon := table.NextKey(Index(old))
	batch := []backend.Event{{Key: old, Ready: backend.ReadyReadable}, {Key: soon, Ready: backend.ReadyReadable}}
	started, kept := make(chan struct{}), make(chan int)
	go func() {
		close(started)
		kept <- table.Keep(batch[1:])
	}()
	<-started
	for range 1000 { // give it every chance to decide too early
		runtime.Gosched()
	}
	table.Replace(Index(old), 2, backend.Readable)
	table.Unlock()
	require.Equal(t, 1, <-kept)
	token, ok := table.Token(soon)
	require.True(t, ok)
	require.Equal(t, uint64(2), token)
	require.Zero(t, table.Keep(batch[:1]), "the old one is stale")

	next := table.NextKey(Index(old))
	require.Zero(t, table.Keep([]backend.Event{{Key: next, Ready: backend.ReadyReadable}}), "its Reregister failed")
}

// Readers that run concurrently with changes get the token of their key, or none.
// contract: R6
func TestTable_TokenBelongsToItsKey(t *testing.T) {
	var table Table
	var enough atomic.Bool
	keys := make(chan backend.Key, 1)
	var work sync.WaitGroup
	work.Go(func() {
		defer close(keys)
		k := table.Insert(5, 1, backend.Readable)
		for token := uint64(1); !enough.Load(); token++ {
			select {
			case keys <- k:
				if token%2 == 0 {
					runtime.Gosched() // let it be read while it is valid
				}
			default:
			}
			table.Lock()
			table.Replace(Index(k), token+1, backend.Readable)
			table.Unlock()
			k += 2
		}
	})
	seen := 0
	for k := range keys {
		for _, k := range []backend.Key{k, k + 2, k + 4} { // the next ones, too, once they are there
			if token, ok := table.Token(k); ok {
				assert.Equal(t, uint64((keyGeneration(k)+1)/2), token)
				seen++
			}
		}
		if seen >= 1000 || t.Failed() {
			enough.Store(true)
		}
	}
	work.Wait()
}
