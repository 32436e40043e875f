//go:build !portable

package socket

// PipePending is how many of the pending bytes of a Conn are in a pipe.
func PipePending(c *Conn) int {
	pendings.mu.Lock()
	defer pendings.mu.Unlock()
	if r := pendings.of[c]; r != nil {
		return r.inPipe()
	}
	return 0
}
