//go:build unix

package epore_test

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/epore/epore"
	"github.com/epore/epore/internal/fixture"
)

// Random sequences of everything that changes a registration, against a model
// of the contract: what is level-triggered and ready is reported under its
// current token, and nothing else is, not even from a batch that was collected
// before the change.

// modelSource is a descriptor number and what the model knows of it.
type modelSource struct {
	here, there *fixture.End
	registered  bool
	token       epore.Token
	interest    epore.Interest
	unread      bool
	shot        bool
	fired       bool // edge: reported, and nothing new since
}

// due reports whether a Poll must report the source, and as what.
func (s *modelSource) due() epore.Readiness {
	var r epore.Readiness
	if s.unread {
		r |= 1
	}
	r |= 2 // there is always room to write
	r &= epore.Readiness(s.interest & (epore.Readable | epore.Writable))
	if !s.registered || s.shot || s.fired {
		return 0
	}
	return r
}

func TestModel(t *testing.T) {
	eachStrategy(t, "R3 to R7, M1 to M3, M5: against a model, at random", func(t *testing.T, _ *epore.Poll) {
		rapid.Check(t, func(r *rapid.T) { runModel(t, r) })
	})
}

func runModel(t *testing.T, r *rapid.T) {
	p, err := openQueue()
	require.NoError(r, err)
	defer p.Close()
	sources := make([]*modelSource, 4)
	for i := range sources {
		sources[i] = &modelSource{}
		sources[i].here, sources[i].there = fixture.Pair(t)
	}
	defer func() {
		for _, s := range sources {
			s.here.Close()
			s.there.Close()
		}
	}()
	events := epore.NewEvents(2 * len(sources))
	lastToken := epore.Token(0)
	batch := map[epore.Token]epore.Readiness{} // what All must yield now

	pick := func(r *rapid.T) *modelSource { return rapid.SampledFrom(sources).Draw(r, "source") }
	interests := []epore.Interest{
		epore.Readable, epore.Writable, epore.Readable | epore.Writable,
		epore.Readable | epore.OneShot, epore.Readable | epore.Writable | epore.OneShot,
		epore.Readable | epore.Edge, epore.Writable | epore.Edge, epore.Readable | epore.Edge | epore.OneShot,
	}
	set := func(s *modelSource, in epore.Interest) {
		delete(batch, s.token)
		s.registered, s.token, s.interest, s.shot, s.fired = true, lastToken, in, false, false
	}
	unset := func(s *modelSource) {
		delete(batch, s.token)
		s.registered = false
	}
	r.Repeat(map[string]func(*rapid.T){
		"": func(r *rapid.T) { // after each step
			got := map[epore.Token]epore.Readiness{}
			for ev := range events.All() {
				got[ev.Token] |= ev.Ready
			}
			require.Equal(r, batch, got, "R6: what is left of the batch in hand")
		},
		"register": func(r *rapid.T) {
			s, in := pick(r), rapid.SampledFrom(interests).Draw(r, "interest")
			lastToken++
			err := p.Registry().Register(fd(s.here), lastToken, in)
			if s.registered {
				require.ErrorIs(r, err, fs.ErrExist)
				return
			}
			require.NoError(r, err)
			set(s, in)
		},
		"reregister": func(r *rapid.T) {
			s, in := pick(r), rapid.SampledFrom(interests).Draw(r, "interest")
			lastToken++
			err := p.Registry().Reregister(fd(s.here), lastToken, in)
			if !s.registered {
				require.ErrorIs(r, err, fs.ErrNotExist)
				return
			}
			require.NoError(r, err)
			set(s, in)
		},
		"deregister": func(r *rapid.T) {
			s := pick(r)
			err := p.Registry().Deregister(fd(s.here))
			if !s.registered {
				require.ErrorIs(r, err, fs.ErrNotExist)
				return
			}
			require.NoError(r, err)
			unset(s)
		},
		"close and reuse": func(r *rapid.T) {
			s := pick(r)
			if rapid.Bool().Draw(r, "deregister first") && s.registered {
				require.NoError(r, p.Registry().Deregister(fd(s.here)))
				unset(s)
			}
			number := s.here.FD
			s.here.Close()
			s.there.Close()
			s.here, s.there = fixture.PairAt(t, number)
			s.unread = false
			// Without Deregister its last event may still be in hand: the Registry
			// learns of the closing when the number is registered or changed next.
			if s.registered {
				require.ErrorIs(r, p.Registry().Deregister(fd(s.here)), fs.ErrNotExist)
				unset(s)
			}
		},
		"write": func(r *rapid.T) {
			s := pick(r)
			s.there.Write("x")
			s.unread = true
			if s.interest.Has(epore.Readable) {
				s.fired = false
			}
		},
		"drain": func(r *rapid.T) {
			s := pick(r)
			s.here.Drain()
			s.unread = false
		},
		"poll": func(r *rapid.T) {
			require.NoError(r, p.Poll(events, 0))
			clear(batch)
			got := map[epore.Token]epore.Readiness{}
			for ev := range events.All() {
				got[ev.Token] |= ev.Ready
			}
			for _, s := range sources {
				due := s.due()
				if s.interest.Has(epore.Edge) {
					// Of an edge the model knows only when it must come.
					if due != 0 && s.interest.Has(epore.Readable) == s.unread {
						require.NotZero(r, got[s.token], "M2: token %d", s.token)
					}
					if got[s.token] != 0 {
						require.True(r, s.registered && !s.shot)
						due = got[s.token]
						s.fired = true
					} else {
						due = 0
					}
				}
				if due == 0 {
					if s.registered {
						require.Zero(r, got[s.token], "token %d", s.token)
					}
					continue
				}
				if s.interest.Has(epore.OneShot) {
					require.NotZero(r, got[s.token]&due)
					s.shot = true
				} else {
					require.Equal(r, due, got[s.token], "token %d, %v", s.token, s.interest)
				}
				batch[s.token] = got[s.token]
			}
			require.Equal(r, batch, got, "and nothing else")
		},
	})
}
