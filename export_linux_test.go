package epore

// Attached reports whether the runtime's poller watches the queue of p.
func (p *Poll) Attached() bool { return p.parker != nil && p.parker.file.Load() != nil }
