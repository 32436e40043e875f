//go:build unix || windows

package sim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/loop"
	"github.com/epore/epore/sim"
	"github.com/epore/epore/slab"
	"github.com/epore/epore/socket"
)

// bug is a fault that can be planted in lineServer.
type bug string

const (
	noBug                 bug = ""
	lostPartialWrite      bug = "lost partial write"
	forgottenRearm        bug = "forgotten re-arm"
	staleToken            bug = "stale token"
	timerNotStopped       bug = "timer not stopped"
	readingOnAfterEOF     bug = "reading on after EOF"
	halfCloseIgnored      bug = "half-close ignored"
	wouldBlockAsError     bug = "would-block taken for an error"
	batchCollectedFirst   bug = "batch collected first and handled later"
	writeAfterClose       bug = "write after close"
	acceptSpinsWithoutFDs bug = "accept loop that spins on EMFILE"
	edgeReadOnce          bug = "edge not read until it would block"
)

// plantedBugs are all bugs, with the mode of the server that has them.
var plantedBugs = []struct {
	bug
	mode epore.Interest
}{
	{lostPartialWrite, 0},
	{forgottenRearm, epore.OneShot},
	{staleToken, 0},
	{timerNotStopped, 0},
	{readingOnAfterEOF, 0},
	{halfCloseIgnored, 0},
	{wouldBlockAsError, 0},
	{batchCollectedFirst, 0},
	{writeAfterClose, 0},
	{acceptSpinsWithoutFDs, 0},
	{edgeReadOnce, epore.Edge},
}

const (
	listening epore.Token = iota
	stopping
	answering
)

const (
	workTime = 50 * time.Millisecond // from a line to its answer
	lineTime = time.Hour             // from the first byte of a line to its last
)

// lineServer answers each line of a connection with the line in upper case, after workTime. The
// first line is a name, which it does not answer. Of several connections with one name, the
// last one stays. After the end of the client's direction, it sends what is left and closes.
type lineServer struct {
	bug  bug
	mode epore.Interest // level, Edge or OneShot
	rest func() error   // the time that lines take; during it, events gather for the next batch

	poll      *epore.Poll
	listener  *socket.Listener
	accepting bool // listener is registered
	stop      *epore.Waker
	conns     slab.Slab[target]
	slots     []target // instead of conns, for staleToken
	open      int
	names     map[string]*lineConn
	answers   []answer // in the order of their times
	timer     *epore.Timer
	worked    bool // it took a line from the current batch
	buf       [4096]byte
}

// target is what a token stands for.
type target struct {
	conn *lineConn
	late bool // the time for a line of conn has passed
}

type lineConn struct {
	sock      *socket.Conn
	token     epore.Token
	name      string
	in, out   []byte
	working   int  // lines without an answer
	ended     bool // the client sends nothing more
	closed    bool
	interest  epore.Interest // zero: not registered
	late      *epore.Timer
	lateToken epore.Token
	lateSet   bool
}

type answer struct {
	at    time.Time
	token epore.Token
	conn  *lineConn // for writeAfterClose
	line  []byte
}

func newLineServer(h *sim.Host, planted bug, mode epore.Interest, rest func() error) (*lineServer, error) {
	s := &lineServer{bug: planted, mode: mode, rest: rest, names: map[string]*lineConn{}}
	var err error
	if s.poll, err = epore.NewWith(h.Backend()); err != nil {
		return nil, err
	}
	if s.stop, err = epore.NewWaker(s.poll.Registry(), stopping); err != nil {
		return nil, err
	}
	if s.timer, err = epore.NewTimer(s.poll.Registry(), answering); err != nil {
		return nil, err
	}
	if s.listener, err = h.Listen("tcp", ":7"); err != nil {
		return nil, err
	}
	s.accepting = true
	return s, s.poll.Registry().Register(s.listener, listening, epore.Readable)
}

// run serves until stop. An error means that the server did what it must not do.
func (s *lineServer) run() error {
	type late struct {
		ev   epore.Event
		to   target
		conn bool
	}
	for events := epore.NewEvents(16); ; {
		if err := s.poll.Poll(events, epore.Forever); err != nil {
			return err
		}
		var collected []late
		for ev := range events.All() {
			if s.bug == batchCollectedFirst {
				to, ok := s.get(ev.Token)
				collected = append(collected, late{ev, to, ok})
				continue
			}
			to, ok := s.get(ev.Token)
			if done, err := s.handle(ev, to, ok); done || err != nil {
				return err
			}
		}
		for _, c := range collected {
			if done, err := s.handle(c.ev, c.to, c.conn); done || err != nil {
				return err
			}
		}
		if s.worked {
			s.worked = false
			if err := s.rest(); err != nil {
				return err
			}
		}
	}
}

