package slab

import (
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/epore/epore"
)

// A Slab does what a map does whose keys are never used twice.
// contract: R17
func TestSlab_AgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Slab[int]
		model := make(map[epore.Token]int)
		made := []epore.Token{0, 1, math.MaxUint64} // these have never been made
		seen := make(map[epore.Token]bool)
		next := 0
		any := func(t *rapid.T) epore.Token { return rapid.SampledFrom(made).Draw(t, "token") }
		insert := func() epore.Token {
			next++
			token := s.Insert(next)
			require.False(t, seen[token], "%#x was made before", token)
			require.GreaterOrEqual(t, uint64(token), uint64(1)<<32)
			seen[token] = true
			made = append(made, token)
			model[token] = next
			return token
		}
		remove := func(token epore.Token) {
			want, ok := model[token]
			got, found := s.Remove(token)
			require.Equal(t, ok, found)
			require.Equal(t, want, got)
			delete(model, token)
		}
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(*rapid.T) { insert() },
			"remove": func(t *rapid.T) { remove(any(t)) },
			"set": func(t *rapid.T) {
				token := any(t)
				next++
				_, ok := model[token]
				require.Equal(t, ok, s.Set(token, next))
				if ok {
					model[token] = next
				}
			},
			"change in a loop": func(t *rapid.T) {
				before := make(map[epore.Token]bool)
				for token := range model {
					before[token] = true
				}
				inserts := 0
				for token, value := range s.All() {
					require.Equal(t, model[token], value)
					require.Contains(t, model, token, "removed ones are not seen")
					delete(before, token)
					if rapid.Bool().Draw(t, "remove it") {
						remove(token)
					}
					if other := any(t); rapid.Bool().Draw(t, "remove another") {
						remove(other)
						delete(before, other)
					}
					if inserts < 3 && rapid.Bool().Draw(t, "insert") {
						inserts++
						insert()
					}
				}
				require.Empty(t, before, "all that stayed are seen")
			},
			"": func(t *rapid.T) {
				require.Equal(t, len(model), s.Len())
				for _, token := range made {
					want, ok := model[token]
					got, found := s.Get(token)
					require.Equal(t, ok, found)
					require.Equal(t, want, got)
				}
			},
		})
	})
}

// A slot that has used up its generations is not used again.
// contract: R17
func TestSlab_TokensAreNeverMadeTwice(t *testing.T) {
	var s Slab[string]
	first := s.Insert("first")
	s.slots[0].generation = math.MaxUint32
	last := epore.Token(math.MaxUint32 << 32)
	_, ok := s.Get(first)
	require.False(t, ok)
	value, ok := s.Remove(last)
	require.True(t, ok)
	require.Equal(t, "first", value)
	next := s.Insert("next")
	require.Equal(t, epore.Token(1<<32|1), next)
	_, ok = s.Remove(last)
	require.False(t, ok)
	require.Equal(t, 1, s.Len())
	for token, value := range s.All() {
		require.Equal(t, next, token)
		require.Equal(t, "next", value)
	}
}

// contract: R17
func TestSlab_ZeroValue(t *testing.T) {
	var s Slab[int]
	_, ok := s.Get(0)
	require.False(t, ok)
	_, ok = s.Remove(1 << 32)
	require.False(t, ok)
	require.False(t, s.Set(1<<32, 1))
	require.Zero(t, s.Len())
	for range s.All() {
		require.Fail(t, "it is empty")
	}
}

// What was removed is not held on to.
// contract: R17
func TestSlab_KeepsNothing(t *testing.T) {
	var s Slab[*[64]byte]
	gone := make(chan bool)
	func() {
		value := new([64]byte)
		runtime.AddCleanup(value, func(int) { close(gone) }, 0)
		s.Remove(s.Insert(value))
	}()
	for range 10_000 {
		runtime.GC()
		select {
		case <-gone:
			runtime.KeepAlive(&s)
			return
		default:
			runtime.Gosched()
		}
	}
	require.Fail(t, "the value is held on to")
}

// contract: P10, R17
func TestSlab_AllocatesNothing(t *testing.T) {
	var s Slab[int]
	s.Remove(s.Insert(0))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		token := s.Insert(1)
		s.Set(token, 2)
		s.Get(token)
		for range s.All() {
			break
		}
		s.Remove(token)
	}))
}

func BenchmarkSlab(b *testing.B) {
	var s Slab[*int]
	var tokens [1024]epore.Token
	for i := range tokens {
		tokens[i] = s.Insert(new(int))
	}
	b.Run("Get", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, ok := s.Get(tokens[i%len(tokens)]); !ok {
				b.Fatal("not found")
			}
		}
	})
	b.Run("Insert and Remove", func(b *testing.B) {
		for b.Loop() {
			s.Remove(s.Insert(nil))
		}
	})
}
