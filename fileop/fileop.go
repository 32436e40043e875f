package fileop

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/raceio"
)

var (
	// ErrBusy is returned by methods of an Op that is under way. Wait for its event.
	ErrBusy = errors.New("operation under way: wait for its event")

	// ErrCanceled is the result of an operation that Cancel or Close has ended before it was
	// complete.
	ErrCanceled = errors.New("operation canceled")

	// ErrHasReadiness is returned for files that are no regular files and no block devices.
	// Pipes, sockets and terminals have readiness: register them with the Poll.
	ErrHasReadiness = errors.New("neither a regular file nor a block device: register it with the Poll instead")

	errZeroValue = fmt.Errorf("fileop: zero value: create it with New or NewOp: %w", fs.ErrInvalid)
	errNilFile   = fmt.Errorf("fileop: the file is nil: %w", fs.ErrInvalid)
	errTooLong   = fmt.Errorf("the buffers have more bytes than an int counts: %w", fs.ErrInvalid)
	// errMisaligned is EINVAL of a file with O_DIRECT.
	errMisaligned = fmt.Errorf("%w: with O_DIRECT, the offset, the lengths and the addresses of the buffers must be multiples of the block size of the device", syscall.EINVAL)
	errClosed     = fmt.Errorf("fileop: %w", epore.ErrClosed)
	errBusy       = fmt.Errorf("fileop: %w", ErrBusy)
)

// Queue performs operations on files and reports their ends as events of a Poll. All methods
// may be called from any goroutine.
type Queue struct {
	registry *epore.Registry
	engine   engine
	why      error
	hook     *epore.Hook
	// maxInline is the longest read that is tried by the call that starts it; see readCached.
	// Copying more takes longer than handing it to the engine.
	maxInline int
	// maxSkip bounds how many reads of an Op are not tried after misses in a row. A ring tries
	// by itself, so that a miss would be paid twice. For a pool, a miss is worth its price: it
	// begins to read ahead, while the workers are busy.
	maxSkip uint8 //lint:ignore U1000 only Linux uses it

	mu     sync.Mutex
	closed bool
	ops    []*Op    // by index; nil where free
	free   []uint32 // indexes
}

// engine is a way to perform operations.
type engine interface {
	name() string
	// start performs the operation of op, and calls op.finish at its end, once.
	start(op *Op)
	// cancel asks for the end of the operation of op with that generation.
	cancel(op *Op, generation uint32)
	// await returns when op is not under way.
	await(op *Op)
	// turn is called by the goroutine that polls.
	turn()
	// close releases everything. Nothing is under way, and nothing is started any more.
	close() error
}

// An Option is an argument of New.
type Option func(*options)

type options struct {
	pool    bool
	workers int
	log     hclog.Logger
}

// defaultWorkers is the number of goroutines of a pool.
const defaultWorkers = 4

// WithWorkers sets how many goroutines the pool has, if the Queue uses a pool. The default is
// 4. New raises a number below 1 to 1.
func WithWorkers(n int) Option { return func(o *options) { o.workers = max(n, 1) } }

// WithPool makes New choose the pool even where io_uring is available.
func WithPool() Option { return func(o *options) { o.pool = true } }

// WithLogger sets a logger. It receives one info line if the system refuses io_uring and the
// Queue uses the pool instead. Without a logger, or with nil, nothing is logged.
func WithLogger(l hclog.Logger) Option { return func(o *options) { o.log = l } }

// New returns a Queue for the Poll of r. It uses an io_uring where the system allows it, and
// a pool of goroutines otherwise; see [Queue.Engine]. New fails if r or its Poll is closed
// (net.ErrClosed) and if r is nil (fs.ErrInvalid). Closing r later does not affect the Queue.
//
// A Poll whose queue looks at no descriptor, such as that of backendtest.NewFake, never sees the
// eventfd of an io_uring: use WithPool there.
//
// An io_uring takes two descriptors and, with its eventfd, one registration. Close the Queue,
// or its Poll, which closes the Queue.
func New(r *epore.Registry, opts ...Option) (*Queue, error) {
	o := options{workers: defaultWorkers}
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	own, err := r.TryClone() // so that NewOp works after r was closed
	if err != nil {
		return nil, fmt.Errorf("fileop: %w", err)
	}
	q := &Queue{registry: own, why: errChosen, maxInline: 64 << 10}
	if !o.pool {
		if q.why = q.openRing(); q.why == nil {
			return q, nil
		}
	}
	q.engine = newPool(o.workers)
	if q.hook, err = epore.NewHook(own, nil, q.engine.turn, q.end); err != nil {
		return nil, fmt.Errorf("fileop: %w", err)
	}
	if !o.pool && o.log != nil {
		o.log.Info("file operations use a pool of goroutines", "workers", o.workers, "reason", q.why)
	}
	return q, nil
}

