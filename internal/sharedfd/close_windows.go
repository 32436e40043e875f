package sharedfd

import (
	"golang.org/x/sys/windows"

	"github.com/epore/epore/backend"
)

// closeHandle closes a socket.
func closeHandle(h backend.Handle) error { return windows.Closesocket(windows.Handle(h)) }
