// Package slab maps tokens to values, such as the state that a program keeps for each of its
// connections.
//
// If a program uses the indexes of a slice as tokens, an event of a closed connection can
// reach the connection that uses the index next. A [Slab] prevents that: each [epore.Token]
// carries a generation, and a token whose value was removed is not found again.
package slab

import (
	"fmt"
	"iter"
	"math"

	"github.com/epore/epore"
)

// Slab is a map from tokens to values. It makes the tokens. The zero Slab is empty and
// ready to use. Insert, Get, Set and Remove take constant time. They allocate only when the
// Slab holds more values than ever before, and that memory stays allocated.
//
// A Slab never makes a token twice, and makes none below 1<<32. Use smaller tokens for
// sources that are not in the Slab, such as a listener or a Waker.
//
// A Slab has no lock: only one goroutine may use it at a time. Do not copy a Slab after the
// first Insert.
type Slab[T any] struct {
	slots []slot[T]
	free  uint32 // the first free slot, plus one; 0: none is free
	n     int
}

// slot is the place of one value.
type slot[T any] struct {
	value T
	// generation is the upper half of the token, from 1 on. It grows with each Remove.
	generation uint32
	next       uint32 // inUse, or the next free slot, plus one
}

const inUse = math.MaxUint32

// Insert adds a value and returns its token. It panics when the Slab already holds
// 4,294,967,294 values.
func (s *Slab[T]) Insert(value T) epore.Token {
	i := s.free - 1
	if s.free == 0 {
		if uint64(len(s.slots)) >= inUse-1 {
			panic(fmt.Sprintf("slab: no room for more than %d values", len(s.slots)))
		}
		i = uint32(len(s.slots))
		s.slots = append(s.slots, slot[T]{generation: 1})
	} else {
		s.free = s.slots[i].next
	}
	slot := &s.slots[i]
	slot.value, slot.next = value, inUse
	s.n++
	return slot.token(i)
}

// Get returns the value of a token. It returns false for a token whose value was removed,
// and for one that this Slab has not made.
func (s *Slab[T]) Get(token epore.Token) (value T, ok bool) {
	if slot := s.find(token); slot != nil {
		return slot.value, true
	}
	return value, false
}

// Set replaces the value of a token. It returns false, and changes nothing, for a token
// that Get does not find.
func (s *Slab[T]) Set(token epore.Token, value T) bool {
	slot := s.find(token)
	if slot == nil {
		return false
	}
	slot.value = value
	return true
}

// Remove removes the value of a token and returns it. From then on the token is stale. It
// returns false, and changes nothing, for a token that Get does not find.
func (s *Slab[T]) Remove(token epore.Token) (value T, ok bool) {
	slot := s.find(token)
	if slot == nil {
		return value, false
	}
	var zero T
	value, slot.value = slot.value, zero // keeps nothing alive
	slot.next = 0
	s.n--
	// A slot whose generations are used up is not reused: its stale tokens would be
	// found again.
	if slot.generation < math.MaxUint32 {
		slot.generation++
		slot.next, s.free = s.free, uint32(token)+1
	}
	return value, true
}

// Len returns the number of values.
func (s *Slab[T]) Len() int { return s.n }

// All iterates over the tokens and their values, in no particular order. The loop may
// insert and remove values: it does not see what it has removed, and it may see what it has
// inserted.
func (s *Slab[T]) All() iter.Seq2[epore.Token, T] {
	return func(yield func(epore.Token, T) bool) {
		for i := 0; i < len(s.slots); i++ { // the loop may make it longer
			if slot := &s.slots[i]; slot.next == inUse && !yield(slot.token(uint32(i)), slot.value) {
				return
			}
		}
	}
}

// find returns the slot of a token, or nil.
func (s *Slab[T]) find(token epore.Token) *slot[T] {
	i := uint64(uint32(token))
	if i >= uint64(len(s.slots)) {
		return nil
	}
	slot := &s.slots[i]
	if slot.next != inUse || slot.generation != uint32(token>>32) {
		return nil
	}
	return slot
}

func (s *slot[T]) token(i uint32) epore.Token {
	return epore.Token(s.generation)<<32 | epore.Token(i)
}
