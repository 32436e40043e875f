//go:build unix

package pollfd

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/pipe"
	"github.com/epore/epore/backend/internal/posix"
	"github.com/epore/epore/internal/fdtable"
)

// Pollfd is an array for poll(2), a pipe that wakes it, and the account of what is
// in it. Make it with New; it serves one Poll. Its methods may be called from any
// goroutine, as far as [backend.Backend] allows.
type Pollfd struct {
	system // what differs from one Unix to the next

	mu   sync.Mutex
	open bool
	wake pipe.Pipe
	ids  identities

	// fds is the array, the pipe's end first, and entries what is known of each
	// element. While a Wait is asleep in the kernel they are the kernel's: it reads
	// them, writes to them, and holds their files open.
	fds     []unix.PollFd
	entries []entry
	places  fdtable.Table[int32] // the index in fds of each descriptor; 0: none
	first   int                  // who is looked at first, so that all have their turn
	closed  []int32              // descriptors that the Wait in progress found closed
	told    bool                 // some entry was told of something that there was no room for

	// asleep says that a Wait is; changing, that somebody has called it back to
	// change the array, and comes first.
	asleep, changing bool
	turn             sync.Cond // on mu: one of them has ended
}

// entry is a registration.
type entry struct {
	key      backend.Key
	file     fileID
	interest backend.Interest
	// told is urgent data that there was no room to report. Everything else will be
	// said again; some files say this to the first who asks, and then no more.
	told uint16
}

// New returns a queue on poll(2) that is not open yet: epore.NewWith opens it.
func New() *Pollfd { return &Pollfd{system: native} }

var _ backend.Backend = (*Pollfd)(nil)

// system is what differs from one Unix to the next.
type system struct {
	resolution    time.Duration
	poll          func([]unix.PollFd, time.Duration) (int, error)
	newIdentities func() identities
}

// Name implements [backend.Backend].
func (p *Pollfd) Name() string { return "pollfd" }

// Open implements [backend.Backend].
func (p *Pollfd) Open(backend.Config) error {
	if p.poll == nil {
		return fmt.Errorf("a Pollfd: make it with New: %w", unix.EINVAL)
	}
	if p.open {
		return fmt.Errorf("it is open already, and serves one Poll: %w", unix.EBUSY)
	}
	wake, err := pipe.Open()
	if err != nil {
		return fmt.Errorf("the pipe to wake it: %w", err)
	}
	p.wake, p.ids, p.turn.L = wake, p.newIdentities(), &p.mu
	p.fds = append(p.fds[:0], pollFd(wake.Reader, unix.POLLIN))
	p.entries = append(p.entries[:0], entry{})
	p.places = fdtable.Table[int32]{}
	p.open = true
	return nil
}

// errNotOpen is the answer to calls before Open and after Close.
var errNotOpen = fmt.Errorf("the queue on poll is not open: %w", unix.EBADF)

// Capabilities implements [backend.Backend].
func (p *Pollfd) Capabilities() backend.Capabilities {
	return backend.Capabilities{
		Interests:  backend.Readable | backend.Writable | backend.Priority | backend.OneShot,
		Resolution: p.resolution,
	}
}

// Add implements [backend.Backend].
func (p *Pollfd) Add(h backend.Handle, k backend.Key, in backend.Interest) error {
	return p.change(func() error {
		if p.wake.Has(h) {
			return fmt.Errorf("a queue cannot watch itself: %w", unix.EINVAL)
		}
		i := p.place(h)
		file, err := p.ids.record(h, p.entries[i].file, i != 0)
		if err != nil {
			if i != 0 && (errors.Is(err, unix.EBADF) || errors.Is(err, backend.ErrNotPollable)) {
				p.remove(i) // what the number was before is closed
			}
			return err
		}
		if i == 0 {
			i = p.append(int32(h))
		}
		p.set(i, entry{key: k, file: file, interest: in})
		return nil
	})
}

// Modify implements [backend.Backend].
func (p *Pollfd) Modify(h backend.Handle, k backend.Key, in backend.Interest) error {
	return p.change(func() error {
		i, err := p.registered(h, identities.check)
		if err != nil {
			return err
		}
		p.set(i, entry{key: k, file: p.entries[i].file, interest: in})
		return nil
	})
}

// Delete implements [backend.Backend].
func (p *Pollfd) Delete(h backend.Handle) error {
	return p.change(func() error {
		i, err := p.registered(h, identities.forget)
		if err != nil {
			return err
		}
		p.remove(i)
		return nil
	})
}

// registered returns the place of h if h still is the file that was registered.
// When it is not, that one is gone.
func (p *Pollfd) registered(h backend.Handle, look func(identities, backend.Handle, fileID) error) (int, error) {
	i := p.place(h)
	if i == 0 {
		return 0, p.ids.unknown(h)
	}
	err := look(p.ids, h, p.entries[i].file)
	if gone(err) {
		p.remove(i)
	}
	return i, err
}

// gone reports that a descriptor no longer is what was registered.
func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EBADF) }

