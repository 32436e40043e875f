//go:build !linux || portable

package socket

import "os"

// sysSendFile writes a part of a file.
func sysSendFile(h handle, f *os.File, off, n int64) (int64, error) {
	return copyFile(h, f, off, n)
}
