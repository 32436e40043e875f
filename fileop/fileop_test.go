//go:build unix || windows

package fileop_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/fileop"
	"github.com/epore/epore/internal/queuetest"
)

const (
	oneEventRule = "F1: exactly one event for each operation that was started"
	resultRule   = "F2: the result is that of os.File"
	refusalRule  = "F3: what cannot be done fails at once, with a clear error, and gives no event"
	closeRule    = "F4: Close waits until the system uses no buffer any more"
)

// world is a Poll and a Queue in a test.
type world struct {
	*testing.T
	poll   *epore.Poll
	queue  *fileop.Queue
	events *epore.Events
	dir    string
}

// engines are the options that choose an engine, by its name.
var engines = map[string][]fileop.Option{"io_uring": nil, "pool": {fileop.WithPool()}}

// eachEngine runs a test with each engine that this system has, on the queue on which tests
// run. Where cached reads do not need an engine, it runs the test once more so that they do.
func eachEngine(t *testing.T, rule string, test func(w *world)) {
	for name, opts := range engines {
		for _, inline := range []bool{true, false} {
			title := name
			if !inline {
				if runtime.GOOS != "linux" {
					continue
				}
				title += " alone"
			}
			t.Run(title, func(t *testing.T) {
				w := newWorld(t, rule, queuetest.OpenBare, opts...)
				if got, why := w.queue.Engine(); got != name {
					t.Skip(why)
				}
				if !inline {
					w.queue.ReadNothingInline()
				}
				test(w)
			})
		}
	}
}

func newWorld(t *testing.T, rule string, open func(...epore.Option) (*epore.Poll, error), opts ...fileop.Option) *world {
	t.Cleanup(backendtest.Watchdog(t, rule))
	p, err := open()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	q, err := fileop.New(p.Registry(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, q.Close()) })
	return &world{t, p, q, epore.NewEvents(64), t.TempDir()}
}

// file creates a file with the content.
func (w *world) file(content []byte) *os.File {
	w.Helper()
	f, err := os.OpenFile(filepath.Join(w.dir, "file"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	require.NoError(w, err)
	w.Cleanup(func() { _ = f.Close() })
	_, err = f.Write(content)
	require.NoError(w, err)
	return f
}

func (w *world) op(token epore.Token) *fileop.Op {
	op := w.queue.NewOp(token)
	w.Cleanup(func() { require.NoError(w, op.Close()) })
	return op
}

// next returns the tokens of the next events.
func (w *world) next() (tokens []epore.Token) {
	w.Helper()
	for len(tokens) == 0 {
		require.NoError(w, w.poll.Poll(w.events, epore.Forever))
		for ev := range w.events.All() {
			require.True(w, ev.Readable())
			require.False(w, ev.Error())
			tokens = append(tokens, ev.Token)
		}
	}
	return tokens
}

// nothing checks that no event comes.
func (w *world) nothing() {
	w.Helper()
	require.NoError(w, w.poll.Poll(w.events, 0))
	require.Zero(w, w.events.Len())
}

// do waits for the event of an operation that was started with err, and returns its result.
func (w *world) do(op *fileop.Op, err error) (int, error) {
	w.Helper()
	require.NoError(w, err)
	require.Len(w, w.next(), 1)
	return op.Result()
}

func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>8) ^ byte(i) ^ seed
	}
	return b
}

// contract: F1, F5
func TestOp_OnEachQueue(t *testing.T) {
	for _, queue := range queuetest.All() {
		for name, opts := range engines {
			t.Run(queue.Name+" with "+name, func(t *testing.T) {
				w := newWorld(t, oneEventRule, func(o ...epore.Option) (*epore.Poll, error) {
					return epore.NewWith(queue.New(), o...)
				}, opts...)
				got, why := w.queue.Engine()
				t.Log(got, why)
				f, op := w.file(nil), w.op(7)
				content := pattern(100_000, 1)
				for range 20 {
					n, err := w.do(op, op.WriteSync(f, [][]byte{content[:5], nil, content[5:]}, 3))
					require.NoError(t, err)
					require.Equal(t, len(content), n)
					b := make([]byte, len(content))
					n, err = w.do(op, op.ReadAt(f, b, 3))
					require.NoError(t, err)
					require.Equal(t, len(content), n)
					require.True(t, bytes.Equal(content, b))
					w.nothing()
				}
			})
		}
	}
}

