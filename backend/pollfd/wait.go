//go:build unix

package pollfd

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/posix"
)

// result is what a Wait has found out about an element of the array.
type result struct {
	index  int32 // in Pollfd.polled
	bits   uint32
	effect effect
}

// effect is what comes of a result.
type effect uint8

const (
	reported  effect = iota
	postponed        // there is no room to report it
	dropped          // the descriptor is no longer what was registered
)

// Wait implements [backend.Backend].
func (p *Pollfd) Wait(dst []backend.Event, timeout time.Duration) (int, error) {
	p.mu.Lock()
	for p.deleting {
		p.cond.Wait()
	}
	p.update()
	pending := p.pending
	p.pending = false
	if pending {
		timeout = 0
	}
	p.asleep = timeout != 0
	p.mu.Unlock()

	ready, err := p.poll(p.array, timeout)
	if timeout != 0 {
		p.mu.Lock()
		p.asleep, p.woken = false, false
		p.cond.Broadcast()
		p.mu.Unlock()
	}
	if err != nil && pending {
		p.mu.Lock()
		p.pending = true
		p.mu.Unlock()
	}
	if err == unix.EINVAL {
		return 0, fmt.Errorf("poll(2) refuses an array of %d elements, more than a process may have descriptors (RLIMIT_NOFILE): %w", len(p.array), err)
	}
	if err != nil {
		return 0, err
	}
	if p.array[pipeIndex].Revents != 0 {
		p.wake.Drain()
		ready--
	}
	if pending {
		ready = len(p.array)
	}
	p.examine(len(dst), ready)
	return p.report(dst), nil
}

// examine turns at most ready elements of the array into results, at most room of which are
// to be reported. It begins where the last call stopped, so that elements behind others
// that are always ready have their turn, too.
func (p *Pollfd) examine(room, ready int) {
	p.results = p.results[:0]
	for i, left := p.next, len(p.array); ready > 0 && left > 0; i, left = i+1, left-1 {
		if i >= len(p.array) {
			i = 0
		}
		e := &p.polled[i]
		r := result{index: int32(i), bits: revents(&p.array[i]) | uint32(e.pending)}
		if r.bits == 0 || i < reserved {
			continue
		}
		ready--
		switch {
		case room == 0:
			r.effect = postponed
		case r.bits&unix.POLLNVAL != 0 || isGone(p.ids.check(backend.Handle(e.fd), e.file)):
			r.effect = dropped
		default:
			room--
		}
		if r.effect != postponed {
			p.next = i + 1
		} else if r.bits &= uint32(e.wanted()); r.bits == 0 {
			continue
		}
		p.results = append(p.results, r)
	}
}

// report stores the results in dst that are not stale.
func (p *Pollfd) report(dst []backend.Event) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.results {
		was := &p.polled[r.index]
		i := p.index(backend.Handle(was.fd))
		if i == 0 {
			continue
		}
		e := &p.entries[i]
		stale := e.generation != was.generation
		switch {
		case stale && e.file != was.file, stale && r.effect == dropped:
		case r.effect == dropped:
			p.remove(i)
		case stale, r.effect == postponed:
			if bits := uint16(r.bits) & e.wanted(); bits != 0 {
				e.pending, p.pending = e.pending|bits, true
				p.mark(i)
			}
		default:
			dst[n] = backend.Event{Key: e.key, Ready: posix.Readiness(r.bits)}
			n++
			if e.fired = e.interest.Has(backend.OneShot); e.fired || e.pending != 0 {
				e.pending = 0
				p.mark(i)
			}
		}
	}
	return n
}

// pollFd returns an element of the array. Its fields have other types on AIX.
func pollFd(fd int, in backend.Interest) (p unix.PollFd) {
	p.Fd = int32(fd)
	setBits(&p.Events, posix.Bits(in))
	return p
}

func setBits[T int16 | uint16](field *T, bits uint32) { *field = T(bits) }

func revents(p *unix.PollFd) uint32 { return uint32(uint16(p.Revents)) }