func (s *lineServer) handle(ev epore.Event, to target, known bool) (done bool, err error) {
	switch {
	case ev.Token == stopping:
		return true, nil
	case ev.Token == listening:
		return false, s.accept()
	case ev.Token == answering:
		return false, s.answer()
	case !known: // it was closed earlier in this batch
		return false, nil
	case to.late:
		return false, s.close(to.conn)
	}
	c := to.conn
	if ev.Readable() && !c.ended || s.bug == readingOnAfterEOF {
		if err := s.read(c); err != nil {
			return false, err
		}
	}
	if ev.Writable() && !c.closed {
		if err := s.flush(c); err != nil {
			return false, err
		}
		if s.bug == forgottenRearm && len(c.out) == 0 && !c.ended {
			return false, nil
		}
	}
	return false, s.arm(c, s.mode == epore.OneShot)
}

func (s *lineServer) accept() error {
	for {
		sock, err := s.listener.Accept()
		switch {
		case err == socket.ErrWouldBlock:
			return nil
		case errors.Is(err, syscall.EMFILE):
			if s.bug == acceptSpinsWithoutFDs {
				return nil
			}
			s.accepting = false
			return s.poll.Registry().Deregister(s.listener)
		case err != nil:
			return err
		}
		c := &lineConn{sock: sock}
		c.token, c.lateToken = s.insert(target{conn: c}), s.insert(target{conn: c, late: true})
		s.open++
		if c.late, err = epore.NewTimer(s.poll.Registry(), c.lateToken); err != nil {
			return err
		}
		if err := s.arm(c, false); err != nil {
			return err
		}
	}
}

// read reads once, or with Edge until it would block.
func (s *lineServer) read(c *lineConn) error {
	for {
		n, err := c.sock.Read(s.buf[:])
		c.in = append(c.in, s.buf[:n]...)
		switch {
		case err == socket.ErrWouldBlock:
			if s.bug == wouldBlockAsError {
				return s.close(c)
			}
			return nil
		case err == io.EOF:
			c.ended = true
			return s.finish(c)
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			return s.close(c)
		}
		if err := s.lines(c); err != nil {
			return err
		}
		if c.closed || s.mode != epore.Edge || s.bug == edgeReadOnce {
			return nil
		}
	}
}

// lines takes the whole lines that have arrived.
func (s *lineServer) lines(c *lineConn) error {
	for {
		i := bytes.IndexByte(c.in, '\n')
		if i < 0 {
			break
		}
		line := c.in[:i+1]
		c.in = c.in[i+1:]
		s.worked = true
		if c.lateSet && s.bug != timerNotStopped {
			c.late.Stop()
			c.lateSet = false
		}
		if c.name == "" {
			c.name = string(line)
			old := s.names[c.name]
			s.names[c.name] = c
			if old != nil {
				if err := s.close(old); err != nil {
					return err
				}
			}
			continue
		}
		c.working++
		s.answers = append(s.answers, answer{time.Now().Add(workTime), c.token, c, bytes.ToUpper(line)})
		if len(s.answers) == 1 {
			if err := s.timer.Reset(workTime); err != nil {
				return err
			}
		}
	}
	if len(c.in) > 0 && !c.lateSet {
		c.lateSet = true
		return c.late.Reset(lineTime)
	}
	return nil
}

// answer sends the answers whose time has come.
func (s *lineServer) answer() error {
	for len(s.answers) > 0 {
		a := s.answers[0]
		if d := time.Until(a.at); d > 0 {
			return s.timer.Reset(d)
		}
		s.answers = s.answers[1:]
		to, ok := s.get(a.token)
		if s.bug == writeAfterClose {
			to.conn, ok = a.conn, true
		}
		if !ok || to.late {
			continue // closed in the meantime
		}
		c := to.conn
		c.working--
		c.out = append(c.out, a.line...)
		if err := s.flush(c); err != nil {
			return err
		}
		if err := s.arm(c, false); err != nil {
			return err
		}
	}
	return nil
}

