//go:build unix

package pollfd

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/internal/posix"
)

// Wait implements [backend.Backend].
func (p *Pollfd) Wait(dst []backend.Event, timeout time.Duration) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.changing {
		p.cond.Wait()
	}
	if p.pending {
		timeout = 0
	}
	ready, err := p.pollArray(timeout)
	if err == unix.EINVAL {
		return 0, fmt.Errorf("poll(2) refuses an array of %d elements, more than a process may have descriptors (RLIMIT_NOFILE): %w", len(p.fds), err)
	}
	if err != nil {
		return 0, err
	}
	if p.fds[0].Revents != 0 {
		p.wake.Drain()
		ready--
	}
	if p.pending {
		ready, p.pending = len(p.fds), false
	}
	return p.collect(dst, ready), nil
}

// pollArray calls poll(2), without the lock if the call may sleep.
func (p *Pollfd) pollArray(timeout time.Duration) (int, error) {
	if timeout == 0 {
		return p.poll(p.fds, 0)
	}
	fds := p.fds
	p.asleep = true
	p.mu.Unlock()
	n, err := p.poll(fds, timeout)
	p.mu.Lock()
	p.asleep = false
	p.cond.Broadcast()
	return n, err
}

// collect stores the events of at most ready elements in dst, as far as there is room. It
// begins where the last call stopped, so that elements behind others that are always
// ready have their turn, too.
func (p *Pollfd) collect(dst []backend.Event, ready int) (n int) {
	for i, left := p.next, len(p.fds); ready > 0 && left > 0; i, left = i+1, left-1 {
		if i >= len(p.fds) {
			i = 0
		}
		e := &p.entries[i]
		bits := revents(&p.fds[i]) | uint32(e.pending)
		if bits == 0 || i == 0 {
			continue
		}
		ready--
		if n == len(dst) {
			e.pending = uint16(bits & unix.POLLPRI)
			p.pending = p.pending || e.pending != 0
			continue
		}
		e.pending = 0
		p.next = i + 1
		fd := e.fd
		if bits&unix.POLLNVAL != 0 || isGone(p.ids.check(backend.Handle(fd), e.file)) {
			p.closed = append(p.closed, fd)
			continue
		}
		dst[n] = backend.Event{Key: e.key, Ready: posix.Readiness(bits)}
		n++
		if e.interest.Has(backend.OneShot) {
			p.disarm(i)
		}
	}
	for _, fd := range p.closed {
		p.remove(p.index(backend.Handle(fd)))
	}
	p.closed = p.closed[:0]
	return n
}

// pollFd returns an element of the array. Its fields have other types on AIX.
func pollFd(fd int, bits uint32) (p unix.PollFd) {
	p.Fd = int32(fd)
	setBits(&p.Events, bits)
	return p
}

func setBits[T int16 | uint16](field *T, bits uint32) { *field = T(bits) }

func revents(p *unix.PollFd) uint32 { return uint32(uint16(p.Revents)) }
