//go:build windows

package iocp

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"
)

func openQueue(t *testing.T) *IOCP {
	t.Helper()
	q := New()
	require.NoError(t, q.Open())
	t.Cleanup(func() {
		if q.port != 0 {
			require.NoError(t, q.Close())
		}
	})
	return q
}

// Requests come in groups. A group without requests in use is released, except that one
// such group is kept.
func TestRequestPool_ReleasesGroups(t *testing.T) {
	q := openQueue(t)
	require.Equal(t, 1, q.groups(), "Open makes the first")
	var taken []*request
	for n := range 10*groupSize + 1 {
		r, err := q.requests.get()
		require.NoError(t, err)
		require.EqualValues(t, n, r.number, "the lowest free one")
		taken = append(taken, r)
	}
	require.Equal(t, 11, q.groups())
	// A hole in the middle is filled first.
	hole := taken[5*groupSize+3]
	q.requests.put(hole)
	r, err := q.requests.get()
	require.NoError(t, err)
	require.Same(t, hole, r)
	// A group in the middle is released, and its index is used again.
	q.requests.put(taken[10*groupSize])
	for _, r := range taken[5*groupSize : 6*groupSize] {
		q.requests.put(r)
	}
	require.Equal(t, 10, q.groups(), "one group without requests in use is kept")
	r, err = q.requests.get()
	require.NoError(t, err)
	require.GreaterOrEqual(t, r.number, uint32(10*groupSize), "the group that was kept")
	for n := range groupSize {
		more, err := q.requests.get()
		require.NoError(t, err)
		if n == groupSize-1 {
			require.EqualValues(t, 5*groupSize, more.number)
		}
		taken = append(taken, more)
	}
	for i, r := range append(taken, r) {
		if i < 5*groupSize || i >= 6*groupSize && i != 10*groupSize {
			q.requests.put(r)
		}
	}
	require.Equal(t, 1, q.groups())
	require.Zero(t, q.requests.release())
}

// A context finds its request, but not after the request was used again.
func TestRequestPool_ContextNamesOneUse(t *testing.T) {
	q := openQueue(t)
	r, err := q.requests.get()
	require.NoError(t, err)
	require.Nil(t, q.requests.find(r.context()), "not pending")
	r.pending = true
	r.generation = generationMask
	old := r.context()
	require.NotZero(t, old)
	require.Same(t, r, q.requests.find(old))
	r.generation++
	require.Nil(t, q.requests.find(old))
	require.Same(t, r, q.requests.find(r.context()), "the generation wraps around")
	for _, wrong := range []uintptr{0, 1, ^uintptr(0), r.context() + 1<<generationBits} {
		require.Nil(t, q.requests.find(wrong))
	}
	r.pending = false
	q.requests.put(r)
}

// Groups share address space, which 32-bit programs have little of: 16 of them take one
// unit of 64 KiB. It is released with the last of them.
func TestRequestPool_SharesAddressSpace(t *testing.T) {
	q := openQueue(t)
	const groups = 3*16 + 1
	var taken []*request
	for range groups * groupSize {
		r, err := q.requests.get()
		require.NoError(t, err)
		r.slot.status.status = 1 // the memory can be used
		taken = append(taken, r)
	}
	reserved := make(map[uintptr]bool)
	for _, r := range taken {
		reserved[allocationBase(t, unsafe.Pointer(r.slot))] = true
	}
	require.Len(t, reserved, 4)
	for _, r := range taken {
		q.requests.put(r)
	}
	require.Equal(t, 1, q.groups())
	kept := 0
	for _, c := range q.requests.chunks {
		if c.memory != 0 {
			kept++
		}
	}
	require.Equal(t, 1, kept, "the one of the group that is kept")
	require.Zero(t, q.requests.release())
	for _, c := range q.requests.chunks {
		require.Zero(t, c.memory)
	}
}

// allocationBase returns the beginning of the reserved region that p points to.
func allocationBase(t *testing.T, p unsafe.Pointer) uintptr {
	var info windows.MemoryBasicInformation
	require.NoError(t, windows.VirtualQuery(uintptr(p), &info, unsafe.Sizeof(info)))
	return info.AllocationBase
}
