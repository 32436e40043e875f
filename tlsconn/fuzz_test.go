//go:build unix || windows

package tlsconn_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/socket"
	"github.com/epore/epore/tlsconn"
)

// Two Conns talk through a wire that cuts as the input says, and read and write as the
// input says. Every byte arrives, in order, and then the end.
// contract: T2, T4
func FuzzConn_RandomCuts(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{1, 1, 1, 1, 1, 1, 1, 1})
	f.Add([]byte{0xff, 3, 0x80, 17, 5, 6, 200, 9, 90, 33})
	f.Add(random(300))
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) == 0 {
			return
		}
		if runtime.GOOS == "windows" {
			t.Skip("Pair makes TCP sockets there, and waiting for each piece to travel takes minutes")
		}
		version := versions[int(script[0])%2]
		w := newWire(t, clientConfig(version), serverConfig(version))
		at := 0
		next := func() int { // one byte of the input after the other, in a circle
			if at++; at > 100_000 { // too small pieces for too long
				return 255
			}
			return int(script[at%len(script)])
		}
		type side struct {
			*tlsconn.Conn
			send, got []byte
			closed    bool
			ended     bool
		}
		sides := []*side{{Conn: w.client, send: random(next() * 300)}, {Conn: w.server, send: random(next()*300 + 1)}}
		want := [][]byte{sides[1].send, sides[0].send}
		for {
			for _, s := range sides {
				if err := s.Flush(); err != nil {
					require.Equal(t, socket.ErrWouldBlock, err)
				}
				if err := s.Handshake(); err != nil {
					require.Equal(t, socket.ErrWouldBlock, err)
					continue
				}
				if n := min(next()*8, len(s.send)); n > 0 {
					m, err := s.Write(s.send[:n])
					require.NoError(t, err)
					require.Equal(t, n, m)
					s.send = s.send[n:]
				} else if len(s.send) == 0 && !s.closed {
					require.NoError(t, s.CloseWrite())
					s.closed = true
				}
				for range next() % 8 {
					buf := make([]byte, 1+next())
					n, err := s.Read(buf)
					s.got = append(s.got, buf[:n]...)
					if err == io.EOF {
						s.ended = true
					} else if err != nil {
						require.Equal(t, socket.ErrWouldBlock, err)
					}
					if err != nil {
						break
					}
					if !s.Pending() && !readableNow(t, descriptor(t, s.Socket())) {
						// No event, and so nothing to read.
						n, err := s.Read(buf)
						require.Zero(t, n)
						require.Equal(t, socket.ErrWouldBlock, err)
						break
					}
				}
			}
			if sides[0].ended && sides[1].ended {
				break
			}
			w.toServer(t, 1+next()*next())
			w.toClient(t, 1+next()*next())
		}
		for i, s := range sides {
			require.True(t, bytes.Equal(want[i], s.got), "side %d: %d of %d bytes", i, len(s.got), len(want[i]))
			require.Zero(t, s.Buffered())
			require.NoError(t, s.Close())
		}
	})
}

// What a server reads may be anything: it ends with an error, or waits for more.
// contract: T2
func FuzzConn_AnyInput(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), false)
	f.Add([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 0}, false)
	f.Add([]byte{23, 3, 3, 0, 1, 0}, true)
	f.Add([]byte{21, 3, 3, 0, 2, 2, 40}, true)
	f.Fuzz(func(t *testing.T, input []byte, after bool) {
		w := newWire(t, clientConfig(tls.VersionTLS13), serverConfig(tls.VersionTLS13))
		if after {
			w.establish(t)
		}
		for len(input) > 0 {
			n, err := w.far.Write(input)
			input = input[n:]
			if err != nil {
				require.Equal(t, socket.ErrWouldBlock, err)
			}
			travelled(t, w.server.Socket())
			if _, err = read(t, w.server, 100); err != socket.ErrWouldBlock {
				require.Error(t, err)
				break
			}
		}
		require.NoError(t, w.server.Close())
	})
}
