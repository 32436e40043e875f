package fileop

// ReadNothingInline leaves all reads to the engine, even those of what is in the page cache.
// Call it before the first operation.
func (q *Queue) ReadNothingInline() { q.maxInline = -1 }
