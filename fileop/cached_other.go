//go:build !linux

package fileop

import "syscall"

// cachedState is what readCached keeps in a request.
type cachedState struct{} //lint:ignore U1000 a field has this type on every system

// readCached is for systems that can read what is cached without waiting.
func (op *Op) readCached([]byte, int64) (n int, ended, open bool, err error) {
	return 0, false, false, nil
}

// isDirect reports whether a file was opened with O_DIRECT.
func isDirect(syscall.RawConn) bool { return false }

func mayWait(syscall.RawConn) bool { return false }

func dataSync(op *Op) error { return op.file.Sync() }
