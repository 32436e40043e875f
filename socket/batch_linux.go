//go:build !portable

package socket

import (
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many datagrams one system call transfers at most.
const batchSize = 64

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	n uint32
}

// batch is the memory in which one call lists its datagrams.
type batch struct {
	headers [batchSize]mmsghdr
	iovecs  [batchSize]unix.Iovec
	names   [batchSize]rawSockaddr6
}

var batches = sync.Pool{New: func() any {
	b := new(batch)
	for i := range b.headers {
		b.headers[i].Iov = &b.iovecs[i]
		b.headers[i].SetIovlen(1)
	}
	return b
}}

// describe lists a message as the next one.
func (b *batch) describe(i int, m *Message) {
	b.iovecs[i].Base = unsafe.SliceData(m.Data)
	b.iovecs[i].SetLen(len(m.Data))
	h := &b.headers[i]
	h.Control = unsafe.SliceData(m.Control)
	h.SetControllen(len(m.Control))
}

// release returns b to the pool, without keeping the buffers of n messages alive.
func (b *batch) release(n int) {
	for i := range n {
		b.iovecs[i].Base, b.headers[i].Control = nil, nil
	}
	batches.Put(b)
}

// transfer calls recvmmsg or sendmmsg. Both tell the scheduler: many datagrams take longer
// than a raw call may, and what that costs is spread over them.
func (b *batch) transfer(call uintptr, name string, h handle, count int, flags uintptr) (int, error) {
	for {
		n, _, errno := syscall.Syscall6(call, uintptr(h), uintptr(unsafe.Pointer(&b.headers)), uintptr(count), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EAGAIN:
			return 0, ErrWouldBlock
		case unix.EINTR:
		default:
			return 0, os.NewSyscallError(name, errno)
		}
	}
}

// sysReadBatch reads datagrams until there are no more, or no more messages.
func sysReadBatch(h handle, p proto, ms []Message) (done int, err error) {
	b := batches.Get().(*batch)
	defer b.release(min(len(ms), batchSize))
	for done < len(ms) {
		part := ms[done:min(len(ms), done+batchSize)]
		for i := range part {
			b.describe(i, &part[i])
			header := &b.headers[i]
			header.Name, header.Namelen = nil, 0
			if p != unixDatagram {
				header.Name = (*byte)(unsafe.Pointer(&b.names[i]))
				header.Namelen = uint32(unsafe.Sizeof(b.names[i]))
			}
			b.names[i].Family = 0 // the kernel leaves it alone if it knows no sender
		}
		n, err := b.transfer(unix.SYS_RECVMMSG, "recvmmsg", h, len(part), receiveFlags|unix.MSG_CMSG_CLOEXEC)
		if err != nil {
			return done, err
		}
		for i := range n {
			m, header := &part[i], &b.headers[i]
			m.N, m.ControlN = int(header.n), int(header.Controllen)
			m.Truncated = header.Flags&unix.MSG_TRUNC != 0
			m.ControlTruncated = header.Flags&unix.MSG_CTRUNC != 0
			m.Addr = fromRaw(&b.names[i])
			raceRead(m.Data[:m.N])
			raceRead(m.Control[:m.ControlN])
		}
		if done += n; n < len(part) {
			break // the queue is empty, or an error comes next: the next call reports it
		}
	}
	return done, nil
}

// sysWriteBatch writes datagrams.
func sysWriteBatch(h handle, c *PacketConn, ms []Message) (done int, err error) {
	b := batches.Get().(*batch)
	defer b.release(min(len(ms), batchSize))
	for done < len(ms) {
		part := ms[done:min(len(ms), done+batchSize)]
		for i := range part {
			m, header := &part[i], &b.headers[i]
			if err = c.check(m); err != nil {
				part = part[:i]
				break
			}
			b.describe(i, m)
			header.Name, header.Namelen = nil, 0
			if m.Addr.IsValid() {
				b.names[i] = rawSockaddr6{}
				header.Namelen = uint32(toRaw(&b.names[i], c.family, m.Addr))
				header.Name = (*byte)(unsafe.Pointer(&b.names[i]))
			}
			raceWrite(m.Data)
			raceWrite(m.Control)
		}
		for len(part) > 0 {
			n, err := b.transfer(unix.SYS_SENDMMSG, "sendmmsg", h, len(part), sendFlags)
			if err != nil {
				return done, err
			}
			for i := range n {
				part[i].N = int(b.headers[i].n)
			}
			done += n
			if part = part[n:]; len(part) > 0 { // the next call says why it stopped
				b.shift(n, len(part))
			}
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// shift makes the n messages from the given one the first ones.
func (b *batch) shift(from, n int) {
	for i := range n {
		j := from + i
		header, old := &b.headers[i], &b.headers[j]
		b.iovecs[i], b.names[i] = b.iovecs[j], b.names[j]
		header.Control, header.Controllen, header.Namelen = old.Control, old.Controllen, old.Namelen
		if header.Name = nil; old.Name != nil {
			header.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		}
	}
}

// sysReadMsg reads from a stream, with control data.
func sysReadMsg(h handle, b, control []byte) (n, controlN int, err error) {
	iov := unix.Iovec{Base: unsafe.SliceData(b)}
	iov.SetLen(len(b))
	msg := unix.Msghdr{Iov: &iov, Control: unsafe.SliceData(control)}
	msg.SetIovlen(1)
	msg.SetControllen(len(control))
	for {
		r, _, errno := syscall.Syscall(unix.SYS_RECVMSG, uintptr(h), uintptr(unsafe.Pointer(&msg)), receiveFlags|unix.MSG_CMSG_CLOEXEC)
		switch errno {
		case 0:
		case unix.EAGAIN:
			return 0, 0, ErrWouldBlock
		case unix.EINTR:
			continue
		default:
			return 0, 0, os.NewSyscallError("recvmsg", errno)
		}
		n, controlN = int(r), int(msg.Controllen)
		raceRead(b[:n])
		raceRead(control[:controlN])
		if msg.Flags&unix.MSG_CTRUNC != 0 {
			err = ErrControlTruncated
		}
		return n, controlN, err
	}
}

// sysWriteMsg writes to a stream, with control data.
func sysWriteMsg(h handle, b, control []byte) (int, error) {
	raceWrite(b)
	raceWrite(control)
	iov := unix.Iovec{Base: unsafe.SliceData(b)}
	iov.SetLen(len(b))
	msg := unix.Msghdr{Iov: &iov, Control: unsafe.SliceData(control)}
	msg.SetIovlen(1)
	msg.SetControllen(len(control))
	for {
		r, _, errno := syscall.Syscall(unix.SYS_SENDMSG, uintptr(h), uintptr(unsafe.Pointer(&msg)), sendFlags)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EAGAIN:
			return 0, ErrWouldBlock
		case unix.EINTR:
		default:
			return 0, os.NewSyscallError("sendmsg", errno)
		}
	}
}
