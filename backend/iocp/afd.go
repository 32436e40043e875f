//go:build windows

package iocp

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/epore/epore/backend"
)

// What AFD polls for: the AFD_POLL_ bits.
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

// afdPollSize is the size that it has in C, which rounds it up to the alignment of
// timeout, 8 bytes, also where a handle has 4.
const afdPollSize = (unsafe.Sizeof(afdPoll{}) + 7) &^ 7

// noTimeout is a point in time that does not come.
const noTimeout = 1<<63 - 1

// statusBlock is IO_STATUS_BLOCK.
type statusBlock struct {
	status      uintptr // an NTSTATUS
	information uintptr
}

// packet is OVERLAPPED_ENTRY: what comes out of a port.
type packet struct {
	key      uintptr
	context  uintptr // of the request
	internal uintptr // its NTSTATUS
	bytes    uint32
}

// What golang.org/x/sys has not. What is called often is called by SyscallN, because
// LazyProc.Call allocates.
var (
	ntdll                        = windows.NewLazySystemDLL("ntdll.dll")
	procNtDeviceIoControlFile    = ntdll.NewProc("NtDeviceIoControlFile")
	procNtCancelIoFileEx         = ntdll.NewProc("NtCancelIoFileEx")
	kernel32                     = windows.NewLazySystemDLL("kernel32.dll")
	procGetQueuedCompletionsEx   = kernel32.NewProc("GetQueuedCompletionStatusEx")
	procCreateWaitableTimerEx    = kernel32.NewProc("CreateWaitableTimerExW")
	procSetWaitableTimer         = kernel32.NewProc("SetWaitableTimer")
	procCancelWaitableTimer      = kernel32.NewProc("CancelWaitableTimer")
	procRegisterWaitSingleObject = kernel32.NewProc("RegisterWaitForSingleObject")
	procUnregisterWaitEx         = kernel32.NewProc("UnregisterWaitEx")
)

// findProcs says what this Windows lacks.
func findProcs() error {
	for _, proc := range []*windows.LazyProc{procNtDeviceIoControlFile, procNtCancelIoFileEx, procGetQueuedCompletionsEx} {
		if err := proc.Find(); err != nil {
			return fmt.Errorf("this Windows lacks %s, which Vista has: %w", proc.Name, err)
		}
	}
	return nil
}

// openAFD returns a handle of AFD that is no socket: to make polls on.
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
		return 0, fmt.Errorf(`open \Device\Afd, the driver of sockets: %w`, plain(err))
	}
	return h, nil
}

// startPoll makes the poll in s on afd; its packet will have the context. After an
// error no packet comes.
func startPoll(afd windows.Handle, s *slot, context uintptr) error {
	s.status.status = uintptr(windows.STATUS_PENDING)
	r, _, _ := syscall.SyscallN(procNtDeviceIoControlFile.Addr(), uintptr(afd), 0, 0, context,
		uintptr(unsafe.Pointer(&s.status)), ioctlAFDPoll,
		uintptr(unsafe.Pointer(&s.poll)), afdPollSize, uintptr(unsafe.Pointer(&s.poll)), afdPollSize)
	if status := windows.NTStatus(r); failed(status) {
		return plain(status)
	}
	return nil
}

// cancelPoll ends the poll in s, if it has not ended. Either way its packet comes, and
// says which.
func cancelPoll(afd windows.Handle, s *slot) {
	var status statusBlock
	_, _, _ = syscall.SyscallN(procNtCancelIoFileEx.Addr(), uintptr(afd), uintptr(unsafe.Pointer(&s.status)), uintptr(unsafe.Pointer(&status)))
}

// failed is NT_ERROR: neither success, information nor warning.
func failed(s windows.NTStatus) bool { return s>>30 == 3 }

// dequeue takes packets out of the port, for at most milliseconds.
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

// plain turns an NTSTATUS into the error number that the rest of Windows speaks.
func plain(err error) error {
	if status, ok := err.(windows.NTStatus); ok {
		return status.Errno()
	}
	return err
}

// Controls of Winsock that tell the handle of AFD below those that other providers
// have put on top of it.
const (
	sioBaseHandle    = 0x48000022 // SIO_BASE_HANDLE
	sioBSPHandlePoll = 0x4800001D // SIO_BSP_HANDLE_POLL, for providers that hide the former
)

// baseHandle returns AFD's handle of a socket, mostly the socket itself.
func baseHandle(h backend.Handle) (base windows.Handle, err error) {
	// Windows looks at 30 bits of a handle only, so one socket has many. One of them
	// can be registered, and no other may be taken for another socket.
	if h != h&0xFFFFFFFC {
		return 0, errClosedHandle
	}
	for _, control := range []uint32{sioBaseHandle, sioBSPHandlePoll} {
		var n uint32
		err = windows.WSAIoctl(windows.Handle(h), control, nil, 0, (*byte)(unsafe.Pointer(&base)), uint32(unsafe.Sizeof(base)), &n, nil, 0)
		switch {
		case err == nil:
			return base, nil
		case err == windows.WSAENOTSOCK:
			return 0, notASocket(windows.Handle(h))
		}
	}
	return 0, fmt.Errorf("the handle below the socket (SIO_BASE_HANDLE): %w", err)
}

// notASocket says what h is instead: Winsock does not distinguish.
func notASocket(h windows.Handle) error {
	if _, err := windows.GetFileType(h); err != nil {
		return errClosedHandle
	}
	return fmt.Errorf("%w; on Windows only sockets have readiness: %w", backend.ErrNotPollable, windows.WSAENOTSOCK)
}

// asked are the bits to poll for, for conditions. Closing and failing are always
// asked for, except that the end of the stream is a matter of reading: it stays, and
// would be reported again and again to someone who waits for room to write.
func asked(in backend.Interest) (events uint32) {
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

// readiness is what AFD's bits say. A failed connection is not called closed: nothing
// was open.
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
