package epore

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/epore/epore/backend"
)

// table holds the registrations of one Poll: for each a slot, named by the key
// that the backend carries through its kernel.
//
// A key is a slot's index and a generation. A generation lives from Register to
// the next Reregister or Deregister, so an event whose key has another
// generation than its slot is stale, wherever it was kept meanwhile: in the
// kernel, in the backend, in the batch in the caller's hand. Live generations
// are odd, so no key is zero.
//
// Changes hold mu, through the backend's call. Readers hold nothing: they see
// keys that come out of the kernel, beside any change.
type table struct {
	mu    sync.Mutex
	used  uint32  // slots ever used: indexes below
	free  uint32  // head of the list of free slots, plus 1
	index fdIndex // the slot of each registered handle
	pages slotPages
}

// slot is 24 bytes a registration.
type slot struct {
	// state is the generation (high half) and the interest (low half, with the bits
	// of notedState), together because readers need them of one moment.
	state  atomic.Uint64
	token  atomic.Uint64
	handle backend.Handle // under mu; of a free slot: the next free one, plus 1
}

// onlyReadable marks, in a slot's interest, a source of the Poll's own: its events say
// Readable and nothing else, whatever the kernel says of the descriptor behind it. No
// backend sees this bit.
const onlyReadable Interest = 1 << 7

// noHandle marks the slots of sources that the backend does not know.
const noHandle = ^backend.Handle(0)

func makeKey(i, generation uint32) backend.Key { return backend.Key(i)<<32 | backend.Key(generation) }
func keyIndex(k backend.Key) uint32            { return uint32(k >> 32) }
func keyGeneration(k backend.Key) uint32       { return uint32(k) }

func makeState(generation uint32, in Interest) uint64 { return uint64(generation)<<32 | uint64(in) }
func stateGeneration(s uint64) uint32                 { return uint32(s >> 32) }
func stateInterest(s uint64) Interest                 { return Interest(s) }

// insert fills a free slot and returns its key. Events under the key are valid
// from here on, before the backend has heard of it: they may come at once.
// Under mu.
func (t *table) insert(h backend.Handle, token Token, in Interest) backend.Key {
	var i uint32
	var s *slot
	if t.free != 0 {
		i = t.free - 1
		s = t.pages.at(i)
		t.free = uint32(s.handle)
	} else {
		i = t.used
		t.used++
		s = t.pages.add(i)
	}
	generation := stateGeneration(s.state.Load()) + 1
	s.handle = h
	s.token.Store(uint64(token))
	s.state.Store(makeState(generation, in))
	return makeKey(i, generation)
}

// remove ends a registration: from here on its events are stale. Under mu.
func (t *table) remove(i uint32) {
	s := t.pages.at(i)
	s.state.Store(makeState(stateGeneration(s.state.Load())+1, 0))
	s.handle = backend.Handle(t.free)
	t.free = i + 1
}

// nextKey is the key that replace will make valid. Under mu.
func (t *table) nextKey(i uint32) backend.Key {
	return makeKey(i, stateGeneration(t.pages.at(i).state.Load())+2)
}

// registration returns the key and the interest of slot i, for the backend. Under mu.
func (t *table) registration(i uint32) (backend.Key, Interest) {
	state := t.pages.at(i).state.Load()
	return makeKey(i, stateGeneration(state)), stateInterest(state) &^ onlyReadable
}

// replace turns slot i to its next generation. Between the generations the slot
// is nobody's (even), so that no reader takes the new token for the old key.
// Under mu.
func (t *table) replace(i uint32, token Token, in Interest) {
	s := t.pages.at(i)
	generation := stateGeneration(s.state.Load())
	s.state.Store(makeState(generation+1, 0))
	s.token.Store(uint64(token))
	s.state.Store(makeState(generation+2, in))
}

// keep moves to the front of batch what its registrations get to see, and
// returns how much that is.
func (t *table) keep(batch []backend.Event) int {
	n := 0
	for _, ev := range batch {
		in, ok := t.interest(ev.Key)
		if !ok {
			continue
		}
		ev.Ready = ev.Ready.For(in)
		if in.Has(onlyReadable) {
			ev.Ready &= backend.ReadyReadable
		}
		if ev.Ready != 0 {
			batch[n] = ev
			n++
		}
	}
	return n
}

// interest returns the interest registered under k, or false if k is stale.
func (t *table) interest(k backend.Key) (Interest, bool) {
	s := t.pages.find(keyIndex(k))
	if s == nil {
		return 0, false // not a key of this table: a backend that is wrong, or was another Poll's
	}
	state := s.state.Load()
	if stateGeneration(state) != keyGeneration(k) {
		return t.interestSoon(k, state)
	}
	return stateInterest(state), true
}