var errChosen = errors.New("chosen by WithPool")

// Engine returns how the Queue performs its operations: "io_uring" or "pool". For a pool, why
// says why it is not an io_uring.
func (q *Queue) Engine() (name string, why error) {
	if q.engine == nil {
		return "", errZeroValue
	}
	return q.engine.name(), q.why
}

// Close cancels what is under way, waits until the system uses no file and no buffer of any
// Op any more, closes all Ops and releases the Queue's descriptors. No event of its Ops is
// delivered after Close, not even one that is in the current batch. [Op.Result] still works.
// Closing again does nothing. Close of the Poll closes the Queue, too.
func (q *Queue) Close() error {
	if q.hook == nil {
		return errZeroValue
	}
	return q.hook.Close()
}

// end is Close. The hook calls it, once.
func (q *Queue) end() error {
	q.mu.Lock()
	q.closed = true
	ops := q.ops
	q.mu.Unlock()
	for _, op := range ops { // all at once, before waiting for any
		if op != nil {
			op.cancel(true)
		}
	}
	for _, op := range ops {
		if op != nil {
			q.engine.await(op)
			_ = op.waker.Close()
		}
	}
	return q.engine.close()
}

// NewOp returns an Op whose events carry token. If the Queue is closed, so is the Op.
func (q *Queue) NewOp(token epore.Token) *Op {
	op := &Op{queue: q, closed: true}
	op.idle.L = &op.mu
	if q.engine == nil {
		return op
	}
	waker, err := epore.NewWaker(q.registry, token)
	if err != nil {
		return op
	}
	op.waker = waker
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		_ = waker.Close()
		return op
	}
	op.closed = false
	if n := len(q.free); n > 0 {
		op.index = q.free[n-1]
		q.free = q.free[:n-1]
		q.ops[op.index] = op
	} else {
		op.index = uint32(len(q.ops))
		q.ops = append(q.ops, op)
	}
	return op
}

// Op is one operation at a time. Each operation that was started gives exactly one event,
// which is readable and carries the token of the Op, also if it was cancelled. From its event
// on, the Op can be used again. An Op that is used again for the same file allocates nothing.
//
// From its start to its event the file and the buffers belong to the operation. Do not write
// to a buffer that is being read into or written from, and do not read one that is being read
// into. The file may be closed: see ReadAt.
//
// All methods may be called from any goroutine.
type Op struct {
	queue *Queue
	waker *epore.Waker
	index uint32

	mu     sync.Mutex
	idle   sync.Cond // on mu: not under way any more
	active bool      // under way
	closed bool

	request
	listed       bool // in a list of the engine
	before, next *Op
}

// kind says what an operation does.
type kind uint8

const (
	readAt kind = iota + 1
	writeAt
	syncAll
	syncData
	writeSync
)

func (k kind) String() string { return [...]string{"", "read", "write", "sync", "sync", "write"}[k] }

// request is an operation. It does not refer to its Op, so that an engine can keep it alive
// while the system uses it.
type request struct {
	kind  kind
	file  *os.File
	raw   syscall.RawConn // of file
	waits bool            //lint:ignore U1000 only Linux has it: see mayWait
	bufs  [][]byte
	one   [1][]byte // bufs, if there is one
	off   int64
	total int
	n     int // bytes transferred
	err   error

	// generation counts the operations of this Op. The engine compares it with that of a
	// Cancel.
	generation uint32
	pool       poolState
	ring       ringState   //lint:ignore U1000 only Linux has it
	cached     cachedState //lint:ignore U1000 only Linux has it
}

// ReadAt starts to read len(b) bytes from f, beginning at offset off. Its result is that of
// [os.File.ReadAt]: fewer bytes only with an error, which is io.EOF at the end of the file.
//
// f is a regular file or a block device. If it is closed before the system has begun, the
// result is os.ErrClosed. If it is closed later, the operation ends as if it were open.
//
// ReadAt fails with ErrBusy if the Op is under way, with net.ErrClosed if the Op, its Queue
// or its Poll is closed, with os.ErrClosed if f is closed, with fs.ErrInvalid if f is nil or
// off is negative, with syscall.EISDIR for a directory, and with ErrHasReadiness for other
// kinds of files. If ReadAt fails, nothing was started and no event comes.
func (op *Op) ReadAt(f *os.File, b []byte, off int64) error {
	return op.start(readAt, f, b, nil, off)
}

