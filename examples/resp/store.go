package main

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/redcon"

	"github.com/epore/epore/loop"
)

// maxRequest is the size of the largest request, in bytes. The unsent answers to one client
// may take four times as much; a client that exceeds that is disconnected.
const maxRequest = 16 << 20

// store is the handler of all connections, and the keys.
type store struct {
	loop     *loop.Loop
	keys     map[string]*entry
	expiring int
	channels map[string]map[*client]struct{}

	began                       time.Time
	clients, accepted, commands int

	args [][]byte // of the command in progress
	out  []byte   // the answers of the Data in progress
}

// entry is the value of a key. It is small, because with many keys each lookup has to wait for it.
type entry struct {
	value  []byte
	expiry *expiry // nil: it does not expire
}

// expiry is when an entry expires.
type expiry struct {
	deadline int64 // Unix time in milliseconds
	timer    *loop.Timer
}

// client is the value of a connection.
type client struct {
	conn       *loop.Conn
	subscribed map[string]struct{}
	quit       bool
}

func newStore(l *loop.Loop) *store {
	return &store{
		loop:     l,
		keys:     make(map[string]*entry),
		channels: make(map[string]map[*client]struct{}),
		began:    time.Now(),
	}
}

func (s *store) Open(c *loop.Conn) {
	c.SetValue(&client{conn: c})
	s.clients++
	s.accepted++
}

func (s *store) Close(c *loop.Conn, _ error) {
	s.clients--
	cl := c.Value().(*client)
	for channel := range cl.subscribed {
		s.leave(cl, channel)
	}
}

// Data answers all complete requests in b with one Write.
func (s *store) Data(c *loop.Conn, b []byte) (used int) {
	cl := c.Value().(*client)
	s.out = s.out[:0]
	rest := b
	for len(rest) > 0 && !cl.quit {
		args, n, err := nextRequest(rest, s.args[:0])
		if err != nil {
			s.fail(err.Error())
			cl.quit = true
			break
		}
		if n == 0 {
			break
		}
		rest = rest[n:]
		if s.args = args; len(args) > 0 { // an empty line is no command
			s.do(cl, args)
		}
	}
	if len(s.out) > 0 {
		if _, err := c.Write(s.out); err != nil {
			c.Abort() // a client that asks for more than it reads
		}
	}
	if cap(s.out) > 1<<20 {
		s.out = nil
	}
	if cl.quit {
		c.Close()
	}
	return len(b) - len(rest)
}

// A command has a number of arguments, its name included: exactly n, or at least -n.
type command struct {
	n   int
	run func(s *store, cl *client, args [][]byte)
}

// commandNamed is a switch, which takes less time than a map: each request asks for one.
func commandNamed(name string) (cmd command, ok bool) {
	switch name {
	case "get":
		return command{2, (*store).get}, true
	case "set":
		return command{-3, (*store).set}, true
	case "mget":
		return command{-2, (*store).mget}, true
	case "del":
		return command{-2, (*store).del}, true
	case "exists":
		return command{-2, (*store).exists}, true
	case "incr":
		return command{2, (*store).incr}, true
	case "expire":
		return command{3, (*store).expire}, true
	case "ttl":
		return command{2, (*store).ttl}, true
	case "ping":
		return command{-1, (*store).ping}, true
	case "echo":
		return command{2, (*store).echo}, true
	case "subscribe":
		return command{-2, (*store).subscribe}, true
	case "unsubscribe":
		return command{-1, (*store).unsubscribe}, true
	case "publish":
		return command{3, (*store).publish}, true
	case "info":
		return command{-1, (*store).info}, true
	case "command":
		return command{-1, (*store).noCommands}, true // redis-cli asks for it first
	case "quit":
		return command{-1, (*store).quit}, true
	}
	return command{}, false
}

