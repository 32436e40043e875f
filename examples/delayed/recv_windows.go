package main

import (
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// fionbio is FIONBIO from winsock2.h.
const fionbio = 0x8004667e

// recvFD is recv for a socket. On Windows, package net leaves its sockets in
// blocking mode, because its overlapped operations ignore the mode. This
// operation is not overlapped, so recvFD sets the socket to non-blocking first.
func recvFD(fd uintptr, b []byte) (int, error) {
	socket := windows.Handle(fd)
	var nonBlocking, n, flags uint32 = 1, 0, 0
	err := windows.WSAIoctl(socket, fionbio, (*byte)(unsafe.Pointer(&nonBlocking)),
		uint32(unsafe.Sizeof(nonBlocking)), nil, 0, &n, nil, 0)
	if err != nil {
		return 0, os.NewSyscallError("WSAIoctl", err)
	}
	buf := windows.WSABuf{Len: uint32(len(b)), Buf: unsafe.SliceData(b)}
	err = windows.WSARecv(socket, &buf, 1, &n, &flags, nil, nil)
	switch {
	case err == windows.WSAEWOULDBLOCK:
		return 0, errWouldBlock
	case err != nil:
		return 0, os.NewSyscallError("WSARecv", err)
	case n == 0:
		return 0, io.EOF
	}
	return int(n), nil
}