// contract: F2
func TestOp_ResultIsThatOfOsFile(t *testing.T) {
	eachEngine(t, resultRule, func(w *world) {
		content := pattern(10_000, 3)
		f, op := w.file(content), w.op(1)
		for _, c := range []struct{ off, length int }{
			{0, 10_000}, {0, 1}, {9_999, 1}, {9_999, 2}, {10_000, 1}, {20_000, 5}, {0, 0}, {20_000, 0}, {5_000, 100_000},
		} {
			want, got := make([]byte, c.length), make([]byte, c.length)
			n, err := f.ReadAt(want, int64(c.off))
			gotN, gotErr := w.do(op, op.ReadAt(f, got, int64(c.off)))
			require.Equal(w, n, gotN, "%+v", c)
			require.Equal(w, err, gotErr, "%+v", c)
			require.Equal(w, want, got, "%+v", c)
		}
		n, err := w.do(op, op.WriteAt(f, content[:777], 50_000))
		require.NoError(w, err)
		require.Equal(w, 777, n)
		info, err := f.Stat()
		require.NoError(w, err)
		require.EqualValues(w, 50_777, info.Size())
		for _, start := range []func(*os.File) error{op.Sync, op.SyncData} {
			n, err = w.do(op, start(f))
			require.NoError(w, err)
			require.Zero(w, n)
		}
		n, err = w.do(op, op.WriteAt(f, nil, 0))
		require.NoError(w, err)
		require.Zero(w, n)
		n, err = w.do(op, op.WriteSync(f, nil, 0))
		require.NoError(w, err)
		require.Zero(w, n)
		w.nothing()
	})
}

// More buffers than one request takes, and empty ones.
// contract: F2
func TestOp_WriteSyncOfManyBuffers(t *testing.T) {
	eachEngine(t, resultRule, func(w *world) {
		f, op := w.file(nil), w.op(1)
		var bufs [][]byte
		var content []byte
		for i := range 2500 {
			b := pattern(i%37, byte(i))
			bufs = append(bufs, b)
			content = append(content, b...)
		}
		n, err := w.do(op, op.WriteSync(f, bufs, 11))
		require.NoError(w, err)
		require.Equal(w, len(content), n)
		got, err := os.ReadFile(f.Name())
		require.NoError(w, err)
		require.True(w, bytes.Equal(content, got[11:]))
		w.nothing()
	})
}

// contract: F1, F3
func TestOp_Busy(t *testing.T) {
	eachEngine(t, oneEventRule, func(w *world) {
		f, op := w.file(pattern(100, 0)), w.op(5)
		n, err := op.Result()
		require.NoError(w, err)
		require.Zero(w, n)
		b := make([]byte, 100)
		require.NoError(w, op.ReadAt(f, b, 0))
		for range 3 {
			require.ErrorIs(w, op.ReadAt(f, b, 0), fileop.ErrBusy)
			require.ErrorIs(w, op.Sync(f), fileop.ErrBusy)
			_, err := op.Result()
			require.ErrorIs(w, err, fileop.ErrBusy)
		}
		require.Equal(w, []epore.Token{5}, w.next())
		n, err = op.Result()
		require.NoError(w, err)
		require.Equal(w, 100, n)
		w.nothing()
	})
}

