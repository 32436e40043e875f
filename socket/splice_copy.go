//go:build !linux || portable

package socket

// pipe is not used: the data is copied.
type pipe struct{}

func (pipe) inPipe() int                                     { return 0 }
func (r *relay) begin(src, dst handle)                       {}
func (r *relay) fill(src, _ handle, most int64) (int, error) { return r.fillCopy(src, most) }
func (r *relay) drain(dst handle, most int64) (int, error)   { return r.drainCopy(dst, most) }

// drop discards the pending bytes.
func (r *relay) drop() {}
