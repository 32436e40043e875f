//go:build !portable

package socket_test

import (
	"math"
	"net"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

// noAllocs checks P10: no allocation in the steady state. AllocsPerRun counts the whole
// process, so the lowest of several counts is that of f.
func noAllocs(t *testing.T, what string, atMost float64, f func() error) {
	t.Helper()
	var failed error
	n := math.Inf(1)
	for attempt := 0; n > atMost && attempt < 5; attempt++ {
		n = min(n, testing.AllocsPerRun(30, func() {
			if err := f(); err != nil {
				failed = err
			}
		}))
	}
	require.NoError(t, failed, what)
	require.LessOrEqual(t, n, atMost, "P10: allocations of %s", what)
}

// contract: P10
func TestSockets_DoNotAllocate(t *testing.T) {
	const rule = "P10: no allocation to read, write, or register"
	eachLink(t, rule, func(t *testing.T, a, b *socket.Conn) {
		buf := make([]byte, 64)
		noAllocs(t, "Write, Read, and a Read that would block", 0, func() error {
			if _, err := a.Write(buf); err != nil {
				return err
			}
			for {
				if _, err := b.Read(buf); err == nil {
					break
				} else if err != socket.ErrWouldBlock {
					return err
				}
			}
			_, _ = b.Read(buf)
			return nil
		})
		out, in := make(net.Buffers, 2), [][]byte{buf[:5], buf[5:]}
		noAllocs(t, "WriteBuffers and ReadBuffers", 0, func() error {
			out[0], out[1] = buf[:10], buf[10:]
			bufs := out
			if _, err := a.WriteBuffers(&bufs); err != nil {
				return err
			}
			for {
				if _, err := b.ReadBuffers(in); err != socket.ErrWouldBlock {
					return err
				}
			}
		})
		p, err := epore.New()
		require.NoError(t, err)
		defer p.Close()
		r := p.Registry()
		noAllocs(t, "Register, Reregister and Deregister", 0, func() error {
			if err := r.Register(a, 1, epore.Readable); err != nil {
				return err
			}
			if err := r.Reregister(a, 1, epore.Writable); err != nil {
				return err
			}
			return r.Deregister(a)
		})
	})
	for _, n := range udpNetworks {
		a, b := listenPacket(t, n[0], n[1]), listenPacket(t, n[0], n[1])
		to, buf := udpAddress(b), make([]byte, 64)
		noAllocs(t, "WriteToAddrPort and ReadFromAddrPort", 0, func() error {
			if _, err := a.WriteToAddrPort(buf, to); err != nil {
				return err
			}
			for {
				if _, _, err := b.ReadFromAddrPort(buf); err != socket.ErrWouldBlock {
					return err
				}
			}
		})
	}
	require.LessOrEqual(t, int(unsafe.Sizeof(socket.Conn{})), 64, "docs/design.md says so")
	l := listen(t, "tcp", "127.0.0.1:0")
	noAllocs(t, "Accept that would block", 0, func() error {
		if _, err := l.Accept(); err != socket.ErrWouldBlock {
			return err
		}
		return nil
	})
}