// flush writes what can be written.
func (s *lineServer) flush(c *lineConn) error {
	if len(c.out) > 0 {
		n, err := c.sock.Write(c.out)
		c.out = c.out[n:]
		switch {
		case err == nil, err == socket.ErrWouldBlock:
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			return s.close(c)
		}
		if s.bug == lostPartialWrite {
			c.out = nil
		}
	}
	return s.finish(c)
}

// finish closes a connection that is over.
func (s *lineServer) finish(c *lineConn) error {
	if c.ended && (c.working == 0 && len(c.out) == 0 || s.bug == halfCloseIgnored) {
		return s.close(c)
	}
	return nil
}

// arm registers c for what it waits for.
func (s *lineServer) arm(c *lineConn, again bool) error {
	if c.closed {
		return nil
	}
	var want epore.Interest
	if !c.ended || s.bug == readingOnAfterEOF {
		want |= epore.Readable
	}
	if len(c.out) > 0 {
		want |= epore.Writable
	}
	r, was := s.poll.Registry(), c.interest
	c.interest = want
	switch {
	case was == want && !again, was == 0 && want == 0:
		return nil
	case want == 0:
		return r.Deregister(c.sock)
	case was == 0:
		return r.Register(c.sock, c.token, want|s.mode)
	}
	return r.Reregister(c.sock, c.token, want|s.mode)
}

func (s *lineServer) close(c *lineConn) error {
	if c.closed {
		return nil
	}
	c.closed = true
	s.remove(c.token)
	s.remove(c.lateToken)
	s.open--
	if s.names[c.name] == c {
		delete(s.names, c.name)
	}
	if err := errors.Join(c.late.Close(), c.sock.Close()); err != nil {
		return err
	}
	if !s.accepting {
		s.accepting = true
		return s.poll.Registry().Register(s.listener, listening, epore.Readable)
	}
	return nil
}

// insert, get and remove use the slab, or a slice whose indexes are used again.

func (s *lineServer) insert(to target) epore.Token {
	if s.bug != staleToken {
		return s.conns.Insert(to)
	}
	for i := range s.slots {
		if s.slots[i].conn == nil {
			s.slots[i] = to
			return epore.Token(i) + 10
		}
	}
	s.slots = append(s.slots, to)
	return epore.Token(len(s.slots)) + 9
}

func (s *lineServer) get(token epore.Token) (target, bool) {
	if s.bug != staleToken {
		return s.conns.Get(token)
	}
	if token < 10 || s.slots[token-10].conn == nil {
		return target{}, false
	}
	return s.slots[token-10], true
}

func (s *lineServer) remove(token epore.Token) {
	if s.bug != staleToken {
		s.conns.Remove(token)
		return
	}
	s.slots[token-10] = target{}
}

// step is a part of what a client does: it waits, and sends.
type step struct {
	wait time.Duration
	data string
}

// lineClient sends lines, and compares the answers.
type lineClient struct {
	w       *lineWorld
	name    string
	steps   []step
	want    []byte // the answers that have not come yet
	gives   bool   // it goes away in the midst, and is replaced
	next    *lineClient
	started bool // next
	closed  bool

	patience time.Duration // from the first answer to next
}

func (c *lineClient) Open(conn *loop.Conn) { c.step(conn) }

func (c *lineClient) step(conn *loop.Conn) {
	switch {
	case c.closed:
		return
	case len(c.steps) == 0 && c.gives:
		if c.started {
			conn.Abort()
		}
		return
	case len(c.steps) == 0:
		conn.CloseWrite()
		return
	}
	next := c.steps[0]
	c.steps = c.steps[1:]
	conn.Loop().After(next.wait, func() {
		if c.closed {
			return
		}
		if _, err := conn.Write([]byte(next.data)); err != nil && !c.gives {
			c.w.fail("%s: %v", c.name, err)
		}
		c.step(conn)
	})
}

// replace makes the connection that replaces c, after the server has seen the name of c.
func (c *lineClient) replace(l *loop.Loop) {
	if !c.started {
		c.started = true
		l.After(c.patience, func() { c.next.dial(l) })
	}
}

func (c *lineClient) dial(l *loop.Loop) {
	if _, err := l.Dial("tcp", "server:7", 0, nil, c); err != nil {
		c.w.fail("%s: %v", c.name, err)
	}
}

