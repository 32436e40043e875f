package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/fileop"
	"github.com/epore/epore/loop"
)

//go:embed c/uring.c
var sourceC []byte

// buildC compiles the C program, if this machine can, and returns its path.
func buildC(dir string) string {
	source, program := filepath.Join(dir, "uring.c"), filepath.Join(dir, "uring")
	if err := os.WriteFile(source, sourceC, 0o600); err != nil {
		return ""
	}
	if out, err := exec.Command("cc", "-O2", "-o", program, source, "-luring").CombinedOutput(); err != nil {
		log.Printf("C is left out (Debian: gcc liburing-dev): %v\n%s", err, out)
		return ""
	}
	return program
}

func readC(program string) func(*bench) (int, error) {
	return func(b *bench) (int, error) {
		direct := "0"
		if b.direct {
			direct = "1"
		}
		out, err := exec.Command(program, b.file.Name(), direct, strconv.Itoa(b.depth),
			strconv.Itoa(int(time.Until(b.end).Milliseconds())), strconv.Itoa(blocks)).Output()
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(strings.TrimSpace(string(out)))
	}
}

// clients append records to the server at addr until the end, and return how many.
func clients(addr string, end time.Time) (int, error) {
	const number, size = 64, 128
	var total atomic.Int64
	var wg sync.WaitGroup
	for range number {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return
			}
			defer c.Close()
			message := binary.BigEndian.AppendUint32(nil, size)
			message = append(message, make([]byte, size)...)
			answer := make([]byte, 8)
			for time.Now().Before(end) {
				if _, err := c.Write(message); err != nil {
					return
				}
				if _, err := io.ReadFull(c, answer); err != nil {
					return
				}
				total.Add(1)
			}
		})
	}
	wg.Wait()
	return int(total.Load()), nil
}

// serveWal runs examples/wal in a process of its own, so its processor time counts when it has
// ended.
func serveWal(pool bool) func(*bench) (int, error) {
	return func(b *bench) (int, error) {
		program := filepath.Join(b.dir, "wal")
		if _, err := os.Stat(program); err != nil {
			if out, err := exec.Command("go", "build", "-o", program, "github.com/epore/epore/examples/wal").CombinedOutput(); err != nil {
				return 0, fmt.Errorf("%w: %s", err, out)
			}
			b.end = time.Now().Add(time.Second)
		}
		path := filepath.Join(b.dir, "wal.log")
		defer os.Remove(path)
		args := []string{path}
		if pool {
			args = []string{"-pool", path}
		}
		server := exec.Command(program, args...)
		out, err := server.StdoutPipe()
		if err != nil {
			return 0, err
		}
		if err := server.Start(); err != nil {
			return 0, err
		}
		banner, err := bufio.NewReader(out).ReadString('\n')
		_, addr, _ := strings.Cut(banner, "listening on ")
		addr, _, _ = strings.Cut(addr, ";")
		n := 0
		if err == nil {
			n, err = clients(addr, b.end)
		}
		_ = server.Process.Signal(os.Interrupt)
		_ = server.Wait()
		return n, err
	}
}

