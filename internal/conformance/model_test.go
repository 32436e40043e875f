//go:build unix || windows

package conformance_test

import (
	"testing"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
)

// A model of the contract: what is known of a file, and what a queue must and may
// say of it. The test that uses it is in differential_test.go.

// kind is a sort of file, and what can be done with this end of it.
type kind struct {
	name          string
	of            func(testing.TB) (here, there *fixture.End)
	reads, writes bool
	halves        bool // it can be closed for writing only
	fills         bool // at a known moment there is no room to write
	travels       bool // what is sent takes its time
	most          int  // what can be written with room to spare
}

// promptTCP sends each byte at once.
func promptTCP(t testing.TB) (here, there *fixture.End) {
	here, there = fixture.TCPPair(t)
	here.NoDelay()
	there.NoDelay()
	return here, there
}

// file is one end of something, and all that has been done to it.
type file struct {
	*kind
	here, there *fixture.End

	hinted bool // the queue that it is for tells all that Linux tells
	lax    bool // the system may tell more than Linux does
	unread int  // bytes, or datagrams
	sent   int  // that the peer has not read
	full   bool // there is no room to write
	vague  bool // nobody knows whether there is
	shut   bool // this end writes no more
	eof    bool // the peer writes no more
	gone   bool // the peer is closed
	hup    bool // both directions are down
	broken bool // an error is pending
}

// close leaves nothing behind, not even a port that must be waited for.
func (f *file) close() {
	f.there.Close()
	if f.travels {
		f.here.Reset()
	}
	f.here.Close()
}

// must and may are the bits that a queue has to report, and is allowed to.
func (f *file) must(in epore.Interest) (must, may epore.Readiness) {
	if in.Has(epore.Readable) && (f.unread > 0 || f.eof || f.hup || f.broken) {
		must |= readable
	}
	if in.Has(epore.Writable) {
		if !f.full && !f.vague || f.hup || f.broken {
			must |= writable
		}
		if f.vague {
			may |= writable
		}
	}
	if f.lax && in.Has(epore.Writable) && (f.shut || !f.reads) {
		// Shut down, BSDs are writable however full; and a full pipe of FreeBSD may grow.
		may |= writable
	}
	if f.lax && f.gone && !f.eof && in.Has(epore.Readable) {
		may |= readable | failed // ECONNRESET of a datagram socket
	}
	var told epore.Readiness
	if f.broken {
		told |= failed
	}
	if f.hup {
		told |= readClosed | writeClosed
	}
	if f.shut || f.broken {
		may |= writeClosed // a kqueue tells
	}
	if f.eof {
		may |= readClosed
		if in.Has(epore.Readable) {
			told |= readClosed
		}
	}
	may |= must | told
	if f.hinted {
		must |= told
	}
	return must, may
}

const (
	readable = epore.Readiness(1) << iota
	writable
	_
	failed
	readClosed
	writeClosed
)

const (
	conditions = readable | writable
	hints      = failed | readClosed | writeClosed
)

// registration is what the model knows of one.
type registration struct {
	token    epore.Token
	interest epore.Interest
	// Of edges: the conditions that must be reported when they hold, because the
	// registration is new, or the operation has answered "would block".
	armed epore.Readiness
	// changed are the bits that something may have happened to since they were
	// reported; shot says that a one-shot registration has had its event.
	changed epore.Readiness
	shot    bool
	missed  int // how many full batches were without it
	// lags says that an edge tells what happened, which may be over: happened is all
	// that was true since the last event. So it is with io_uring.
	lags     bool
	happened epore.Readiness
	// polled says that every event tells what was so when the kernel looked, once: some
	// of it may be over, and some of what is so now may come with the next. So it is
	// with iocp.
	polled bool
}

// modelled is a source of a world: a file under a number, and its registration.
type modelled struct {
	*file
	reg *registration // nil: not registered
}

// due is what a Poll has to report of s, and what it may.
func (s *modelled) due() (must, may epore.Readiness) {
	reg := s.reg
	if reg == nil || reg.shot {
		return 0, 0
	}
	must, may = s.file.must(reg.interest)
	if reg.interest.Has(epore.Edge) {
		if must&reg.armed == 0 {
			must = 0
		} else {
			must &= reg.armed
		}
		changed := reg.changed
		if s.travels && s.shut { // that arrives at the peer, and news of it here
			changed = conditions | hints
		}
		// News of a hint comes with all that it concerns, see M6.
		if changed&hints&may == 0 {
			if may &^= conditions &^ changed; may&conditions == 0 {
				may = 0
			}
		}
		if reg.lags && reg.changed != 0 {
			may |= reg.happened
		}
	}
	if reg.polled {
		may |= reg.happened
	}
	return must, may
}
