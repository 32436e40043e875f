package fileop

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/uring"
)

// ringFlags are the flags of io_uring_setup to try in turn. The kernel must neither require a
// single thread, because goroutines move, nor put off completions until that thread enters.
var ringFlags = []uint32{
	uring.SetupCoopTaskrun | uring.SetupSubmitAll, // Linux 5.19
	uring.SetupSubmitAll,                          // 5.18
	0,                                             // 5.13
}

const (
	entries     = 256 // submissions
	completions = 4   // for each submission
	maxTransfer = 1 << 30
	maxBufs     = 1024 // UIO_MAXIOV
)

// ring performs operations by an io_uring. Its eventfd is the source of a Hook, so the
// goroutine that polls submits and collects, in its turns. Goroutines that wait for an Op to
// end do so as well. Lock order: mu before that of an Op.
type ring struct {
	queue *Queue

	mu      sync.Mutex
	closed  bool
	kernel  *kernel
	pending list     // not submitted
	cancels []uint64 // user data
	batch   []*Op    // of the submission in progress
	held    []heldFile
	hold    func(fd uintptr)
	at      int  // the Op of batch whose file is being held
	taken   bool // whether the kernel took something of batch
	failed  list
	inside  int    // operations that the kernel has
	misses  int    // submissions that failed in a row
	most    uint32 // entries of a submission, for tests; 0: no limit
	drain   []byte
}

// heldFile is a file that cannot be closed at the moment.
type heldFile struct {
	file *os.File
	fd   int32
}

// kernel is what the kernel uses. It stays reachable until the ring is closed, even if the
// program drops the Poll and the Queue without closing them.
type kernel struct {
	ring    *uring.Ring
	eventfd int
	ops     []*Op // by index, those whose buffers the kernel has
}

// kernels keeps them reachable.
var kernels sync.Map

// ringState is the state of a request in a ring, under the ring's lock.
type ringState struct {
	generation uint32 // of the request that was started last
	canceled   bool
	async      bool // the kernel is to use a worker of its own
	repeats    int  // since the kernel did something
	queued     bool // in pending
	fd         int32
	main, sync entry // sync: the sync of a writeSync
	vecs       []unix.Iovec
	pins       runtime.Pinner // of the buffers, while the kernel has them
}

// entry is what the kernel was asked for, and its answer.
type entry struct {
	asked, answered bool
	result          int32
}

func (q *Queue) openRing() error {
	k, err := openKernel()
	if err != nil {
		return err
	}
	g := &ring{queue: q, kernel: k, drain: make([]byte, 8)}
	g.hold = g.holdNext
	g.mu.Lock() // until turn may be called
	defer g.mu.Unlock()
	q.engine, q.maxSkip = g, 63
	if q.hook, err = epore.NewHook(q.registry, epore.FD(k.eventfd), g.turn, q.end); err != nil {
		q.engine, q.maxSkip = nil, 0
		return errors.Join(fmt.Errorf("the Poll does not take the eventfd of the io_uring: %w", err), k.close())
	}
	kernels.Store(k, nil)
	return nil
}

func openKernel() (*kernel, error) {
	explain := func(call string, err error) error {
		if e := uring.Explain(call, err, uring.Disabled(), "package fileop uses its pool instead"); e != nil {
			return e
		}
		return fmt.Errorf("%s: %w", call, err)
	}
	r, _, call, err := uring.OpenBest(entries, completions, ringFlags)
	if err != nil {
		return nil, explain(call, err)
	}
	k := &kernel{ring: r, eventfd: -1}
	if k.eventfd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, errors.Join(explain("eventfd", err), k.close())
	}
	if errno := r.RegisterEventFD(k.eventfd); errno != 0 {
		return nil, errors.Join(explain("io_uring_register", errno), k.close())
	}
	if _, errno := r.Submit(0); errno != 0 { // a filter may deny this call alone
		return nil, errors.Join(explain("io_uring_enter", errno), k.close())
	}
	return k, nil
}

func (k *kernel) close() error {
	kernels.Delete(k)
	err := k.ring.Close()
	if k.eventfd >= 0 {
		err = errors.Join(err, unix.Close(k.eventfd))
	}
	return err
}

func (g *ring) name() string { return "io_uring" }

func (g *ring) start(op *Op) {
	g.mu.Lock()
	op.ring = ringState{generation: op.generation, vecs: op.ring.vecs[:0], pins: op.ring.pins, async: op.waits}
	g.enqueue(op, false)
	g.mu.Unlock()
	_ = g.queue.hook.Request()
}

