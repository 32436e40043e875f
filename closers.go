package epore

import (
	"errors"
	"io"
)

// addCloser makes the Poll's Close close c, which holds more than memory, unless c is
// closed before.
func (p *Poll) addCloser(c io.Closer) error {
	p.slots.Lock()
	defer p.slots.Unlock()
	if p.closed.Load() {
		return ErrClosed
	}
	if p.closers == nil {
		p.closers = make(map[io.Closer]struct{})
	}
	p.closers[c] = struct{}{}
	return nil
}

// removeCloser is called by what closes itself.
func (p *Poll) removeCloser(c io.Closer) {
	p.slots.Lock()
	defer p.slots.Unlock()
	delete(p.closers, c)
}

// closeClosers closes what was added and not removed. The Poll is closed, so nothing is
// added any more. The lock is not held meanwhile, because closing takes it.
func (p *Poll) closeClosers() error {
	p.slots.Lock()
	closers := p.closers
	p.closers = nil
	p.slots.Unlock()
	var errs []error
	for c := range closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
