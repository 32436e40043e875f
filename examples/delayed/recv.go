package main

import (
	"errors"
	"net"
)

// errWouldBlock says that nothing is there to read now.
var errWouldBlock = errors.New("would block")

// recv reads from conn what is there, without waiting: after the last byte it
// returns errWouldBlock, or io.EOF at the end of the stream.
//
// The method Read of conn would wait, in Go's own poller instead of ours. So
// recv asks for the descriptor, and reads from that (recvFD, in a file for each
// kind of system).
func recv(conn *net.TCPConn, b []byte) (n int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := raw.Read(func(fd uintptr) bool {
		n, err = recvFD(fd, b)
		return true // done: false would mean to wait and call again
	})
	if controlErr != nil {
		return 0, controlErr
	}
	return n, err
}
