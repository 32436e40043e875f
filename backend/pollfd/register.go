//go:build unix

package pollfd

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/posix"
)

// Add implements [backend.Backend].
func (p *Pollfd) Add(h backend.Handle, k backend.Key, in backend.Interest) error {
	if uint64(h) > math.MaxInt32 {
		return unix.EBADF // the system would use the lower half only
	}
	if p.wake.Has(h) {
		return fmt.Errorf("a queue cannot watch itself: %w", unix.EINVAL)
	}
	was, known := p.begin(h)
	e := entry{fd: int32(h), key: k, interest: in}
	e.once = p.reportsOnce != nil && p.reportsOnce(h)
	if !known { // else it may be the registered file, whose Add fails and changes nothing
		e.peek()
	}
	file, err := p.ids.record(h, was.file, known)
	e.file = file

	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		if known && (errors.Is(err, unix.EBADF) || errors.Is(err, backend.ErrNotPollable)) {
			p.remove(p.index(h)) // the descriptor that was registered is closed
		}
		return err
	}
	if err := p.wakeSleeper(); err != nil {
		return err
	}
	i := p.index(h)
	if i == 0 {
		i = p.append(h)
	}
	p.set(i, e)
	return nil
}

// Modify implements [backend.Backend].
func (p *Pollfd) Modify(h backend.Handle, k backend.Key, in backend.Interest) error {
	was, known := p.begin(h)
	if !known {
		return p.ids.unknown(h)
	}
	e := entry{fd: int32(h), key: k, file: was.file, interest: in, once: was.once}
	e.peek()
	err := p.ids.check(h, was.file)

	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.index(h)
	if isGone(err) {
		p.remove(i)
	}
	if err != nil {
		return err
	}
	if err := p.wakeSleeper(); err != nil {
		return err
	}
	e.pending |= p.entries[i].pending & e.wanted()
	p.set(i, e)
	return nil
}

// Delete implements [backend.Backend].
//
// If a Wait sleeps, Delete wakes it and waits until it has returned from the kernel, which
// holds the file open until then. That Wait returns early.
func (p *Pollfd) Delete(h backend.Handle) error {
	p.mu.Lock()
	p.deleting = true
	err := p.wakeSleeper()
	for err == nil && p.asleep {
		p.cond.Wait()
	}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.deleting = false
		p.cond.Broadcast()
		p.mu.Unlock()
	}()
	if err != nil {
		return err
	}
	was, known := p.begin(h)
	if !known {
		return p.ids.unknown(h)
	}
	err = p.ids.forget(h, was.file)

	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil || isGone(err) {
		p.remove(p.index(h))
	}
	return err
}

// isGone reports that a descriptor is no longer the file that was registered.
func isGone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EBADF) }

// peek polls a file that reports a condition once, before a check of its identity does, and
// keeps what it reports.
func (e *entry) peek() {
	if e.once {
		array := []unix.PollFd{pollFd(int(e.fd), e.interest)}
		if n, err := unix.Poll(array, 0); n > 0 && err == nil {
			e.pending = uint16(revents(&array[0])) & e.wanted()
		}
	}
}

// wanted returns the bits to keep if they are not reported at once.
func (e *entry) wanted() (bits uint16) {
	if e.interest.Has(backend.Priority) {
		bits = unix.POLLPRI
	}
	if e.once {
		bits |= uint16(posix.Bits(e.interest)) | unix.POLLERR
	}
	return bits
}

// begin begins a change of h, and returns what is registered. It makes stale what a Wait in
// progress finds out about h: that Wait could take the next file for the registered one, or
// remove the entry while it is changed.
func (p *Pollfd) begin(h backend.Handle) (e entry, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.index(h)
	if i == 0 {
		return entry{}, false
	}
	p.set(i, p.entries[i])
	return p.entries[i], true
}

// wakeSleeper wakes a Wait that sleeps in the kernel, so that the next one has the change.
// The caller holds mu, as those of the methods below do.
func (p *Pollfd) wakeSleeper() error {
	if !p.asleep || p.woken {
		return nil
	}
	if err := p.wake.Write(); err != nil {
		return err
	}
	p.woken = true
	return nil
}

// index returns the index of h in entries, or 0 if it is not registered.
func (p *Pollfd) index(h backend.Handle) int {
	if i := p.indexes.Get(uintptr(h)); i != nil {
		return int(*i)
	}
	return 0
}

// append adds an entry for h, which is open, so their number has a limit.
func (p *Pollfd) append(h backend.Handle) int {
	i := len(p.entries)
	p.entries = append(p.entries, entry{})
	*p.indexes.Add(uintptr(h)) = int32(i)
	return i
}

// set makes e the registration at index i.
func (p *Pollfd) set(i int, e entry) {
	p.generation++
	e.generation = p.generation
	p.entries[i] = e
	p.pending = p.pending || e.pending != 0
	p.mark(i)
}

// remove removes the entry at index i. The last entry takes its place.
func (p *Pollfd) remove(i int) {
	last := len(p.entries) - 1
	p.indexes.Drop(uintptr(p.entries[i].fd))
	if i != last {
		p.entries[i] = p.entries[last]
		*p.indexes.Get(uintptr(p.entries[i].fd)) = int32(i)
		p.mark(i)
	}
	p.entries = p.entries[:last]
}

// mark has the next update copy the entry at index i.
func (p *Pollfd) mark(i int) {
	if p.allDirty || len(p.dirty) >= len(p.entries) {
		p.allDirty = true // no Wait came for a long time
		return
	}
	p.dirty = append(p.dirty, int32(i))
}

// update brings the array up to date.
func (p *Pollfd) update() {
	n := len(p.entries)
	for len(p.array) < n {
		p.array, p.polled = append(p.array, unix.PollFd{}), append(p.polled, entry{})
	}
	p.array, p.polled = p.array[:n], p.polled[:n]
	if p.allDirty {
		for i := range n {
			p.updateElement(i)
		}
	}
	for _, i := range p.dirty {
		if int(i) < n {
			p.updateElement(int(i))
		}
	}
	p.dirty, p.allDirty = p.dirty[:0], false
}

func (p *Pollfd) updateElement(i int) {
	e := p.entries[i]
	p.polled[i] = e
	if e.fired {
		// POSIX has poll(2) skip every negative descriptor. DragonFly skips -1 only, and
		// reports others as POLLNVAL.
		e.fd = -1
	}
	p.array[i] = pollFd(int(e.fd), e.interest)
}
