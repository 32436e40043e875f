// Files compares ways to read and sync files from a Go program: package fileop on an io_uring
// and on its pool, goroutines with os.File, and a C program on liburing. It runs on Linux.
//
//	go -C bench/files run . [-only TEXT] [-rounds 3] [-time 500ms] [-dir .] [-out FILE]
//
// Rates are of a second; processor time is that of the process, user and system, for each
// operation. Each figure is the median of the rounds; the contestants take turns in each.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/fileop"
)

const (
	blockSize = 4096
	fileSize  = 256 << 20
	blocks    = fileSize / blockSize
)

// measure is the result of a run.
type measure struct{ rate, cpu float64 } // per second; µs for each operation

// contestant is a way to do what a cell measures.
type contestant struct {
	title string
	run   func(b *bench) (operations int, err error)
}

type cell struct {
	title       string
	contestants []contestant
}

// bench is a run: until the time is over, on the file.
type bench struct {
	dir    string
	file   *os.File
	direct bool
	depth  int
	end    time.Time
}

// only selects cells by their title.
var only string

func main() {
	log.SetFlags(0)
	rounds := flag.Int("rounds", 3, "`number` of rounds")
	length := flag.Duration("time", 500*time.Millisecond, "`time` of each run")
	dir := flag.String("dir", os.TempDir(), "`folder` for the files, on the disk to measure")
	flag.StringVar(&only, "only", "", "measure only the cells whose title contains this `text`")
	out := flag.String("out", "", "`file` for the report, besides standard output")
	slow := flag.String("serve-slow", "", "only serve a file system whose syncs are slow, in this `folder`; the program starts itself so")
	flag.Parse()
	if *slow != "" {
		if err := serveSlow(*slow); err != nil {
			log.Fatal(err)
		}
		return
	}
	report, err := measureAll(*dir, *rounds, *length)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(report)
	if *out != "" {
		if err := os.WriteFile(*out, []byte(report), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

func measureAll(parent string, rounds int, length time.Duration) (string, error) {
	dir, err := os.MkdirTemp(parent, "epore-files-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "data")
	if err := fill(path); err != nil {
		return "", err
	}
	c := buildC(dir)
	var report strings.Builder
	begin, before := time.Now(), load()
	reads := []struct {
		title  string
		direct bool
		depth  int
	}{{"4 KiB random reads, cached, depth 64", false, 64}, {"4 KiB random reads, O_DIRECT, depth 64", true, 64}, {"4 KiB random reads, O_DIRECT, depth 1", true, 1}}
	for _, r := range reads {
		contestants := []contestant{{"fileop, io_uring", readOps(nil)}, {"fileop, pool", readOps([]fileop.Option{fileop.WithPool()})}, {"goroutines, os.File", readGoroutines}}
		if c != "" {
			contestants = append(contestants, contestant{"C, liburing", readC(c)})
		}
		flags := os.O_RDONLY
		if r.direct {
			flags |= unix.O_DIRECT
		}
		f, err := os.OpenFile(path, flags, 0)
		if err != nil {
			return "", err
		}
		table(&report, cell{r.title, contestants}, rounds, length, &bench{dir: dir, file: f, direct: r.direct, depth: r.depth})
		_ = f.Close()
	}
	wal, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return "", err
	}
	defer wal.Close()
	table(&report, cell{"log: 16 × 64 KiB, then a data sync; cycles", []contestant{
		{"fileop, io_uring, WriteSync", logOps(nil)},
		{"fileop, pool, WriteSync", logOps([]fileop.Option{fileop.WithPool()})},
		{"fileop, pool, 16 WriteAt, then SyncData", logPool16},
		{"one goroutine, os.File", logFile},
	}}, rounds, length, &bench{dir: dir, file: wal})
	table(&report, cell{"log server, 64 clients, 128 bytes; records", []contestant{
		{"examples/wal, io_uring", serveWal(false)},
		{"examples/wal, pool", serveWal(true)},
		{"goroutine for each connection, mutex around WriteAt and Sync", serveMutex},
	}}, rounds, length, &bench{dir: dir})
	if strings.Contains("echo", only) {
		f, err := os.Create(filepath.Join(dir, "echo.log"))
		if err != nil {
			return "", err
		}
		echoes(&report, "", rounds, length, f)
		_ = f.Close()
		if f, stop, err := openSlow(dir); err != nil {
			log.Print("the slow disk is left out: ", err)
		} else {
			echoes(&report, fmt.Sprintf(" on a disk whose sync takes %v (FUSE)", slowSync), rounds, length, f)
			stop()
		}
	}
	var kernel unix.Utsname
	if err := unix.Uname(&kernel); err != nil {
		return "", err
	}
	return fmt.Sprintf(`<!-- written by bench/files; not by hand -->

# Files

Measured on %s in %v by %s: %s, Linux %s, %d processors. Each figure is the median
(lowest to highest) of %d rounds, in which the contestants take turns for %v each. Ratios are the median of those in one
round. Processor time is that of the process, for each operation.

Load of the machine before the first run and after the last one: %s and %s. If the first is above 1, other programs ran, too:
then compare the ratios rather than the figures.
%s`, begin.Format(time.DateOnly), time.Since(begin).Round(time.Second), "`go -C bench/files run .`", runtime.Version(),
		unix.ByteSliceToString(kernel.Release[:]), runtime.GOMAXPROCS(0), rounds, length, before, load(), &report), nil
}

// load returns the load average over a minute.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}

// table measures a cell.
func table(w io.Writer, c cell, rounds int, length time.Duration, b *bench) {
	if !strings.Contains(c.title, only) {
		return
	}
	results := make([][]measure, len(c.contestants))
	for range rounds {
		for i, one := range c.contestants {
			b.end = time.Now().Add(length)
			begin, before := time.Now(), cpu()
			n, err := one.run(b)
			m := measure{math.NaN(), math.NaN()}
			if err != nil {
				log.Printf("%s: %s: %v", c.title, one.title, err)
			} else if n > 0 {
				m = measure{float64(n) / time.Since(begin).Seconds(), float64((cpu() - before).Nanoseconds()) / 1000 / float64(n)}
			}
			results[i] = append(results[i], m)
		}
	}
	fmt.Fprintf(w, "\n## %s\n\n| | per second | compared with the first | µs of processor time | compared with the first |\n|---|---|---|---|---|\n", c.title)
	rate := func(m measure) float64 { return m.rate }
	time := func(m measure) float64 { return m.cpu }
	for i, one := range c.contestants {
		all, first := results[i], results[0]
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", one.title, spread(values(all, rate), 0), spread(ratios(all, first, rate), 2),
			spread(values(all, time), 2), spread(ratios(all, first, time), 2))
	}
}

func values(all []measure, of func(measure) float64) (list []float64) {
	for _, m := range all {
		list = append(list, of(m))
	}
	return list
}

// ratios returns the ratios round by round, because the machine drifts.
func ratios(all, first []measure, of func(measure) float64) (list []float64) {
	for i, m := range all {
		list = append(list, of(m)/of(first[i]))
	}
	return list
}

// spread returns the median, and the lowest and the highest. A round that failed has no value.
func spread(all []float64, digits int) string {
	all = slices.DeleteFunc(all, math.IsNaN)
	if len(all) == 0 {
		return "failed"
	}
	slices.Sort(all)
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, all[len(all)/2], digits, all[0], digits, all[len(all)-1])
}

// cpu returns the processor time of this process and of its children that have ended.
func cpu() (sum time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}

// fill makes a file of random bytes that is in the page cache and on disk.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	for range fileSize / len(b) {
		if _, err := f.Write(b); err != nil {
			return err
		}
	}
	return f.Sync()
}

