package socket

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

var procAccept = windows.NewLazySystemDLL("ws2_32.dll").NewProc("accept")

// sysAccept accepts one connection.
func sysAccept(h handle) (handle, error) {
	for {
		r, _, err := procAccept.Call(uintptr(h), 0, 0)
		if windows.Handle(r) != windows.InvalidHandle {
			// Programs that Go starts inherit only the handles that are named for them.
			// A program that other code starts between these two calls inherits this one.
			err := windows.SetHandleInformation(windows.Handle(r), windows.HANDLE_FLAG_INHERIT, 0)
			if err == nil {
				err = setNonblock(handle(r))
			}
			if err != nil {
				return 0, errors.Join(os.NewSyscallError("accept", err), closeNew(handle(r)))
			}
			return handle(r), nil
		}
		switch err {
		case windows.WSAEWOULDBLOCK:
			return 0, ErrWouldBlock
		case windows.WSAECONNRESET: // the peer gave it up
		default:
			return 0, os.NewSyscallError("accept", err)
		}
	}
}
