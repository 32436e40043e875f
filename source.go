package epore

import (
	"fmt"
	"sync"
	"syscall"

	"github.com/epore/epore/internal/fdtable"
)

// Source is what can be registered: anything that gives access to a descriptor.
//
// *net.TCPConn, *net.TCPListener, *net.UDPConn, *net.UnixConn and *os.File are Sources as
// they are and stay usable: registering does not take them over. (The interface net.Conn is
// not a Source; assert that its value is one.) Each call of the Registry asks for the
// descriptor, and uses it only during the call. For a raw descriptor, use [FD].
//
// Deregister a Source before closing it. The consequences of closing it first are limited:
// see [Registry.Deregister]. The sockets of package socket deregister themselves.
type Source = syscall.Conn

// FD makes a Source of a raw descriptor: a file descriptor on Unix, a SOCKET on Windows.
// The caller still owns the descriptor and keeps it open. For the first million numbers FD
// allocates nothing, except one page for 512 of them, and equal numbers give equal Sources.
func FD[D ~int | ~uintptr](fd D) Source { return descriptorOf(int(fd)) }

// descriptor is the Source behind FD. FD returns pointers into a table of numbers, because
// putting a number into an interface costs an allocation, and a registration must cost
// none.
type descriptor int

// descriptors has each number at its own index.
var descriptors = struct {
	sync.Mutex // for Add
	fdtable.Table[descriptor]
}{Table: fdtable.Table[descriptor]{Init: func(fd uintptr, d *descriptor) { *d = descriptor(fd) }}}

// maxDescriptors bounds descriptors.
const maxDescriptors = 1 << 20

func descriptorOf(fd int) *descriptor {
	if fd < 0 || fd >= maxDescriptors {
		d := descriptor(fd)
		return &d
	}
	if d := descriptors.Get(uintptr(fd)); d != nil {
		return d
	}
	descriptors.Lock()
	defer descriptors.Unlock()
	return descriptors.Add(uintptr(fd))
}

// SyscallConn implements [syscall.Conn].
func (d *descriptor) SyscallConn() (syscall.RawConn, error) { return d, nil }

// Control implements [syscall.RawConn].
func (d *descriptor) Control(f func(fd uintptr)) error {
	f(uintptr(*d))
	return nil
}

// Read implements [syscall.RawConn]. It calls f once, because it has no way to wait.
func (d *descriptor) Read(f func(fd uintptr) bool) error {
	f(uintptr(*d))
	return nil
}

// Write implements [syscall.RawConn] in the same way as Read.
func (d *descriptor) Write(f func(fd uintptr) bool) error { return d.Read(f) }

// String returns the name of the descriptor in errors and logs.
func (d *descriptor) String() string { return fmt.Sprintf("fd %d", int(*d)) }
