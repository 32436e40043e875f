// Package fdtable provides a table indexed by descriptor number.
package fdtable

import "sync/atomic"

// Table holds one element of type T for each descriptor number that was added.
// Elements never move, and start as zero values. The zero Table is empty and ready
// to use.
//
// Descriptors are small numbers, so the table is an array of pages that are
// allocated on first use. Numbers from [Dense] on, which only a Windows handle or a
// caller's mistake can have, go into a map.
//
// Callers serialize Add, Drop and All. Get of a number below Dense may run
// concurrently with them.
type Table[T any] struct {
	// Init, if set, gives a new element its first value, instead of zero.
	Init func(fd uintptr, e *T)

	pages  atomic.Pointer[[]*[pageSize]T]
	sparse map[uintptr]*T
}

const (
	pageSize = 512
	// Dense is the first number that is not stored in a page.
	Dense = 1 << 26
)

// Get returns the element of fd, or nil if its page was never added.
func (t *Table[T]) Get(fd uintptr) *T {
	if fd >= Dense {
		return t.sparse[fd]
	}
	pages := t.pages.Load()
	if pages == nil || fd/pageSize >= uintptr(len(*pages)) {
		return nil
	}
	page := (*pages)[fd/pageSize]
	if page == nil {
		return nil
	}
	return &page[fd%pageSize]
}

// Add returns the element of fd, and makes its page if there is none.
func (t *Table[T]) Add(fd uintptr) *T {
	if e := t.Get(fd); e != nil {
		return e
	}
	if fd >= Dense {
		if t.sparse == nil {
			t.sparse = make(map[uintptr]*T)
		}
		e := new(T)
		if t.Init != nil {
			t.Init(fd, e)
		}
		t.sparse[fd] = e
		return e
	}
	// The directory of pages is replaced, not changed, because Get reads it without a lock.
	var old []*[pageSize]T
	if pages := t.pages.Load(); pages != nil {
		old = *pages
	}
	pages := make([]*[pageSize]T, max(len(old), int(fd/pageSize)+1))
	copy(pages, old)
	page := new([pageSize]T)
	if t.Init != nil {
		for i := range page {
			t.Init(fd-fd%pageSize+uintptr(i), &page[i])
		}
	}
	pages[fd/pageSize] = page
	t.pages.Store(&pages)
	return &page[fd%pageSize]
}

// Drop sets the element of fd, if there is one, back to its zero value.
func (t *Table[T]) Drop(fd uintptr) {
	if fd >= Dense {
		delete(t.sparse, fd)
		return
	}
	if e := t.Get(fd); e != nil {
		var zero T
		*e = zero
	}
}

// All calls do for each element, including those that merely share a page with one
// that was added.
func (t *Table[T]) All(do func(fd uintptr, element *T)) {
	if pages := t.pages.Load(); pages != nil {
		for p, page := range *pages {
			if page == nil {
				continue
			}
			for i := range page {
				do(uintptr(p*pageSize+i), &page[i])
			}
		}
	}
	for fd, e := range t.sparse {
		do(fd, e)
	}
}