func (s *store) do(cl *client, args [][]byte) {
	s.commands++
	var lower [16]byte
	name := lower[:0] // not on the heap, as long as only copies of it leave this function
	for _, b := range args[0] {
		if len(name) == len(lower) {
			break // no command has such a long name
		}
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		name = append(name, b)
	}
	cmd, ok := commandNamed(string(name))
	switch {
	case !ok:
		s.unknown(args)
	case cmd.n > 0 && len(args) != cmd.n || len(args) < -cmd.n:
		s.fail(fmt.Sprintf("ERR wrong number of arguments for '%s' command", string(name)))
	case len(cl.subscribed) > 0 && !allowedWhileSubscribed[string(name)]:
		s.fail(fmt.Sprintf("ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context", string(name)))
	default:
		cmd.run(s, cl, args)
	}
}

var allowedWhileSubscribed = map[string]bool{"subscribe": true, "unsubscribe": true, "ping": true, "quit": true}

func (s *store) fail(text string) { s.out = redcon.AppendError(s.out, text) }

// unknown names at most 128 bytes of what was sent.
func (s *store) unknown(args [][]byte) {
	short := func(b []byte) []byte {
		b = bytes.Clone(b[:min(len(b), 128)])
		for i, c := range b {
			if c == '\r' || c == '\n' {
				b[i] = ' '
			}
		}
		return b
	}
	var list strings.Builder
	for _, a := range args[1:] {
		if list.Len() >= 128 {
			break
		}
		fmt.Fprintf(&list, "'%s' ", short(a[:min(len(a), 128-list.Len())]))
	}
	s.fail(fmt.Sprintf("ERR unknown command '%s', with args beginning with: %s", short(args[0]), list.String()))
}

func (s *store) noCommands(*client, [][]byte) { s.out = redcon.AppendArray(s.out, 0) }

func (s *store) ping(cl *client, args [][]byte) {
	switch {
	case len(args) > 2:
		s.fail("ERR wrong number of arguments for 'ping' command")
	case len(cl.subscribed) > 0:
		s.out = redcon.AppendArray(s.out, 2)
		s.out = redcon.AppendBulkString(s.out, "pong")
		if len(args) == 2 {
			s.out = redcon.AppendBulk(s.out, args[1])
		} else {
			s.out = redcon.AppendBulkString(s.out, "")
		}
	case len(args) == 2:
		s.out = redcon.AppendBulk(s.out, args[1])
	default:
		s.out = redcon.AppendString(s.out, "PONG")
	}
}

func (s *store) echo(_ *client, args [][]byte) { s.out = redcon.AppendBulk(s.out, args[1]) }

func (s *store) quit(cl *client, _ [][]byte) {
	s.out = redcon.AppendOK(s.out)
	cl.quit = true
}

// find returns the value of a key, or nil.
func (s *store) find(key []byte) *entry {
	e := s.keys[string(key)]
	// The timer runs at the end of the batch. Nobody must see the value until then.
	if e != nil && e.expiry != nil && e.expiry.deadline <= time.Now().UnixMilli() {
		s.remove(string(key), e)
		return nil
	}
	return e
}

// add adds a key without a value.
func (s *store) add(key []byte) *entry {
	e := new(entry)
	s.keys[string(key)] = e
	return e
}

func (s *store) remove(key string, e *entry) {
	s.persist(e)
	delete(s.keys, key)
}

// persist makes e one that does not expire.
func (s *store) persist(e *entry) {
	if e.expiry == nil {
		return
	}
	if e.expiry.timer != nil {
		e.expiry.timer.Stop()
	}
	e.expiry = nil
	s.expiring--
}

// farAway is where the clock of a timer ends. What expires later does so in 292 years.
const farAway = math.MaxInt64 / int64(time.Millisecond)

// expireAt sets when e, the value of a key, expires, in Unix milliseconds.
func (s *store) expireAt(key string, e *entry, deadline int64) {
	s.persist(e)
	e.expiry = &expiry{deadline: deadline}
	s.expiring++
	if left := deadline - time.Now().UnixMilli(); left < farAway {
		e.expiry.timer = s.loop.After(time.Duration(left)*time.Millisecond, func() { s.remove(key, e) })
	}
}

