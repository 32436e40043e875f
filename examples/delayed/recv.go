package main

import (
	"errors"
	"net"
)

// errWouldBlock reports that no data is available now.
var errWouldBlock = errors.New("would block")

// recv reads the available data from conn without waiting. After the last byte
// it returns errWouldBlock, or io.EOF at the end of the stream.
//
// The Read method of conn would wait, in Go's poller instead of the Poll. So
// recv reads directly from the descriptor: recvFD, which differs by system.
func recv(conn *net.TCPConn, b []byte) (n int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := raw.Read(func(fd uintptr) bool {
		n, err = recvFD(fd, b)
		return true // done; false would make Read wait and call again
	})
	if controlErr != nil {
		return 0, controlErr
	}
	return n, err
}
