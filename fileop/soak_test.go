//go:build unix || windows

package fileop_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/fileop"
)

const (
	cellSize = 4096
	cells    = 64 // one for each Op, so that what a cell contains is known
)

// account is what the ledger knows of an Op.
type account struct {
	op       *fileop.Op
	started  bool
	reading  bool
	canceled bool
	buf      []byte
	unsure   bool   // a write was canceled: the cell is old, new, or a mixture
	content  []byte // of the cell, unless unsure
}

// TestSoak does random operations, cancels and closes, and compares events and contents with
// a ledger. A short run takes a moment; EPORE_LONG=10m, say, takes that long, in rounds that
// have a Poll and a Queue each, and a time within which they must end.
// contract: F1, F2, F4, F6
func TestSoak(t *testing.T) {
	const round = 10 * time.Second // of an engine
	for left := backendtest.Time(600*time.Millisecond) / time.Duration(2*len(engines)); left > 0 && !t.Failed(); left -= round {
		soak(t, min(left, round))
	}
}

func soak(t *testing.T, length time.Duration) {
	eachEngine(t, oneEventRule, func(w *world) {
		seed := uint64(time.Now().UnixNano())
		random := rand.New(rand.NewPCG(seed, 0))
		f := w.file(make([]byte, cells*cellSize))
		end := time.Now().Add(length)
		ledger := make([]account, cells)
		for i := range ledger {
			ledger[i] = account{op: w.queue.NewOp(epore.Token(i)), buf: make([]byte, cellSize), content: make([]byte, cellSize)}
		}
		operations, cancels, closes, active := 0, 0, 0, 0
		for time.Now().Before(end) || active > 0 {
			for i := range ledger {
				a := &ledger[i]
				if a.started || !time.Now().Before(end) || random.IntN(3) == 0 {
					continue
				}
				w.begin(random, f, a, int64(i)*cellSize)
				operations++
				active++
				switch random.IntN(40) {
				case 0, 1, 2, 3:
					a.op.Cancel()
					a.canceled = true
					cancels++
				case 4:
					require.NoError(w, a.op.Close())
					_, err := a.op.Result()
					a.settle(err)
					a.op = w.queue.NewOp(epore.Token(i))
					closes++
					active--
				}
			}
			timeout := time.Duration(0)
			if active > 0 {
				timeout = epore.Forever
			}
			require.NoError(w, w.poll.Poll(w.events, timeout))
			for ev := range w.events.All() {
				a := &ledger[ev.Token]
				require.True(w, a.started, "an event without an operation (seed %d)", seed)
				active--
				n, err := a.op.Result()
				if err == nil {
					require.True(w, n == cellSize || n == 0)
				} else {
					require.True(w, errors.Is(err, fileop.ErrCanceled) && a.canceled, "%v (seed %d)", err, seed)
				}
				if a.reading && err == nil && n == cellSize && !a.unsure {
					require.True(w, bytes.Equal(a.content, a.buf), "cell %d (seed %d)", ev.Token, seed)
				}
				a.settle(err)
			}
			if operations%997 == 0 {
				runtime.GC()
			}
		}
		w.nothing()
		for i := range ledger {
			require.NoError(w, ledger[i].op.Close())
			if !ledger[i].unsure {
				got := make([]byte, cellSize)
				_, err := f.ReadAt(got, int64(i)*cellSize)
				require.True(w, err == nil || err == io.EOF)
				require.True(w, bytes.Equal(ledger[i].content, got), "cell %d (seed %d)", i, seed)
			}
		}
		w.Logf("%d operations, %d cancels, %d closes", operations, cancels, closes)
	})
}

// begin starts a random operation on the cell at off.
func (w *world) begin(random *rand.Rand, f *os.File, a *account, off int64) {
	a.started, a.canceled, a.reading = true, false, false
	var err error
	switch random.IntN(64) {
	default:
		a.reading = true
		clear(a.buf)
		err = a.op.ReadAt(f, a.buf, off)
	case 0:
		err = a.op.SyncData(f)
	case 1:
		a.write(random)
		err = a.op.WriteSync(f, [][]byte{a.buf[:100], a.buf[100:]}, off)
	case 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19:
		a.write(random)
		err = a.op.WriteAt(f, a.buf, off)
	}
	require.NoError(w, err)
}

// write chooses what is to be written.
func (a *account) write(random *rand.Rand) {
	copy(a.buf, pattern(len(a.buf), byte(random.Uint32())))
	copy(a.content, a.buf)
	a.unsure = false
}

// settle notes the end of an operation.
func (a *account) settle(err error) {
	a.started = false
	if err != nil && !a.reading {
		a.unsure = true
	}
}
