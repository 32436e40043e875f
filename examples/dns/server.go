package main

import (
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

	in, out                     []socket.Message
	answered, forwarded, failed int
}

// query is one that was forwarded.
type query struct {
	msg    *dns.Msg // as the client sent it
	from   netip.AddrPort
	packed []byte // as it was forwarded
	timer  *loop.Timer
	again  bool // it was sent twice
}

// receive reads up to batch datagrams. After an error there are none. On Linux, an error may
// be the report (ICMP) that an earlier datagram had no receiver. It concerns that one
// only, and reading it clears it.
func (s *server) receive(c *socket.PacketConn) []socket.Message {
	if s.in == nil {
		s.in = make([]socket.Message, batch)
		for i := range s.in {
			s.in[i].Data = make([]byte, maxQuery)
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
		if a := s.lookUp(q); a != nil {
			s.answered++
			s.reply(a, q, m.Addr)
		} else {
			s.forward(q, m.Addr)
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

// lookUp answers from the hosts file, or returns nil.
func (s *server) lookUp(q *dns.Msg) *dns.Msg {
	a := new(dns.Msg).SetReply(q)
	a.Authoritative, a.RecursionAvailable = true, s.upstream != nil
	if q.Opcode != dns.OpcodeQuery || len(q.Question) != 1 {
		a.Rcode = dns.RcodeNotImplemented
		return a
	}
	name := dns.CanonicalName(q.Question[0].Name)
	header := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: ttl}
	if host := s.names[name]; host != "" && header.Rrtype == dns.TypePTR {
		a.Answer = append(a.Answer, &dns.PTR{Hdr: header, Ptr: host})
		return a
	}
	addrs := s.hosts[name]
	if addrs == nil || q.Question[0].Qclass != dns.ClassINET {
		if s.upstream == nil {
			a.Rcode = dns.RcodeRefused
			return a
		}
		return nil
	}
	for _, addr := range addrs { // other types of a known name have an empty answer
		switch {
		case header.Rrtype == dns.TypeA && addr.Is4():
			a.Answer = append(a.Answer, &dns.A{Hdr: header, A: addr.AsSlice()})
		case header.Rrtype == dns.TypeAAAA && addr.Is6():
			a.Answer = append(a.Answer, &dns.AAAA{Hdr: header, AAAA: addr.AsSlice()})
		}
	}
	return a
}

// forward sends a query on, with a number of our own that nobody can guess.
func (s *server) forward(msg *dns.Msg, from netip.AddrPort) {
	q := &query{msg: msg, from: from}
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
func (s *server) reply(a, q *dns.Msg, to netip.AddrPort) {
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
		fmt.Fprintln(s.log, "dns: answer to", to, err)
		return
	}
	s.out = append(s.out, socket.Message{Data: packed, Addr: to})
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
