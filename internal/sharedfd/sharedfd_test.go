package sharedfd

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/backend"
)

// fakePoll counts what it is asked.
type fakePoll struct {
	closed       bool
	deregistered int
}

func (p *fakePoll) Deregister(backend.Handle) error             { p.deregistered++; return nil }
func (p *fakePoll) WouldBlock(backend.Handle, backend.Interest) {}
func (p *fakePoll) Closed() bool                                { return p.closed }
func polls(d *Descriptor) (list []Poll) {
	if d.poll != nil {
		list = append(list, d.poll)
	}
	if d.more != nil {
		list = append(list, *d.more...)
	}
	return list
}

// A descriptor knows the Polls that watch it, each once, and keeps no other alive.
func TestADescriptorKnowsItsPolls(t *testing.T) {
	var d Descriptor
	d.Open(1 << 20) // a number that nobody has
	a, b, c := new(fakePoll), new(fakePoll), new(fakePoll)
	for range 2 {
		for _, p := range []Poll{a, b, c} {
			require.True(t, d.Attach(p))
		}
	}
	require.Equal(t, []Poll{a, b, c}, polls(&d))
	d.Detach(a)
	require.True(t, d.Attach(c), "now as the first one")
	require.Len(t, polls(&d), 2)
	d.Detach(c)
	d.Detach(c)
	require.Equal(t, []Poll{b}, polls(&d))
	b.closed = true
	require.True(t, d.Attach(a))
	e := &fakePoll{closed: true}
	require.True(t, d.Attach(e))
	require.True(t, d.Attach(c))
	require.NotContains(t, polls(&d), Poll(e), "closed ones are forgotten when another comes")

	closed, _ := d.Close()
	require.True(t, closed)
	require.Empty(t, polls(&d))
	require.Equal(t, []int{1, 0, 1}, []int{a.deregistered, e.deregistered, c.deregistered})
	require.False(t, d.Attach(a))
	require.Empty(t, polls(&d))
}