// serveMutex is the server that most programs have.
func serveMutex(b *bench) (int, error) {
	f, err := os.Create(filepath.Join(b.dir, "mutex.log"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	var mu sync.Mutex
	end, number := int64(0), uint64(0)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in, head, answer := bufio.NewReader(c), make([]byte, 4), make([]byte, 8)
				for {
					if _, err := io.ReadFull(in, head); err != nil {
						return
					}
					record := make([]byte, binary.BigEndian.Uint32(head))
					if _, err := io.ReadFull(in, record); err != nil {
						return
					}
					mu.Lock()
					_, err := f.WriteAt(record, end)
					if err == nil {
						err = unix.Fdatasync(int(f.Fd()))
					}
					end += int64(len(record))
					binary.BigEndian.PutUint64(answer, number)
					number++
					mu.Unlock()
					if err != nil {
						log.Fatal(err)
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return clients(l.Addr().String(), b.end)
}

// echo is a server that also writes a log, every 10 ms 64 KiB.
type echo struct{}

func (echo) Open(*loop.Conn) {}
func (echo) Data(c *loop.Conn, b []byte) int {
	_, _ = c.Write(b)
	return len(b)
}
func (echo) Close(*loop.Conn, error) {}

const pace = 10 * time.Millisecond

// echoes measures the latency of an echo while a paced log is written to f.
func echoes(w io.Writer, where string, rounds int, length time.Duration, f *os.File) {
	ways := []string{"no log", "fileop, io_uring", "fileop, pool", "the loop syncs by itself"}
	p50s, p99s := make([][]measure, len(ways)), make([][]measure, len(ways))
	for range rounds {
		for i := range ways {
			p50, p99, err := echoRun(i, length, f)
			if err != nil {
				log.Fatal(err)
			}
			p50s[i], p99s[i] = append(p50s[i], measure{rate: p50}), append(p99s[i], measure{rate: p99})
		}
	}
	fmt.Fprintf(w, "\n## echo, 100 connections, with a log of 64 KiB and a data sync every %v%s\n\n| | median, µs | p99, µs | compared with the last |\n|---|---|---|---|\n", pace, where)
	rate := func(m measure) float64 { return m.rate }
	for i, way := range ways {
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", way, spread(values(p50s[i], rate), 0), spread(values(p99s[i], rate), 0), spread(ratios(p99s[i], p99s[3], rate), 2))
	}
}

func echoRun(way int, length time.Duration, f *os.File) (p50, p99 float64, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	addrs, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- loop.Run(ctx, 1, loop.Config{}, func(l *loop.Loop) error {
			if way != 0 {
				if err := paced(l, f, way); err != nil {
					return err
				}
			}
			a, err := l.Listen("tcp", "127.0.0.1:0", nil, echo{})
			if err == nil {
				addrs <- a.String()
			}
			return err
		})
	}()
	var addr string
	select {
	case addr = <-addrs:
	case err := <-ended:
		return 0, 0, err
	}
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	end := time.Now().Add(length)
	for range 100 {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return
			}
			defer c.Close()
			b := make([]byte, 64)
			var mine []time.Duration
			for time.Now().Before(end) {
				begin := time.Now()
				if _, err := c.Write(b); err != nil {
					break
				}
				if _, err := io.ReadFull(c, b); err != nil {
					break
				}
				mine = append(mine, time.Since(begin))
				time.Sleep(5 * time.Millisecond) // the server is to be idle mostly
			}
			mu.Lock()
			all = append(all, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	cancel()
	err = <-ended
	if len(all) == 0 {
		return 0, 0, err
	}
	slices.Sort(all)
	return float64(all[len(all)/2].Microseconds()), float64(all[len(all)*99/100].Microseconds()), err
}

// paced writes the log in one of the ways.
func paced(l *loop.Loop, f *os.File, way int) error {
	buf, off := make([]byte, 64<<10), int64(0)
	bufs := [][]byte{buf}
	write := func() {
		if _, err := f.WriteAt(buf, off); err != nil {
			log.Fatal(err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			log.Fatal(err)
		}
	}
	if way != 3 {
		var opts []fileop.Option
		if way == 2 {
			opts = append(opts, fileop.WithPool())
		}
		q, err := fileop.New(l.Poll().Registry(), opts...)
		if err != nil {
			return err
		}
		op := q.NewOp(l.Handle(func(epore.Event) {}))
		write = func() { _ = op.WriteSync(f, bufs, off) } // busy: the disk is slower than the pace
	}
	var tick func()
	tick = func() {
		write()
		off = (off + int64(len(buf))) % (16 << 20)
		l.After(pace, tick)
	}
	l.After(pace, tick)
	return nil
}
