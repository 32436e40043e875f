//go:build linux

package uring

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The ring alone, with requests that do nothing (IORING_OP_NOP, 0).

func newRing(t *testing.T, entries, flags uint32) *Ring {
	r, call, err := Open(entries, 4, flags)
	if err = wrapRefusal(call, err); errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func wrapRefusal(call string, err error) error {
	if err == nil {
		return nil
	}
	if e := Explain(call, err, Disabled(), "use epoll"); e != nil {
		return e
	}
	return err
}

// submit submits everything.
func (r *Ring) submit(t *testing.T) {
	t.Helper()
	for r.Pending() > 0 {
		_, errno := r.Enter(r.Pending(), 0)
		require.Zero(t, errno)
	}
}

// completed returns the user data of all completions, in order.
func (r *Ring) completed(t *testing.T) (list []uint64) {
	t.Helper()
	for {
		i := r.Head()
		for end := r.Tail(); i != end; i++ {
			list = append(list, r.At(i).UserData)
		}
		r.Consume(i)
		if !r.Overflowed() {
			return list
		}
		_, errno := r.Finish()
		require.Zero(t, errno)
	}
}

// The kernel keeps completions that there is no room for.
// contract: E4
func TestRing_Overflow(t *testing.T) {
	r := newRing(t, 8, 0)
	const total = 100_000
	for i := range uint64(total) {
		e := r.Next()
		if e == nil {
			r.submit(t)
			e = r.Next()
		}
		e.UserData = i
		r.Commit()
	}
	r.submit(t)
	require.True(t, r.Overflowed())
	require.Equal(t, r.CQEntries, r.Tail()-r.Head(), "the ring is full, and the rest waits")
	list := r.completed(t)
	require.Len(t, list, total)
	for i, data := range list {
		require.EqualValues(t, i, data, "in order, none lost, none twice")
	}
	require.False(t, r.Overflowed())
}

func TestRing_Full(t *testing.T) {
	r := newRing(t, 8, 0)
	for i := range r.SQEntries {
		require.EqualValues(t, i, r.Pending())
		require.NotNil(t, r.Next())
		r.Commit()
	}
	require.Nil(t, r.Next(), "full")
	r.submit(t)
	require.NotNil(t, r.Next())
	require.Len(t, r.completed(t), int(r.SQEntries))
}

// Without SetupSubmitAll the kernel stops at the first entry that is invalid. The rest
// stays in the queue.
func TestRing_PartialSubmission(t *testing.T) {
	r := newRing(t, 8, 0)
	for i := range 3 {
		e := r.Next()
		e.UserData = uint64(i)
		if i == 1 {
			e.Opcode = 255
		}
		r.Commit()
	}
	took, errno := r.Enter(r.Pending(), 0)
	require.Zero(t, errno)
	require.EqualValues(t, 2, took)
	require.EqualValues(t, 1, r.Pending())
	require.Equal(t, int32(0), r.At(r.Head()).Result)
	require.Equal(t, -int32(unix.EINVAL), r.At(r.Head()+1).Result)
	r.submit(t)
	require.Equal(t, []uint64{0, 1, 2}, r.completed(t))
}

// A reused entry keeps nothing of its last use.
func TestRing_EntriesAreCleared(t *testing.T) {
	r := newRing(t, 1, 0)
	*r.Next() = SQE{Opcode: 255, FD: 5, UserData: 7, Length: 9, OpFlags: 11}
	r.Commit()
	r.submit(t)
	require.Equal(t, SQE{}, *r.Next())
}

func TestRing_Wait(t *testing.T) {
	r := newRing(t, 8, 0)
	begin := time.Now()
	errno := r.Wait(3 * time.Millisecond)
	if errno != unix.EINTR { // the runtime signals its threads
		require.Zero(t, errno, "a timeout is no error")
		require.GreaterOrEqual(t, time.Since(begin), 3*time.Millisecond)
	}
	r.commitNothing()
	r.submit(t)
	require.Zero(t, r.Wait(-1), "what is submitted completes")
	require.Equal(t, []uint64{1}, r.completed(t))
}

// commitNothing queues a request that completes at once.
func (r *Ring) commitNothing() {
	r.Next().UserData = 1
	r.Commit()
}

// A timeout that is too long for the kernel is cut, and does not overflow.
func TestRing_LongestWait(t *testing.T) {
	r := newRing(t, 1, 0)
	for _, timeout := range []time.Duration{1<<63 - 1, longestWait, longestWait + 1} {
		done := make(chan unix.Errno)
		go func() {
			errno := unix.EINTR
			for errno == unix.EINTR { // the runtime signals its threads
				errno = r.Wait(timeout)
			}
			done <- errno
		}()
		select {
		case <-done:
			t.Fatalf("a wait of %v ended at once", timeout)
		case <-time.After(5 * time.Millisecond):
		}
		r.commitNothing()
		r.submit(t)
		require.Zero(t, <-done)
		r.completed(t)
	}
}

// With completions that it keeps, one enter completes more than 20 requests, and Wait still
// waits for a new one.
func TestRing_KeepConsumed(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, _, err := Open(128, 4, SetupSingleIssuer|SetupDeferTaskrun|SetupTaskrunFlag)
	if err != nil {
		t.Skipf("no ring of this kind (Linux 6.1): %v", err)
	}
	defer func() { require.NoError(t, r.Close()) }()
	const sources, kept = 100, 120
	r.KeepConsumed(kept)
	var fds []int
	for i := range sources {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		require.NoError(t, err)
		defer unix.Close(fd)
		fds = append(fds, fd)
		r.Add(SQE{Opcode: OpPollAdd, FD: int32(fd), Length: PollMulti, OpFlags: PollBits(unix.EPOLLIN | unix.EPOLLET), UserData: uint64(i)})
	}
	r.submit(t)
	one := []byte{1, 0, 0, 0, 0, 0, 0, 0}
	for round := range 10 { // the ring goes round
		for _, fd := range fds {
			_, err := unix.Write(fd, one)
			require.NoError(t, err)
		}
		if round > 1 { // it keeps enough now
			more, errno := r.Finish()
			require.Zero(t, errno)
			require.True(t, more)
			require.EqualValues(t, sources, r.Tail()-r.Head(), "all with one enter")
		}
		seen := make(map[uint64]int)
		for len(seen) < sources {
			if errno := r.Wait(-1); errno != unix.EINTR { // the runtime signals its threads
				require.Zero(t, errno)
			}
			for _, data := range r.completed(t) {
				seen[data]++
			}
		}
		for data, times := range seen {
			require.Equal(t, 1, times, "%d", data)
		}
		require.LessOrEqual(t, r.kept(), uint32(kept))
		begin := time.Now()
		if errno := r.Wait(time.Millisecond); errno != unix.EINTR {
			require.Zero(t, errno)
			require.GreaterOrEqual(t, time.Since(begin), time.Millisecond, "what is kept ends no wait")
		}
		require.Empty(t, r.completed(t))
	}
}

// While the ring is quiet, completions do not add to the eventfd.
func TestRing_Quiet(t *testing.T) {
	r := newRing(t, 8, 0)
	if r.loud {
		t.Skip("this kernel has no barrier between a completion and the look at the flag")
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.Zero(t, r.RegisterEventFD(fd))
	for _, quiet := range []bool{false, true, false} {
		r.Quiet(quiet)
		r.commitNothing()
		r.submit(t)
		_, err := unix.Read(fd, make([]byte, 8))
		if quiet {
			require.Equal(t, unix.EAGAIN, err)
		} else {
			require.NoError(t, err)
		}
	}
	require.Len(t, r.completed(t), 3, "all have completed")
}
