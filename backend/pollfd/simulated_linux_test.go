package pollfd

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/kqsim"
)

// profile describes the poll(2) of a system: in what it differs from that of Linux. All of
// it was seen on running kernels.
type profile struct {
	name string
	// skipsMinusOneOnly: a negative descriptor other than -1 is POLLNVAL.
	skipsMinusOneOnly bool
	// noRDHUP: there is no POLLRDHUP.
	noRDHUP bool
	// noSocketError: sockets are never POLLERR. One with an error is ready for everything.
	noSocketError bool
	// silentPipeWriter: a pipe without a reader is reported as nothing at all.
	silentPipeWriter bool
	// invalidFirst: if descriptors are closed, nothing else is reported.
	invalidFirst bool
	// kernel is its kqueue.
	kernel kqsim.Profile
	// noInodes: fstat(2) returns device 0 and inode 0 for every socket, and for pipes if
	// it is noPipeInodes.
	noInodes, noPipeInodes bool
}

var (
	freebsd = profile{name: "freebsd", kernel: kqsim.FreeBSD,
		noRDHUP: true, noSocketError: true, noInodes: true}
	netbsd = profile{name: "netbsd", kernel: kqsim.NetBSD,
		noRDHUP: true, noSocketError: true, noInodes: true, noPipeInodes: true}
	dragonfly = profile{name: "dragonfly", kernel: kqsim.DragonFly,
		noRDHUP: true, skipsMinusOneOnly: true, silentPipeWriter: true, invalidFirst: true}
	profiles = []profile{freebsd, netbsd, dragonfly}
)

// system returns the system that p describes, simulated on Linux.
func (p profile) system() system {
	s := posixSystem
	s.newCaller = callerFunc(p.poll)
	s.newIdentities = func() identities { return identitiesOn(kqsim.New(p.kernel), statIdentities{p.identify}) }
	return s
}

// identify is identify of the system.
func (p profile) identify(h backend.Handle) (fileID, error) {
	id, err := identify(h)
	switch kind := id.kind & unix.S_IFMT; {
	case p.noInodes && kind == unix.S_IFSOCK, p.noPipeInodes && kind == unix.S_IFIFO:
		id.device, id.inode = 0, 0
	}
	return id, err
}

// pollFunc is a caller.
type pollFunc func([]unix.PollFd, time.Duration) (int, error)

func (f pollFunc) poll(array []unix.PollFd, timeout time.Duration) (int, error) {
	return f(array, timeout)
}

func (f pollFunc) close() error { return nil }

func callerFunc(poll pollFunc) func() caller { return func() caller { return poll } }

// poll is poll(2) of the system.
func (p profile) poll(fds []unix.PollFd, timeout time.Duration) (int, error) {
	invalid := 0
	real := make([]unix.PollFd, len(fds))
	for i, f := range fds {
		fds[i].Revents = 0
		if p.noRDHUP {
			f.Events &^= unix.POLLRDHUP
		}
		switch {
		case f.Fd < -1 && p.skipsMinusOneOnly, f.Fd >= 0 && p.invalidFirst && !fixture.IsOpen(int(f.Fd)):
			fds[i].Revents = unix.POLLNVAL
			invalid++
		case p.silentPipeWriter && isBrokenPipe(int(f.Fd)):
			f.Fd = -1
		}
		real[i] = f
	}
	if invalid > 0 {
		timeout = 0
	}
	if invalid > 0 && p.invalidFirst {
		return invalid, nil
	}
	n, err := posixCaller{}.poll(real, timeout)
	if err != nil {
		return n, err
	}
	n = invalid
	for i, f := range real {
		bits := f.Revents
		if p.noSocketError && bits&unix.POLLERR != 0 && isSocket(int(f.Fd)) {
			bits = bits&^unix.POLLERR | f.Events&(unix.POLLIN|unix.POLLOUT)
		}
		if fds[i].Revents |= bits; bits != 0 {
			n++
		}
	}
	return n, nil
}

func mode(fd int) uint32 {
	var st unix.Stat_t
	if fd < 0 || unix.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Mode & unix.S_IFMT
}

func isSocket(fd int) bool { return mode(fd) == unix.S_IFSOCK }

func isBrokenPipe(fd int) bool {
	probe := []unix.PollFd{{Fd: int32(fd)}}
	n, _ := unix.Poll(probe, 0)
	return mode(fd) == unix.S_IFIFO && n == 1 && probe[0].Revents&unix.POLLERR != 0
}

