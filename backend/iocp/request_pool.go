//go:build windows

package iocp

import (
	"fmt"
	"math/bits"
	"unsafe"

	"golang.org/x/sys/windows"
)

// slot is the part of a request that the kernel writes to, at any time until the
// request's packet has come. It lies outside Go's heap, so it never moves and is never
// collected.
type slot struct {
	status statusBlock
	poll   afdPoll
	_      [slotSize - unsafe.Sizeof(statusBlock{}) - unsafe.Sizeof(afdPoll{})]byte
}

const slotSize = 64

// request is a poll of AFD. It stays in use until its packet has come, also if it was
// canceled before.
type request struct {
	slot       *slot
	group      *group
	number     uint32
	generation uint32 // how often it was used: part of the context
	source     *source
	pending    bool // its packet has not come
	canceled   bool // by cancel, which ignores the events in its packet
	closed     bool // its packet said that the socket is closed
}

// group is a page of slots and a helper handle. Groups are small because the kernel
// cancels a request by walking over all requests of its handle.
type group struct {
	afd      windows.Handle
	slots    *[groupSize]slot
	requests [groupSize]request
	free     uint64 // a bit for each request that is not in use
}

const (
	groupSize = 64
	groupFree = 1<<groupSize - 1
)

// The context of a request, which its packet carries, is made of its number and its
// generation. Zero is not allowed.
const (
	wordBits       = 8 * unsafe.Sizeof(uintptr(0))
	generationBits = 12 + (wordBits-32)*5/8 // 12 or 32
	generationMask = 1<<generationBits - 1
	maxRequests    = 1<<(wordBits-generationBits) - 2
)

func (r *request) context() uintptr {
	return uintptr(r.number+1)<<generationBits | uintptr(r.generation)&generationMask
}

// requestPool has all requests of a queue, in groups.
type requestPool struct {
	port        windows.Handle
	groups      []*group // nil where a group was released
	chunks      []chunk  // memory of the groups, chunkGroups each
	firstFree   int      // all groups before this one are full
	emptyGroups int      // groups without a request in use; at most one is kept
}

// get returns a request that is not in use.
func (q *requestPool) get() (*request, error) {
	i := q.firstFree
	for i < len(q.groups) && (q.groups[i] == nil || q.groups[i].free == 0) {
		i++
	}
	q.firstFree = i
	if i == len(q.groups) {
		if i = q.freeIndex(); uint64(i)*groupSize+groupSize > maxRequests {
			return nil, fmt.Errorf("limit of %d requests to AFD reached: %w", maxRequests, windows.ERROR_NO_SYSTEM_RESOURCES)
		}
		g, err := q.newGroup(i)
		if err != nil {
			return nil, err
		}
		if i == len(q.groups) {
			q.groups = append(q.groups, nil)
		}
		q.groups[i], q.firstFree = g, i
		q.emptyGroups++
	}
	g := q.groups[i]
	if g.free == groupFree {
		q.emptyGroups--
	}
	n := bits.TrailingZeros64(g.free)
	g.free &^= 1 << n
	return &g.requests[n], nil
}

// freeIndex returns the index for the next group.
func (q *requestPool) freeIndex() int {
	for i, g := range q.groups {
		if g == nil {
			return i
		}
	}
	return len(q.groups)
}

// put ends the use of r.
func (q *requestPool) put(r *request) {
	g, i := r.group, int(r.number/groupSize)
	r.source = nil
	g.free |= 1 << (r.number % groupSize)
	q.firstFree = min(q.firstFree, i)
	if g.free != groupFree {
		return
	}
	if q.emptyGroups++; q.emptyGroups > 1 {
		q.emptyGroups--
		q.drop(i)
	}
}

// find returns the request that a packet belongs to, or nil if there is none.
func (q *requestPool) find(context uintptr) *request {
	number := uint32(context>>generationBits) - 1
	i := int(number / groupSize)
	if i >= len(q.groups) || q.groups[i] == nil {
		return nil
	}
	r := &q.groups[i].requests[number%groupSize]
	if !r.pending || r.context() != context {
		return nil
	}
	return r
}

// release frees the groups without requests in use. It returns how many requests are in
// use: their groups remain, because the kernel may write to them.
func (q *requestPool) release() (used int) {
	for i, g := range q.groups {
		switch {
		case g == nil:
		case g.free == groupFree:
			q.drop(i)
		default:
			used += groupSize - bits.OnesCount64(g.free)
		}
	}
	return used
}

// newGroup returns the group with index i: a helper handle that is associated with the
// port, and memory for its requests.
func (q *requestPool) newGroup(i int) (*group, error) {
	afd, err := openAFD()
	if err != nil {
		return nil, err
	}
	if _, err := windows.CreateIoCompletionPort(afd, q.port, keyPoll, 0); err != nil {
		_ = windows.CloseHandle(afd)
		return nil, fmt.Errorf("associate a helper handle with the port: %w", err)
	}
	// Nothing waits for the handle itself, so the kernel need not signal it.
	_ = windows.SetFileCompletionNotificationModes(afd, windows.FILE_SKIP_SET_EVENT_ON_HANDLE)
	slots, err := q.commit(i)
	if err != nil {
		_ = windows.CloseHandle(afd)
		return nil, fmt.Errorf("memory for requests: %w", err)
	}
	g := &group{afd: afd, slots: slots, free: groupFree}
	for n := range g.requests {
		g.requests[n] = request{slot: &slots[n], group: g, number: uint32(i*groupSize + n)}
	}
	return g, nil
}

// drop closes the helper handle of group i and frees its memory.
func (q *requestPool) drop(i int) {
	_ = windows.CloseHandle(q.groups[i].afd)
	q.groups[i] = nil
	q.decommit(i)
}

// chunk is address space for the slots of chunkGroups groups, one page each. Windows
// reserves address space in units of 64 KiB, and 32-bit programs have only 2 GiB.
type chunk struct {
	memory uintptr // 0: none
	groups int     // how many groups have a page
}

const (
	pageSize    = groupSize * slotSize
	chunkGroups = 16
)

// commit returns the memory of group i.
func (q *requestPool) commit(i int) (*[groupSize]slot, error) {
	if i/chunkGroups == len(q.chunks) {
		q.chunks = append(q.chunks, chunk{})
	}
	c := &q.chunks[i/chunkGroups]
	if c.memory == 0 {
		memory, err := windows.VirtualAlloc(0, chunkGroups*pageSize, windows.MEM_RESERVE, windows.PAGE_NOACCESS)
		if err != nil {
			return nil, err
		}
		c.memory = memory
	}
	page, err := windows.VirtualAlloc(c.memory+uintptr(i%chunkGroups*pageSize), pageSize, windows.MEM_COMMIT, windows.PAGE_READWRITE)
	if err != nil {
		q.releaseUnused(c)
		return nil, err
	}
	c.groups++
	// A conversion from uintptr that go vet accepts: the memory is not Go's.
	return *(**[groupSize]slot)(unsafe.Pointer(&page)), nil
}

// decommit frees the memory of group i.
func (q *requestPool) decommit(i int) {
	c := &q.chunks[i/chunkGroups]
	_ = windows.VirtualFree(c.memory+uintptr(i%chunkGroups*pageSize), pageSize, windows.MEM_DECOMMIT)
	c.groups--
	q.releaseUnused(c)
}

// releaseUnused frees the address space of a chunk without groups.
func (q *requestPool) releaseUnused(c *chunk) {
	if c.groups == 0 {
		_ = windows.VirtualFree(c.memory, 0, windows.MEM_RELEASE)
		c.memory = 0
	}
}
