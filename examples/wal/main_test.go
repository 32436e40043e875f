//go:build unix || windows

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
)

const asProgram = "EPORE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

func needsPoll(t *testing.T) {
	t.Helper()
	p, err := epore.New()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.NoError(t, p.Close())
	t.Cleanup(backendtest.Watchdog(t, "the program ends when it is told to"))
}

// begin starts the server in a process of its own.
func begin(t *testing.T, args ...string) (server *exec.Cmd, addr, banner string) {
	t.Helper()
	server = exec.Command(os.Args[0], args...)
	server.Env = append(os.Environ(), asProgram+"=1")
	server.Stderr = os.Stderr
	out, err := server.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	banner, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	_, addr, found := strings.Cut(banner, "listening on ")
	require.True(t, found, banner)
	addr, _, _ = strings.Cut(addr, ";")
	return server, addr, banner
}

// A second server on the same log ends at once, and leaves the log alone.
func TestWal_TwoServersOnOneLog(t *testing.T) {
	needsPoll(t)
	path := filepath.Join(t.TempDir(), "log")
	server, addr, _ := begin(t, path)
	defer func() {
		require.NoError(t, server.Process.Kill())
		_ = server.Wait()
	}()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte("\x00\x00\x00\x01x"))
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 8))
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	second := exec.CommandContext(ctx, os.Args[0], path)
	second.Env = append(os.Environ(), asProgram+"=1")
	out, err := second.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "another process")
	require.NotContains(t, string(out), "listening")
}

// content returns the data of a record that is found again by its name.
func content(name string) []byte {
	return bytes.Repeat([]byte(name+";"), 1+len(name)*7%40)
}

// acknowledged are the records that a client got answers for, by their number.
type acknowledged struct {
	sync.Mutex
	names map[uint64]string
}

// appendAll appends records until the connection ends, several at a time.
func (a *acknowledged) appendAll(c net.Conn, who string) error {
	in, answer := bufio.NewReader(c), make([]byte, 8)
	for round := 0; ; round++ {
		var names []string
		var messages []byte
		for i := range 1 + round%4 {
			name := fmt.Sprintf("%s-%d-%d", who, round, i)
			names = append(names, name)
			messages = binary.BigEndian.AppendUint32(messages, uint32(len(content(name))))
			messages = append(messages, content(name)...)
		}
		if _, err := c.Write(messages); err != nil {
			return err
		}
		for _, name := range names {
			if _, err := io.ReadFull(in, answer); err != nil {
				return err
			}
			a.Lock()
			a.names[binary.BigEndian.Uint64(answer)] = name
			a.Unlock()
		}
	}
}

// A server that is killed at any moment has lost no record that it acknowledged.
func TestWal_Killed(t *testing.T) {
	for _, engine := range []string{"io_uring", "pool"} {
		t.Run(engine, func(t *testing.T) {
			needsPoll(t)
			path := filepath.Join(t.TempDir(), "log")
			args := []string{path}
			if engine == "pool" {
				args = []string{"-pool", path}
			}
			acked := acknowledged{names: make(map[uint64]string)}
			torn := 0
			for round := range backendtest.Rounds(t, 5, 100) {
				server, addr, banner := begin(t, args...)
				if !strings.Contains(banner, engine) {
					_ = server.Process.Kill()
					_ = server.Wait()
					t.Skip(banner)
				}
				var clients sync.WaitGroup
				var conns []net.Conn
				for i := range 8 {
					c, err := net.Dial("tcp", addr)
					require.NoError(t, err)
					conns = append(conns, c)
					clients.Go(func() { _ = acked.appendAll(c, fmt.Sprintf("%d-%d", round, i)) })
				}
				before := acked.count()
				for acked.count() < before+20 {
					time.Sleep(100 * time.Microsecond)
				}
				time.Sleep(time.Duration(rand.IntN(20_000)) * time.Microsecond)
				require.NoError(t, server.Process.Kill())
				_ = server.Wait()
				for _, c := range conns { // Wine does not end the connections of a process that is killed
					_ = c.SetDeadline(time.Now().Add(50 * time.Millisecond))
				}
				clients.Wait()
				for _, c := range conns {
					require.NoError(t, c.Close())
				}

				f, err := os.Open(path)
				require.NoError(t, err)
				found := 0
				records, end, err := scan(f, func(number uint64, data []byte) {
					name, _, _ := strings.Cut(string(data), ";")
					require.True(t, bytes.Equal(content(name), data), "record %d is torn", number)
					if want, ok := acked.names[number]; ok {
						require.Equal(t, want, name)
						found++
					}
				})
				require.NoError(t, err)
				require.Equal(t, len(acked.names), found, "of %d records", records)
				info, err := f.Stat()
				require.NoError(t, err)
				if info.Size() > end {
					torn++
				}
				require.NoError(t, f.Close())
			}
			t.Logf("%d records were acknowledged; the log had a torn end %d times", len(acked.names), torn)
		})
	}
}