// interestSoon decides about a key that is not the slot's. It is stale, unless
// it is newer: then a Reregister is just under way, its event was faster than
// its return, and dropping it would lose an edge. Taking mu waits for it.
func (t *table) interestSoon(k backend.Key, state uint64) (Interest, bool) {
	if int32(keyGeneration(k)-stateGeneration(state)) < 0 {
		return 0, false
	}
	t.mu.Lock()
	state = t.pages.at(keyIndex(k)).state.Load()
	t.mu.Unlock()
	return stateInterest(state), stateGeneration(state) == keyGeneration(k)
}

// token returns the token registered under k, or false if k is stale. The
// generation is read on both sides of the token, so that the two belong
// together. A key in a batch was valid once: it is never newer than its slot.
func (t *table) token(k backend.Key) (Token, bool) {
	s := t.pages.at(keyIndex(k))
	if stateGeneration(s.state.Load()) != keyGeneration(k) {
		return 0, false
	}
	token := s.token.Load()
	state := s.state.Load()
	if state&stateNotes != 0 {
		return Token(token), s.note(keyGeneration(k))
	}
	return Token(token), stateGeneration(state) == keyGeneration(k)
}

// Of some slots it is noted whether the event of their generation was given to the
// loop, or is only in its batch: of timers, for Stop.
const (
	stateNotes = 1 << 31
	stateGiven = 1 << 30
)

// note notes that the event of the given generation is given to the loop, and returns
// false if there is a newer one.
func (s *slot) note(generation uint32) bool {
	for {
		state := s.state.Load()
		if stateGeneration(state) != generation {
			return false
		}
		if state&stateGiven != 0 || s.state.CompareAndSwap(state, state|stateGiven) {
			return true
		}
	}
}

// takeNotes begins them for the slot of k, which has no event yet.
func (t *table) takeNotes(k backend.Key) { t.pages.at(keyIndex(k)).state.Or(stateNotes) }

// renew ends the generation of k, which has notes, and begins another for the same
// token. It says whether an event of it was given to the loop: if not, none will be.
// It needs no lock but the owner's, who alone renews and removes the slot.
func (t *table) renew(k backend.Key) (next backend.Key, given bool) {
	s := t.pages.at(keyIndex(k))
	generation := keyGeneration(k) + 2
	old := s.state.Swap(makeState(generation, Readable) | stateNotes)
	return makeKey(keyIndex(k), generation), old&stateGiven != 0
}

// slotPages is an array that grows without moving, so that readers need no
// lock: page p has firstPage<<p slots.
type slotPages [32 - firstPageBits]atomic.Pointer[[]slot]

const (
	firstPageBits = 5
	firstPage     = 1 << firstPageBits
	maxSlot       = 1<<32 - 1 - firstPage
)

// place returns the page of slot i and the offset in it.
func place(i uint32) (page int, offset uint32) {
	n := i + firstPage
	page = bits.Len32(n) - 1 - firstPageBits
	return page, n - firstPage<<page
}

// at returns slot i, which exists.
func (p *slotPages) at(i uint32) *slot {
	page, offset := place(i)
	return &(*p[page].Load())[offset]
}

// find is at for a slot that may not exist; then it returns nil.
func (p *slotPages) find(i uint32) *slot {
	if i > maxSlot {
		return nil
	}
	page, offset := place(i)
	slots := p[page].Load()
	if slots == nil {
		return nil
	}
	return &(*slots)[offset]
}

// add makes slot i exist.
func (p *slotPages) add(i uint32) *slot {
	page, offset := place(i)
	if p[page].Load() == nil {
		slots := make([]slot, firstPage<<page)
		p[page].Store(&slots)
	}
	return &(*p[page].Load())[offset]
}

// fdIndex finds the slot of a handle. Descriptors are small numbers, so it is an
// array of pages rather than a map: 4 bytes a descriptor.
type fdIndex struct {
	pages  []*[fdPage]uint32 // slot plus 1
	sparse map[backend.Handle]uint32
}

const (
	fdPage   = 512
	denseFDs = 1 << 26
)

// get returns the slot of h.
func (x *fdIndex) get(h backend.Handle) (uint32, bool) {
	if h >= denseFDs {
		i, ok := x.sparse[h]
		return i, ok
	}
	if p := int(h / fdPage); p < len(x.pages) && x.pages[p] != nil {
		i := x.pages[p][h%fdPage]
		return i - 1, i != 0
	}
	return 0, false
}

// put notes that h is in slot i.
func (x *fdIndex) put(h backend.Handle, i uint32) {
	if h >= denseFDs {
		if x.sparse == nil {
			x.sparse = make(map[backend.Handle]uint32)
		}
		x.sparse[h] = i
		return
	}
	p := int(h / fdPage)
	if p >= len(x.pages) {
		x.pages = append(x.pages, make([]*[fdPage]uint32, p+1-len(x.pages))...)
	}
	if x.pages[p] == nil {
		x.pages[p] = new([fdPage]uint32)
	}
	x.pages[p][h%fdPage] = i + 1
}

// drop forgets h.
func (x *fdIndex) drop(h backend.Handle) {
	if h >= denseFDs {
		delete(x.sparse, h)
		return
	}
	x.pages[h/fdPage][h%fdPage] = 0
}
