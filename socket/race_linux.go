//go:build race && !portable

package socket

import (
	"runtime"
	"unsafe"
)

// The race detector does not see memory accesses of raw system calls. As in packages syscall
// and unix, these functions tell it that a read writes to the buffer, and that everything
// before a write to any socket happens before a read.

var ioSync byte

func raceRead(b []byte) {
	if len(b) > 0 {
		runtime.RaceWriteRange(unsafe.Pointer(unsafe.SliceData(b)), len(b))
	}
	runtime.RaceAcquire(unsafe.Pointer(&ioSync))
}

func raceWrite(b []byte) {
	runtime.RaceReleaseMerge(unsafe.Pointer(&ioSync))
	if len(b) > 0 {
		runtime.RaceReadRange(unsafe.Pointer(unsafe.SliceData(b)), len(b))
	}
}

func raceReadBuffers(bufs [][]byte, n int) {
	for _, b := range bufs {
		b = b[:min(len(b), n)]
		raceRead(b)
		n -= len(b)
	}
}

func raceWriteBuffers(bufs [][]byte) {
	for _, b := range bufs {
		raceWrite(b)
	}
}
