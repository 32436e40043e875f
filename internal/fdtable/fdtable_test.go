package fdtable

import (
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A table behaves like a map in which all neighbours of a number that was added exist,
// too, as zero values.
func TestTable_BehavesLikeAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table Table[int]
		model := make(map[uintptr]int)
		number := rapid.OneOf(
			rapid.UintptrMax(2000),
			rapid.UintptrRange(Dense-2, Dense+2),
			rapid.Just(uintptr(math.MaxUint)),
		)
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			fd := number.Draw(t, "fd")
			switch rapid.IntRange(0, 2).Draw(t, "operation") {
			case 0:
				value := rapid.Int().Draw(t, "value")
				*table.Add(fd) = value
				model[fd] = value
			case 1:
				table.Drop(fd)
				delete(model, fd)
			default:
				if e := table.Get(fd); e != nil {
					require.Equal(t, model[fd], *e)
				} else {
					require.NotContains(t, model, fd)
				}
			}
		}
		table.All(func(fd uintptr, e *int) { require.Equal(t, model[fd], *e) })
	})
}

func TestTable_ElementsNeverMove(t *testing.T) {
	var table Table[int]
	first := table.Add(3)
	for fd := uintptr(0); fd < 100*pageSize; fd += pageSize {
		table.Add(fd)
	}
	require.Same(t, first, table.Get(3))
	require.Same(t, first, table.Add(3))
}

func TestTable_FarNumbersCostLittle(t *testing.T) {
	var table Table[int]
	*table.Add(math.MaxUint) = 1
	require.Nil(t, table.pages.Load(), "they go into the map")
	table.Drop(math.MaxUint)
	require.Empty(t, table.sparse)
	require.Nil(t, table.Get(math.MaxUint))
}

// Readers of other numbers see a consistent table while it grows.
func TestTable_GetWhileAdding(t *testing.T) {
	var table Table[int]
	*table.Add(7) = 42
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if *table.Get(7) != 42 {
					t.Error("the element has moved")
					return
				}
				table.Get(50 * pageSize)
			}
		})
	}
	for fd := uintptr(0); fd < 100*pageSize; fd += pageSize {
		table.Add(fd)
	}
	close(done)
}

func TestTable_InitGivesTheFirstValue(t *testing.T) {
	table := Table[uintptr]{Init: func(fd uintptr, e *uintptr) { *e = fd }}
	for _, fd := range []uintptr{0, 511, 512, 100_000, Dense, math.MaxUint} {
		require.Equal(t, fd, *table.Add(fd))
	}
	table.All(func(fd uintptr, e *uintptr) { require.Equal(t, fd, *e) })
}
