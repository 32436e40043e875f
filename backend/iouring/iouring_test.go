//go:build linux

package iouring

import (
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
)

// The suite, on what every supported kernel has of rings.
func TestContract(t *testing.T) {
	for i, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			if _, again := tested.LoadOrStore(fmt.Sprint(i, runtime.GOMAXPROCS(0)), true); again && i > 0 {
				t.Skip("tested already, with as many processors")
			}
			backendtest.Run(t, func() (backend.Backend, error) { return kind.open() }, numbers)
		})
	}
}

// numbers is what questions about a descriptor cannot pass: see the package comment.
var numbers = backendtest.Exception{
	Case: "a closed number that others use",
	Why:  "requests and second looks are made for a number, and know nothing of its previous owner",
}

// tested are the kinds that were tested, for repeated runs: only the first one is
// repeated.
var tested sync.Map

// Registered by somebody else, the eventfd would wake nobody.
func TestAdd_InternalDescriptors(t *testing.T) {
	eachKind(t, "E3", func(t *testing.T, u *Uring) {
		r, _ := fixture.Pipe(t)
		require.NoError(t, u.Add(r.Handle(), 1, backend.Readable)) // the epoll of ids exists now
		epfd := 0
		for !u.ids.Owns(backend.Handle(epfd)) {
			epfd++
		}
		for _, fd := range []int{u.wakefd, u.ring.FD, epfd} {
			h := backend.Handle(fd)
			require.ErrorIs(t, u.Add(h, 2, backend.Readable), unix.EINVAL)
			require.ErrorIs(t, u.Modify(h, 2, backend.Readable), unix.ENOENT)
			require.ErrorIs(t, u.Delete(h), unix.ENOENT)
		}
		require.NoError(t, u.Wake())
		n, err := u.Wait(make([]backend.Event, 1), -1)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

func TestOpen_EntriesOutOfRange(t *testing.T) {
	for _, n := range []uint32{0, maxEntries + 1, 1<<32 - 1} {
		err := New(WithEntries(n), nil).Open()
		require.ErrorIs(t, err, fs.ErrInvalid)
		require.ErrorContains(t, err, "WithEntries")
	}
}

// A number whose new owner cannot be watched has lost its registration, and the
// kernel lets go of the file that had the number before.
// contract: R7
func TestRegistration_NumberGoesToAFile(t *testing.T) {
	eachKind(t, "R4, R7: exact", func(t *testing.T, u *Uring) {
		for name, change := range map[string]func(h backend.Handle) error{
			"Modify": func(h backend.Handle) error { return u.Modify(h, 2, backend.Readable) },
			"Delete": u.Delete,
			"Add":    func(h backend.Handle) error { return u.Add(h, 2, backend.Readable) },
		} {
			want := error(unix.ENOENT)
			if name == "Add" {
				want = backend.ErrNotPollable
			}
			r, w := fixture.Pipe(t)
			require.NoError(t, u.Add(r.Handle(), 1, backend.Readable))
			require.Empty(t, ready(t, u))
			number := r.FD
			r.Close()
			file := fixture.RegularFile(t).MoveTo(number)
			require.ErrorIs(t, change(file.Handle()), want, name)
			_, err := w.TryWrite([]byte("x"))
			require.ErrorIs(t, err, unix.EPIPE, "nobody holds the reading end: %s", name)
			require.ErrorIs(t, u.Delete(file.Handle()), unix.ENOENT, name)
			require.Empty(t, ready(t, u))
			file.Close()
			require.ErrorIs(t, u.Delete(file.Handle()), unix.EBADF)
		}
	})
}

// A pipe's number that was closed and came back by dup2 may be registered again:
// the epoll of ids remembers it as long as the pipe lives.
func TestRegistration_PipeComesBackToItsNumber(t *testing.T) {
	eachKind(t, "R7: no false fs.ErrExist", func(t *testing.T, u *Uring) {
		r, w := fixture.Pipe(t)
		kept := r.Dup()
		require.NoError(t, u.Add(r.Handle(), 1, backend.Readable))
		require.Empty(t, ready(t, u))
		number := r.FD
		r.Close()
		a, _ := fixture.PairAt(t, number)
		require.NoError(t, u.Add(a.Handle(), 2, backend.Readable))
		require.NoError(t, u.Delete(a.Handle()))
		a.Close()
		back := kept.MoveTo(number)
		require.NoError(t, u.Add(back.Handle(), 3, backend.Readable))
		require.ErrorIs(t, u.Add(back.Handle(), 4, backend.Readable), unix.EEXIST)
		w.Write("x")
		require.Equal(t, []backend.Event{{Key: 3, Ready: backend.ReadyReadable}}, some(t, u, make([]backend.Event, 4)))
	})
}