// WriteAt starts to write len(b) bytes to f, beginning at offset off. Its result is that of
// [os.File.WriteAt]: fewer bytes only with an error. Otherwise it is like ReadAt. It fails
// with an error for files that were opened with os.O_APPEND, as os.File.WriteAt does. Beyond
// the limit of the process (RLIMIT_FSIZE, see getrlimit(2)) the result is EFBIG.
func (op *Op) WriteAt(f *os.File, b []byte, off int64) error {
	return op.start(writeAt, f, b, nil, off)
}

// Sync starts what [os.File.Sync] does. It covers writes that have ended before. Writes that
// are under way are not waited for: use WriteSync, or start Sync at their event.
func (op *Op) Sync(f *os.File) error { return op.start(syncAll, f, nil, nil, 0) }

// SyncData is like Sync, except that the system may leave out metadata that is not needed to
// read the data again, such as the time of the last change (fdatasync(2)). Systems without
// such a call do what Sync does.
func (op *Op) SyncData(f *os.File) error { return op.start(syncData, f, nil, nil, 0) }

// WriteSync starts to write bufs to f, one after the other, beginning at offset off, and then
// does what SyncData does. There is one event, when both have ended. If writing fails, the
// data is not synced. The Op keeps a copy of bufs, but not of the bytes.
func (op *Op) WriteSync(f *os.File, bufs [][]byte, off int64) error {
	return op.start(writeSync, f, nil, bufs, off)
}

func (op *Op) start(k kind, f *os.File, b []byte, bufs [][]byte, off int64) error {
	if op.queue == nil || op.queue.engine == nil {
		return errZeroValue
	}
	op.mu.Lock()
	ended, err := op.begin(k, f, b, bufs, off)
	op.mu.Unlock()
	if err != nil || ended {
		return err
	}
	for _, b := range op.bufs {
		if k == readAt {
			raceio.Read(b)
		} else {
			raceio.Write(b)
		}
	}
	if op.total == 0 && (k == readAt || k == writeAt) {
		op.finish(nil)
		return nil
	}
	op.queue.engine.start(op)
	return nil
}

// begin makes op active and fills its request, or ends it at once if it reads what is in the
// page cache. It requires the lock.
func (op *Op) begin(k kind, f *os.File, b []byte, bufs [][]byte, off int64) (ended bool, err error) {
	switch {
	case op.closed:
		return false, errClosed
	case op.active || op.waker.Pending():
		return false, errBusy
	}
	if err := op.use(k, f, off); err != nil {
		return false, err
	}
	total := len(b)
	for _, b := range bufs {
		if total += len(b); total < 0 {
			return false, &fs.PathError{Op: k.String(), Path: f.Name(), Err: errTooLong}
		}
	}
	open := false
	if k == readAt && total > 0 {
		var n int
		if n, ended, open, err = op.readCached(b, off); ended {
			raceio.Read(b[:n])
			op.n, op.err = n, err
			_ = op.waker.Wake() // fails if the Poll is closed
			return true, nil
		}
	}
	if !open && op.raw.Control(ignore) != nil { // it fails in no other way
		return false, &fs.PathError{Op: k.String(), Path: f.Name(), Err: fs.ErrClosed}
	}
	if k == writeAt || k == writeSync {
		if _, err := f.WriteAt(nil, 0); err != nil { // refuses O_APPEND, and does nothing else
			return false, err
		}
	}
	op.kind, op.off, op.n, op.err, op.total = k, off, 0, nil, total
	if k == writeSync {
		op.bufs = append(op.bufs[:0], bufs...)
	} else if op.one[0] = b; b != nil {
		op.bufs = op.one[:]
	}
	op.generation++
	op.active = true
	return false, nil
}