func (s *store) get(_ *client, args [][]byte) { s.appendValue(args[1]) }

func (s *store) appendValue(key []byte) {
	if e := s.find(key); e != nil {
		s.out = redcon.AppendBulk(s.out, e.value)
	} else {
		s.out = redcon.AppendNull(s.out)
	}
}

func (s *store) mget(_ *client, args [][]byte) {
	s.out = redcon.AppendArray(s.out, len(args)-1)
	for _, key := range args[1:] {
		s.appendValue(key)
	}
}

func (s *store) set(_ *client, args [][]byte) {
	var after []byte // until it expires, in units of that many milliseconds
	var unit int64
	onlyNew := false
	for i := 3; i < len(args); i++ {
		switch option := strings.ToLower(string(args[i])); {
		case option == "nx":
			onlyNew = true
		case (option == "ex" || option == "px") && after == nil && i+1 < len(args):
			if unit = 1; option == "ex" {
				unit = 1000
			}
			i++
			after = args[i]
		default:
			s.fail("ERR syntax error")
			return
		}
	}
	var deadline int64
	if after != nil {
		n, ok := integer(after)
		if !ok {
			s.fail("ERR value is not an integer or out of range")
			return
		}
		if deadline, ok = deadlineIn(n, unit); !ok || n <= 0 {
			s.fail("ERR invalid expire time in 'set' command")
			return
		}
	}
	e := s.find(args[1])
	if e != nil && onlyNew {
		s.out = redcon.AppendNull(s.out)
		return
	}
	if e == nil {
		e = s.add(args[1])
	}
	e.set(args[2])
	if deadline != 0 {
		s.expireAt(string(args[1]), e, deadline)
	} else {
		s.persist(e)
	}
	s.out = redcon.AppendOK(s.out)
}

// set copies v, into the memory of the old value unless that is much larger.
func (e *entry) set(v []byte) {
	if cap(e.value) > 4*len(v)+64 {
		e.value = nil
	}
	e.value = append(e.value[:0], v...)
}

// deadlineIn returns when n units of that many milliseconds are over. It reports false if
// that cannot be represented.
func deadlineIn(n, unit int64) (deadline int64, ok bool) {
	now := time.Now().UnixMilli()
	if n > (math.MaxInt64-now)/unit || n < math.MinInt64/unit {
		return 0, false
	}
	return now + n*unit, true
}

// integer parses what Redis takes for an integer: no sign plus, no leading zeros.
func integer(b []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(b), 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == string(b)
}

func (s *store) del(_ *client, args [][]byte) {
	n := 0
	for _, key := range args[1:] {
		if e := s.find(key); e != nil {
			s.remove(string(key), e)
			n++
		}
	}
	s.out = redcon.AppendInt(s.out, int64(n))
}

func (s *store) exists(_ *client, args [][]byte) {
	n := 0
	for _, key := range args[1:] {
		if s.find(key) != nil {
			n++
		}
	}
	s.out = redcon.AppendInt(s.out, int64(n))
}

func (s *store) incr(_ *client, args [][]byte) {
	e := s.find(args[1])
	n := int64(0)
	if e != nil {
		var ok bool
		if n, ok = integer(e.value); !ok {
			s.fail("ERR value is not an integer or out of range")
			return
		}
		if n == math.MaxInt64 {
			s.fail("ERR increment or decrement would overflow")
			return
		}
	} else {
		e = s.add(args[1])
	}
	e.value = strconv.AppendInt(e.value[:0], n+1, 10)
	s.out = redcon.AppendInt(s.out, n+1)
}

