// Package slots implements the table of registrations of one Poll.
//
// Each registration has a slot. The backend carries the slot's key through its kernel
// and returns it with every event. A key consists of the slot's index and a
// generation. A generation lives from Register until the next Reregister or
// Deregister. An event whose key has another generation than its slot is stale,
// wherever it was kept in the meantime: in the kernel, in the backend, or in the batch
// that the caller holds. Live generations are odd, so no key is zero.
package slots

import (
	"sync"
	"sync/atomic"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fdtable"
)

// Table holds the registrations of one Poll. The zero Table is empty and ready to use.
//
// Methods that change a registration require the lock, which the core holds across
// the backend's call as well, so that table and backend change together. Methods that
// only read events (Keep, Interest, Token) take no lock: they see keys that come out of
// the kernel concurrently with any change.
type Table struct {
	sync.Mutex
	live    uint32                // registrations
	used    uint32                // indexes below it have been used
	free    uint32                // head of the list of free slots, plus 1; 0 if there is none
	handles fdtable.Table[uint32] // the slot of each registered handle, plus 1
	pages   pages
}

// slot takes 24 bytes for each registration.
type slot struct {
	// state holds the generation (high half) and the interest (low half, with the
	// bits of the delivery record). They share a word because readers need both
	// from the same moment.
	state  atomic.Uint64
	token  atomic.Uint64
	handle backend.Handle // under the lock; in a free slot, the next free slot plus 1
}

// OnlyReadable marks, in a slot's interest, a source whose events say Readable and
// nothing else, whatever the kernel reports about the descriptor that stands for it.
// The core uses it for the end of a process. No backend sees this bit.
const OnlyReadable backend.Interest = 1 << 7

// RecordsDelivery marks, in a slot's interest, that the slot records whether the event of
// its generation was delivered to the loop, or is only in the loop's batch. [Table.Renew]
// reports it. No backend sees this bit.
const RecordsDelivery backend.Interest = 1 << 6

// ForTheTable are the bits of an interest that no backend sees.
const ForTheTable = OnlyReadable | RecordsDelivery

// NoHandle marks the slots of sources that have no handle.
const NoHandle = ^backend.Handle(0)

// Index returns the index of the slot that k names.
func Index(k backend.Key) uint32 { return uint32(k >> 32) }

func makeKey(i, generation uint32) backend.Key { return backend.Key(i)<<32 | backend.Key(generation) }
func keyGeneration(k backend.Key) uint32       { return uint32(k) }

func makeState(generation uint32, in backend.Interest) uint64 {
	return uint64(generation)<<32 | uint64(in)
}
func stateGeneration(s uint64) uint32         { return uint32(s >> 32) }
func stateInterest(s uint64) backend.Interest { return backend.Interest(s) }

// Insert fills a free slot and returns its key. Events under the key are valid from
// here on, before the backend knows the key, because they may come at once. It requires
// the lock.
func (t *Table) Insert(h backend.Handle, token uint64, in backend.Interest) backend.Key {
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
	t.live++
	s.handle = h
	s.token.Store(token)
	s.state.Store(makeState(generation, in))
	return makeKey(i, generation)
}

// Remove ends the registration in slot i. From here on its events are stale. It
// requires the lock.
func (t *Table) Remove(i uint32) {
	t.live--
	s := t.pages.at(i)
	s.state.Store(makeState(stateGeneration(s.state.Load())+1, 0))
	s.handle = backend.Handle(t.free)
	t.free = i + 1
}

// Used returns the number of slots that were ever in use at the same time. It requires
// the lock.
func (t *Table) Used() int { return int(t.used) }

// Live returns the number of registrations. It requires the lock.
func (t *Table) Live() int { return int(t.live) }

// Registered returns what is registered in slot i: its handle, or NoHandle, its interest, and
// whether that has OnlyReadable. in lacks the bits ForTheTable. It returns false if the slot is
// free. It requires the lock.
func (t *Table) Registered(i uint32) (h backend.Handle, in backend.Interest, onlyReadable, ok bool) {
	s := t.pages.at(i)
	state := s.state.Load()
	in = stateInterest(state)
	return s.handle, in &^ ForTheTable, in.Has(OnlyReadable), stateGeneration(state)%2 == 1
}

// Lookup returns the slot of a registered handle. It requires the lock.
func (t *Table) Lookup(h backend.Handle) (i uint32, registered bool) {
	if p := t.handles.Get(uintptr(h)); p != nil && *p != 0 {
		return *p - 1, true
	}
	return 0, false
}

// Bind makes slot i the slot of h. It requires the lock.
func (t *Table) Bind(h backend.Handle, i uint32) { *t.handles.Add(uintptr(h)) = i + 1 }

// Unbind removes h from the handles that have a slot. It requires the lock.
func (t *Table) Unbind(h backend.Handle) { t.handles.Drop(uintptr(h)) }

// NextKey returns the key that Replace will make valid for slot i. It requires the
// lock.
func (t *Table) NextKey(i uint32) backend.Key {
	return makeKey(i, stateGeneration(t.pages.at(i).state.Load())+2)
}

