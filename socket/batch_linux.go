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
	headers  [batchSize]mmsghdr
	iovecs   [batchSize]unix.Iovec
	names    [batchSize]rawSockaddr6
	segments [batchSize]segmentSize
	counts   [batchSize]int // how many messages a header stands for
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// describe lists the Data of a message as that of a header.
func (b *batch) describe(header, i int, m *Message) *mmsghdr {
	b.iovecs[i].Base = unsafe.SliceData(m.Data)
	b.iovecs[i].SetLen(len(m.Data))
	h := &b.headers[header]
	h.Iov = &b.iovecs[i]
	h.SetIovlen(1)
	h.Control = unsafe.SliceData(m.Control)
	h.SetControllen(len(m.Control))
	h.Name, h.Namelen = nil, 0
	return h
}

// release returns b to the pool, without keeping the buffers of n messages alive.
func (b *batch) release(n int) {
	for i := range n {
		b.iovecs[i].Base, b.headers[i].Control = nil, nil
	}
	batches.Put(b)
}

// transfer calls recvmmsg or sendmmsg. Both tell the scheduler: many datagrams take longer
// than a raw call may, and the cost is shared by all of them.
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
			header := b.describe(i, i, &part[i])
			if p != unixDatagram {
				header.Name = (*byte)(unsafe.Pointer(&b.names[i]))
				header.Namelen = uint32(unsafe.Sizeof(b.names[i]))
			}
			b.names[i].Family = 0 // the kernel does not write it if it knows no sender
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
		headers, err := b.describeWrites(h, c, ms[done:min(len(ms), done+batchSize)])
		if headers == 0 {
			return done, err
		}
		n, err := b.transfer(unix.SYS_SENDMMSG, "sendmmsg", h, headers, sendFlags)
		if err != nil && b.counts[0] > 1 && isUnsegmentable(err) {
			c.unsegmentable.Store(true) // from now on they are written one by one
			continue
		}
		if err != nil {
			return done, err
		}
		for i := range n { // if they are not all, the next call reports why
			for range b.counts[i] {
				ms[done].N = len(ms[done].Data)
				done++
			}
		}
	}
	return done, nil
}

// describeWrites lists messages to write, up to one that cannot be written, and returns how
// many headers they take. If that is none, it returns the reason.
func (b *batch) describeWrites(h handle, c *PacketConn, ms []Message) (headers int, err error) {
	segments := len(ms) > 1 && c.proto == udp && !c.unsegmentable.Load() && hasSegments(h)
	for i := 0; i < len(ms); headers++ {
		m := &ms[i]
		if err = c.check(m); err != nil {
			return headers, err
		}
		header := b.describe(headers, i, m)
		if m.Addr.IsValid() {
			b.names[headers] = rawSockaddr6{}
			header.Namelen = uint32(toRaw(&b.names[headers], c.family, m.Addr))
			header.Name = (*byte)(unsafe.Pointer(&b.names[headers]))
		}
		run := 1
		if segments {
			run = segmentsOf(ms[i:])
		}
		for j := i + 1; j < i+run; j++ {
			b.iovecs[j].Base = unsafe.SliceData(ms[j].Data)
			b.iovecs[j].SetLen(len(ms[j].Data))
		}
		if run > 1 {
			header.SetIovlen(run)
			header.Control = b.segments[headers].set(len(m.Data))
			header.SetControllen(int(unsafe.Sizeof(b.segments[headers])))
		}
		for _, m := range ms[i : i+run] {
			raceWrite(m.Data)
			raceWrite(m.Control)
		}
		b.counts[headers] = run
		i += run
	}
	return headers, nil
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
