//go:build windows

package iocp

import (
	"fmt"
	"math/bits"
	"unsafe"

	"golang.org/x/sys/windows"
)

// slot is the memory of a request that the kernel writes to, at any time until the
// request's packet has come. It is not Go's: nothing in it moves or is collected.
type slot struct {
	status statusBlock
	poll   afdPoll
	_      [slotSize - unsafe.Sizeof(statusBlock{}) - unsafe.Sizeof(afdPoll{})]byte
}

const slotSize = 64

// request is a poll of AFD. It is in use from take to the coming of its packet, also
// when it was cancelled before.
type request struct {
	slot    *slot
	group   *group
	number  uint32
	turn    uint32 // how often it was used: part of the context
	sock    *sock
	pending bool // its packet has not come
	ended   bool // cancelled by us: the packet's news are old
	closed  bool // the packet said that the socket is closed
}

// group is a page of slots and a helper handle. Groups are small because cancelling a
// request takes a walk over all of its handle.
type group struct {
	afd      windows.Handle
	memory   uintptr
	requests [groupSize]request
	free     uint64 // a bit for each
}

const (
	groupSize = 64
	groupFree = 1<<groupSize - 1
)

// The context of a request, which its packet brings back, is its number and its turn.
// It may not be zero.
const (
	wordBits = 8 * unsafe.Sizeof(uintptr(0))
	turnBits = 12 + (wordBits-32)*5/8 // 12 or 32
	turnMask = 1<<turnBits - 1
	maximum  = 1<<(wordBits-turnBits) - 2
)

func (r *request) context() uintptr {
	return uintptr(r.number+1)<<turnBits | uintptr(r.turn)&turnMask
}

// requests are all requests of a queue.
type requests struct {
	port   windows.Handle
	groups []*group // nil: given back
	roomy  int      // below it, all groups are full
	spare  int      // groups without a request in use: one is kept
}

// take returns a request that is not in use.
func (q *requests) take() (*request, error) {
	i := q.roomy
	for i < len(q.groups) && (q.groups[i] == nil || q.groups[i].free == 0) {
		i++
	}
	q.roomy = i
	if i == len(q.groups) {
		if i = q.place(); uint64(i)*groupSize+groupSize > maximum {
			return nil, fmt.Errorf("%d requests are as many as there can be: %w", maximum, windows.ERROR_NO_SYSTEM_RESOURCES)
		}
		g, err := newGroup(q.port, uint32(i))
		if err != nil {
			return nil, err
		}
		if i == len(q.groups) {
			q.groups = append(q.groups, nil)
		}
		q.groups[i], q.roomy = g, i
		q.spare++
	}
	g := q.groups[i]
	if g.free == groupFree {
		q.spare--
	}
	n := bits.TrailingZeros64(g.free)
	g.free &^= 1 << n
	return &g.requests[n], nil
}

// place is where the next group goes.
func (q *requests) place() int {
	for i, g := range q.groups {
		if g == nil {
			return i
		}
	}
	return len(q.groups)
}

// give ends the use of r.
func (q *requests) give(r *request) {
	g, i := r.group, int(r.number/groupSize)
	r.sock = nil
	g.free |= 1 << (r.number % groupSize)
	q.roomy = min(q.roomy, i)
	if g.free != groupFree {
		return
	}
	if q.spare++; q.spare > 1 {
		q.spare--
		q.groups[i] = nil
		g.release()
	}
}

// find returns the request that a packet is of.
func (q *requests) find(context uintptr) *request {
	number := uint32(context>>turnBits) - 1
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

// release gives back what no request uses, and returns how many are in use still:
// their groups are not given back, since the kernel may write to them.
func (q *requests) release() (used int) {
	for i, g := range q.groups {
		switch {
		case g == nil:
		case g.free == groupFree:
			g.release()
			q.groups[i] = nil
		default:
			used += groupSize - bits.OnesCount64(g.free)
		}
	}
	return used
}

// newGroup opens a helper handle on the port.
func newGroup(port windows.Handle, i uint32) (*group, error) {
	afd, err := openAFD()
	if err != nil {
		return nil, err
	}
	g := &group{afd: afd, free: groupFree}
	if _, err := windows.CreateIoCompletionPort(afd, port, keyPoll, 0); err != nil {
		_ = windows.CloseHandle(afd)
		return nil, fmt.Errorf("associate a helper handle with the port: %w", err)
	}
	// Nobody waits for the handle itself: not to signal it saves the kernel work.
	_ = windows.SetFileCompletionNotificationModes(afd, windows.FILE_SKIP_SET_EVENT_ON_HANDLE)
	g.memory, err = windows.VirtualAlloc(0, groupSize*slotSize, windows.MEM_RESERVE|windows.MEM_COMMIT, windows.PAGE_READWRITE)
	if err != nil {
		_ = windows.CloseHandle(afd)
		return nil, fmt.Errorf("memory for requests: %w", err)
	}
	// The address of memory that is not Go's, made a pointer.
	slots := *(**[groupSize]slot)(unsafe.Pointer(&g.memory))
	for n := range g.requests {
		g.requests[n] = request{slot: &slots[n], group: g, number: i*groupSize + uint32(n)}
	}
	return g, nil
}

// release gives back the handle and the memory.
func (g *group) release() {
	_ = windows.CloseHandle(g.afd)
	_ = windows.VirtualFree(g.memory, 0, windows.MEM_RELEASE)
}
