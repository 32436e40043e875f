package epore

import "sync/atomic"

// crowd counts registrations. While the runtime's poller watches the queue, each of them is
// more expensive, and on Linux all Polls of the machine that register at the same time wait
// for one another. So a Poll that gets many registrations without parking in between detaches
// from the runtime's poller at its next Poll, and attaches again when it parks.
type crowd struct {
	parks  atomic.Uint32 // counts the waiter's parks
	detach atomic.Bool   // the waiter should detach

	// What follows is under the table's lock.

	registered int    // since the last park
	parksSeen  uint32 // the value of parks at the last registration
}

// crowded is the number of registrations without a park that makes detaching worthwhile.
// Detaching and attaching again take about as long as attached registrations cost extra for
// 40 registrations.
const crowded = 64

// count counts a registration. It requires the table's lock.
func (c *crowd) count() {
	if parks := c.parks.Load(); parks != c.parksSeen {
		c.parksSeen, c.registered = parks, 0
	}
	if c.registered++; c.registered == crowded {
		c.detach.Store(true)
	}
}
