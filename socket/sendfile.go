package socket

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/epore/epore/backend"
)

// SendFile writes n bytes of a file, from offset off on, and returns the number of bytes
// written. If that is less than n, the error is the reason: ErrWouldBlock if the system has no
// room for more (continue at off plus the bytes written when the Conn is writable again), or
// io.ErrUnexpectedEOF if the file is shorter. SendFile neither uses nor changes the position
// of f.
//
// On Linux the data does not pass through the program (sendfile(2)). If the peer is gone,
// the kernel then sends SIGPIPE, which only a program that has subscribed to it (os/signal)
// notices. On other systems, and for files that sendfile does not support, the data is
// copied. Reading the file may wait for its disk, which blocks only the calling goroutine.
func (c *Conn) SendFile(f *os.File, off, n int64) (written int64, err error) {
	d := c.descriptor()
	if !d.Acquire() {
		return 0, c.closed("write")
	}
	defer d.Release()
	switch {
	case f == nil || *f == (os.File{}):
		return 0, c.failed("write", fmt.Errorf("nil file: %w", fs.ErrInvalid))
	case off < 0 || n < 0:
		return 0, c.failed("write", fmt.Errorf("%d bytes from offset %d on: %w", n, off, fs.ErrInvalid))
	}
	if written, err = sysSendFile(d.Handle(), f, off, n); written > 0 {
		c.noteTransfer()
	}
	if err == io.ErrUnexpectedEOF {
		return written, err
	}
	if err != nil {
		err = c.transferError("write", backend.Writable, err)
	}
	return written, err
}

// copySize is how much is copied at once.
const copySize = 64 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// copyFile writes a part of a file through a buffer. Bytes that the system has no room for
// are read again next time.
func copyFile(h handle, f *os.File, off, n int64) (written int64, err error) {
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	for written < n {
		m, err := f.ReadAt(buf[:min(copySize, n-written)], off+written)
		if m == 0 {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return written, err
		}
		for rest := buf[:m]; len(rest) > 0; {
			k, err := write(h, rest)
			written += int64(k)
			if err != nil {
				return written, err
			}
			rest = rest[k:]
		}
	}
	return written, nil
}
