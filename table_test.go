package epore

import (
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
)

func TestPlacesOfSlots(t *testing.T) {
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
	require.Less(t, page, len(slotPages{}))
}

func TestIndexOfHandles(t *testing.T) {
	var x fdIndex
	handles := []backend.Handle{0, 1, fdPage - 1, fdPage, 100_000, denseFDs - 1, denseFDs, 1 << 31, noHandle - 1}
	for i, h := range handles {
		_, ok := x.get(h)
		require.False(t, ok)
		x.put(h, uint32(i))
	}
	for i, h := range handles {
		got, ok := x.get(h)
		require.True(t, ok)
		require.Equal(t, uint32(i), got)
		x.drop(h)
		_, ok = x.get(h)
		require.False(t, ok)
	}
}

func TestSlotsAreReused(t *testing.T) {
	var table table
	for range 10 {
		keys := make(map[backend.Key]bool)
		for range 100 {
			keys[table.insert(noHandle, 1, Readable)] = true
		}
		require.Len(t, keys, 100)
		for k := range keys {
			require.NotZero(t, k)
			table.remove(keyIndex(k))
			_, ok := table.token(k)
			require.False(t, ok)
		}
	}
	require.Equal(t, uint32(100), table.used)
}

// An event under a key that a Reregister is just about to make valid waits for
// it, instead of being dropped.
func TestAnEventFasterThanItsReregister(t *testing.T) {
	var table table
	old := table.insert(5, 1, Readable)
	table.mu.Lock()
	soon := table.nextKey(keyIndex(old))
	batch := []backend.Event{{Key: old, Ready: backend.ReadyReadable}, {Key: soon, Ready: backend.ReadyReadable}}
	started, kept := make(chan struct{}), make(chan int)
	go func() {
		close(started)
		kept <- table.keep(batch[1:])
	}()
	<-started
	for range 1000 { // give it every chance to decide too early
		runtime.Gosched()
	}
	table.replace(keyIndex(old), 2, Readable)
	table.mu.Unlock()
	require.Equal(t, 1, <-kept)
	token, ok := table.token(soon)
	require.True(t, ok)
	require.Equal(t, Token(2), token)
	require.Zero(t, table.keep(batch[:1]), "the old one is stale")

	next := table.nextKey(keyIndex(old))
	require.Zero(t, table.keep([]backend.Event{{Key: next, Ready: backend.ReadyReadable}}), "its Reregister failed")
}

// Readers beside changes: the token belongs to the key, or there is none.
func TestTokensBelongToTheirKeys(t *testing.T) {
	stop := backendtest.Watchdog(t, "R6: a token belongs to its key")
	defer stop()
	var table table
	var enough atomic.Bool
	keys := make(chan backend.Key, 1)
	var work sync.WaitGroup
	work.Go(func() {
		defer close(keys)
		k := table.insert(5, 1, Readable)
		for token := Token(1); !enough.Load(); token++ {
			select {
			case keys <- k:
				if token%2 == 0 {
					runtime.Gosched() // let it be read while it is valid
				}
			default:
			}
			table.mu.Lock()
			table.replace(keyIndex(k), token+1, Readable)
			table.mu.Unlock()
			k += 2
		}
	})
	seen := 0
	for k := range keys {
		for _, k := range []backend.Key{k, k + 2, k + 4} { // the next ones, too, once they are there
			if token, ok := table.token(k); ok {
				assert.Equal(t, Token((keyGeneration(k)+1)/2), token)
				seen++
			}
		}
		if seen >= 1000 || t.Failed() {
			enough.Store(true)
		}
	}
	work.Wait()
}

func TestFailedRegistrationsLeaveNoSlot(t *testing.T) {
	f := backendtest.NewFake()
	p, err := NewWith(f)
	require.NoError(t, err)
	defer p.Close()
	require.NoError(t, p.Registry().Register(FD(1), 1, Readable))
	for range 100 {
		require.Error(t, p.Registry().Register(FD(1), 2, Readable)) // fs.ErrExist
		f.FailNext("Add", fs.ErrInvalid)
		require.ErrorIs(t, p.Registry().Register(FD(2), 2, Readable), fs.ErrInvalid)
	}
	require.Equal(t, uint32(2), p.table.used)
}