func (a *acknowledged) count() int {
	a.Lock()
	defer a.Unlock()
	return len(a.names)
}

// Whatever a log is cut to, and whichever byte is wrong, the records before it are found and
// nothing else is.
func TestLog_TornAnywhere(t *testing.T) {
	log := []byte(magic)
	var ends []int
	for i := range uint64(5) {
		log = appendRecord(log, i, int64(len(magic)), content(fmt.Sprint("record", i)))
		ends = append(ends, len(log))
	}
	whole := func(n int) (records int) {
		for _, end := range ends {
			if end <= n {
				records++
			}
		}
		return records
	}
	path := filepath.Join(t.TempDir(), "log")
	for n := range len(log) + 1 {
		records, _, err := scan(bytes.NewReader(log[:n]), nil)
		require.NoError(t, err)
		require.EqualValues(t, whole(n), records)
		if n == len(log) {
			break
		}
		damaged := bytes.Clone(log)
		damaged[n] ^= 0x40
		records, end, err := scan(bytes.NewReader(damaged), nil)
		if n < len(magic) {
			require.Equal(t, errNoLog, err)
			continue
		}
		require.NoError(t, err)
		require.EqualValues(t, whole(n), records)
		if n%50 == 0 {
			require.NoError(t, os.WriteFile(path, damaged, 0o600))
			f, records, opened, cut, err := openLog(path)
			require.NoError(t, err)
			require.EqualValues(t, whole(n), records)
			info, err := f.Stat()
			require.NoError(t, err)
			require.Equal(t, end, opened)
			require.Equal(t, end, info.Size())
			require.EqualValues(t, len(log)-int(end), cut)
			require.NoError(t, f.Close())
		}
	}
}

// A record that is damaged before an intact batch was answered, so the log is refused and stays
// as it is. In the last batch, damage is a torn write, also if records behind it are intact: it
// is cut off.
func TestLog_DamageBeforeAnIntactBatch(t *testing.T) {
	log, batches := []byte(magic), []int{}
	number := uint64(0)
	for range 3 {
		begins := len(log)
		batches = append(batches, begins)
		for range 3 {
			log = appendRecord(log, number, int64(begins), content(fmt.Sprint("record", number)))
			number++
		}
	}
	path := filepath.Join(t.TempDir(), "log")
	last := batches[len(batches)-1]
	for n := len(magic); n < len(log); n++ {
		damaged := bytes.Clone(log)
		damaged[n] ^= 1
		require.NoError(t, os.WriteFile(path, damaged, 0o600))
		records, end, err := scan(bytes.NewReader(damaged), nil)
		require.NoError(t, err)
		f, got, opened, _, err := openLog(path)
		if n < last {
			require.ErrorIs(t, err, errDamaged, "%d", n)
			require.ErrorContains(t, err, fmt.Sprintf("at offset %d,", end))
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, bytes.Equal(damaged, after))
			continue
		}
		require.NoError(t, err, "%d", n)
		require.Equal(t, records, got)
		require.Equal(t, end, opened)
		require.NoError(t, f.Close())
	}
}

