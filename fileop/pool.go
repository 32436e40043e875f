package fileop

import (
	"sync"
	"sync/atomic"
)

// pool performs operations by the methods of os.File, on goroutines that it starts when they
// are needed.
type pool struct {
	limit int

	mu      sync.Mutex
	work    sync.Cond // on mu
	pending list
	idle    int // workers that wait and were not signaled
	workers int
	closed  bool
	ended   sync.WaitGroup
}

func newPool(workers int) *pool {
	p := &pool{limit: workers}
	p.work.L = &p.mu
	return p
}

// poolState is the state of a request in a pool.
type poolState struct {
	generation uint32 // of the request that was started last; under the pool's lock
	canceled   atomic.Bool
}

func (p *pool) name() string { return "pool" }

func (p *pool) turn() {}

func (p *pool) start(op *Op) {
	p.mu.Lock()
	defer p.mu.Unlock()
	op.pool.generation = op.generation
	op.pool.canceled.Store(false)
	p.pending.push(op)
	switch {
	case p.idle > 0:
		p.idle-- // here, so that the next start signals another one
		p.work.Signal()
	case p.workers < p.limit:
		p.workers++
		p.ended.Add(1)
		go p.run()
	}
}

func (p *pool) run() {
	defer p.ended.Done()
	for {
		p.mu.Lock()
		for p.pending.head == nil && !p.closed {
			p.idle++
			p.work.Wait()
		}
		op := p.pending.pop()
		p.mu.Unlock()
		if op == nil {
			return
		}
		op.finish(op.perform())
	}
}

// perform does the operation of op.
func (op *Op) perform() (err error) {
	f := op.file
	switch op.kind {
	case readAt:
		op.n, err = f.ReadAt(op.bufs[0], op.off)
		return err
	case syncAll:
		return f.Sync()
	case syncData:
		return dataSync(op)
	}
	for _, b := range op.bufs {
		if op.pool.canceled.Load() {
			return ErrCanceled
		}
		n, err := f.WriteAt(b, op.off+int64(op.n))
		if op.n += n; err != nil {
			return err
		}
	}
	switch {
	case op.kind == writeAt:
		return nil
	case op.pool.canceled.Load():
		return ErrCanceled
	}
	return dataSync(op)
}

func (p *pool) cancel(op *Op, generation uint32) {
	p.mu.Lock()
	if op.pool.generation != generation {
		p.mu.Unlock()
		return
	}
	op.pool.canceled.Store(true)
	waiting := p.pending.remove(op)
	p.mu.Unlock()
	if waiting {
		op.finish(ErrCanceled)
	}
}

func (p *pool) await(op *Op) { op.awaitIdle() }

func (p *pool) close() error {
	p.mu.Lock()
	p.closed = true
	p.work.Broadcast()
	p.mu.Unlock()
	p.ended.Wait()
	return nil
}
