//go:build linux

package iouring

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The ring alone, with requests that do nothing (IORING_OP_NOP, 0).

func newRing(t *testing.T, entries, flags uint32) *ring {
	r, call, err := openRing(entries, 4, flags)
	if err = wrapRefusal(call, err); errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.close()) })
	return r
}

func wrapRefusal(call string, err error) error {
	if err == nil {
		return nil
	}
	return refusal(call, err)
}

// submit submits everything.
func (r *ring) submit(t *testing.T) {
	t.Helper()
	for r.pending() > 0 {
		_, errno := r.enter(r.pending(), 0)
		require.Zero(t, errno)
	}
}

// completed returns the user data of all completions, in order.
func (r *ring) completed(t *testing.T) (list []uint64) {
	t.Helper()
	for {
		i := r.head()
		for end := r.tail(); i != end; i++ {
			list = append(list, r.at(i).userData)
		}
		r.consume(i)
		if !r.overflowed() {
			return list
		}
		_, errno := r.finish()
		require.Zero(t, errno)
	}
}

// The kernel keeps completions that there is no room for.
// contract: E4
func TestRing_Overflow(t *testing.T) {
	r := newRing(t, 8, 0)
	const total = 100_000
	for i := range uint64(total) {
		e := r.next()
		if e == nil {
			r.submit(t)
			e = r.next()
		}
		e.userData = i
		r.commit()
	}
	r.submit(t)
	require.True(t, r.overflowed())
	require.Equal(t, r.cqEntries, r.tail()-r.head(), "the ring is full, and the rest waits")
	list := r.completed(t)
	require.Len(t, list, total)
	for i, data := range list {
		require.EqualValues(t, i, data, "in order, none lost, none twice")
	}
	require.False(t, r.overflowed())
}

func TestRing_Full(t *testing.T) {
	r := newRing(t, 8, 0)
	for i := range r.sqEntries {
		require.EqualValues(t, i, r.pending())
		require.NotNil(t, r.next())
		r.commit()
	}
	require.Nil(t, r.next(), "full")
	r.submit(t)
	require.NotNil(t, r.next())
	require.Len(t, r.completed(t), int(r.sqEntries))
}

// Without setupSubmitAll the kernel stops at the first entry that is invalid. The rest
// stays in the queue.
func TestRing_PartialSubmission(t *testing.T) {
	r := newRing(t, 8, 0)
	for i := range 3 {
		e := r.next()
		e.userData = uint64(i)
		if i == 1 {
			e.opcode = 255
		}
		r.commit()
	}
	took, errno := r.enter(r.pending(), 0)
	require.Zero(t, errno)
	require.EqualValues(t, 2, took)
	require.EqualValues(t, 1, r.pending())
	require.Equal(t, int32(0), r.at(r.head()).result)
	require.Equal(t, -int32(unix.EINVAL), r.at(r.head()+1).result)
	r.submit(t)
	require.Equal(t, []uint64{0, 1, 2}, r.completed(t))
}

// A reused entry keeps nothing of its last use.
func TestRing_EntriesAreCleared(t *testing.T) {
	r := newRing(t, 1, 0)
	*r.next() = sqe{opcode: 255, fd: 5, userData: 7, length: 9, opFlags: 11}
	r.commit()
	r.submit(t)
	require.Equal(t, sqe{}, *r.next())
}

func TestRing_Wait(t *testing.T) {
	r := newRing(t, 8, 0)
	begin := time.Now()
	errno := r.wait(3 * time.Millisecond)
	if errno != unix.EINTR { // the runtime signals its threads
		require.Zero(t, errno, "a timeout is no error")
		require.GreaterOrEqual(t, time.Since(begin), 3*time.Millisecond)
	}
	r.commitNothing()
	r.submit(t)
	require.Zero(t, r.wait(-1), "what is submitted completes")
	require.Equal(t, []uint64{1}, r.completed(t))
}

// commitNothing queues a request that completes at once.
func (r *ring) commitNothing() {
	r.next().userData = 1
	r.commit()
}
