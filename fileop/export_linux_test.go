package fileop

// TakeAtMost has the ring submit no more than n entries at once, as if the kernel took no more.
// It does nothing if q has a pool.
func (q *Queue) TakeAtMost(n uint32) {
	if g, ok := q.engine.(*ring); ok {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.most = n
	}
}
