package sharedfd

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
)

// fakePoll counts the calls of Deregister.
type fakePoll struct {
	closed       bool
	deregistered int
}

func (p *fakePoll) Deregister(backend.Handle) error             { p.deregistered++; return nil }
func (p *fakePoll) WouldBlock(backend.Handle, backend.Interest) {}
func (p *fakePoll) Closed() bool                                { return p.closed }

// attach does what a Poll does.
func attach(d *Descriptor, p Poll) (open bool) {
	defer d.Unlock()
	if open = d.Lock(); open {
		d.Attach(p)
	}
	return open
}

func detach(d *Descriptor, p Poll) {
	d.Lock()
	defer d.Unlock()
	d.Detach(p)
}

func polls(d *Descriptor) (list []Poll) {
	if d.poll != nil {
		list = append(list, d.poll)
	}
	if d.more != nil {
		list = append(list, *d.more...)
	}
	return list
}

// A descriptor records each Poll that watches it once, and keeps no other Poll alive.
func TestDescriptor_RecordsItsPolls(t *testing.T) {
	var d Descriptor
	d.Open(1 << 20) // a number that is not in use
	a, b, c := new(fakePoll), new(fakePoll), new(fakePoll)
	for range 2 {
		for _, p := range []Poll{a, b, c} {
			require.True(t, attach(&d, p))
		}
	}
	require.Equal(t, []Poll{a, b, c}, polls(&d))
	detach(&d, a)
	require.True(t, attach(&d, c), "it becomes the first one")
	require.Len(t, polls(&d), 2)
	detach(&d, c)
	detach(&d, c)
	require.Equal(t, []Poll{b}, polls(&d))
	b.closed = true
	require.True(t, attach(&d, a))
	e := &fakePoll{closed: true}
	require.True(t, attach(&d, e))
	require.True(t, attach(&d, c))
	require.NotContains(t, polls(&d), Poll(e), "closed Polls are removed when another is attached")

	closed, _ := d.Close()
	require.True(t, closed)
	require.Empty(t, polls(&d))
	require.Equal(t, []int{1, 0, 1}, []int{a.deregistered, e.deregistered, c.deregistered})
	require.False(t, attach(&d, a))
	require.Empty(t, polls(&d))
}