// enqueue puts op into pending. It requires the lock.
func (g *ring) enqueue(op *Op, first bool) {
	op.ring.queued = true
	if first {
		g.pending.pushFront(op)
	} else {
		g.pending.push(op)
	}
}

func (g *ring) cancel(op *Op, generation uint32) {
	g.mu.Lock()
	if op.ring.generation != generation || op.ring.canceled {
		g.mu.Unlock()
		return
	}
	op.ring.canceled = true
	waiting := op.ring.queued
	if waiting {
		op.ring.queued = false
		g.pending.remove(op)
	} else if !g.closed {
		g.cancels = append(g.cancels, userData(op))
		if op.kind == writeSync {
			g.cancels = append(g.cancels, userData(op)|syncPart)
		}
	}
	g.mu.Unlock()
	if waiting {
		op.finish(ErrCanceled)
	} else {
		_ = g.queue.hook.Request()
	}
}

// The user data of an operation is its generation (high half) and the index of the Op. Bit 31
// marks the sync after a write.
const (
	syncPart   = 1 << 31
	cancelMark = 1<<64 - 1
)

func userData(op *Op) uint64 { return uint64(op.ring.generation)<<32 | uint64(op.index) }

// turn submits what is pending and collects what has completed.
func (g *ring) turn() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	if g.queue.hook.Level() {
		_, _ = unix.Read(g.kernel.eventfd, g.drain)
	}
	g.exchange()
}

// exchange requires the lock. It ends when nothing is left to submit, or when the kernel takes
// no more, or after some rounds; then it asks for another turn.
func (g *ring) exchange() {
	for range 4 {
		g.reap()
		if g.pending.head == nil && len(g.cancels) == 0 {
			return
		}
		if !g.submit() {
			break
		}
		g.reap()
	}
	g.reap()
	if (g.pending.head != nil || len(g.cancels) > 0) && g.inside < int(g.kernel.ring.CQEntries)/2 {
		_ = g.queue.hook.Request()
	}
}

// submit submits once, and reports whether the kernel took something.
func (g *ring) submit() (took bool) {
	r := g.kernel.ring
	room := int(r.SQEntries)
	done := 0
	for _, data := range g.cancels {
		if room == 0 {
			break
		}
		e := r.Next()
		e.Opcode, e.FD, e.Address, e.UserData = uring.OpAsyncCancel, -1, data, cancelMark
		r.Commit()
		room--
		done++
	}
	g.cancels = g.cancels[:copy(g.cancels, g.cancels[done:])]
	g.batch, g.held = g.batch[:0], g.held[:0]
	for room >= 2 && g.inside+len(g.batch) < int(r.CQEntries)/2 && g.pending.head != nil {
		op := g.pending.pop()
		op.ring.queued = false
		g.batch = append(g.batch, op)
		room -= 2
	}
	g.at = 0
	before := r.Pending()
	if before == 0 && len(g.batch) == 0 {
		return false
	}
	took = g.submitFrom(0)
	for op := g.failed.pop(); op != nil; op = g.failed.pop() {
		took = true
		op.finish(fs.ErrClosed)
	}
	clear(g.batch)
	clear(g.held)
	return took
}

// submitFrom submits the batch. It holds the files of the Ops from i on meanwhile, each inside
// of the callback of its RawConn, so that none of them can be closed and its number reused
// before the kernel has the file.
func (g *ring) submitFrom(i int) (took bool) {
	for ; i < len(g.batch); i++ {
		op := g.batch[i]
		if fd, ok := g.heldFD(op.file); ok {
			op.ring.fd = fd
			continue
		}
		g.at = i
		if op.raw.Control(g.hold) != nil {
			g.failed.push(op)
			g.batch[i] = nil
			continue
		}
		return g.taken
	}
	g.taken = g.enter()
	return g.taken
}

// holdNext holds one more file, and goes on.
func (g *ring) holdNext(fd uintptr) {
	op := g.batch[g.at]
	op.ring.fd = int32(fd)
	g.held = append(g.held, heldFile{op.file, int32(fd)})
	g.submitFrom(g.at + 1)
}

// heldFD returns the descriptor of a file that is held.
func (g *ring) heldFD(f *os.File) (fd int32, ok bool) {
	for i := len(g.held) - 1; i >= 0; i-- {
		if g.held[i].file == f {
			return g.held[i].fd, true
		}
	}
	return 0, false
}

