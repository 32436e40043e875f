package main

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/loop"
	"github.com/epore/epore/socket"
)

type settings struct {
	backends                    []string
	connect, retry, grace, idle time.Duration
	max                         int
	log                         io.Writer
}

// statistics count what all loops have done.
type statistics struct {
	open, accepted, refused, unreachable, cut atomic.Int64
	up, down                                  atomic.Int64 // bytes, from clients and to them
}

func (s *statistics) String() string {
	return fmt.Sprintf("%d connections, %d open; %d refused, %d without a backend, %d cut; %d bytes up, %d down",
		s.accepted.Load(), s.open.Load(), s.refused.Load(), s.unreachable.Load(), s.cut.Load(), s.up.Load(), s.down.Load())
}

// proxy is the part of the program on one loop.
type proxy struct {
	settings
	loop     *loop.Loop
	total    *statistics
	backends []*backend
	turn     int
	open     int
	draining bool
	drained  func()
}

type backend struct {
	addr string
	down bool
}

func newProxy(l *loop.Loop, s settings, total *statistics, drained func()) *proxy {
	p := &proxy{settings: s, loop: l, total: total, drained: drained}
	for _, addr := range s.backends {
		p.backends = append(p.backends, &backend{addr: addr})
	}
	return p
}

// next returns the backend whose turn it is. If all are down, it returns one of them anyway.
func (p *proxy) next() (b *backend) {
	for range p.backends {
		b = p.backends[p.turn%len(p.backends)]
		if p.turn++; !b.down {
			break
		}
	}
	return b
}

// leaveOut has no client sent to b until the time of a retry.
func (p *proxy) leaveOut(b *backend, reason error) {
	if b.down {
		return
	}
	b.down = true
	fmt.Fprintf(p.log, "proxy: %s is left out for %v: %v\n", b.addr, p.retry, reason)
	p.loop.After(p.retry, func() { b.down = false })
}

// client is the handler of accepted connections. The value of such a connection is the
// one to the backend.
type client struct{ *proxy }

func (p client) Open(c *loop.Conn) {
	if p.open >= p.max || p.draining {
		p.total.refused.Add(1)
		c.Abort()
		return
	}
	p.open++
	p.total.open.Add(1)
	p.total.accepted.Add(1)
	c.Pause() // until a backend takes what it sends
	p.dial(c, len(p.backends))
}

func (client) Data(*loop.Conn, []byte) int { return 0 }

// Close is called if a client gives up before it has a backend.
func (p client) Close(c *loop.Conn, _ error) {
	if out, ok := c.Value().(*loop.Conn); ok {
		out.SetValue(nil)
		out.Abort()
		p.closed()
	}
}

// dial connects c to a backend, with at most that many attempts.
func (p *proxy) dial(c *loop.Conn, attempts int) {
	b := p.next()
	out, err := p.loop.Dial("tcp", b.addr, p.connect, nil, &attempt{proxy: p, backend: b, left: attempts - 1})
	if err != nil {
		p.failed(c, b, attempts-1, err)
		return
	}
	c.SetValue(out)
	out.SetValue(c)
}

// failed tries the next backend. If this program is out of descriptors, or out of attempts,
// it resets the client.
func (p *proxy) failed(c *loop.Conn, b *backend, attempts int, err error) {
	exhausted := outOfDescriptors(err)
	if !exhausted {
		p.leaveOut(b, err)
	}
	if attempts > 0 && !exhausted {
		p.dial(c, attempts)
		return
	}
	p.total.unreachable.Add(1)
	c.SetValue(nil)
	c.Abort()
	p.closed()
}

// attempt is the handler of a connection to a backend, until it is established. The
// value of such a connection is that to the client, or nil if the client has gone.
type attempt struct {
	*proxy
	backend *backend
	left    int
}

func (a *attempt) Failed(out *loop.Conn, err error) {
	if c, ok := out.Value().(*loop.Conn); ok {
		a.failed(c, a.backend, a.left, err)
	}
}

func (*attempt) Data(*loop.Conn, []byte) int { return 0 }

func (*attempt) Close(*loop.Conn, error) {}

// Open takes both connections out of the loop, and joins them.
func (a *attempt) Open(out *loop.Conn) {
	c, ok := out.Value().(*loop.Conn)
	if !ok {
		return // the loop is about to close it
	}
	// The client was paused from the start, so there is nothing to hand over.
	in, _, _, err := c.Detach()
	if err != nil { // it is being closed
		out.Abort()
		return
	}
	to, _, _, err := out.Detach()
	if err != nil {
		fmt.Fprintln(a.log, "proxy:", err)
		_ = in.Close()
		a.closed()
		return
	}
	a.join(in, to)
}