// contract: F3
func TestOp_BadInput(t *testing.T) {
	eachEngine(t, refusalRule, func(w *world) {
		f, op, b := w.file(pattern(100, 0)), w.op(5), make([]byte, 10)
		closed, err := os.Open(f.Name())
		require.NoError(w, err)
		require.NoError(w, closed.Close())
		dir, err := os.Open(w.dir)
		require.NoError(w, err)
		defer dir.Close()
		r, wr, err := os.Pipe()
		require.NoError(w, err)
		defer r.Close()
		defer wr.Close()
		appending, err := os.OpenFile(f.Name(), os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(w, err)
		defer appending.Close()
		for _, c := range []struct {
			what string
			err  error
			want error
		}{
			{"no file", op.ReadAt(nil, b, 0), fs.ErrInvalid},
			{"negative offset", op.ReadAt(f, b, -1), fs.ErrInvalid},
			{"negative offset", op.WriteAt(f, b, -1), fs.ErrInvalid},
			{"closed", op.ReadAt(closed, b, 0), fs.ErrClosed},
			{"closed", op.WriteSync(closed, [][]byte{b}, 0), fs.ErrClosed},
			{"closed", op.Sync(closed), fs.ErrClosed},
			{"directory", op.ReadAt(dir, b, 0), syscall.EISDIR},
			{"pipe", op.ReadAt(r, b, 0), fileop.ErrHasReadiness},
			{"pipe", op.WriteAt(wr, b, 0), fileop.ErrHasReadiness},
			{"zero Op", new(fileop.Op).ReadAt(f, b, 0), fs.ErrInvalid},
			{"zero Op", new(fileop.Op).Close(), fs.ErrInvalid},
			{"zero Queue", new(fileop.Queue).Close(), fs.ErrInvalid},
		} {
			require.ErrorIs(w, c.err, c.want, c.what)
			w.Log(c.err)
		}
		require.Error(w, op.WriteAt(appending, b, 0))
		new(fileop.Op).Cancel()
		w.nothing()

		// The same file, closed after it was used.
		again, err := os.Open(f.Name())
		require.NoError(w, err)
		_, err = w.do(op, op.ReadAt(again, b, 0))
		require.NoError(w, err)
		require.NoError(w, again.Close())
		require.ErrorIs(w, op.ReadAt(again, b, 0), fs.ErrClosed)

		// What only the system knows.
		readOnly, err := os.Open(f.Name())
		require.NoError(w, err)
		defer readOnly.Close()
		n, err := w.do(op, op.WriteAt(readOnly, b, 0))
		var pathErr *fs.PathError
		require.ErrorAs(w, err, &pathErr)
		require.Equal(w, f.Name(), pathErr.Path)
		require.Zero(w, n)
		n, err = w.do(op, op.WriteSync(readOnly, [][]byte{b}, 0))
		require.ErrorAs(w, err, &pathErr)
		require.Zero(w, n)
		w.nothing()
	})
}

// A file that shrinks gives fewer bytes and io.EOF.
// contract: F2
func TestOp_FileIsCut(t *testing.T) {
	eachEngine(t, resultRule, func(w *world) {
		f, op := w.file(pattern(1<<20, 0)), w.op(5)
		b := make([]byte, 1<<20)
		require.NoError(w, op.ReadAt(f, b, 0))
		require.NoError(w, f.Truncate(1000))
		n, err := w.do(op, nil)
		if n < len(b) { // else it was read before
			require.Equal(w, io.EOF, err)
			require.GreaterOrEqual(w, n, 1000)
		}
		n, err = w.do(op, op.ReadAt(f, b, 0))
		require.Equal(w, io.EOF, err)
		require.Equal(w, 1000, n)
	})
}

// A file that is closed after the start is read as if it were open, or not at all. Another
// file that gets its number is never read.
// contract: F2
func TestOp_FileIsClosedMeanwhile(t *testing.T) {
	eachEngine(t, resultRule, func(w *world) {
		want := pattern(5000, 9)
		f := w.file(want)
		other := filepath.Join(w.dir, "other")
		require.NoError(w, os.WriteFile(other, pattern(5000, 77), 0o600))
		refused := 0
		for round := range 50 {
			again, err := os.Open(f.Name())
			require.NoError(w, err)
			ops := make([]*fileop.Op, 5)
			bufs := make([][]byte, len(ops))
			for i := range ops {
				ops[i], bufs[i] = w.queue.NewOp(epore.Token(i)), make([]byte, 5000)
				require.NoError(w, ops[i].ReadAt(again, bufs[i], 0))
			}
			if round%2 == 0 {
				runtime.Gosched()
			}
			require.NoError(w, again.Close())
			usurper, err := os.Open(other)
			require.NoError(w, err)
			for left := len(ops); left > 0; {
				for _, token := range w.next() {
					n, err := ops[token].Result()
					if errors.Is(err, fs.ErrClosed) {
						require.Zero(w, n)
						refused++
					} else {
						require.NoError(w, err)
						require.True(w, bytes.Equal(want, bufs[token]))
					}
					left--
				}
			}
			w.nothing()
			require.NoError(w, usurper.Close())
			for _, op := range ops {
				require.NoError(w, op.Close())
			}
		}
		w.Log(refused, "of 250 were refused")
	})
}

// contract: F1, F2
func TestOp_CancelGivesOneEvent(t *testing.T) {
	eachEngine(t, oneEventRule, func(w *world) {
		f := w.file(pattern(1<<20, 0))
		ops := make([]*fileop.Op, 30)
		bufs := make([][]byte, len(ops))
		for i := range ops {
			ops[i], bufs[i] = w.op(epore.Token(i)), make([]byte, 1<<16)
		}
		canceled := 0
		for round := range 10 {
			for i, op := range ops {
				switch i % 3 {
				case 0:
					require.NoError(w, op.ReadAt(f, bufs[i], 0))
				case 1:
					require.NoError(w, op.WriteAt(f, bufs[i], 1<<21))
				default:
					require.NoError(w, op.WriteSync(f, [][]byte{bufs[i], bufs[i]}, 1<<21))
				}
			}
			if round%2 == 1 {
				require.NoError(w, w.poll.Poll(w.events, 0))
			}
			seen := make(map[epore.Token]int)
			for ev := range w.events.All() {
				seen[ev.Token]++
			}
			for _, op := range ops {
				op.Cancel()
				op.Cancel()
			}
			for len(seen) < len(ops) {
				for _, token := range w.next() {
					seen[token]++
				}
			}
			w.nothing()
			for i, op := range ops {
				require.Equal(w, 1, seen[epore.Token(i)])
				if n, err := op.Result(); err != nil {
					require.Equal(w, fileop.ErrCanceled, err)
					canceled++
				} else {
					require.GreaterOrEqual(w, n, 1<<16)
				}
			}
			require.NoError(w, w.poll.Poll(w.events, 0)) // for All in the next round
		}
		w.Log(canceled, "of 300 were canceled")
		ops[0].Cancel()
		w.nothing()
	})
}

// After Close no event comes, and buffers are as they were left.
// contract: F4
func TestOp_CloseWaits(t *testing.T) {
	eachEngine(t, closeRule, func(w *world) {
		f := w.file(pattern(1<<20, 1))
		for round := range 50 {
			op, b := w.queue.NewOp(5), make([]byte, 1<<18)
			require.NoError(w, op.ReadAt(f, b, 0))
			if round%2 == 0 {
				require.NoError(w, w.poll.Poll(w.events, 0))
			}
			require.NoError(w, op.Close())
			clear(b)
			n, err := op.Result()
			if err != nil {
				require.Equal(w, fileop.ErrCanceled, err)
			} else {
				require.Equal(w, len(b), n)
			}
			for range w.events.All() {
				w.Fatal("an event of a closed Op")
			}
			w.nothing()
			require.Zero(w, len(bytes.TrimLeft(b, "\x00")))
			require.ErrorIs(w, op.ReadAt(f, b, 0), epore.ErrClosed)
			require.NoError(w, op.Close())
		}
	})
}

// contract: F4
func TestQueue_CloseWaits(t *testing.T) {
	for _, what := range []string{"Queue", "Poll"} {
		t.Run(what, func(t *testing.T) {
			eachEngine(t, closeRule, func(w *world) {
				f := w.file(pattern(1<<20, 1))
				ops := make([]*fileop.Op, 20)
				bufs := make([][]byte, len(ops))
				for i := range ops {
					ops[i], bufs[i] = w.op(epore.Token(i)), make([]byte, 1<<18)
					require.NoError(w, ops[i].ReadAt(f, bufs[i], 0))
				}
				require.NoError(w, w.poll.Poll(w.events, 0))
				if what == "Queue" {
					require.NoError(w, w.queue.Close())
					w.nothing()
				} else {
					require.NoError(w, w.poll.Close())
				}
				for i, op := range ops {
					clear(bufs[i])
					_, err := op.Result()
					if err != nil {
						require.Equal(w, fileop.ErrCanceled, err)
					}
					require.ErrorIs(w, op.ReadAt(f, bufs[i], 0), epore.ErrClosed)
				}
				for i := range bufs {
					require.Zero(w, len(bytes.TrimLeft(bufs[i], "\x00")))
				}
				require.ErrorIs(w, w.queue.NewOp(1).Sync(f), epore.ErrClosed)
				require.NoError(w, w.queue.Close())
				_, err := fileop.New(w.poll.Registry())
				if what == "Poll" {
					require.ErrorIs(w, err, epore.ErrClosed)
				}
			})
		})
	}
}

// contract: F3
func TestQueue_NilRegistry(t *testing.T) {
	for _, opts := range engines {
		_, err := fileop.New(nil, opts...)
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
}

// The Queue does not depend on the Registry that it was made with.
// contract: F3
func TestQueue_RegistryIsClosedLater(t *testing.T) {
	eachEngine(t, oneEventRule, func(w *world) {
		r, err := w.poll.Registry().TryClone()
		require.NoError(w, err)
		name, _ := w.queue.Engine()
		q, err := fileop.New(r, engines[name]...)
		require.NoError(w, err)
		require.NoError(w, r.Close())
		f, op := w.file(pattern(100, 0)), q.NewOp(1)
		n, err := w.do(op, op.ReadAt(f, make([]byte, 100), 0))
		require.NoError(w, err)
		require.Equal(w, 100, n)
		_, err = fileop.New(r)
		require.ErrorIs(w, err, epore.ErrClosed)
	})
}

// Many Ops that wait for their turn are canceled in an order that is not that of their starts.
// contract: F1
func TestOp_CancelOfMany(t *testing.T) {
	eachEngine(t, oneEventRule, func(w *world) {
		const total = 20_000
		f, b := w.file(nil), make([]byte, 8) // shared: nobody looks at it
		ops := make([]*fileop.Op, total)
		for i := range ops {
			ops[i] = w.queue.NewOp(epore.Token(i))
			require.NoError(w, ops[i].WriteAt(f, b, 0))
		}
		for i := range ops { // from both ends and from the middle
			ops[(i*7919+total-1)%total].Cancel()
		}
		seen := make([]bool, total)
		for left := total; left > 0; {
			for _, token := range w.next() {
				require.False(w, seen[token])
				seen[token] = true
				left--
			}
		}
		w.nothing()
		for i, op := range ops {
			if _, err := op.Result(); err != nil {
				require.Equal(w, fileop.ErrCanceled, err)
			}
			require.NoError(w, ops[total-1-i].Close())
		}
	})
}

// Operations that other goroutines start wake a waiting Poll.
// contract: F1
func TestOp_StartedByOthers(t *testing.T) {
	eachEngine(t, oneEventRule, func(w *world) {
		f, op := w.file(pattern(100, 0)), w.op(5)
		b := make([]byte, 100)
		for range 100 {
			started := make(chan error, 1)
			go func() {
				for w.poll.Stats().Sleeps == 0 {
					time.Sleep(10 * time.Microsecond)
				}
				started <- op.ReadAt(f, b, 0)
			}()
			require.Equal(w, []epore.Token{5}, w.next())
			require.NoError(w, <-started)
			_, err := op.Result()
			require.NoError(w, err)
		}
	})
}

// contract: F6
func TestOp_AllocatesNothing(t *testing.T) {
	eachEngine(t, "F6: an Op that is used again for the same file allocates nothing", func(w *world) {
		f, op := w.file(pattern(10_000, 0)), w.op(5)
		b := make([]byte, 10_000)
		bufs := [][]byte{b[:4000], b[4000:]}
		round := func(start func() error) func() {
			return func() {
				if start() != nil {
					panic("it did not start")
				}
				for n := 0; n == 0; n = w.events.Len() {
					if w.poll.Poll(w.events, epore.Forever) != nil {
						panic("Poll failed")
					}
				}
				if _, err := op.Result(); err != nil {
					panic(err)
				}
			}
		}
		for name, start := range map[string]func() error{
			"read":      func() error { return op.ReadAt(f, b, 0) },
			"write":     func() error { return op.WriteAt(f, b, 0) },
			"WriteSync": func() error { return op.WriteSync(f, bufs, 0) },
		} {
			f := round(start)
			f()
			require.LessOrEqual(w, testing.AllocsPerRun(50, f), 1.0/4, name)
		}
	})
}