// buffers returns n buffers that O_DIRECT takes.
func buffers(n int) [][]byte {
	all := make([]byte, (n+1)*blockSize)
	skip := blockSize - int(uintptr(unsafe.Pointer(&all[0]))%blockSize)
	list := make([][]byte, n)
	for i := range list {
		list[i] = all[skip+i*blockSize:][:blockSize:blockSize]
	}
	return list
}

// loopOf runs turns of a loop until the time is over and nothing is under way. handle starts
// the next operation of a token, unless the time is over.
func (b *bench) loopOf(opts []fileop.Option, ops int, start func(op *fileop.Op, i int) error) (n int, err error) {
	p, err := epore.New()
	if err != nil {
		return 0, err
	}
	defer p.Close()
	q, err := fileop.New(p.Registry(), opts...)
	if err != nil {
		return 0, err
	}
	list := make([]*fileop.Op, ops)
	for i := range list {
		list[i] = q.NewOp(epore.Token(i))
		if err := start(list[i], i); err != nil {
			return 0, err
		}
	}
	events := epore.NewEvents(128)
	for active := ops; active > 0; {
		if err := p.Poll(events, epore.Forever); err != nil {
			return n, err
		}
		over := !time.Now().Before(b.end)
		for ev := range events.All() {
			op := list[ev.Token]
			if _, err := op.Result(); err != nil {
				return n, err
			}
			n++
			if over {
				active--
			} else if err := start(op, int(ev.Token)); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func readOps(opts []fileop.Option) func(*bench) (int, error) {
	return func(b *bench) (int, error) {
		bufs, random := buffers(b.depth), rand.New(rand.NewPCG(1, 2))
		return b.loopOf(opts, b.depth, func(op *fileop.Op, i int) error {
			return op.ReadAt(b.file, bufs[i], random.Int64N(blocks)*blockSize)
		})
	}
}

func readGoroutines(b *bench) (int, error) {
	bufs := buffers(b.depth)
	var total atomic.Int64
	var wg sync.WaitGroup
	for i := range b.depth {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for n := 0; ; n++ {
				if n%16 == 0 && !time.Now().Before(b.end) {
					total.Add(int64(n))
					return
				}
				if _, err := b.file.ReadAt(bufs[i], random.Int64N(blocks)*blockSize); err != nil {
					log.Fatal(err)
				}
			}
		})
	}
	wg.Wait()
	return int(total.Load()), nil
}

// logSize is where a log begins anew.
const (
	records    = 16
	recordSize = 64 << 10
	logSize    = 64 << 20
)

func logOps(opts []fileop.Option) func(*bench) (int, error) {
	return func(b *bench) (int, error) {
		bufs := make([][]byte, records)
		for i := range bufs {
			bufs[i] = make([]byte, recordSize)
		}
		off := int64(0)
		return b.loopOf(opts, 1, func(op *fileop.Op, _ int) error {
			off = (off + records*recordSize) % logSize
			return op.WriteSync(b.file, bufs, off)
		})
	}
}

func logPool16(b *bench) (n int, err error) {
	buf, off := make([]byte, recordSize), int64(0)
	p, err := epore.New()
	if err != nil {
		return 0, err
	}
	defer p.Close()
	q, err := fileop.New(p.Registry(), fileop.WithPool())
	if err != nil {
		return 0, err
	}
	ops := make([]*fileop.Op, records)
	for i := range ops {
		ops[i] = q.NewOp(epore.Token(i))
	}
	events := epore.NewEvents(64)
	// wait waits for the events of operations.
	wait := func(operations int) error {
		for operations > 0 {
			if err := p.Poll(events, epore.Forever); err != nil {
				return err
			}
			for ev := range events.All() {
				if _, err := ops[ev.Token].Result(); err != nil {
					return err
				}
				operations--
			}
		}
		return nil
	}
	for ; time.Now().Before(b.end); n++ {
		off %= logSize
		for _, op := range ops {
			if err := op.WriteAt(b.file, buf, off); err != nil {
				return n, err
			}
			off += recordSize
		}
		if err := wait(records); err != nil {
			return n, err
		}
		if err := ops[0].SyncData(b.file); err != nil {
			return n, err
		}
		if err := wait(1); err != nil {
			return n, err
		}
	}
	return n, nil
}

func logFile(b *bench) (n int, err error) {
	buf, off := make([]byte, recordSize), int64(0)
	for time.Now().Before(b.end) {
		off %= logSize
		for range records {
			if _, err := b.file.WriteAt(buf, off); err != nil {
				return n, err
			}
			off += recordSize
		}
		if err := unix.Fdatasync(int(b.file.Fd())); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
