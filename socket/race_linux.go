//go:build !portable

package socket

import "github.com/epore/epore/internal/raceio"

func raceRead(b []byte)  { raceio.Read(b) }
func raceWrite(b []byte) { raceio.Write(b) }

// raceReadBuffers says that a call has read n bytes into several buffers.
func raceReadBuffers(bufs [][]byte, n int) {
	if !raceio.Enabled {
		return
	}
	for _, b := range bufs {
		b = b[:min(len(b), n)]
		raceio.Read(b)
		n -= len(b)
	}
}

// raceWriteBuffers says that a call is about to write several buffers.
func raceWriteBuffers(bufs [][]byte) {
	if !raceio.Enabled {
		return
	}
	for _, b := range bufs {
		raceio.Write(b)
	}
}
