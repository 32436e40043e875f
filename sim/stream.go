package sim

import (
	"net/netip"
	"os"
	"time"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/simfd"
)

// maxBacklog is how many connections may wait for Accept at most, as on Linux.
const maxBacklog = 4096

// listener is a listening stream socket.
type listener struct {
	node
	backlog int
	waiting []*stream
}

func (l *listener) init(h *Host, port uint16) { l.node.init(h, port, l) }

func (l *listener) readiness() backend.Readiness {
	for _, s := range l.waiting {
		if !s.dead {
			return backend.ReadyReadable
		}
	}
	return 0
}

func (l *listener) Accept() (backend.Handle, error) {
	err := l.lock()
	defer l.w.mu.Unlock()
	if err != nil {
		return 0, err
	}
	for len(l.waiting) > 0 && l.waiting[0].dead { // the peer gave it up
		l.waiting = l.waiting[1:]
	}
	if len(l.waiting) == 0 {
		return 0, l.wouldBlock(backend.Readable)
	}
	s := l.waiting[0]
	h, err := l.host.give(s, "accept")
	if err != nil {
		return 0, err
	}
	l.waiting = l.waiting[1:]
	l.progress()
	return h, nil
}

func (l *listener) Names() (local, remote netip.AddrPort) { return l.local(), remote }

func (l *listener) Close() error {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.close1() {
		l.close()
	}
	return nil
}

// close resets the connections that wait. Called with the lock held.
func (l *listener) close() {
	delete(l.host.streams, l.port)
	for _, s := range l.waiting {
		s.resetBoth(errReset)
	}
	l.waiting = nil
}

// stream is one end of a connection, or of an attempt to connect.
type stream struct {
	node
	remote netip.AddrPort
	peer   *stream // nil: none yet
	state  streamState
	err    error // what the next operation reports, once
	window int   // of both directions

	in      []byte
	inEnd   bool // the peer has ended its direction
	endSeen bool // the program has read that
	out     line // to the peer

	taken     int  // bytes that were written, and not yet read by the peer as far as is known
	choked    bool // there is no room for a moment
	readShut  bool
	writeShut bool
	dead      bool // reset or failed: nothing is sent or received any more
	linger0   bool
	orphan    bool // the program has closed it
	acks      int  // bytes read and not yet reported to the peer
	attempts  int  // to connect
	asks      int  // serial number of the Connect that is under way
}

type streamState uint8

const (
	connecting streamState = iota
	established
)

func newStream(h *Host, port uint16, remote netip.AddrPort) *stream {
	s := &stream{remote: remote, window: h.w.defaults.window}
	s.node.init(h, port, s)
	s.out.s = s
	if to := h.w.host(remote.Addr()); to != nil {
		s.window = h.w.link(h, to).window
	}
	return s
}

func (s *stream) readiness() backend.Readiness {
	if s.dead {
		r := backend.ReadyReadable | backend.ReadyWritable | backend.ReadyReadClosed | backend.ReadyWriteClosed
		if s.err != nil {
			r |= backend.ReadyError
		}
		return r
	}
	if s.state == connecting {
		return 0
	}
	var r backend.Readiness
	if len(s.in) > 0 || s.inEnd || s.readShut {
		r |= backend.ReadyReadable
	}
	if s.inEnd || s.readShut {
		r |= backend.ReadyReadClosed
	}
	if s.writeShut || s.room() > 0 {
		r |= backend.ReadyWritable
	}
	if s.writeShut && r&backend.ReadyReadClosed != 0 {
		r |= backend.ReadyWriteClosed
	}
	return r
}

// room returns how many bytes can be written.
func (s *stream) room() int {
	if s.choked {
		return 0
	}
	return s.window - s.taken
}

func (s *stream) Names() (local, remote netip.AddrPort) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.state == established && !s.dead {
		remote = s.remote
	}
	return s.local(), remote
}

func (s *stream) PendingError() error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.takeError("connect")
}

