//go:build unix

package pollfd

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/posix"
)

// Add implements [backend.Backend].
func (p *Pollfd) Add(h backend.Handle, k backend.Key, in backend.Interest) error {
	return p.change(func() error {
		if p.wake.Has(h) {
			return fmt.Errorf("a queue cannot watch itself: %w", unix.EINVAL)
		}
		i := p.index(h)
		file, err := p.ids.record(h, p.entries[i].file, i != 0)
		if err != nil {
			if i != 0 && (errors.Is(err, unix.EBADF) || errors.Is(err, backend.ErrNotPollable)) {
				p.remove(i) // the descriptor that was registered is closed
			}
			return err
		}
		if i == 0 {
			i = p.append(int32(h))
		}
		p.set(i, entry{fd: int32(h), key: k, file: file, interest: in})
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
		p.set(i, entry{fd: int32(h), key: k, file: p.entries[i].file, interest: in})
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

// registered returns the index of h if h is still the file that was registered. If it is
// not, the registration is removed.
func (p *Pollfd) registered(h backend.Handle, check func(identities, backend.Handle, fileID) error) (int, error) {
	i := p.index(h)
	if i == 0 {
		return 0, p.ids.unknown(h)
	}
	err := check(p.ids, h, p.entries[i].file)
	if isGone(err) {
		p.remove(i)
	}
	return i, err
}

// isGone reports that a descriptor is no longer the file that was registered.
func isGone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EBADF) }

// change calls do, which changes the array. If a Wait sleeps in the kernel, change wakes
// it first: the kernel has the array, and holds its files open until it returns. That
// Wait then returns early.
func (p *Pollfd) change(do func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asleep {
		if err := p.wake.Write(); err != nil {
			return err
		}
		p.changing = true
		for p.asleep {
			p.cond.Wait()
		}
		p.changing = false
		p.cond.Broadcast()
	}
	return do()
}

// index returns the index of h in the array, or 0 if it is not registered.
func (p *Pollfd) index(h backend.Handle) int {
	if i := p.indexes.Get(uintptr(h)); i != nil {
		return int(*i)
	}
	return 0
}

// append adds an element for fd to the array. fd is open, so the length has a limit.
func (p *Pollfd) append(fd int32) int {
	i := len(p.fds)
	p.fds = append(p.fds, pollFd(int(fd), 0))
	p.entries = append(p.entries, entry{fd: fd})
	*p.indexes.Add(uintptr(fd)) = int32(i)
	return i
}

// set makes e the registration at index i, and arms it.
func (p *Pollfd) set(i int, e entry) {
	p.entries[i] = e
	p.fds[i] = pollFd(int(e.fd), posix.Bits(e.interest))
}

// remove removes the element at index i. The last element takes its place.
func (p *Pollfd) remove(i int) {
	last := len(p.fds) - 1
	p.indexes.Drop(uintptr(p.entries[i].fd))
	if i != last {
		p.fds[i], p.entries[i] = p.fds[last], p.entries[last]
		*p.indexes.Get(uintptr(p.entries[i].fd)) = int32(i)
	}
	p.fds, p.entries = p.fds[:last], p.entries[:last]
}

// disarm makes poll(2) skip the element at index i, whose one-shot registration has had its
// event. POSIX has poll(2) skip every negative descriptor; DragonFly skips -1 only, and
// reports others as POLLNVAL.
func (p *Pollfd) disarm(i int) { p.fds[i].Fd = -1 }
