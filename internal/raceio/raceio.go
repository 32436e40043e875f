//go:build race

// Package raceio tells the race detector what a raw system call does, which it does not see.
// As in packages syscall and unix, reading is a write to the buffer, and whatever was done
// before a write to any file is visible after a read.
package raceio

import (
	"runtime"
	"unsafe"
)

// Enabled reports whether the race detector is on.
const Enabled = true

var ioSync byte

// Read says that a call has read b.
func Read(b []byte) {
	if len(b) > 0 {
		runtime.RaceWriteRange(unsafe.Pointer(unsafe.SliceData(b)), len(b))
	}
	runtime.RaceAcquire(unsafe.Pointer(&ioSync))
}

// Write says that a call is about to write b.
func Write(b []byte) {
	runtime.RaceReleaseMerge(unsafe.Pointer(&ioSync))
	if len(b) > 0 {
		runtime.RaceReadRange(unsafe.Pointer(unsafe.SliceData(b)), len(b))
	}
}