// takeError returns the pending error, once.
func (s *stream) takeError(call string) error {
	if s.failed != nil {
		return s.failed
	}
	err := s.err
	if err == nil {
		return nil
	}
	s.err = nil
	s.progress()
	return os.NewSyscallError(call, err)
}

func (s *stream) Read(b []byte) (int, error) {
	err := s.lock()
	defer s.w.mu.Unlock()
	switch {
	case err != nil:
		return 0, err
	case s.state == connecting && !s.dead:
		return 0, s.wouldBlock(backend.Readable)
	case len(s.in) > 0:
		return s.take(b), nil
	case s.err != nil:
		return 0, s.takeError("recv")
	case s.dead, s.inEnd, s.readShut:
		if !s.endSeen {
			s.endSeen = true
			s.progress()
		}
		return 0, nil
	}
	return 0, s.wouldBlock(backend.Readable)
}

// take moves bytes that have arrived to b.
func (s *stream) take(b []byte) int {
	n := min(len(b), len(s.in))
	if f := s.faults(); f.shortReads > 0 && n > 1 && s.chance(f.shortReads) {
		n = 1 + s.draws().IntN(n-1)
	}
	copy(b, s.in[:n])
	if s.in = s.in[n:]; len(s.in) == 0 {
		s.in = nil
	}
	s.progress()
	s.acknowledge(n)
	return n
}

// faults returns those of the link to the peer.
func (s *stream) faults() *faults {
	if s.peer == nil {
		return &s.w.defaults.faults
	}
	return &s.w.link(s.host, s.peer.host).faults
}

// acknowledge tells the peer that n bytes were read, after a while.
func (s *stream) acknowledge(n int) {
	if s.acks += n; s.acks > n || s.peer == nil {
		return // a report is under way already
	}
	s.host.after(s.latency(s.peer.host, 0), s.report)
}

// report tells the peer now.
func (s *stream) report() {
	switch p := s.peer; {
	case s.failed != nil || p.dead:
	case p.host.down || s.w.link(s.host, p.host).cut:
		s.host.after(firstRetry, s.report)
		return
	default:
		p.taken -= s.acks
		p.update()
	}
	s.acks = 0
}

func (s *stream) Write(b []byte) (int, error) {
	err := s.lock()
	defer s.w.mu.Unlock()
	switch {
	case err != nil:
		return 0, err
	case s.state == connecting && !s.dead:
		return 0, s.wouldBlock(backend.Writable)
	case s.err != nil:
		return 0, s.takeError("send")
	case s.dead, s.writeShut:
		return 0, os.NewSyscallError("send", errPipe)
	case s.room() <= 0:
		return 0, s.wouldBlock(backend.Writable)
	}
	n := min(len(b), s.room())
	if f := s.faults(); f.shortWrites > 0 && s.chance(f.shortWrites) {
		n = 1 + s.draws().IntN(n)
		s.choked = true
		s.host.after(time.Duration(1+s.draws().IntN(1000))*time.Microsecond, func() {
			s.choked = false
			s.update()
		})
	}
	s.taken += n
	s.progress()
	s.out.send(Data, append([]byte(nil), b[:n]...))
	return n, nil
}

func (s *stream) Shutdown(reading bool) error {
	err := s.lock()
	defer s.w.mu.Unlock()
	switch {
	case err != nil:
		return err
	case s.state == connecting || s.dead:
		return os.NewSyscallError("shutdown", errNotConnected)
	case reading:
		s.readShut = true
	default:
		s.end()
	}
	s.progress()
	s.update()
	return nil
}

// end ends the direction to the peer.
func (s *stream) end() {
	if !s.writeShut {
		s.writeShut = true
		s.out.send(End, nil)
	}
}

func (s *stream) SetLinger(seconds int) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.linger0 = seconds == 0
}

func (s *stream) Close() error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.close1() {
		s.close()
	}
	return nil
}

// close is what the system does when the program closes the socket. Called with the lock held.
func (s *stream) close() {
	s.orphan = true
	switch {
	case s.dead:
		s.gone()
	case s.state == connecting:
		s.die(nil)
	case s.linger0 || len(s.in) > 0:
		s.sendReset()
		s.die(nil)
	default:
		s.end()
		s.finish()
	}
}