// enter makes the entries of the batch and submits them. What the kernel does not take is
// taken back, because the files are held only now.
func (g *ring) enter() bool {
	r := g.kernel.ring
	cancels := r.Pending()
	for _, op := range g.batch {
		if op != nil {
			g.prepare(op)
			g.keep(op)
		}
	}
	want := r.Pending()
	if g.most > 0 {
		want = min(want, g.most)
	}
	var took uint32
	errno := unix.EINTR
	r.Quiet(true) // exchange collects what completes at once: without events, which cost more than cached reads
	for errno == unix.EINTR {
		took, errno = r.Submit(want)
	}
	r.Quiet(false)
	if errno != 0 {
		took = 0
	}
	r.Retract()
	// Cancellations that were not taken are dropped: those operations end by themselves.
	left := took - min(took, cancels)
	var back list
	for _, op := range g.batch {
		if op == nil {
			continue
		}
		for _, e := range []*entry{&op.ring.main, &op.ring.sync} {
			if e.asked && left > 0 {
				left--
			} else {
				e.asked = false
			}
		}
		if op.ring.main.asked || op.ring.sync.asked {
			g.inside++
		} else {
			g.release(op)
			back.pushFront(op)
		}
	}
	for op := back.pop(); op != nil; op = back.pop() {
		g.enqueue(op, true)
	}
	if took > 0 {
		g.misses = 0
		return true
	}
	if want == 0 { // all files are closed
		return false
	}
	if g.misses++; g.misses > maxMisses {
		for op := g.pending.pop(); op != nil; op = g.pending.pop() {
			op.ring.queued = false
			op.finish(os.NewSyscallError("io_uring_enter", errno))
		}
	}
	return false
}

// maxMisses is how often the kernel may refuse all submissions before operations fail.
const maxMisses = 1000

// maxRepeats is how often in a row an operation is repeated that was ended, but not by Cancel.
// File systems may give the same errors, again and again.
const maxRepeats = 100

// keep keeps and pins the buffers of op, because the kernel is about to have them. An Op that
// waits for its turn has no pins: it may be collected together with its Poll, and what has
// pins then ends the program.
func (g *ring) keep(op *Op) {
	k := g.kernel
	for int(op.index) >= len(k.ops) {
		k.ops = append(k.ops, nil)
	}
	k.ops[op.index] = op
	for _, b := range op.bufs {
		if len(b) > 0 {
			op.ring.pins.Pin(&b[0])
		}
	}
}

// release undoes keep.
func (g *ring) release(op *Op) {
	g.kernel.ops[op.index] = nil
	op.ring.pins.Unpin()
}

// prepare makes the entries for what is left to do of op.
func (g *ring) prepare(op *Op) {
	r := g.kernel.ring
	s := &op.ring
	s.main, s.sync = entry{asked: true}, entry{}
	var flags uint8
	if s.async {
		flags |= uring.Async
	}
	data := userData(op)
	off := uint64(op.off) + uint64(op.n)
	sync := uring.SQE{Opcode: uring.OpFsync, Flags: flags, FD: s.fd, OpFlags: uring.FsyncData, UserData: data}
	switch {
	case op.kind == readAt:
		b := op.bufs[0][op.n:]
		r.Add(uring.SQE{Opcode: uring.OpRead, Flags: flags, FD: s.fd, Offset: off, Address: address(&b[0]),
			Length: uint32(min(len(b), maxTransfer)), UserData: data})
		return
	case op.kind == syncAll:
		sync.OpFlags = 0
		r.Add(sync)
		return
	case op.kind == syncData:
		r.Add(sync)
		return
	case op.kind == writeSync && op.n == op.total:
		s.main, s.sync = entry{}, entry{asked: true}
		sync.UserData |= syncPart
		r.Add(sync)
		return
	}
	e := uring.SQE{Opcode: uring.OpWrite, Flags: flags, FD: s.fd, Offset: off, UserData: data}
	all := g.vectors(op)
	if len(s.vecs) == 1 {
		e.Address, e.Length = address(s.vecs[0].Base), uint32(s.vecs[0].Len)
	} else {
		e.Opcode, e.Address, e.Length = uring.OpWritev, address(&s.vecs[0]), uint32(len(s.vecs))
	}
	if op.kind != writeSync || !all {
		r.Add(e)
		return
	}
	// The two are a chain: the kernel begins the sync when the write has ended, and cancels it
	// if the write fails or is short. Each has its completion. Without that of the write
	// (IOSQE_CQE_SKIP_SUCCESS), nobody would know when the buffers are free if the kernel takes
	// the write and not the sync.
	e.Flags |= uring.Link
	r.Add(e)
	sync.Flags = 0
	sync.UserData |= syncPart
	r.Add(sync)
	s.sync.asked = true
}