// pair is two connections that are joined. Direction i is from ends[i] to the other end.
type pair struct {
	*proxy
	ends   [2]*socket.Conn // client, backend
	tokens [2]epore.Token
	waits  [2]epore.Interest // what each end is registered for; 0: it is not registered
	full   [2]bool           // direction i waits until its target has room
	ended  [2]bool           // what ends[i] sends has ended, and was passed on
	last   time.Time         // when data or an end came last
	timer  *loop.Timer       // of the idle limit
	over   bool
}

// join moves data both ways until both have ended.
func (p *proxy) join(in, out *socket.Conn) {
	j := &pair{proxy: p, ends: [2]*socket.Conn{in, out}, last: time.Now()}
	j.timer = p.loop.After(p.idle, j.checkIdle)
	for i := range j.ends {
		j.tokens[i] = p.loop.Handle(func(epore.Event) {
			if j.full[1-i] {
				j.move(1 - i)
			}
			if !j.full[i] {
				j.move(i)
			}
			j.settle()
		})
	}
	j.move(0)
	j.move(1)
	j.settle()
}

// checkIdle cuts a pair that has passed nothing for too long. A host that has vanished says
// nothing, and without a limit the pair would stay.
func (j *pair) checkIdle() {
	if left := j.idle - time.Since(j.last); left > 0 {
		j.timer = j.loop.After(left, j.checkIdle)
		return
	}
	j.cut()
}

// atOnce is how much a direction moves before others have their turn, which takes some
// milliseconds. Shorter turns cost more: with 1 MiB, a gigabit took a third more of the processor
// time, and twice as many context switches.
const atOnce = 16 << 20

// move moves what has arrived in a direction.
func (j *pair) move(i int) {
	if j.over || j.ended[i] {
		return
	}
	to := j.ends[1-i]
	n, err := to.SpliceFrom(j.ends[i], atOnce)
	[]*atomic.Int64{&j.total.up, &j.total.down}[i].Add(n)
	if n > 0 || err == io.EOF {
		j.last = time.Now()
	}
	if err == io.EOF {
		j.ended[i], err = true, to.CloseWrite()
	}
	if err != nil && err != socket.ErrWouldBlock {
		j.cut()
		return
	}
	j.full[i] = to.SplicePending() > 0 // it holds at most 1 MiB for an end that does not read
}

// settle waits for more, unless both directions have ended.
func (j *pair) settle() {
	if j.over {
		return
	}
	if j.ended[0] && j.ended[1] {
		j.close()
		return
	}
	for i := range j.ends {
		var in epore.Interest
		if !j.ended[i] && !j.full[i] {
			in |= epore.Readable
		}
		if j.full[1-i] {
			in |= epore.Writable
		}
		if err := j.wait(i, in); err != nil {
			fmt.Fprintln(j.log, "proxy:", err)
			j.cut()
			return
		}
	}
}

// wait changes what ends[i] is registered for.
func (j *pair) wait(i int, in epore.Interest) error {
	r, before := j.loop.Poll().Registry(), j.waits[i]
	j.waits[i] = in
	switch {
	case in == before:
		return nil
	case before == 0:
		return r.Register(j.ends[i], j.tokens[i], in)
	case in == 0: // it has ended, or the other end does not read
		return r.Deregister(j.ends[i])
	}
	return r.Reregister(j.ends[i], j.tokens[i], in)
}

// cut resets both, since one is broken: neither may take what it has for the whole.
func (j *pair) cut() {
	j.total.cut.Add(1)
	for _, c := range j.ends {
		_ = c.SetLinger(0)
	}
	j.close()
}

func (j *pair) close() {
	j.over = true
	j.timer.Stop()
	for i, c := range j.ends {
		_ = c.Close()
		j.loop.Unhandle(j.tokens[i])
	}
	j.closed()
}

// closed counts that a client has gone.
func (p *proxy) closed() {
	p.open--
	p.total.open.Add(-1)
	if p.draining && p.open == 0 {
		p.stop()
	}
}

// drain takes no more clients, and lets those that are open end.
func (p *proxy) drain() {
	p.draining = true
	if p.open == 0 {
		p.stop()
		return
	}
	p.loop.After(p.grace, p.stop)
}

func (p *proxy) stop() {
	if p.drained != nil {
		p.drained()
		p.drained = nil
	}
}