// finish forgets a connection that both sides have ended and that the program has closed.
func (s *stream) finish() {
	if s.orphan && s.inEnd && s.writeShut && len(s.out.queue) == 0 {
		s.gone()
	}
}

func (s *stream) key() connKey { return connKey{s.port, s.remote} }

// gone removes s from its host.
func (s *stream) gone() {
	if s.host.conns[s.key()] == s {
		delete(s.host.conns, s.key())
	}
}

// die ends a connection. The next operation reports err.
func (s *stream) die(err error) {
	if s.dead {
		return
	}
	s.dead, s.err = true, err
	s.out.stop()
	if s.orphan || !s.given {
		s.gone()
	}
	s.update()
}

// vanish ends a connection without a word to the peer.
func (s *stream) vanish() {
	s.dead = true
	s.out.stop()
	if p := s.peer; p != nil && !p.dead && p.taken >= p.window && len(p.out.queue) == 0 {
		// The peer would wait for ever to hear that there is room. TCP asks again and again.
		p.out.send(Data, nil)
	}
}

// resetBoth resets a connection, as something between the two hosts could.
func (s *stream) resetBoth(err error) {
	s.die(err)
	if s.peer != nil {
		s.peer.receiveReset(err)
	}
}

// receiveReset is the arrival of a Reset.
func (s *stream) receiveReset(err error) {
	if s.faults().reset > 0 && s.chance(0.5) {
		s.in = nil // some systems discard what has arrived
	}
	s.die(err)
}

// sendReset sends a Reset, once: nobody sends it again.
func (s *stream) sendReset() {
	if p := s.peer; p != nil {
		s.host.replyReset(s.port, p)
	}
}

// replyReset sends a Reset to the peer of a connection that h does not have.
func (h *Host) replyReset(port uint16, p *stream) {
	d := time.Duration(0)
	if l := h.w.link(h, p.host); l.maxLatency > 0 {
		d = l.minLatency
	}
	h.after(d, func() {
		if p.failed != nil || p.dead {
			return
		}
		if h.w.arrives(&Packet{From: h, To: p.host, FromPort: port, ToPort: p.port, Kind: Reset}) == Deliver {
			p.receiveReset(errReset)
		}
	})
}

// connect begins to connect.
func (s *stream) connect() {
	s.host.conns[s.key()] = s
	to := s.w.host(s.remote.Addr())
	if to == nil {
		s.host.after(s.w.defaults.maxLatency, func() { s.die(errHostUnreachable) })
		return
	}
	s.ask(to, s.latency(to, 0))
}

// ask lets a Connect arrive after d, instead of another that is under way.
func (s *stream) ask(to *Host, d time.Duration) {
	s.asks++
	n := s.asks
	s.host.after(d, func() {
		if s.asks == n {
			s.asked(to)
		}
	})
}

// hurry asks again at once if an attempt to connect waits to be repeated.
func (s *stream) hurry() {
	if to := s.w.host(s.remote.Addr()); s.attempts > 0 && s.peer == nil && !s.dead {
		s.attempts = 0
		s.ask(to, s.latency(to, 0))
	}
	s.out.hurry()
}

const (
	// connectRetry is when an attempt is repeated first; then it takes twice as long each
	// time. After connectAttempts it fails, which takes 127 s, as on Linux.
	connectRetry    = time.Second
	connectAttempts = 7
)

