package epore

import (
	"fmt"
	"sync/atomic"
	"syscall"
)

// Source is what can be registered: anything with a descriptor to show.
//
// *net.TCPConn, *net.TCPListener, *net.UDPConn, *net.UnixConn and *os.File are
// Sources as they are, and stay usable: registering takes nothing over. (A
// net.Conn, the interface, is not one: assert that it is a Source.) The
// descriptor is asked for at each call and held only during it. For a raw
// descriptor there is [FD].
//
// Deregister a Source before closing it. Closing first is survivable: see
// [Registry.Deregister]. The sockets of package socket do so by themselves.
type Source = syscall.Conn

// FD makes a Source of a raw descriptor: a file descriptor on Unix, a SOCKET on
// Windows. The caller keeps owning it. It allocates nothing for the first
// million numbers, and equal numbers give equal Sources.
func FD[D ~int | ~uintptr](fd D) Source { return descriptorOf(int(fd)) }

// descriptor is the Source behind FD. It is handed out by pointer from a table
// of all numbers, because a number put into an interface costs an allocation,
// and a registration is to cost none.
type descriptor int

const (
	descriptorPage  = 512
	descriptorPages = 2048
)

var descriptors [descriptorPages]atomic.Pointer[[descriptorPage]descriptor]

func descriptorOf(fd int) *descriptor {
	if fd < 0 || fd >= descriptorPage*descriptorPages {
		d := descriptor(fd)
		return &d
	}
	page := descriptors[fd/descriptorPage].Load()
	if page == nil {
		page = newDescriptorPage(fd / descriptorPage)
	}
	return &page[fd%descriptorPage]
}

// newDescriptorPage fills a page; when two goroutines do so at once, one wins.
func newDescriptorPage(i int) *[descriptorPage]descriptor {
	page := new([descriptorPage]descriptor)
	for j := range page {
		page[j] = descriptor(i*descriptorPage + j)
	}
	descriptors[i].CompareAndSwap(nil, page)
	return descriptors[i].Load()
}

// SyscallConn implements [syscall.Conn].
func (d *descriptor) SyscallConn() (syscall.RawConn, error) { return d, nil }

// Control implements [syscall.RawConn].
func (d *descriptor) Control(f func(fd uintptr)) error {
	f(uintptr(*d))
	return nil
}

// Read implements [syscall.RawConn]: it calls f once, since there is nothing
// here to wait with.
func (d *descriptor) Read(f func(fd uintptr) bool) error {
	f(uintptr(*d))
	return nil
}

// Write implements [syscall.RawConn], as Read does.
func (d *descriptor) Write(f func(fd uintptr) bool) error { return d.Read(f) }

// String is how errors and logs call it.
func (d *descriptor) String() string { return fmt.Sprintf("fd %d", int(*d)) }
