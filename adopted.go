package epore

import (
	"errors"
	"io"
)

// adopt has the Poll's Close close c, which holds more than memory, if nobody does so
// before.
func (p *Poll) adopt(c io.Closer) error {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	if p.closed.Load() {
		return ErrClosed
	}
	if p.adopted == nil {
		p.adopted = make(map[io.Closer]struct{})
	}
	p.adopted[c] = struct{}{}
	return nil
}

// disown is for what is closed by itself.
func (p *Poll) disown(c io.Closer) {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	delete(p.adopted, c)
}

// closeAdopted closes what there is. The Poll is closed, so nothing comes after it.
// The lock is not held meanwhile, since the closing takes it.
func (p *Poll) closeAdopted() error {
	p.table.mu.Lock()
	adopted := p.adopted
	p.adopted = nil
	p.table.mu.Unlock()
	var errs []error
	for c := range adopted {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
