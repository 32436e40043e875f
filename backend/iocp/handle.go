//go:build windows

package iocp

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/epore/epore/backend"
)

// valid reports whether h may be registered. Windows ignores all but 30 bits of a handle,
// so one socket has several numbers. Only one of them is valid: the others would look
// like different sockets.
func valid(h backend.Handle) bool { return h == h&0xFFFFFFFC }

// errNotSocket is the error for handles that are not sockets. The text of ErrNotPollable
// does not fit: pipes and consoles do block.
var errNotSocket error = notSocketError{}

type notSocketError struct{}

func (notSocketError) Error() string {
	return "not pollable: it is not a socket, and on Windows only sockets have readiness " +
		"(a regular file never blocks; for a pipe or a console, read or write in a goroutine and use a Mailbox)"
}

func (notSocketError) Unwrap() []error {
	return []error{backend.ErrNotPollable, windows.WSAENOTSOCK}
}

// notASocket returns the error for a handle that AFD has refused: it is closed, or
// something else. It only looks at the table of handles. Any call that reaches the file
// may block, even GetFileType: on a synchronous pipe or console it waits for the read in
// progress.
func notASocket(h windows.Handle) error {
	var flags uint32
	if ok, _, _ := procGetHandleInformation.Call(uintptr(h), uintptr(unsafe.Pointer(&flags))); ok == 0 {
		return errClosedHandle
	}
	return errNotSocket
}

// refusesHandle reports whether an error of AFD or Winsock says that a handle is not a
// socket. Systems differ in the number.
func refusesHandle(err error) bool {
	return errors.Is(err, windows.ERROR_INVALID_HANDLE) || errors.Is(err, windows.WSAENOTSOCK) || errors.Is(err, windows.WSAEOPNOTSUPP)
}

// layeredHandle returns AFD's handle of a socket whose own handle AFD does not know. Such
// sockets exist only where a layered service provider that makes handles of its own is
// installed. Elsewhere h is refused without another call that touches it.
func layeredHandle(h windows.Handle) (windows.Handle, error) {
	if !layeredProviders() {
		return 0, errNotSocket
	}
	type result struct {
		base windows.Handle
		err  error
	}
	done := make(chan result, 1)
	go func() {
		base, err := baseHandle(h, handleBelow)
		done <- result{base, err}
	}()
	select {
	case r := <-done:
		return r.base, r.err
	case <-time.After(layeredTimeout): // a pipe with a read in progress: see notASocket
		return 0, errNotSocket
	}
}

// layeredTimeout bounds the wait for a layered provider, which has the answer in memory.
const layeredTimeout = 100 * time.Millisecond

// layeredProviders reports whether a layered service provider without the flag
// XP1_IFS_HANDLES is installed. With that flag, a provider passes on AFD's handles.
func layeredProviders() bool {
	var size uint32
	_, _ = windows.WSAEnumProtocols(nil, nil, &size)
	const one = uint32(unsafe.Sizeof(windows.WSAProtocolInfo{}))
	infos := make([]windows.WSAProtocolInfo, size/one+1)
	size = uint32(len(infos)) * one
	n, err := windows.WSAEnumProtocols(nil, &infos[0], &size)
	if err != nil {
		return false
	}
	for i := range infos[:n] {
		if infos[i].ProtocolChain.ChainLen > windows.BASE_PROTOCOL && infos[i].ServiceFlags1&windows.XP1_IFS_HANDLES == 0 {
			return true
		}
	}
	return false
}

// The Winsock controls that return a handle below that of a layered provider, in the
// order in which to try them. The first two are for the provider's select and WSAPoll,
// which need the same handle as this package.
var handleControls = [...]uint32{
	0x4800001C, // SIO_BSP_HANDLE_SELECT
	0x4800001D, // SIO_BSP_HANDLE_POLL
	0x48000022, // SIO_BASE_HANDLE
}

// baseHandle returns the handle below h, which below returns for a control. An unchanged
// handle is not final, nor is an error: some providers hide the handle from one of the
// controls by returning their own, or by failing.
func baseHandle(h windows.Handle, below func(windows.Handle, uint32) (windows.Handle, error)) (windows.Handle, error) {
	failure := error(errNotSocket)
	for _, control := range handleControls {
		base, err := below(h, control)
		switch {
		case err == nil && base != h:
			return base, nil
		case err != nil && !refusesHandle(err):
			failure = fmt.Errorf("ask the layered provider for the handle of AFD: %w", err)
		}
	}
	return 0, failure
}

// handleBelow asks Winsock for the handle below h.
func handleBelow(h windows.Handle, control uint32) (base windows.Handle, err error) {
	var n uint32
	err = windows.WSAIoctl(h, control, nil, 0, (*byte)(unsafe.Pointer(&base)), uint32(unsafe.Sizeof(base)), &n, nil, 0)
	return base, err
}