// A file that is no log stays as it is, and one of which only a part of the beginning was
// written becomes a log.
func TestLog_OfAnotherKind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, content := range []string{"x", "a letter\n", magic[:5] + "?", strings.Repeat("\x00", 100)} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, _, _, _, err := openLog(path)
		require.ErrorIs(t, err, errNoLog)
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, content, string(got))
	}
	for n := range len(magic) + 1 {
		require.NoError(t, os.WriteFile(path, []byte(magic[:n]), 0o600))
		f, records, end, _, err := openLog(path)
		require.NoError(t, err)
		require.Zero(t, records)
		require.EqualValues(t, len(magic), end)
		require.NoError(t, f.Close())
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, magic, string(got))
	}
}

// A record from the middle of an older log is not accepted in another place.
func TestLog_RecordOfAnotherPlace(t *testing.T) {
	log := appendRecord([]byte(magic), 0, int64(len(magic)), []byte("a"))
	log = appendRecord(log, 2, int64(len(log)), []byte("b"))
	records, _, err := scan(bytes.NewReader(log), nil)
	require.NoError(t, err)
	require.EqualValues(t, 1, records)
}

func TestWal_LoadAndStop(t *testing.T) {
	needsPoll(t)
	path := filepath.Join(t.TempDir(), "log")
	for _, pool := range []bool{false, true} {
		args := []string{path}
		if pool {
			args = []string{"-pool", path}
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		r, w := io.Pipe()
		status := make(chan int, 1)
		go func() {
			status <- run(ctx, args, w, os.Stderr)
			_ = w.Close()
		}()
		out := bufio.NewReader(r)
		banner, err := out.ReadString('\n')
		require.NoError(t, err)
		_, addr, _ := strings.Cut(banner, "listening on ")
		addr, _, _ = strings.Cut(addr, ";")
		var figures bytes.Buffer
		require.Zero(t, run(ctx, []string{"-load", addr, "-clients", "8", "-for", "100ms"}, &figures, os.Stderr))
		require.Contains(t, figures.String(), "records/s")

		// A client that ends its half still gets all its answers, and records that are too long
		// are refused.
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		var messages []byte
		for range 50 {
			messages = binary.BigEndian.AppendUint32(messages, 40_000)
			messages = append(messages, make([]byte, 40_000)...)
		}
		_, err = c.Write(messages)
		require.NoError(t, err)
		require.NoError(t, c.(*net.TCPConn).CloseWrite())
		answers, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Len(t, answers, 50*8)
		require.NoError(t, c.Close())
		c, err = net.Dial("tcp", addr)
		require.NoError(t, err)
		_, err = c.Write([]byte{0xff, 0, 0, 0})
		require.NoError(t, err)
		_, err = io.ReadAll(c)
		t.Log(err)
		require.NoError(t, c.Close())

		stop()
		rest, err := io.ReadAll(out)
		require.NoError(t, err)
		require.Contains(t, string(rest), "commits")
		require.Zero(t, <-status)
		t.Log(banner, figures.String(), string(rest))
	}
}

func TestWal_InvalidFlags(t *testing.T) {
	for _, args := range [][]string{{}, {"-nonsense"}, {"a", "b"}, {"-load", "x", "file"}, {"-load", "x", "-size", "-1"}} {
		require.Equal(t, 2, run(t.Context(), args, io.Discard, io.Discard))
	}
	require.Zero(t, run(t.Context(), []string{"-h"}, io.Discard, io.Discard))
	var stderr strings.Builder
	require.Equal(t, 1, run(t.Context(), []string{filepath.Join(t.TempDir(), "none", "log")}, io.Discard, &stderr))
	require.Contains(t, stderr.String(), "none")
}
