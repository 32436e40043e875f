//go:build unix || windows

package socket_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

const ruleSendFile = "SendFile: bytes of a file, until would block; what it says went through, and no more"

func fileWith(t testing.TB, data []byte) *os.File {
	t.Helper()
	f, err := os.Create(t.TempDir() + "/file")
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	_, err = f.Write(data)
	require.NoError(t, err)
	return f
}

// contract: N16
func TestSendFile(t *testing.T) {
	data := random(8 << 20)
	eachLink(t, ruleSendFile, func(t *testing.T, a, b *socket.Conn) {
		f := fileWith(t, data)
		at, err := f.Seek(3, io.SeekStart)
		require.NoError(t, err)
		const off = 1000
		rest := int64(len(data) - off - 17)
		want := data[off : off+rest]
		var got bytes.Buffer
		buf := make([]byte, 256<<10)
		blocked, sent := 0, int64(0)
		for int64(got.Len()) < rest {
			n, err := a.SendFile(f, off+sent, rest-sent)
			require.LessOrEqual(t, n, rest-sent)
			sent += n
			if err != nil {
				require.Equal(t, socket.ErrWouldBlock, err)
				require.Less(t, sent, rest)
				blocked++
			} else {
				require.Equal(t, rest, sent)
			}
			awaitReadable(t, b)
			for {
				n, err := b.Read(buf)
				if err == socket.ErrWouldBlock {
					break
				}
				require.NoError(t, err)
				got.Write(buf[:n])
			}
			require.LessOrEqual(t, int64(got.Len()), sent)
		}
		require.NotZero(t, blocked)
		require.True(t, bytes.Equal(want, got.Bytes()))
		now, err := f.Seek(0, io.SeekCurrent)
		require.NoError(t, err)
		require.Equal(t, at, now, "the position stays")

		// The file ends before.
		n, err := a.SendFile(f, int64(len(data))-5, 10)
		require.Equal(t, io.ErrUnexpectedEOF, err)
		require.EqualValues(t, 5, n)
		require.Equal(t, string(data[len(data)-5:]), read(t, b, 16))
		n, err = a.SendFile(f, 0, 0)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

// contract: N16
func TestSendFile_Errors(t *testing.T) {
	guard(t, ruleSendFile)
	a, b := pair(t)
	f := fileWith(t, []byte("data"))
	for _, err := range []error{
		errOfDial(a.SendFile(nil, 0, 1)), errOfDial(a.SendFile(new(os.File), 0, 1)),
		errOfDial(a.SendFile(f, -1, 1)), errOfDial(a.SendFile(f, 0, -1)),
	} {
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
	require.NoError(t, b.Close())
	awaitReadable(t, a)
	var err error
	for err == nil { // TCP hears of it only when it has sent something
		_, err = a.SendFile(f, 0, 4)
	}
	require.NotEqual(t, socket.ErrWouldBlock, err)
	require.NotErrorIs(t, err, fs.ErrInvalid)
	require.NoError(t, f.Close())
	_, err = a.SendFile(f, 0, 1)
	require.Error(t, err)
	require.NoError(t, a.Close())
	_, err = a.SendFile(f, 0, 1)
	require.ErrorIs(t, err, net.ErrClosed)
}

// A file without a position: what sendfile does not take is copied, or refused.
// contract: N16
func TestSendFile_Pipe(t *testing.T) {
	guard(t, ruleSendFile)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	a, _ := pair(t)
	_, err = a.SendFile(r, 0, 1)
	require.Error(t, err)
	require.NotEqual(t, socket.ErrWouldBlock, err)
}

const ruleSplice = "SpliceFrom: bytes from one stream to another, until would block; nothing is lost, doubled or out of order"

// proxied is a chain of four: what is written to the first comes out of the last, by way of
// the two in the middle.
func proxied(t testing.TB, l link) (first, in, out, last *socket.Conn) {
	first, in = l.make(t)
	out, last = l.make(t)
	return first, in, out, last
}

func eachProxy(t *testing.T, run func(t *testing.T, first, in, out, last *socket.Conn)) {
	for _, l := range links {
		t.Run(l.name, func(t *testing.T) {
			guard(t, ruleSplice)
			first, in, out, last := proxied(t, l)
			run(t, first, in, out, last)
		})
	}
}

// What comes out is what went in, whichever side is slow.
// contract: N17
func TestSpliceFrom(t *testing.T) {
	data := random(6 << 20)
	eachProxy(t, func(t *testing.T, first, in, out, last *socket.Conn) {
		_, err := out.SpliceFrom(in, 10)
		require.Equal(t, socket.ErrWouldBlock, err)
		require.NoError(t, out.SetWriteBuffer(32<<10))
		require.NoError(t, last.SetReadBuffer(32<<10))
		require.Zero(t, out.SplicePending())
		random := rand.New(rand.NewPCG(3, 4))
		var got bytes.Buffer
		buf := make([]byte, 1<<20)
		written, moved, full, ended := 0, int64(0), 0, false
		for !ended || got.Len() < len(data) {
			if written < len(data) && random.IntN(2) == 0 {
				n, err := first.Write(data[written:min(len(data), written+random.IntN(1<<20))])
				written += n
				if err != nil {
					require.Equal(t, socket.ErrWouldBlock, err)
				}
				if written == len(data) {
					require.NoError(t, first.CloseWrite())
				}
			}
			if !ended && random.IntN(2) == 0 {
				most := 1 + random.Int64N(1<<20)
				n, err := out.SpliceFrom(in, most)
				moved += n
				require.LessOrEqual(t, n, most)
				require.LessOrEqual(t, moved+int64(out.SplicePending()), int64(written))
				switch {
				case err == nil:
					require.Equal(t, most, n)
				case err == io.EOF:
					require.EqualValues(t, len(data), moved)
					require.Zero(t, out.SplicePending())
					ended = true
				case out.SplicePending() > 0:
					require.Equal(t, socket.ErrWouldBlock, err)
					full++
				default:
					require.Equal(t, socket.ErrWouldBlock, err)
				}
			}
			if random.IntN(3) == 0 {
				n, err := last.Read(buf[:1+random.IntN(1<<20)])
				if err != nil {
					require.Equal(t, socket.ErrWouldBlock, err)
				}
				got.Write(buf[:n])
				require.LessOrEqual(t, int64(got.Len()), moved)
			}
		}
		require.NotZero(t, full)
		require.True(t, bytes.Equal(data, got.Bytes()))
		_, err = last.Read(buf)
		require.Equal(t, socket.ErrWouldBlock, err)
	})
}

// The loop of a proxy: each side is waited for when it is its turn, on every queue.
// contract: N17
func TestSpliceFrom_ThroughAPoll(t *testing.T) {
	data := random(2 << 20)
	eachQueue(t, ruleSplice, func(t *testing.T, p *epore.Poll) {
		for _, mode := range modes(p) {
			first, in, out, last := proxied(t, links[0])
			r := p.Registry()
			const source, sink = 1, 2
			require.NoError(t, r.Register(in, source, epore.Readable|mode))
			require.NoError(t, r.Register(out, sink, epore.Writable|epore.OneShot))
			done := make(chan string)
			go func() { done <- readAll(t, last) }()
			go func() {
				write(t, first, string(data))
				_ = first.CloseWrite()
			}()
			events := epore.NewEvents(8)
			for over := false; !over; {
				require.NoError(t, p.Poll(events, epore.Forever))
				for range events.All() {
					n, err := out.SpliceFrom(in, math.MaxInt64)
					_ = n
					if err == io.EOF {
						require.NoError(t, out.CloseWrite())
						over = true
						break
					}
					require.Equal(t, socket.ErrWouldBlock, err)
					if out.SplicePending() > 0 { // until there is room, in has nothing to say
						require.NoError(t, r.Reregister(in, source, epore.Readable|epore.OneShot))
						require.NoError(t, r.Reregister(out, sink, epore.Writable|epore.OneShot))
					} else {
						require.NoError(t, r.Reregister(in, source, epore.Readable|mode))
					}
				}
			}
			require.True(t, string(data) == <-done)
			for _, c := range []*socket.Conn{first, in, out, last} {
				require.NoError(t, c.Close())
			}
		}
	})
}

// fill splices until the target has no room.
func fill(t testing.TB, first, in, out *socket.Conn) (moved int64) {
	t.Helper()
	buf := make([]byte, 256<<10)
	for out.SplicePending() == 0 {
		if _, err := first.Write(buf); err != nil {
			require.Equal(t, socket.ErrWouldBlock, err)
		}
		awaitReadable(t, in)
		n, err := out.SpliceFrom(in, math.MaxInt64)
		require.Equal(t, socket.ErrWouldBlock, err)
		moved += n
	}
	return moved
}

// What is pending belongs to its target, and goes with it.
// contract: N17
func TestSpliceFrom_Pending(t *testing.T) {
	eachProxy(t, func(t *testing.T, first, in, out, last *socket.Conn) {
		moved := fill(t, first, in, out)
		pending := out.SplicePending()
		_, err := out.NetConn()
		require.Equal(t, socket.ErrWouldBlock, err)
		require.Zero(t, in.SplicePending())
		// Another source is not read before there is room.
		other, source := pair(t)
		write(t, other, "other")
		n, err := out.SpliceFrom(source, 5)
		require.Equal(t, socket.ErrWouldBlock, err)
		moved += n
		require.Equal(t, "other", read(t, source, 16))
		require.LessOrEqual(t, out.SplicePending(), pending)

		// It is written first, and counts.
		want := moved + int64(out.SplicePending())
		done := make(chan string)
		go func() { done <- readAll(t, last) }()
		for out.SplicePending() > 0 {
			awaitWritable(t, out)
			n, err := out.SpliceFrom(source, int64(out.SplicePending()))
			if err != nil {
				require.Equal(t, socket.ErrWouldBlock, err)
			}
			moved += n
		}
		require.Equal(t, want, moved)
		require.NoError(t, out.CloseWrite())
		require.EqualValues(t, want, len(<-done))
	})
}

// contract: N17
func TestSpliceFrom_Close(t *testing.T) {
	guard(t, ruleSplice)
	for range 50 {
		first, in, out, _ := proxied(t, links[0])
		fill(t, first, in, out)
		done := make(chan error)
		go func() { // nothing is left behind, even concurrently with Close
			var err error
			for err == nil || err == socket.ErrWouldBlock {
				_, err = out.SpliceFrom(in, 1<<20)
			}
			done <- err
		}()
		require.NoError(t, out.Close())
		require.ErrorIs(t, <-done, net.ErrClosed)
		require.ErrorIs(t, out.Close(), net.ErrClosed)
		require.Zero(t, out.SplicePending())
	}
	require.Zero(t, socket.RelaysInUse())
}

// contract: N17
func TestSpliceFrom_Errors(t *testing.T) {
	guard(t, ruleSplice)
	first, in, out, last := proxied(t, links[0])
	_, err := out.SpliceFrom(nil, 1)
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = out.SpliceFrom(in, -1)
	require.ErrorIs(t, err, fs.ErrInvalid)
	n, err := out.SpliceFrom(in, 0)
	require.NoError(t, err)
	require.Zero(t, n)

	// The target is gone.
	write(t, first, "x")
	awaitReadable(t, in)
	require.NoError(t, last.Close())
	for err = nil; err == nil || err == socket.ErrWouldBlock; {
		write(t, first, "x")
		_, err = out.SpliceFrom(in, 1)
	}
	require.NotErrorIs(t, err, io.EOF)
	require.NoError(t, out.Close())
	for _, c := range [][2]*socket.Conn{{out, in}, {in, out}, {in, new(socket.Conn)}} {
		_, err = c[0].SpliceFrom(c[1], 1)
		require.ErrorIs(t, err, net.ErrClosed)
	}
	require.True(t, errors.Is(err, net.ErrClosed))
}
