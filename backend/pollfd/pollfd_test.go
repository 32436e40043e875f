//go:build unix

package pollfd

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
)

func TestContract(t *testing.T) {
	backendtest.Run(t, func() (backend.Backend, error) {
		p := New()
		return p, p.Open()
	}, exceptionsOn(runtime.GOOS)...)
}

// exceptionsOn returns the exceptions of a system.
func exceptionsOn(goos string) []backendtest.Exception {
	switch goos {
	case "linux":
		return nil
	case "dragonfly":
		return append(backendtest.PollExceptions, backendtest.Exception{
			Case: "a pipe whose reader is gone",
			Why:  "poll(2) of DragonFly does not report it",
		})
	}
	return backendtest.PollExceptions
}

// TestContract_POSIX tests what other Unixes have: milliseconds, and fstat(2) for
// identities.
func TestContract_POSIX(t *testing.T) {
	backendtest.Run(t, func() (backend.Backend, error) {
		p := &Pollfd{system: posixSystem}
		return p, p.Open()
	}, backendtest.Exception{
		Case: "an eventfd's number goes to another eventfd",
		Why:  "fstat(2) returns the same for all eventfds",
	})
}

func TestOpen_DescriptorLimit(t *testing.T) {
	restore := fixture.LowerDescriptorLimit(t)
	err := New().Open()
	restore()
	require.ErrorIs(t, err, unix.EMFILE)
	require.ErrorContains(t, err, "pipe")
}

func TestClose_LeaksNothing(t *testing.T) {
	r, _ := fixture.Pipe(t)
	limit := min(fixture.DescriptorLimit(t), 1024)
	before := fixture.OpenDescriptors(limit)
	for range 20 {
		p := New()
		require.NoError(t, p.Open())
		require.NoError(t, p.Add(r.Handle(), 1, backend.Readable)) // which opens a descriptor for identities
		require.NoError(t, p.Close())
	}
	require.Less(t, fixture.OpenDescriptors(limit), before+20)
}

// After Close, the numbers of its descriptors may have other owners. A late call does not
// act on these.
// contract: P9
func TestClose_LateWake(t *testing.T) {
	p := opened(t)
	number := p.wake.Writer
	require.NoError(t, p.Close())
	a, b := fixture.PairAt(t, number)
	require.ErrorIs(t, p.Wake(), unix.EBADF)
	n, err := b.TryRead(make([]byte, 1))
	require.True(t, fixture.WouldBlock(err), "%d, %v: the wake went to %v", n, err, a)
}