func address[T any](p *T) uint64 { return uint64(uintptr(unsafe.Pointer(p))) }

// vectors fills vecs with what is left to write, as far as one request may, and reports
// whether that is all.
func (g *ring) vectors(op *Op) (all bool) {
	s := &op.ring
	s.vecs = s.vecs[:0]
	skip, room := op.n, maxTransfer
	for _, b := range op.bufs {
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		b = b[skip:]
		skip = 0
		if len(s.vecs) == maxBufs || room == 0 {
			return false
		}
		v := unix.Iovec{Base: &b[0]}
		v.SetLen(min(len(b), room))
		s.vecs = append(s.vecs, v)
		if len(b) > room {
			return false
		}
		room -= len(b)
	}
	return true
}

// reap collects completions.
func (g *ring) reap() {
	r := g.kernel.ring
	for {
		i := r.Head()
		for end := r.Tail(); i != end; i++ {
			c := *r.At(i)
			r.Consume(i + 1)
			if c.UserData != cancelMark {
				g.completed(&c)
			}
		}
		if !r.Overflowed() {
			return
		}
		if more, errno := r.Finish(); errno != 0 || !more {
			return
		}
	}
}

// completed handles a completion.
func (g *ring) completed(c *uring.CQE) {
	op := g.kernel.ops[uint32(c.UserData)&^syncPart]
	s := &op.ring
	e := &s.main
	if c.UserData&syncPart != 0 {
		e = &s.sync
	}
	e.answered, e.result = true, c.Result
	if s.main.asked != s.main.answered || s.sync.asked != s.sync.answered {
		return
	}
	g.release(op)
	g.inside--
	again, err := op.advance()
	if !again {
		clear(s.vecs)
		op.finish(err)
		return
	}
	if s.canceled {
		op.finish(ErrCanceled)
		return
	}
	g.enqueue(op, false)
}

// advance notes the results of the entries, and reports whether op needs more of them.
func (op *Op) advance() (again bool, err error) {
	s := &op.ring
	if s.main.asked {
		again, err = op.note(s.main.result)
		if err != nil || !again {
			return false, err
		}
		if op.n < op.total || !s.sync.asked {
			return true, nil
		}
	}
	if result := s.sync.result; result < 0 {
		return op.failed(result)
	}
	return false, nil
}

// note is advance for the result of the main entry.
func (op *Op) note(result int32) (again bool, err error) {
	if result < 0 {
		return op.failed(result)
	}
	op.ring.repeats = 0
	switch {
	case op.kind == syncAll || op.kind == syncData:
		return false, nil
	case result == 0 && op.kind == readAt:
		return false, io.EOF
	case result == 0:
		return false, io.ErrUnexpectedEOF
	}
	op.n += int(result)
	return op.n < op.total || op.kind == writeSync, nil
}

// failed is advance for an entry that failed.
func (op *Op) failed(result int32) (again bool, err error) {
	s := &op.ring
	switch errno := unix.Errno(-result); {
	case errno == unix.EAGAIN && !s.async:
		s.async = true
		return true, nil
	case (errno == unix.ECANCELED || errno == unix.EINTR) && (s.canceled || s.repeats < maxRepeats):
		s.repeats++ // by Cancel, or because the thread that submitted it has ended
		return true, nil
	default:
		return false, errno
	}
}

// await collects completions until op is not under way. Another goroutine may collect the one
// that counts, so it sleeps for moments only.
func (g *ring) await(op *Op) {
	for op.isActive() {
		g.mu.Lock()
		fd := -1
		if !g.closed {
			g.exchange()
			fd = g.kernel.ring.FD
		}
		g.mu.Unlock()
		if op.isActive() {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1)
		}
	}
}

func (g *ring) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	return g.kernel.close()
}

// isActive reports whether op is under way.
func (op *Op) isActive() bool {
	op.mu.Lock()
	defer op.mu.Unlock()
	return op.active
}

func (l *list) pushFront(op *Op) {
	op.listed, op.before, op.next = true, nil, l.head
	if l.head == nil {
		l.tail = op
	} else {
		l.head.before = op
	}
	l.head = op
}
