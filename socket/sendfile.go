package socket

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/epore/epore/backend"
)

// SendFile writes n bytes of a file, from the offset off on, and returns how many. If that is
// less than n, the error says why: ErrWouldBlock when the system has no room for more, then
// go on with the offset that is reached when the Conn is writable again; or
// io.ErrUnexpectedEOF when the file ends before. The position of f itself is neither used
// nor changed.
//
// On Linux the data does not go through the program (sendfile(2)); the kernel then may send
// SIGPIPE to a program that has asked for it by os/signal when the peer is gone. Elsewhere,
// and for what sendfile does not take, it is copied. Reading the file may wait for its disk,
// which stops this goroutine only.
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

// copySize is how much is copied at once, where it has to be.
const copySize = 64 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// copyFile writes a part of a file, by way of a buffer. What there is no room for is read
// again the next time.
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
			k, err := sysWrite(h, rest)
			written += int64(k)
			if err != nil {
				return written, err
			}
			rest = rest[k:]
		}
	}
	return written, nil
}
