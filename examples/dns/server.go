package main

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/epore/epore/loop"
	"github.com/epore/epore/socket"
)

const (
	ttl        = 60     // of what the hosts file says, in seconds
	batch      = 64     // datagrams at once
	maxQuery   = 4096   // bytes of a datagram
	maxQueries = 10_000 // forwarded at a time; others are refused
)

// server is the program. One loop runs it, so it has no lock.
type server struct {
	loop     *loop.Loop
	hosts    map[string][]netip.Addr // by canonical name
	names    map[string]string       // by the name of an address in in-addr.arpa or ip6.arpa
	clients  *socket.PacketConn
	upstream *socket.PacketConn // nil: none
	queries  map[uint16]*query
	timeout  time.Duration
	log      io.Writer

	// controlSize is the room for the control data of a query: see reportDestination.
	controlSize int

	in, out                     []socket.Message
	answered, forwarded, failed int
}

// query is one that was forwarded.
type query struct {
	msg    *dns.Msg // as the client sent it
	from   client
	packed []byte // as it was forwarded
	timer  *loop.Timer
	again  bool // it was sent twice
}

// client is where a query came from.
type client struct {
	addr netip.AddrPort
	// control says which of the addresses of this host it was sent to. Written with the
	// answer, it makes the answer come from that address.
	control []byte
}

// receive reads up to batch datagrams. After an error there are none. On Linux, an error may
// be the report (ICMP) that an earlier datagram had no receiver. It concerns that one
// only, and reading it clears it.
func (s *server) receive(c *socket.PacketConn) []socket.Message {
	if s.in == nil {
		s.in = make([]socket.Message, batch)
		for i := range s.in {
			s.in[i].Data = make([]byte, maxQuery)
			s.in[i].Control = make([]byte, s.controlSize)
		}
	}
	n, err := c.ReadBatch(s.in)
	if err != nil && err != socket.ErrWouldBlock {
		fmt.Fprintln(s.log, "dns:", err)
	}
	return s.in[:n]
}

// readQueries answers what has arrived, with one system call if the hosts file has it all.
func (s *server) readQueries() {
	s.out = s.out[:0]
	for _, m := range s.receive(s.clients) {
		q := new(dns.Msg)
		if m.Truncated || q.Unpack(m.Data[:m.N]) != nil || q.Response || len(q.Question) == 0 {
			continue // not even worth an answer, which might go to a forged address
		}
		from := client{m.Addr, m.Control[:m.ControlN]}
		if a := s.lookUp(q); a != nil {
			s.answered++
			s.reply(a, q, from)
		} else {
			s.forward(q, from)
		}
	}
	s.flush()
}

// readAnswers passes answers on to those that asked.
func (s *server) readAnswers() {
	s.out = s.out[:0]
	for _, m := range s.receive(s.upstream) {
		a := new(dns.Msg)
		if m.Truncated || a.Unpack(m.Data[:m.N]) != nil || !a.Response {
			continue
		}
		q := s.queries[a.Id]
		if q == nil || len(a.Question) != 1 || !same(a.Question[0], q.msg.Question[0]) {
			continue // too late, or forged
		}
		s.end(a.Id, q)
		s.forwarded++
		a.Id = q.msg.Id
		s.reply(a, q.msg, q.from)
	}
	s.flush()
}

func same(a, b dns.Question) bool {
	return strings.EqualFold(a.Name, b.Name) && a.Qtype == b.Qtype && a.Qclass == b.Qclass
}

