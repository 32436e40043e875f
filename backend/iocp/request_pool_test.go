//go:build windows

package iocp

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
)

func openQueue(t *testing.T) *IOCP {
	t.Helper()
	q := New()
	require.NoError(t, q.Open(backend.Config{}))
	t.Cleanup(func() {
		if q.port != 0 {
			require.NoError(t, q.Close())
		}
	})
	return q
}

// Requests come in groups, which are given back when nobody uses them, but for one.
func TestRequestsAreGivenBack(t *testing.T) {
	q := openQueue(t)
	require.Equal(t, 1, q.groups(), "from Open on")
	var taken []*request
	for n := range 10*groupSize + 1 {
		r, err := q.requests.take()
		require.NoError(t, err)
		require.EqualValues(t, n, r.number, "the lowest that is free")
		taken = append(taken, r)
	}
	require.Equal(t, 11, q.groups())
	// A hole in the middle is filled first.
	hole := taken[5*groupSize+3]
	q.requests.give(hole)
	r, err := q.requests.take()
	require.NoError(t, err)
	require.Same(t, hole, r)
	// A group in the middle is given back, and its place used again.
	q.requests.give(taken[10*groupSize])
	for _, r := range taken[5*groupSize : 6*groupSize] {
		q.requests.give(r)
	}
	require.Equal(t, 10, q.groups(), "one group without a user is kept")
	r, err = q.requests.take()
	require.NoError(t, err)
	require.GreaterOrEqual(t, r.number, uint32(10*groupSize), "the group that was kept")
	for n := range groupSize {
		more, err := q.requests.take()
		require.NoError(t, err)
		if n == groupSize-1 {
			require.EqualValues(t, 5*groupSize, more.number)
		}
		taken = append(taken, more)
	}
	for i, r := range append(taken, r) {
		if i < 5*groupSize || i >= 6*groupSize && i != 10*groupSize {
			q.requests.give(r)
		}
	}
	require.Equal(t, 1, q.groups())
	require.Zero(t, q.requests.release())
}

// The context finds the request, and no other: not an earlier use of it.
func TestContextIsOfOneUse(t *testing.T) {
	q := openQueue(t)
	r, err := q.requests.take()
	require.NoError(t, err)
	require.Nil(t, q.requests.find(r.context()), "not pending")
	r.pending = true
	r.turn = turnMask
	old := r.context()
	require.NotZero(t, old)
	require.Same(t, r, q.requests.find(old))
	r.turn++
	require.Nil(t, q.requests.find(old))
	require.Same(t, r, q.requests.find(r.context()), "the count starts anew")
	for _, wrong := range []uintptr{0, 1, ^uintptr(0), r.context() + 1<<turnBits} {
		require.Nil(t, q.requests.find(wrong))
	}
	r.pending = false
	q.requests.give(r)
}
