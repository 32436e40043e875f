//go:build unix || windows

package conformance_test

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
)

func (s *modelled) touched() {
	if s.reg != nil {
		s.reg.changed = conditions | hints
		s.happens()
	}
}

// happens notes what is true now.
func (s *modelled) happens() {
	_, may := s.file.must(s.reg.interest)
	s.reg.happened |= may
}

func (s *modelled) blocked(condition epore.Readiness) {
	if s.reg != nil {
		s.reg.armed |= condition
	}
}

func (s *modelled) peerWrites() bool {
	if !s.reads || s.eof || s.gone || s.unread > 4 || s.travels && s.unread > 0 {
		return false
	}
	s.there.Write("x")
	s.unread++
	s.arrived()
	return true
}

func (s *modelled) peerReads() bool {
	if !s.writes || s.gone {
		return false
	}
	for got, more := 0, true; more; more = s.travels && got < s.sent {
		if s.travels && s.sent > 0 {
			s.there.AwaitReadable()
		}
		n, _ := s.there.Drain()
		got += n
	}
	s.sent, s.full, s.vague = 0, false, false
	s.touched()
	return true
}

func (s *modelled) peerHalfCloses() bool {
	if !s.halves || s.eof || s.travels && s.unread > 0 {
		return false
	}
	s.there.ShutdownWrite()
	s.eof = true
	s.hup = s.shut
	s.arrived()
	return true
}

func (s *modelled) peerCloses() bool {
	if s.gone || s.travels && s.unread > 0 {
		return false
	}
	if s.writes {
		s.peerReads() // or closing would be a reset
	}
	s.there.Close()
	s.gone = true
	switch {
	case !s.reads:
		s.broken = true // a pipe that nobody reads
	case s.halves:
		s.eof = true
		s.hup = !s.travels || s.shut
	case !s.writes:
		s.eof, s.hup = true, true
	default:
		s.vague = true // a datagram socket hears nothing of it
	}
	s.arrived()
	return true
}

func (s *modelled) peerResets() bool {
	if !s.travels || s.gone || s.unread > 0 || s.eof && s.shut { // then there is nothing left to reset
		return false
	}
	s.there.Reset()
	s.gone, s.eof, s.hup, s.broken = true, true, true, true
	s.arrived()
	return true
}

// arrived waits until news of the peer is here.
func (s *modelled) arrived() {
	if s.travels {
		s.here.AwaitReadable()
	}
	s.touched()
}

func (s *modelled) read() bool {
	return s.reads && s.readOne() != 0
}

// readOne returns what a read of one byte or datagram did: 1, or how it failed.
func (s *modelled) readOne() int {
	n, err := s.here.TryRead(make([]byte, 1))
	s.touched()
	switch {
	case s.unread > 0:
		assume(n == 1, s, n, err)
		s.unread--
		return 1
	case s.broken && err != nil:
		s.broken = runtime.GOOS == "windows" // where each read repeats the error
	case s.eof:
		assume(n == 0 && err == nil, s, n, err)
	case s.lax && s.gone && errors.Is(err, fixture.WasReset):
		// A Unix datagram socket whose peer has gone, once.
	default:
		assume(fixture.WouldBlock(err), s, n, err)
		s.blocked(readable)
	}
	return -1
}

// assume holds the model of a file against the file. It panics, so that rapid looks
// for the shortest way there.
func assume(ok bool, s *modelled, n int, err error) {
	if !ok {
		panic(fmt.Sprintf("the model is wrong about %s: a read gave %d, %v; %+v", s.here, n, err, *s.file))
	}
}

func (s *modelled) drain() bool {
	if !s.reads {
		return false
	}
	for s.readOne() > 0 {
	}
	return true
}

func (s *modelled) write() bool {
	if !s.writes || s.shut || s.gone {
		return false
	}
	_, err := s.here.TryWrite([]byte("x"))
	if err == nil {
		s.sent++
	}
	s.vague = s.vague || s.sent > s.most
	if fixture.WouldBlock(err) {
		s.full, s.vague = true, false
		s.blocked(writable)
	}
	s.touched()
	return true
}

func (s *modelled) fill() bool {
	if !s.fills || s.shut || s.gone {
		return false
	}
	s.here.Fill()
	s.full, s.vague = true, false
	s.blocked(writable)
	s.touched()
	return true
}

func (s *modelled) shutdown() bool {
	if !s.halves || s.shut || s.gone {
		return false
	}
	s.here.ShutdownWrite()
	s.shut = true
	s.hup = s.eof
	s.touched()
	return true
}