// Registration returns the key of slot i and the interest that its backend was given.
// It requires the lock.
func (t *Table) Registration(i uint32) (backend.Key, backend.Interest) {
	state := t.pages.at(i).state.Load()
	return makeKey(i, stateGeneration(state)), stateInterest(state) &^ ForTheTable
}

// Handle returns the handle in slot i, its key and the interest that its backend was given.
// It returns false if slot i is free or has no handle. It requires the lock.
func (t *Table) Handle(i uint32) (h backend.Handle, k backend.Key, in backend.Interest, ok bool) {
	k, in = t.Registration(i)
	h = t.pages.at(i).handle
	return h, k, in, keyGeneration(k)%2 == 1 && h != NoHandle
}

// TokenIn returns the token in slot i. It requires the lock.
func (t *Table) TokenIn(i uint32) uint64 { return t.pages.at(i).token.Load() }

// Replace moves slot i to its next generation. Between the two generations the slot
// belongs to nobody (the generation is even), so that no reader combines the new token
// with the old key. It requires the lock.
func (t *Table) Replace(i uint32, token uint64, in backend.Interest) {
	s := t.pages.at(i)
	generation := stateGeneration(s.state.Load())
	s.state.Store(makeState(generation+1, 0))
	s.token.Store(token)
	s.state.Store(makeState(generation+2, in))
}

// Keep drops stale events from batch and reduces the others to what their
// registrations asked for. It moves those that remain to the front of batch and
// returns their number.
func (t *Table) Keep(batch []backend.Event) int {
	n := 0
	for _, ev := range batch {
		in, ok := t.Interest(ev.Key)
		if !ok {
			continue
		}
		ev.Ready = ev.Ready.For(in)
		if in.Has(OnlyReadable) {
			ev.Ready &= backend.ReadyReadable
		}
		if ev.Ready != 0 {
			batch[n] = ev
			n++
		}
	}
	return n
}

// Interest returns the interest registered under k, with the bits ForTheTable, or false if k is
// stale.
func (t *Table) Interest(k backend.Key) (backend.Interest, bool) {
	s := t.pages.find(Index(k))
	if s == nil {
		return 0, false // not a key of this table: the backend is wrong, or served another Poll
	}
	state := s.state.Load()
	if stateGeneration(state) != keyGeneration(k) {
		return t.interestOfNewerKey(k, state)
	}
	return stateInterest(state), true
}

// interestOfNewerKey decides about a key whose generation is not the slot's. The key is
// stale unless it is newer. It is newer when a Reregister is in progress whose event
// arrived before the call returned. Dropping that event would lose an edge, so this
// takes the lock, which waits for the Reregister.
func (t *Table) interestOfNewerKey(k backend.Key, state uint64) (backend.Interest, bool) {
	if int32(keyGeneration(k)-stateGeneration(state)) < 0 {
		return 0, false
	}
	t.Lock()
	state = t.pages.at(Index(k)).state.Load()
	t.Unlock()
	return stateInterest(state), stateGeneration(state) == keyGeneration(k)
}

// Token returns the token registered under k, or false if k is stale. k must have been
// valid once. If the slot records deliveries, Token records this one.
//
// The generation is read before and after the token, so that the two belong together.
func (t *Table) Token(k backend.Key) (token uint64, ok bool) {
	s := t.pages.at(Index(k))
	if stateGeneration(s.state.Load()) != keyGeneration(k) {
		return 0, false
	}
	token = s.token.Load()
	state := s.state.Load()
	if stateInterest(state).Has(RecordsDelivery) {
		return token, s.recordDelivery(keyGeneration(k))
	}
	return token, stateGeneration(state) == keyGeneration(k)
}

// delivered is the record, in the state of a slot that has RecordsDelivery.
const delivered = 1 << 31

// recordDelivery records that the event of the given generation was delivered. It
// returns false if the slot has a newer generation.
func (s *slot) recordDelivery(generation uint32) bool {
	for {
		state := s.state.Load()
		if stateGeneration(state) != generation {
			return false
		}
		if state&delivered != 0 || s.state.CompareAndSwap(state, state|delivered) {
			return true
		}
	}
}

// RecordDeliveries makes the slot of k record deliveries. k must not have had an event
// yet.
func (t *Table) RecordDeliveries(k backend.Key) {
	t.pages.at(Index(k)).state.Or(uint64(RecordsDelivery))
}

// Renew ends the generation of k, whose slot records deliveries, and begins another one
// with the same token and interest. It reports whether an event of k was delivered to the
// loop; if not, none will be.
//
// Renew does not require the lock. The slot's owner serializes calls to Renew, Replace and
// Remove.
func (t *Table) Renew(k backend.Key) (next backend.Key, wasDelivered bool) {
	s := t.pages.at(Index(k))
	generation := keyGeneration(k) + 2
	old := s.state.Swap(makeState(generation, stateInterest(s.state.Load())))
	return makeKey(Index(k), generation), old&delivered != 0
}
