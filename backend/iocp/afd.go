//go:build windows

package iocp

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/epore/epore/backend"
)

// The events that AFD polls for: the AFD_POLL_ bits.
const (
	afdReceive     = 0x1
	afdExpedited   = 0x2 // urgent data
	afdSend        = 0x4 // also: connected
	afdDisconnect  = 0x8 // the peer sends no more
	afdAbort       = 0x10
	afdLocalClose  = 0x20 // the socket's last handle was closed
	afdAccept      = 0x80
	afdConnectFail = 0x100
)

// ioctlAFDPoll is IOCTL_AFD_POLL.
const ioctlAFDPoll = 0x00012024

// afdPollHandle is AFD_POLL_HANDLE_INFO: one socket of a poll.
type afdPollHandle struct {
	handle windows.Handle
	events uint32
	status uint32
}

// afdPoll is AFD_POLL_INFO: a poll of one socket, and its answer.
type afdPoll struct {
	timeout   int64 // relative and in 100 ns if negative, else a point in time
	count     uint32
	exclusive uint32
	socket    afdPollHandle
}

// afdPollSize is the size of AFD_POLL_INFO in C, which rounds it up to the alignment of
// timeout: 8 bytes, on 32-bit systems, too.
const afdPollSize = (unsafe.Sizeof(afdPoll{}) + 7) &^ 7

// noTimeout is a point in time that never comes.
const noTimeout = 1<<63 - 1

// statusBlock is IO_STATUS_BLOCK.
type statusBlock struct {
	status      uintptr // an NTSTATUS
	information uintptr
}

// packet is OVERLAPPED_ENTRY: one completion out of a port.
type packet struct {
	key      uintptr
	context  uintptr // of the request
	internal uintptr // its NTSTATUS
	bytes    uint32
}

// Functions that golang.org/x/sys lacks. Frequent calls use SyscallN, because
// LazyProc.Call allocates.
var (
	ntdll                        = windows.NewLazySystemDLL("ntdll.dll")
	procNtDeviceIoControlFile    = ntdll.NewProc("NtDeviceIoControlFile")
	procNtCancelIoFileEx         = ntdll.NewProc("NtCancelIoFileEx")
	procNtCreateWaitPacket       = ntdll.NewProc("NtCreateWaitCompletionPacket")
	procNtAssociateWaitPacket    = ntdll.NewProc("NtAssociateWaitCompletionPacket")
	procNtCancelWaitPacket       = ntdll.NewProc("NtCancelWaitCompletionPacket")
	kernel32                     = windows.NewLazySystemDLL("kernel32.dll")
	procGetQueuedCompletionsEx   = kernel32.NewProc("GetQueuedCompletionStatusEx")
	procCreateWaitableTimerEx    = kernel32.NewProc("CreateWaitableTimerExW")
	procSetWaitableTimer         = kernel32.NewProc("SetWaitableTimer")
	procCancelWaitableTimer      = kernel32.NewProc("CancelWaitableTimer")
	procRegisterWaitSingleObject = kernel32.NewProc("RegisterWaitForSingleObject")
	procUnregisterWaitEx         = kernel32.NewProc("UnregisterWaitEx")
	procGetHandleInformation     = kernel32.NewProc("GetHandleInformation")
)

// findProcs returns an error that names the first function that this Windows lacks.
func findProcs() error {
	for _, proc := range []*windows.LazyProc{procNtDeviceIoControlFile, procNtCancelIoFileEx, procGetQueuedCompletionsEx} {
		if err := proc.Find(); err != nil {
			return fmt.Errorf("this Windows lacks %s, which exists since Vista: %w", proc.Name, err)
		}
	}
	return nil
}