func (s *store) expire(_ *client, args [][]byte) {
	n, ok := integer(args[2])
	if !ok {
		s.fail("ERR value is not an integer or out of range")
		return
	}
	deadline, ok := deadlineIn(n, 1000)
	if !ok {
		s.fail("ERR invalid expire time in 'expire' command")
		return
	}
	e := s.find(args[1])
	switch {
	case e == nil:
		s.out = redcon.AppendInt(s.out, 0)
		return
	case n <= 0:
		s.remove(string(args[1]), e)
	default:
		s.expireAt(string(args[1]), e, deadline)
	}
	s.out = redcon.AppendInt(s.out, 1)
}

func (s *store) ttl(_ *client, args [][]byte) {
	left := int64(-2)
	if e := s.find(args[1]); e != nil {
		if left = -1; e.expiry != nil {
			left = (e.expiry.deadline - time.Now().UnixMilli() + 500) / 1000
		}
	}
	s.out = redcon.AppendInt(s.out, left)
}

func (s *store) subscribe(cl *client, args [][]byte) {
	for _, b := range args[1:] {
		channel := string(b)
		if cl.subscribed == nil {
			cl.subscribed = make(map[string]struct{})
		}
		cl.subscribed[channel] = struct{}{}
		if s.channels[channel] == nil {
			s.channels[channel] = make(map[*client]struct{})
		}
		s.channels[channel][cl] = struct{}{}
		s.subscription("subscribe", b, cl)
	}
}

func (s *store) unsubscribe(cl *client, args [][]byte) {
	if len(args) == 1 {
		if len(cl.subscribed) == 0 {
			s.subscription("unsubscribe", nil, cl)
		}
		for channel := range cl.subscribed {
			s.leave(cl, channel)
			s.subscription("unsubscribe", []byte(channel), cl)
		}
		return
	}
	for _, b := range args[1:] {
		s.leave(cl, string(b))
		s.subscription("unsubscribe", b, cl)
	}
}

func (s *store) leave(cl *client, channel string) {
	delete(cl.subscribed, channel)
	delete(s.channels[channel], cl)
	if len(s.channels[channel]) == 0 {
		delete(s.channels, channel)
	}
}

func (s *store) subscription(kind string, channel []byte, cl *client) {
	s.out = redcon.AppendArray(s.out, 3)
	s.out = redcon.AppendBulkString(s.out, kind)
	if channel == nil {
		s.out = redcon.AppendNull(s.out)
	} else {
		s.out = redcon.AppendBulk(s.out, channel)
	}
	s.out = redcon.AppendInt(s.out, int64(len(cl.subscribed)))
}

// publish makes the message once and writes it to all subscribers. One that reads too
// slowly is disconnected, rather than waited for.
func (s *store) publish(_ *client, args [][]byte) {
	subscribers := s.channels[string(args[1])]
	if len(subscribers) > 0 {
		m := redcon.AppendArray(nil, 3)
		m = redcon.AppendBulkString(m, "message")
		m = redcon.AppendBulk(m, args[1])
		m = redcon.AppendBulk(m, args[2])
		for cl := range subscribers {
			if _, err := cl.conn.Write(m); err != nil {
				cl.conn.Abort()
			}
		}
	}
	s.out = redcon.AppendInt(s.out, int64(len(subscribers)))
}

func (s *store) info(*client, [][]byte) {
	var b strings.Builder
	fmt.Fprintf(&b, "# Server\r\nredis_mode:standalone\r\nuptime_in_seconds:%d\r\n\r\n", int(time.Since(s.began).Seconds()))
	fmt.Fprintf(&b, "# Clients\r\nconnected_clients:%d\r\n\r\n", s.clients)
	fmt.Fprintf(&b, "# Stats\r\ntotal_connections_received:%d\r\ntotal_commands_processed:%d\r\npubsub_channels:%d\r\n\r\n",
		s.accepted, s.commands, len(s.channels))
	fmt.Fprintf(&b, "# Keyspace\r\n")
	if len(s.keys) > 0 {
		fmt.Fprintf(&b, "db0:keys=%d,expires=%d,avg_ttl=0\r\n", len(s.keys), s.expiring)
	}
	s.out = redcon.AppendBulkString(s.out, b.String())
}
