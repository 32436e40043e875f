//go:build !race

package tryio_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/tryio"
)

// P10 for tries: nothing is allocated, except by the SyscallConn of package net, once.
// contract: P10
func TestAllocations(t *testing.T) {
	a, b := netPair(t, "tcp", "127.0.0.1:0")
	fa, fb := epore.FD(number(t, a.(syscall.Conn))), epore.FD(number(t, b.(syscall.Conn)))
	r, w := fixture.Pipe(t)
	require.NoError(t, unix.SetNonblock(r.FD, false))
	for _, c := range []struct {
		a, b   syscall.Conn
		atMost float64
	}{
		{fa, fb, 0},
		{epore.FD(r.FD), epore.FD(w.FD), 0},
		{a.(syscall.Conn), b.(syscall.Conn), 3}, // of Read, Write and a Read that would block
	} {
		buf := make([]byte, 64)
		var failed error
		least := 1e9
		for attempt := 0; least > c.atMost && attempt < 5; attempt++ {
			least = min(least, testing.AllocsPerRun(30, func() {
				if _, err := tryio.Write(c.b, buf); err != nil {
					failed = err
				}
				for {
					if _, err := tryio.Read(c.a, buf); err == nil {
						break
					} else if err != tryio.ErrWouldBlock {
						failed = err
						break
					}
				}
				_, _ = tryio.Read(c.a, buf)
			}))
		}
		require.NoError(t, failed)
		require.LessOrEqual(t, least, c.atMost, "%T", c.a)
	}
}
