package slots

import (
	"math/bits"
	"sync/atomic"
)

// pages is an array of slots that grows without moving, so that readers need no lock.
// Page p has firstPage<<p slots.
type pages [32 - firstPageBits]atomic.Pointer[[]slot]

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

// at returns slot i, which must exist.
func (p *pages) at(i uint32) *slot {
	page, offset := place(i)
	return &(*p[page].Load())[offset]
}

// find returns slot i, or nil if it does not exist.
func (p *pages) find(i uint32) *slot {
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

// add returns slot i, and makes its page if there is none.
func (p *pages) add(i uint32) *slot {
	page, offset := place(i)
	if p[page].Load() == nil {
		slots := make([]slot, firstPage<<page)
		p[page].Store(&slots)
	}
	return &(*p[page].Load())[offset]
}