// asked is the arrival of a Connect.
func (s *stream) asked(to *Host) {
	if s.dead || s.failed != nil {
		return
	}
	l := to.streams[s.remote.Port()]
	v := s.w.arrives(&Packet{From: s.host, To: to, FromPort: s.port, ToPort: s.remote.Port(), Kind: Connect})
	if v == Deliver && s.chance(s.faults().loss) {
		v = Drop
	}
	switch {
	case v == Sever || v == Deliver && l == nil:
		s.w.record(record{what: arrived, from: endpoint{to, s.remote.Port()}, to: s.name(), text: "refused"})
		s.die(errRefused)
	case v == Drop || len(l.waiting) >= l.backlog:
		s.attempts++
		again := connectRetry << (s.attempts - 1)
		if s.attempts < connectAttempts {
			s.ask(to, again)
		} else {
			s.asks++
			n := s.asks
			s.host.after(again, func() {
				if s.asks == n {
					s.die(errTimedOut)
				}
			})
		}
	default:
		p := newStream(to, s.remote.Port(), s.local())
		if old := to.conns[p.key()]; old != nil { // of a host that has crashed since
			old.die(errReset)
		}
		p.state, p.peer, p.window, s.peer = established, s, s.window, p
		to.conns[p.key()] = p
		p.out.send(Accepted, nil)
		l.waiting = append(l.waiting, p)
		l.update()
	}
}

// line is one direction of a connection. What is sent arrives in order.
type line struct {
	s       *stream // the sender
	queue   []segment
	last    time.Duration // when the last of them arrives
	running bool          // an event is scheduled
	serial  int           // of the scheduled event
	retries int           // of the first
}

type segment struct {
	kind PacketKind
	data []byte
	at   time.Duration // not before
}

const (
	// firstRetry is when a lost packet is sent again first; then it takes twice as long each
	// time, up to maxRetry. After maxRetries the connection times out.
	firstRetry = 200 * time.Millisecond
	maxRetry   = 120 * time.Second
	maxRetries = 15
)

// send sends something. Called with the lock held.
func (l *line) send(kind PacketKind, data []byte) {
	s := l.s
	at := s.w.now() + s.latency(s.peer.host, len(data))
	if s.chance(s.faults().loss) {
		at += firstRetry
	}
	l.last = max(l.last, at)
	l.queue = append(l.queue, segment{kind, data, l.last})
	if !l.running {
		l.schedule(l.last)
	}
}

func (l *line) schedule(at time.Duration) {
	l.running = true
	l.serial++
	serial := l.serial
	l.s.host.at(at, func() {
		if l.running && l.serial == serial {
			l.arrive()
		}
	})
}

// stop discards what is under way.
func (l *line) stop() { l.queue, l.running = nil, false }

// hurry sends again at once what waits to be sent again.
func (l *line) hurry() {
	if l.running && l.retries > 0 {
		l.retries = 0
		l.schedule(l.s.w.now() + l.s.latency(l.s.peer.host, 0))
	}
}

// arrive is the arrival of the first segment.
func (l *line) arrive() {
	s, p := l.s, l.s.peer
	g := l.queue[0]
	v := s.w.arrives(&Packet{From: s.host, To: p.host, FromPort: s.port, ToPort: p.port, Kind: g.kind, Data: g.data})
	if v == Deliver && s.chance(s.faults().reset) {
		v = Sever
	}
	switch v {
	case Drop:
		if l.retries++; l.retries > maxRetries {
			s.die(errTimedOut)
			return
		}
		l.schedule(s.w.now() + min(firstRetry<<(l.retries-1), maxRetry))
		return
	case Sever:
		s.w.record(record{what: changedWorld, text: s.name().String() + " - " + p.name().String() + " is reset on the way"})
		s.resetBoth(errReset)
		return
	}
	l.retries = 0
	l.queue = l.queue[1:]
	if l.running = false; len(l.queue) > 0 {
		l.schedule(max(l.queue[0].at, s.w.now()))
	} else {
		l.queue = nil
	}
	p.receive(g)
	s.finish()
}

// receive is the arrival of a segment at s.
func (s *stream) receive(g segment) {
	if s.dead || s.orphan && g.kind == Data { // nobody is there to read it
		if !s.dead {
			s.die(nil)
		}
		s.host.replyReset(s.port, s.peer)
		return
	}
	switch g.kind {
	case Accepted:
		s.state = established
	case Data:
		s.in = append(s.in, g.data...)
	case End:
		s.inEnd = true
		s.finish()
	}
	s.update()
}

var (
	_ simfd.Socket = (*listener)(nil)
	_ simfd.Socket = (*stream)(nil)
)
