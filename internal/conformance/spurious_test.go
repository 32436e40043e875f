//go:build unix || windows

package conformance_test

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/queuetest"
	"github.com/epore/epore/socket"
)

// TestSpuriousEvents counts events whose source has nothing to read (rule M9), in the case
// that makes most of them: goroutines write to many sources while the loop reads them until
// would-block, with room for few events. The log has the figures.
// contract: M9
func TestSpuriousEvents(t *testing.T) {
	queues := queuetest.All()
	each := backendtest.Time(time.Duration(len(queues))*100*time.Millisecond) / time.Duration(4*len(queues))
	for _, queue := range queues {
		for _, strategy := range []epore.Strategy{epore.Park, epore.Block} {
			for _, mode := range []epore.Interest{0, epore.Edge} {
				t.Run(queue.Name+"/"+strategy.String()+"/"+mode.String(), func(t *testing.T) {
					p, err := epore.NewWith(queue.New(), epore.WithStrategy(strategy))
					if errors.Is(err, errors.ErrUnsupported) {
						t.Skip(err)
					}
					require.NoError(t, err)
					defer p.Close()
					if p.Strategy() != strategy {
						t.Skip("this queue cannot park")
					}
					countSpurious(t, p, mode, each)
				})
			}
		}
	}
}

func countSpurious(t *testing.T, p *epore.Poll, mode epore.Interest, took time.Duration) {
	const sources = 64
	var here, there [sources]*socket.Conn
	var err error
	for i := range sources {
		here[i], there[i], err = socket.Pair()
		require.NoError(t, err)
		defer here[i].Close()
		defer there[i].Close()
		err := p.Registry().Register(here[i], epore.Token(i), epore.Readable|mode)
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip(err)
		}
		require.NoError(t, err)
	}
	var over atomic.Bool
	var writers sync.WaitGroup
	for g := range 4 {
		writers.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(g)))
			for !over.Load() {
				if _, err := there[random.IntN(sources/4)*4+g].Write([]byte("x")); err != nil && !errors.Is(err, socket.ErrWouldBlock) {
					t.Errorf("write: %v", err)
					return
				}
				runtime.Gosched()
			}
		})
	}
	runtime.LockOSThread() // some queues belong to one thread
	defer runtime.UnlockOSThread()
	var buffers []*epore.Events
	for _, capacity := range []int{1, 4, 64} {
		buffers = append(buffers, epore.NewEvents(capacity))
	}
	buf := make([]byte, 1024)
	count, spurious := 0, 0
	for begin, i := time.Now(), 0; time.Since(begin) < took; i++ {
		events := buffers[i%len(buffers)]
		require.NoError(t, p.Poll(events, 10*time.Millisecond))
		for ev := range events.All() {
			count++
			for first := true; ; first = false {
				_, err := here[ev.Token].Read(buf)
				if first && errors.Is(err, socket.ErrWouldBlock) {
					spurious++
				}
				if err != nil {
					require.ErrorIs(t, err, socket.ErrWouldBlock)
					break
				}
			}
		}
	}
	over.Store(true)
	writers.Wait()
	t.Logf("reached %d events, %d of them spurious", count, spurious)
	require.LessOrEqual(t, spurious, 3+count/1000, "M9: of %d events", count)
}