// lookUp answers from the hosts file, or refuses the query, or returns nil.
func (s *server) lookUp(q *dns.Msg) *dns.Msg {
	a := new(dns.Msg).SetReply(q)
	a.RecursionAvailable = s.upstream != nil
	switch opt := q.IsEdns0(); {
	case opt != nil && opt.Version() != 0:
		a.Rcode = dns.RcodeBadVers // RFC 6891, section 6.1.3
		return a
	case q.Opcode != dns.OpcodeQuery:
		a.Rcode = dns.RcodeNotImplemented
		return a
	case len(q.Question) != 1:
		a.Rcode = dns.RcodeFormatError // RFC 9619
		return a
	}
	asked := q.Question[0]
	name := dns.CanonicalName(asked.Name)
	host, addrs := s.names[name], s.hosts[name]
	if host == "" && addrs == nil || asked.Qclass != dns.ClassINET {
		if s.upstream == nil {
			a.Rcode = dns.RcodeRefused
			return a
		}
		return nil
	}
	a.Authoritative = true
	wants := func(kind uint16) bool { return asked.Qtype == kind || asked.Qtype == dns.TypeANY }
	header := func(kind uint16) dns.RR_Header {
		return dns.RR_Header{Name: asked.Name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
	}
	// Other types of a known name have an empty answer.
	if host != "" && wants(dns.TypePTR) {
		a.Answer = append(a.Answer, &dns.PTR{Hdr: header(dns.TypePTR), Ptr: host})
	}
	for _, addr := range addrs {
		switch {
		case addr.Is4() && wants(dns.TypeA):
			a.Answer = append(a.Answer, &dns.A{Hdr: header(dns.TypeA), A: addr.AsSlice()})
		case addr.Is6() && wants(dns.TypeAAAA):
			a.Answer = append(a.Answer, &dns.AAAA{Hdr: header(dns.TypeAAAA), AAAA: addr.AsSlice()})
		}
	}
	return a
}

// forward sends a query on, with a number of our own that nobody can guess.
func (s *server) forward(msg *dns.Msg, from client) {
	q := &query{msg: msg, from: client{from.addr, bytes.Clone(from.control)}}
	if len(s.queries) >= maxQueries {
		s.fail(q)
		return
	}
	var number [2]byte
	_, _ = rand.Read(number[:]) // it does not fail
	id := binary.NativeEndian.Uint16(number[:])
	for s.queries[id] != nil {
		id++
	}
	other := msg.Copy()
	other.Id = id
	if opt := other.IsEdns0(); opt != nil { // a longer answer could not be read
		opt.SetUDPSize(min(opt.UDPSize(), maxQuery))
	}
	var err error
	if q.packed, err = other.Pack(); err != nil {
		s.fail(q)
		return
	}
	s.queries[id] = q
	s.ask(id, q)
}

// ask sends a query, and sets its timer. What cannot be sent is lost as datagrams are: the
// timer repeats it.
func (s *server) ask(id uint16, q *query) {
	_, _ = s.upstream.Write(q.packed)
	q.timer = s.loop.After(s.timeout, func() {
		if !q.again {
			q.again = true
			s.ask(id, q)
			return
		}
		s.end(id, q)
		s.out = s.out[:0]
		s.fail(q)
		s.flush()
	})
}

func (s *server) end(id uint16, q *query) {
	q.timer.Stop()
	delete(s.queries, id)
}

func (s *server) fail(q *query) {
	s.failed++
	s.reply(new(dns.Msg).SetRcode(q.msg, dns.RcodeServerFailure), q.msg, q.from)
}

// reply adds an answer to those that flush sends. What is too long for the client is cut,
// and says so: the client then asks by TCP, which this program does not have.
func (s *server) reply(a, q *dns.Msg, to client) {
	size := dns.MinMsgSize
	if opt := q.IsEdns0(); opt != nil {
		size = max(size, min(int(opt.UDPSize()), maxQuery))
		if a.IsEdns0() == nil {
			a.SetEdns0(maxQuery, opt.Do())
		}
	}
	a.Truncate(size)
	packed, err := a.Pack()
	if err != nil {
		fmt.Fprintln(s.log, "dns: answer to", to.addr, err)
		return
	}
	s.out = append(s.out, socket.Message{Data: packed, Addr: to.addr, Control: to.control})
}

// flush sends the answers. One that cannot be sent is left out: its client asks again.
func (s *server) flush() {
	for out := s.out; len(out) > 0; {
		n, err := s.clients.WriteBatch(out)
		if err == socket.ErrWouldBlock {
			return
		}
		if out = out[n:]; err != nil && len(out) > 0 {
			fmt.Fprintln(s.log, "dns: answer to", out[0].Addr, err)
			out = out[1:]
		}
	}
}
