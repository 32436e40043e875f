// The floor for a program in Go: epoll with raw system calls, during which the scheduler
// cannot use the processor. A real program could not wait that way.
package main

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/bench/internal/measure"
)

func main() {
	measure.Main(measure.Measures{"event": event, "ready": ready, "register": register})
}

type queue struct {
	fd  int
	buf [256]unix.EpollEvent
}

func open() (*queue, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &queue{fd: fd}, err
}

func (q *queue) ctl(op, fd int, bits uint32, token int) {
	ev := unix.EpollEvent{Events: bits, Fd: int32(token)}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(q.fd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	if errno != 0 {
		panic(fmt.Sprintf("epoll_ctl %d on descriptor %d: %v", op, fd, errno))
	}
}

func (q *queue) wait(ms int) []unix.EpollEvent {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(q.fd), uintptr(unsafe.Pointer(&q.buf[0])), uintptr(len(q.buf)), uintptr(ms), 0, 0)
	switch errno {
	case 0:
		return q.buf[:n]
	case unix.EINTR: // the runtime signals its threads
		return nil
	}
	panic(fmt.Sprintf("epoll_pwait: %v", errno))
}

func (q *queue) addAll(pairs []measure.Pair, edge bool) {
	bits := uint32(unix.EPOLLIN | unix.EPOLLRDHUP)
	if edge {
		bits |= unix.EPOLLET
	}
	for i, p := range pairs {
		q.ctl(unix.EPOLL_CTL_ADD, p.In, bits, i)
	}
}

func event(a *measure.Args) ([]measure.Result, error) {
	return measure.Event(a, func(pairs []measure.Pair, edge bool) (func(int), error) {
		q, err := open()
		if err != nil {
			return nil, err
		}
		q.addAll(pairs, edge)
		return func(left int) {
			for left > 0 {
				evs := q.wait(-1)
				for i := range evs {
					measure.Get(pairs[evs[i].Fd].In)
				}
				left -= len(evs)
			}
		}, nil
	})
}

func ready(a *measure.Args) ([]measure.Result, error) {
	return measure.Ready(a, func(pairs []measure.Pair) (func() (int, int), error) {
		q, err := open()
		if err != nil {
			return nil, err
		}
		q.addAll(pairs, false)
		return func() (n, sum int) {
			evs := q.wait(0)
			for i := range evs {
				sum += int(evs[i].Fd)
			}
			return len(evs), sum
		}, nil
	})
}

func register(a *measure.Args) ([]measure.Result, error) {
	return measure.Register(a, func(pairs []measure.Pair) (func(), error) {
		q, err := open()
		if err != nil {
			return nil, err
		}
		return func() {
			q.addAll(pairs, true)
			q.wait(0)
			for _, p := range pairs {
				q.ctl(unix.EPOLL_CTL_DEL, p.In, 0, 0)
			}
			q.wait(0)
		}, nil
	})
}