// eachSystem runs a test on Linux, on what every Unix has, and on each simulated system.
func eachSystem(t *testing.T, run func(t *testing.T, p *Pollfd)) {
	systems := map[string]system{"linux": native, "posix": posixSystem}
	for _, p := range profiles {
		systems[p.name] = p.system()
	}
	for name, s := range systems {
		t.Run(name, func(t *testing.T) {
			p := &Pollfd{system: s}
			require.NoError(t, p.Open())
			t.Cleanup(func() { _ = p.Close() })
			run(t, p)
		})
	}
}

// A fired one-shot registration is skipped, whatever negative number a system skips.
func TestOneShot_SkippedWhenFired(t *testing.T) {
	eachSystem(t, func(t *testing.T, p *Pollfd) {
		for k := range backend.Key(10) {
			a, b := fixture.Pair(t)
			b.Write("x")
			require.NoError(t, p.Add(a.Handle(), k+1, backend.Readable|backend.OneShot))
		}
		require.Len(t, wait(t, p, 0), 8, "the first ones")
		require.Len(t, wait(t, p, 0), 2)
		require.Empty(t, wait(t, p, 0))
		require.Len(t, p.entries, reserved+10)
	})
}

// hooked calls during while a Wait checks an identity.
type hooked struct {
	identities
	during func()
}

func (h *hooked) check(handle backend.Handle, was fileID) error {
	if h.during != nil {
		h.during()
	}
	return h.identities.check(handle, was)
}

// A goroutine that waits may lose its processor at any time, during poll(2) or a check
// among others. No change may wait until it has that again. A Delete may, if the Wait sleeps
// in the kernel: that holds the file open.
// contract: R1
func TestChanges_IndependentOfWaiter(t *testing.T) {
	during := func() {}
	s := posixSystem
	s.newCaller = callerFunc(func(fds []unix.PollFd, timeout time.Duration) (int, error) {
		during()
		return posixCaller{}.poll(fds, timeout)
	})
	ids := &hooked{identities: statIdentities{identify}}
	s.newIdentities = func() identities { return ids }
	p := &Pollfd{system: s}
	require.NoError(t, p.Open())
	t.Cleanup(func() { _ = p.Close() })
	always, peer := fixture.Pair(t)
	peer.Write("x")
	require.NoError(t, p.Add(always.Handle(), 1, backend.Readable))
	other, _ := fixture.Pair(t)
	h := other.Handle()

	calls := 0
	changes := func(delete bool) func() {
		return func() {
			calls++
			done := make(chan error, 4)
			go func() {
				err := p.Add(h, 2, backend.Readable)
				if err == nil || err == unix.EEXIST {
					err = p.Modify(h, 3, backend.Readable)
				}
				if err == nil && delete {
					err = p.Delete(h)
				}
				done <- err
			}()
			select {
			case err := <-done:
				require.NoError(t, err)
			case <-time.After(fixture.Soon):
				t.Fatal("the change waits for the Wait")
			}
		}
	}
	event := []backend.Event{{Key: 1, Ready: backend.ReadyReadable}}
	during = changes(true)
	require.Equal(t, event, wait(t, p, 0))
	during = changes(false)
	require.Equal(t, event, wait(t, p, time.Hour))
	during = func() {}
	ids.during = func() {
		ids.during = nil // Modify calls check, too
		changes(true)()
	}
	require.Equal(t, event, wait(t, p, 0))
	require.Equal(t, 3, calls)
}

// What a Wait has found out before a change is not reported after it.
// contract: R6
func TestWait_ChangedDuringCheck(t *testing.T) {
	for name, change := range map[string]func(p *Pollfd, a *fixture.End) error{
		"modified": func(p *Pollfd, a *fixture.End) error {
			a.Drain()
			return p.Modify(a.Handle(), 2, backend.Readable)
		},
		"deleted": func(p *Pollfd, a *fixture.End) error { return p.Delete(a.Handle()) },
		"replaced": func(p *Pollfd, a *fixture.End) error {
			number := a.FD
			a.Close()
			b, _ := fixture.PairAt(t, number)
			return p.Add(b.Handle(), 2, backend.Readable)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := native
			ids := &hooked{identities: native.newIdentities()}
			s.newIdentities = func() identities { return ids }
			p := &Pollfd{system: s}
			require.NoError(t, p.Open())
			defer p.Close()
			a, b := fixture.Pair(t)
			b.Write("x")
			require.NoError(t, p.Add(a.Handle(), 1, backend.Readable))
			ids.during = func() {
				ids.during = nil
				require.NoError(t, change(p, a))
			}
			require.Empty(t, wait(t, p, 0))
			require.Nil(t, ids.during)
			require.Empty(t, wait(t, p, 0))
		})
	}
}