func (c *lineClient) Data(conn *loop.Conn, in []byte) int {
	if len(in) > len(c.want) || !bytes.Equal(in, c.want[:len(in)]) {
		c.w.fail("%s: an answer is not to what it asked: %.40q", c.name, in)
	}
	c.want = c.want[min(len(in), len(c.want)):]
	if c.gives {
		c.replace(conn.Loop())
		if len(c.steps) == 0 {
			conn.Abort()
		}
	}
	return len(in)
}

func (c *lineClient) Close(conn *loop.Conn, err error) {
	c.closed = true
	c.w.left--
	if c.gives {
		c.replace(conn.Loop())
		return
	}
	if err != nil || len(c.want) > 0 {
		c.w.fail("%s: its connection ended (error: %v) with %d bytes missing", c.name, err, len(c.want))
	}
}

func (c *lineClient) Failed(conn *loop.Conn, err error) {
	if errors.Is(err, syscall.ETIMEDOUT) { // a partition and lost packets may take all attempts
		c.dial(conn.Loop())
		return
	}
	c.w.fail("%s: %v", c.name, err)
}

// lineWorld is a World with a lineServer and clients. It keeps what went wrong.
type lineWorld struct {
	*sim.World
	r      *rand.Rand
	left   int // clients that have not ended
	mu     sync.Mutex
	failed error
}

func (w *lineWorld) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = fmt.Errorf(format, args...)
		w.Note("WRONG: %v", w.failed)
	}
}

// client makes a client with drawn lines.
func (w *lineWorld) client(name string) *lineClient {
	c := &lineClient{w: w, name: name}
	w.left++
	script := name + "\n"
	long := w.r.IntN(2) * w.r.IntN(20)
	for i := range 1 + w.r.IntN(20) {
		line := fmt.Sprintf("%s line %d %s\n", name, i, strings.Repeat("x", w.r.IntN(1<<w.r.IntN(11))))
		if i == long { // the client waits between two lines
			c.steps = append(c.steps, step{0, script})
			c.steps = append(c.steps, step{2 * lineTime, line[:1]})
			line, script = line[1:], ""
			c.want = append(c.want, strings.ToUpper(name[:1])...)
		}
		script += line
		c.want = append(c.want, strings.ToUpper(line)...)
		for len(script) > 1 && w.r.IntN(2) == 0 {
			n := 1 + w.r.IntN(len(script)-1)
			c.steps = append(c.steps, step{time.Duration(w.r.IntN(10)) * 10 * time.Millisecond, script[:n]})
			script = script[n:]
		}
	}
	c.steps = append(c.steps, step{0, script})
	return c
}

// inLineWorld runs a server with a bug, or without one, and returns what went wrong. Whatever
// the World does short of resets: each client gets the answers to its lines, in order, and
// then the end. Only clients that are replaced may miss some. Nothing is left in the end.
func inLineWorld(world *sim.World, planted bug, mode epore.Interest) error {
	w := &lineWorld{World: world, r: rand.New(rand.NewPCG(world.Seed(), 1))}
	host, clients := w.Host("server"), w.Host("clients")
	w.Faults(sim.Swarm())
	if w.r.IntN(2) == 0 {
		host.LimitDescriptors(3 + w.r.IntN(5))
	}
	busy := w.r.IntN(2) * w.r.IntN(20)
	var server *lineServer
	var running atomic.Int32
	var tasks sync.WaitGroup
	running.Store(2)
	tasks.Add(2)
	ended := func() { running.Add(-1); tasks.Done() }
	host.Go(func(task *sim.Task) {
		defer ended()
		var err error
		server, err = newLineServer(host, planted, mode, func() error {
			if busy == 0 {
				return nil
			}
			return task.Sleep(time.Duration(busy) * time.Millisecond)
		})
		if err == nil {
			err = server.run()
		}
		if err != nil && !errors.Is(err, sim.ErrEnded) {
			w.fail("the server: %v", err)
		}
	})
	w.Settle()
	ctx, stopClients := context.WithCancel(context.Background())
	defer stopClients()
	clients.Go(func(*sim.Task) {
		defer ended()
		cfg := loop.Config{NewPoll: func() (*epore.Poll, error) { return epore.NewWith(clients.Backend()) }, Network: clients}
		err := loop.Run(ctx, 1, cfg, func(l *loop.Loop) error {
			for i := range 2 + w.r.IntN(6) {
				c := w.client(fmt.Sprint("client", i))
				if w.r.IntN(3) == 0 {
					next := c
					c = w.client(next.name)
					c.gives, c.next, c.patience = true, next, time.Duration(w.r.IntN(5))*10*time.Millisecond
				}
				l.After(time.Duration(w.r.IntN(10))*10*time.Millisecond, func() { c.dial(l) })
			}
			return nil
		})
		if err != nil && !errors.Is(err, sim.ErrEnded) {
			w.fail("the clients: %v", err)
		}
	})
	w.Sleep(time.Duration(w.r.Int64N(int64(2 * time.Second))))
	if w.r.IntN(2) == 0 {
		w.Partition(host, clients)
		w.Sleep(time.Duration(w.r.Int64N(int64(time.Minute))))
		w.Heal()
	}
	w.Sleep(30 * time.Minute)
	w.Faults()
	w.Sleep(12 * time.Hour)
	if w.Ended() { // the tasks end now, at the same time
		tasks.Wait()
		return w.failed
	}
	if w.left > 0 {
		w.fail("%d clients are still there", w.left)
	}
	if server.open > 0 {
		w.fail("the server has %d connections left", server.open)
	}
	if n := server.poll.Stats().Registrations; n != 3 { // the listener, the Waker and the Timer
		w.fail("the server has %d registrations left", n)
	}
	if err := server.stop.Wake(); err != nil {
		w.fail("%v", err)
	}
	stopClients()
	w.Sleep(time.Minute)
	if n := running.Load(); n > 0 {
		w.fail("%d loops are still there", n)
	}
	return w.failed
}

