// Package byfd is a table of what is known of each descriptor.
package byfd

// Table has an element for each descriptor that was ever in it. Elements do not
// move. Descriptors are small numbers, so it is an array, in pages that are made when
// they are needed.
type Table[T any] struct{ pages []*[page]T }

const page = 512

// Get returns the element of fd, or nil if it never had one.
func (t *Table[T]) Get(fd uint32) *T {
	if p := int(fd / page); p < len(t.pages) && t.pages[p] != nil {
		return &t.pages[p][fd%page]
	}
	return nil
}

// Add is Get that makes it. fd is open, so there is a limit to it.
func (t *Table[T]) Add(fd uint32) *T {
	p := int(fd / page)
	if p >= len(t.pages) {
		t.pages = append(t.pages, make([]*[page]T, p+1-len(t.pages))...)
	}
	if t.pages[p] == nil {
		t.pages[p] = new([page]T)
	}
	return &t.pages[p][fd%page]
}

// All calls do for all elements, those too that were only made with their page.
func (t *Table[T]) All(do func(fd uint32, element *T)) {
	for p, elements := range t.pages {
		if elements == nil {
			continue
		}
		for i := range elements {
			do(uint32(p*page+i), &elements[i])
		}
	}
}