// change does something with the array. A Wait that is asleep is called back
// first: what poll was given cannot be changed, and the files in it are held open
// until it returns. The Wait then ends early.
func (p *Pollfd) change(do func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.open {
		return errNotOpen
	}
	if p.asleep {
		if err := p.wake.Write(); err != nil {
			return err
		}
		p.changing = true
		for p.asleep {
			p.turn.Wait()
		}
		p.changing = false
		p.turn.Broadcast()
	}
	return do()
}

// place returns where h is in the array, 0 if it is not.
func (p *Pollfd) place(h backend.Handle) int {
	if place := p.places.Get(uintptr(h)); place != nil {
		return int(*place)
	}
	return 0
}

// append makes a place for fd, which is open, so there is a limit to it.
func (p *Pollfd) append(fd int32) int {
	i := len(p.fds)
	p.fds = append(p.fds, pollFd(int(fd), 0))
	p.entries = append(p.entries, entry{})
	*p.places.Add(uintptr(fd)) = int32(i)
	return i
}

// set makes e the registration at place i, armed.
func (p *Pollfd) set(i int, e entry) {
	p.entries[i] = e
	p.fds[i] = pollFd(p.number(i), posix.Bits(e.interest))
}

// remove closes the gap at place i with the last one.
func (p *Pollfd) remove(i int) {
	last := len(p.fds) - 1
	p.places.Drop(uintptr(p.number(i)))
	if i != last {
		p.fds[i], p.entries[i] = p.fds[last], p.entries[last]
		*p.places.Get(uintptr(p.number(i))) = int32(i)
	}
	p.fds, p.entries = p.fds[:last], p.entries[:last]
}

// A one-shot registration that has had its event stays in the array with the
// complement of its descriptor, which is negative: poll(2) passes over it.

// number is the descriptor at place i.
func (p *Pollfd) number(i int) int {
	if fd := int(p.fds[i].Fd); fd >= 0 {
		return fd
	}
	return int(^p.fds[i].Fd)
}

func (p *Pollfd) silence(i int) { p.fds[i].Fd = ^p.fds[i].Fd }

// Wait implements [backend.Backend].
func (p *Pollfd) Wait(dst []backend.Event, timeout time.Duration) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.changing {
		p.turn.Wait()
	}
	if !p.open {
		return 0, errNotOpen
	}
	if p.told {
		timeout = 0
	}
	ready, err := p.ask(timeout)
	if err == unix.EINVAL {
		return 0, fmt.Errorf("poll(2) refuses an array of %d, more than a process may have descriptors (RLIMIT_NOFILE): %w", len(p.fds), err)
	}
	if err != nil {
		return 0, err
	}
	if p.fds[0].Revents != 0 {
		p.wake.Drain()
		ready--
	}
	if p.told {
		ready, p.told = len(p.fds), false
	}
	return p.collect(dst, ready), nil
}

// ask is poll(2).
func (p *Pollfd) ask(timeout time.Duration) (int, error) {
	if timeout == 0 {
		return p.poll(p.fds, 0)
	}
	fds := p.fds
	p.asleep = true
	p.mu.Unlock()
	n, err := p.poll(fds, timeout)
	p.mu.Lock()
	p.asleep = false
	p.turn.Broadcast()
	return n, err
}

// collect moves what is ready to dst, as far as there is room. It begins where the
// last one left off: who is behind others that are always ready has its turn, too.
func (p *Pollfd) collect(dst []backend.Event, ready int) (n int) {
	for i, left := p.first, len(p.fds); ready > 0 && left > 0; i, left = i+1, left-1 {
		if i >= len(p.fds) {
			i = 0
		}
		e := &p.entries[i]
		bits := revents(&p.fds[i]) | uint32(e.told)
		if bits == 0 || i == 0 {
			continue
		}
		ready--
		if n == len(dst) {
			e.told = uint16(bits & unix.POLLPRI)
			p.told = p.told || e.told != 0
			continue
		}
		e.told = 0
		p.first = i + 1
		fd := p.fds[i].Fd
		if bits&unix.POLLNVAL != 0 || gone(p.ids.check(backend.Handle(fd), e.file)) {
			p.closed = append(p.closed, fd)
			continue
		}
		dst[n] = backend.Event{Key: e.key, Ready: posix.Readiness(bits)}
		n++
		if e.interest.Has(backend.OneShot) {
			p.silence(i)
		}
	}
	for _, fd := range p.closed {
		p.remove(p.place(backend.Handle(fd)))
	}
	p.closed = p.closed[:0]
	return n
}

// Wake implements [backend.Backend].
func (p *Pollfd) Wake() error {
	if !p.open {
		return errNotOpen
	}
	return p.wake.Write()
}

// Close implements [backend.Backend].
func (p *Pollfd) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.open {
		return nil
	}
	p.open = false
	return errors.Join(p.wake.Close(), p.ids.close())
}

// pollFd is an element of the array. Its fields have other types on AIX.
func pollFd(fd int, bits uint32) (p unix.PollFd) {
	p.Fd = int32(fd)
	setBits(&p.Events, bits)
	return p
}

func setBits[T int16 | uint16](field *T, bits uint32) { *field = T(bits) }

func revents(p *unix.PollFd) uint32 { return uint32(uint16(p.Revents)) }
