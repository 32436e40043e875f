//go:build unix || windows

package loop_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/loop"
)

// framing is a way to find messages in a stream, without a copy.
type framing struct {
	name string
	// each calls f for every whole message in b, and returns how many bytes they take.
	each func(b []byte, f func(message []byte)) (used int)
	// encode is a message as it goes over the wire.
	encode func(message []byte) []byte
}

var framings = []framing{
	{
		name: "lines",
		each: func(b []byte, f func([]byte)) (used int) {
			for {
				i := bytes.IndexByte(b[used:], '\n')
				if i < 0 {
					return used
				}
				f(b[used : used+i])
				used += i + 1
			}
		},
		encode: func(m []byte) []byte { return append(bytes.ReplaceAll(m, []byte("\n"), []byte("N")), '\n') },
	},
	{
		name: "length prefixes",
		each: func(b []byte, f func([]byte)) (used int) {
			for len(b)-used >= 4 {
				n := int(binary.BigEndian.Uint32(b[used:]))
				if len(b)-used-4 < n {
					break
				}
				f(b[used+4 : used+4+n])
				used += 4 + n
			}
			return used
		},
		encode: func(m []byte) []byte {
			return append(binary.BigEndian.AppendUint32(nil, uint32(len(m))), m...)
		},
	},
	{
		name: "RESP", // bulk strings: $3\r\nabc\r\n
		each: func(b []byte, f func([]byte)) (used int) {
			for {
				rest := b[used:]
				i := bytes.Index(rest, []byte("\r\n"))
				if i < 0 || rest[0] != '$' {
					return used
				}
				n, err := strconv.Atoi(string(rest[1:i]))
				if err != nil || len(rest) < i+2+n+2 {
					return used
				}
				f(rest[i+2 : i+2+n])
				used += i + 2 + n + 2
			}
		},
		encode: func(m []byte) []byte { return fmt.Appendf(nil, "$%d\r\n%s\r\n", len(m), m) },
	},
}

// Each message comes once and whole, however the stream is cut, plain or with TLS.
// contract: L2
func TestConn_Framing(t *testing.T) {
	for _, f := range framings {
		t.Run(f.name, func(t *testing.T) {
			guard(t, "a message comes once and whole, however the stream is cut")
			h := &handler{data: func(c *loop.Conn, b []byte) int {
				return f.each(b, func(m []byte) {
					_, err := c.Write(f.encode(m))
					require.NoError(t, err)
				})
			}}
			var stream []byte
			rng := rand.New(rand.NewPCG(1, 2))
			for i := range 40 {
				size := rng.IntN(50)
				if i%20 == 19 {
					size = 200_000 // of several reads
				}
				stream = append(stream, f.encode(random(size))...)
			}
			small := stream[:min(len(stream), 1500)]
			small = small[:f.each(small, func([]byte) {})]
			s := serve(t, 1, loop.Config{}, nil, h)
			for name, cut := range map[string]func() int{
				"byte by byte": func() int { return 1 },
				"pieces":       func() int { return 1 + rng.IntN(1<<rng.IntN(17)) },
				"at once":      func() int { return len(stream) },
			} {
				data := stream
				if name == "byte by byte" {
					data = small
				}
				c := dial(t, s.addr)
				sent := make(chan error, 1)
				go func() {
					for rest := data; len(rest) > 0; {
						n := min(cut(), len(rest))
						if _, err := c.Write(rest[:n]); err != nil {
							sent <- err
							return
						}
						rest = rest[n:]
					}
					sent <- c.CloseWrite()
				}()
				got, err := io.ReadAll(c)
				require.NoError(t, err)
				require.NoError(t, <-sent)
				require.True(t, bytes.Equal(data, got), "%s: %d of %d bytes", name, len(got), len(data))
			}
		})
	}
}