// openAFD returns a helper handle: a handle of AFD that is not a socket, to make polls
// on.
func openAFD() (h windows.Handle, err error) {
	name, err := windows.NewNTUnicodeString(`\Device\Afd\Epore`)
	if err != nil {
		return 0, err
	}
	attributes := windows.OBJECT_ATTRIBUTES{ObjectName: name}
	attributes.Length = uint32(unsafe.Sizeof(attributes))
	var status windows.IO_STATUS_BLOCK
	err = windows.NtCreateFile(&h, windows.SYNCHRONIZE, &attributes, &status, nil, 0,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE, windows.FILE_OPEN, 0, 0, 0)
	if err != nil {
		return 0, fmt.Errorf(`open \Device\Afd, the driver that implements sockets: %w`, toErrno(err))
	}
	return h, nil
}

// startPoll starts the poll in s on the helper handle afd. Its packet carries context.
// After an error no packet comes.
func startPoll(afd windows.Handle, s *slot, context uintptr) error {
	s.status.status = uintptr(windows.STATUS_PENDING)
	r, _, _ := syscall.SyscallN(procNtDeviceIoControlFile.Addr(), uintptr(afd), 0, 0, context,
		uintptr(unsafe.Pointer(&s.status)), ioctlAFDPoll,
		uintptr(unsafe.Pointer(&s.poll)), afdPollSize, uintptr(unsafe.Pointer(&s.poll)), afdPollSize)
	if status := windows.NTStatus(r); failed(status) {
		return toErrno(status)
	}
	return nil
}

// cancelPoll cancels the poll in s, unless it has completed. A packet comes in both
// cases, and says which of them it was.
func cancelPoll(afd windows.Handle, s *slot) {
	var status statusBlock
	_, _, _ = syscall.SyscallN(procNtCancelIoFileEx.Addr(), uintptr(afd), uintptr(unsafe.Pointer(&s.status)), uintptr(unsafe.Pointer(&status)))
}

// failed is NT_ERROR: neither success, information nor warning.
func failed(s windows.NTStatus) bool { return s>>30 == 3 }

// dequeue takes packets out of the port. It waits at most milliseconds for the first.
func dequeue(port windows.Handle, dst []packet, milliseconds uint32) (int, error) {
	var n uint32
	ok, _, errno := syscall.SyscallN(procGetQueuedCompletionsEx.Addr(), uintptr(port), uintptr(unsafe.Pointer(&dst[0])), uintptr(len(dst)),
		uintptr(unsafe.Pointer(&n)), uintptr(milliseconds), 0)
	switch {
	case ok != 0:
		return int(n), nil
	case errno == windows.Errno(windows.WAIT_TIMEOUT):
		return 0, nil
	}
	return 0, errno
}

// toErrno translates an NTSTATUS into the error number of the Windows API.
func toErrno(err error) error {
	if status, ok := err.(windows.NTStatus); ok {
		return status.Errno()
	}
	return err
}

// pollEvents returns the bits to poll for. They always include closing and failing. They
// include the end of the stream only with Readable: it is permanent, so it would be
// reported again and again to a program that waits for room to write.
func pollEvents(in backend.Interest) (events uint32) {
	events = afdAbort | afdLocalClose | afdConnectFail
	if in&backend.Readable != 0 {
		events |= afdReceive | afdAccept | afdDisconnect
	}
	if in&backend.Writable != 0 {
		events |= afdSend
	}
	if in&backend.Priority != 0 {
		events |= afdExpedited
	}
	return events
}

// readiness translates AFD's bits. A failed connect is not reported as closed, because
// no connection was open.
func readiness(events uint32) (r backend.Readiness) {
	for _, bit := range [...]struct {
		event uint32
		means backend.Readiness
	}{
		{afdReceive | afdAccept, backend.ReadyReadable},
		{afdSend, backend.ReadyWritable},
		{afdExpedited, backend.ReadyPriority},
		{afdDisconnect, backend.ReadyReadClosed},
		{afdAbort, backend.ReadyError | backend.ReadyReadClosed | backend.ReadyWriteClosed},
		{afdConnectFail, backend.ReadyError},
	} {
		if events&bit.event != 0 {
			r |= bit.means
		}
	}
	return r
}
