//go:build unix || windows

package tlsconn_test

import (
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/socket"
	"github.com/epore/epore/tlsconn"
)

// BenchmarkHandshake reports what a handshake costs the server's loop in all, and the longest
// time for which one call of Handshake holds up the loop.
func BenchmarkHandshake(b *testing.B) {
	for name, cert := range map[string]tls.Certificate{"P-256": ecdsaCert(), "RSA-2048": rsaCert()} {
		b.Run(name, func(b *testing.B) {
			server := &tls.Config{Certificates: []tls.Certificate{cert}}
			var all, longest time.Duration
			for range b.N {
				x, y := pair(b)
				c, s := tlsconn.Client(x, clientConfig(0)), tlsconn.Server(y, server)
				for range 20 {
					cerr := c.Handshake()
					begin := time.Now()
					serr := s.Handshake()
					took := time.Since(begin)
					all += took
					longest = max(longest, took)
					if cerr == nil && serr == nil {
						break
					}
				}
				require.NoError(b, s.Handshake())
				_, _ = c.Close(), s.Close()
			}
			b.ReportMetric(float64(all.Microseconds())/float64(b.N), "server-µs/op")
			b.ReportMetric(float64(longest.Microseconds()), "longest-µs")
		})
	}
}

// BenchmarkIdleConn reports the heap of an established server connection that is idle: of a
// Conn, and of a tls.Conn alone.
func BenchmarkIdleConn(b *testing.B) {
	const n = 200
	measure := func(b *testing.B, establish func() any) {
		for range b.N {
			held := make([]any, n)
			for i := range held {
				held[i] = establish()
			}
			with := fixture.Heap()
			clear(held)
			b.ReportMetric(float64(with-fixture.Heap())/n, "B/conn")
			runtime.KeepAlive(held)
		}
	}
	b.Run("tlsconn", func(b *testing.B) {
		measure(b, func() any {
			x, y, err := socket.Pair()
			require.NoError(b, err)
			client, server := tlsconn.Client(x, clientConfig(tls.VersionTLS13)), tlsconn.Server(y, serverConfig(tls.VersionTLS13))
			for range 20 {
				cerr, serr := client.Handshake(), server.Handshake()
				travelled(b, x)
				if cerr == nil && serr == nil {
					break
				}
			}
			require.NoError(b, server.Handshake())
			require.NoError(b, errors.Join(x.Close(), y.Close())) // its memory is what counts
			return server
		})
	})
	b.Run("crypto/tls", func(b *testing.B) {
		measure(b, func() any {
			x, y := net.Pipe()
			client, server := tls.Client(x, clientConfig(tls.VersionTLS13)), tls.Server(y, serverConfig(tls.VersionTLS13))
			done := make(chan error, 1)
			go func() { // it also takes the tickets
				_, err := client.Read(make([]byte, 1))
				done <- err
			}()
			require.NoError(b, server.Handshake())
			_, err := server.Write([]byte("x"))
			require.NoError(b, errors.Join(err, <-done))
			return server
		})
	})
}