// quietTest keeps what a World reports, and does not let the test fail.
type quietTest struct {
	testing.TB
	mu     sync.Mutex
	failed error
}

// FailNow does nothing: the World has failed, and the test looks at why.
func (*quietTest) FailNow() {}

func (t *quietTest) Errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = errors.Join(t.failed, fmt.Errorf(format, args...))
}

func (t *quietTest) Failed() bool { return false }

// tryBug runs a World with a planted bug, and returns what went wrong.
func tryBug(t *testing.T, seed uint64, planted bug, mode epore.Interest) (found error) {
	synctest.Test(t, func(t *testing.T) {
		quiet := &quietTest{TB: t}
		found = inLineWorld(sim.NewSeed(quiet, seed), planted, mode)
		quiet.mu.Lock()
		defer quiet.mu.Unlock()
		if quiet.failed != nil { // that came first
			found = quiet.failed
		}
	})
	return found
}

// drawnMode is the mode of a server without a planted bug.
func drawnMode(w *sim.World) epore.Interest {
	return []epore.Interest{0, epore.Edge, epore.OneShot}[w.Seed()%3]
}

func lineServerWorld(t *testing.T, w *sim.World) {
	require.NoError(t, inLineWorld(w, noBug, drawnMode(w)))
}

func longRun() bool { return os.Getenv("EPORE_LONG") != "" }

func TestPlanted_ServerWithoutBugPasses(t *testing.T) {
	sim.Explore(t, fixture.Seeds(60), lineServerWorld)
}

// Each planted bug is found within 1,000 seeds. A plain run stops at the first seed that finds
// it. With EPORE_LONG it runs all, and logs the table of docs/simulation.md.
func TestPlanted_BugIsFound(t *testing.T) {
	const seeds = 1000
	table := "| planted bug | first seed | share of the seeds | what the first one says |\n|---|---|---|---|\n"
	for _, p := range plantedBugs {
		t.Run(string(p.bug), func(t *testing.T) {
			first, n := -1, 0
			var says error
			for seed := range seeds {
				err := tryBug(t, uint64(seed), p.bug, p.mode)
				if err == nil {
					continue
				}
				if n++; first < 0 {
					first, says = seed, err
				}
				if !longRun() {
					break
				}
			}
			require.Positive(t, n, "no seed finds it")
			t.Logf("first found by seed %d: %v", first, says)
			table += fmt.Sprintf("| %s | %d | %.1f %% | %v |\n", p.bug, first, float64(n)*100/seeds, says)
		})
	}
	if longRun() {
		t.Logf("\n%s", table)
	}
}

// The same seed gives the same run of the server, whatever the number of processors: run it
// with -cpu=1,2,8, and with -race.
func TestPlanted_SeedRepeats(t *testing.T) {
	for seed := range fixture.Seeds(10) {
		sim.Check(t, uint64(seed), lineServerWorld)
	}
}