// Urgent data that a file reports once is not lost if the registration changes before it is
// reported.
// contract: R16
func TestWait_UrgentReportedOnceAndModified(t *testing.T) {
	s, once := posixSystem, true
	a, _ := fixture.Pair(t)
	s.newCaller = callerFunc(func(fds []unix.PollFd, _ time.Duration) (int, error) {
		for i := range fds {
			fds[i].Revents = 0
			if once && fds[i].Fd == int32(a.FD) {
				fds[i].Revents, once = unix.POLLPRI, false
			}
		}
		return 1, nil
	})
	ids := &hooked{identities: statIdentities{identify}}
	s.newIdentities = func() identities { return ids }
	p := &Pollfd{system: s}
	require.NoError(t, p.Open())
	defer p.Close()
	require.NoError(t, p.Add(a.Handle(), 1, backend.Priority))
	ids.during = func() {
		ids.during = nil
		require.NoError(t, p.Modify(a.Handle(), 2, backend.Priority))
	}
	require.Empty(t, wait(t, p, 0))
	require.NoError(t, p.Modify(a.Handle(), 3, backend.Priority))
	require.Equal(t, []backend.Event{{Key: 3, Ready: backend.ReadyPriority}}, wait(t, p, 0))
	require.Empty(t, wait(t, p, 0))
}

// A descriptor is closed without Deregister, and the next file has its number: nothing is
// reported for it under the old key, and it can be registered.
// contract: R7
func TestAdd_NumberReusedWithoutDelete(t *testing.T) {
	eachSystem(t, func(t *testing.T, p *Pollfd) {
		for kind, pair := range map[string]func(testing.TB) (*fixture.End, *fixture.End){
			"TCP": fixture.TCPPair, "UDP": fixture.UDPPair, "Unix": fixture.Pair, "pipe": fixture.Pipe,
		} {
			t.Run(kind, func(t *testing.T) {
				a, _ := pair(t)
				require.NoError(t, p.Add(a.Handle(), 1, backend.Readable))
				number := a.FD
				a.Close()
				b, peer := pair(t)
				b = b.MoveTo(number)
				peer.Write("x")
				require.Empty(t, wait(t, p, 0))
				require.NoError(t, p.Add(b.Handle(), 2, backend.Readable))
				require.ErrorIs(t, p.Add(b.Handle(), 3, backend.Readable), unix.EEXIST)
				require.Equal(t, []backend.Event{{Key: 2, Ready: backend.ReadyReadable}}, wait(t, p, 100*time.Millisecond))
				require.NoError(t, p.Delete(b.Handle()))
				require.ErrorIs(t, p.Delete(b.Handle()), unix.ENOENT)
			})
		}
	})
}

// What a file reports to Add, and not again, is reported by a Wait, also by the one after that
// which is in progress.
// contract: R16
func TestAdd_ReportedOnce(t *testing.T) {
	during := func() {}
	s := native
	s.newCaller = callerFunc(func(fds []unix.PollFd, timeout time.Duration) (int, error) {
		during()
		return posixCaller{}.poll(fds, timeout)
	})
	s.reportsOnce = func(backend.Handle) bool { return true }
	p := &Pollfd{system: s}
	require.NoError(t, p.Open())
	defer p.Close()
	a, b := fixture.Pair(t)
	report := func(change func() error) func() {
		return func() {
			during = func() {}
			b.Write("x")
			require.NoError(t, change())
			a.Drain() // as if the file had reported it
		}
	}
	h := a.Handle()
	during = report(func() error { return p.Add(h, 1, backend.Readable) })
	require.Empty(t, wait(t, p, 0))
	require.Equal(t, []backend.Event{{Key: 1, Ready: backend.ReadyReadable}}, wait(t, p, fixture.Soon))
	require.Empty(t, wait(t, p, 0))
	during = report(func() error { return p.Modify(h, 2, backend.Readable) })
	require.Empty(t, wait(t, p, 0))
	require.Equal(t, []backend.Event{{Key: 2, Ready: backend.ReadyReadable}}, wait(t, p, fixture.Soon))
	require.Empty(t, wait(t, p, 0))
}