// use makes f the file of op, unless it is already.
func (op *Op) use(k kind, f *os.File, off int64) error {
	if f == nil {
		return errNilFile
	}
	if off < 0 {
		return &fs.PathError{Op: k.String(), Path: f.Name(), Err: fmt.Errorf("offset %d is negative: %w", off, fs.ErrInvalid)}
	}
	if f == op.file {
		return nil
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if raw.Control(ignore) != nil {
		return &fs.PathError{Op: k.String(), Path: f.Name(), Err: fs.ErrClosed}
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return &fs.PathError{Op: k.String(), Path: f.Name(), Err: syscall.EISDIR}
	case !mode.IsRegular() && mode&(fs.ModeDevice|fs.ModeCharDevice) != fs.ModeDevice:
		return &fs.PathError{Op: k.String(), Path: f.Name(), Err: ErrHasReadiness}
	}
	op.file, op.raw, op.waits = f, raw, mayWait(raw)
	return nil
}

func ignore(uintptr) {}

// finish ends the operation and gives its event. An engine calls it, once for each start.
func (op *Op) finish(err error) {
	for _, b := range op.bufs {
		if op.kind == readAt {
			raceio.Read(b[:min(op.n, len(b))])
		}
	}
	clear(op.bufs)
	op.bufs = op.bufs[:0]
	op.one[0] = nil
	if err == nil && op.n < op.total {
		err = io.ErrUnexpectedEOF
	}
	op.err = op.wrap(err)

	// The event is given under the lock. Otherwise the Op could be started again, and both
	// events could coalesce.
	op.mu.Lock()
	defer op.mu.Unlock()
	op.active = false
	if !op.closed {
		_ = op.waker.Wake() // fails if the Poll is closed
	}
	op.idle.Broadcast()
}

// wrap returns err as package os does.
func (op *Op) wrap(err error) error {
	if err == nil || err == io.EOF || err == ErrCanceled {
		return err
	}
	var known *fs.PathError
	if !errors.As(err, &known) {
		known = &fs.PathError{Op: op.kind.String(), Path: op.file.Name(), Err: err}
		err = known
	}
	if known.Err == syscall.EINVAL && op.total > 0 && isDirect(op.raw) {
		known.Err = errMisaligned
	}
	return err
}

// Result returns the number of bytes and the error of the last operation. It fails with
// ErrBusy while an operation is under way and until its event is delivered. Before the first
// operation it returns 0, nil.
func (op *Op) Result() (n int, err error) {
	if op.queue == nil {
		return 0, errZeroValue
	}
	op.mu.Lock()
	if op.active || !op.closed && op.waker.Pending() {
		err = errBusy
	} else {
		n, err = op.n, op.err
	}
	op.mu.Unlock()
	return n, err
}

// Cancel asks for the end of the operation under way. Its event still comes, and then its
// result is that of the operation if it was faster, or else ErrCanceled with the number of
// bytes that were transferred. Operations that wait for their turn end at once. What a device
// has begun mostly completes. If no operation is under way, Cancel does nothing.
func (op *Op) Cancel() {
	if op.queue != nil && op.queue.engine != nil {
		op.cancel(false)
	}
}

// cancel is Cancel. It can also mark op as closed.
func (op *Op) cancel(closing bool) {
	op.mu.Lock()
	op.closed = op.closed || closing
	active, generation := op.active, op.generation
	op.mu.Unlock()
	if active {
		op.queue.engine.cancel(op, generation)
	}
}

// Close cancels the operation under way, if any, waits until the system uses neither its file
// nor its buffers any more, and removes the Op. Its event is no longer delivered, not even
// one that is in the current batch. Result still works. Closing again does nothing.
//
// Waiting can take as long as a device takes. To avoid that, Cancel and wait for the event.
func (op *Op) Close() error {
	if op.queue == nil || op.queue.engine == nil {
		return errZeroValue
	}
	op.mu.Lock()
	first := !op.closed
	op.mu.Unlock()
	op.cancel(true)
	op.queue.engine.await(op)
	if op.waker != nil {
		_ = op.waker.Close()
	}
	q := op.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if first && !q.closed && q.ops[op.index] == op {
		q.ops[op.index] = nil
		q.free = append(q.free, op.index)
	}
	return nil
}

// awaitIdle waits until op is not under way, if another goroutine sees to that.
func (op *Op) awaitIdle() {
	op.mu.Lock()
	defer op.mu.Unlock()
	for op.active {
		op.idle.Wait()
	}
}

// list is a list of Ops, linked by their fields next and before. An Op is in one list at a
// time. Cancel takes Ops out of the middle, and there may be many.
type list struct{ head, tail *Op }

func (l *list) push(op *Op) {
	op.listed, op.before, op.next = true, l.tail, nil
	if l.tail == nil {
		l.head = op
	} else {
		l.tail.next = op
	}
	l.tail = op
}

func (l *list) pop() *Op {
	op := l.head
	if op != nil {
		l.remove(op)
	}
	return op
}

// remove takes op out, and reports whether it was in the list.
func (l *list) remove(op *Op) bool {
	if !op.listed {
		return false
	}
	if op.before == nil {
		l.head = op.next
	} else {
		op.before.next = op.next
	}
	if op.next == nil {
		l.tail = op.before
	} else {
		op.next.before = op.before
	}
	op.listed, op.before, op.next = false, nil, nil
	return true
}
