//go:build unix

package conformance_test

import (
	"math"
	"testing"

	"github.com/epore/epore/internal/fixture"
)

var kinds = []*kind{
	{name: "Unix stream", of: fixture.Pair, reads: true, writes: true, halves: true, fills: true, most: 20},
	{name: "TCP", of: promptTCP, reads: true, writes: true, halves: true, travels: true, most: math.MaxInt},
	{name: "Unix datagram", of: fixture.DatagramPair, reads: true, writes: true, fills: true, most: 4},
	{name: "pipe to read", of: fixture.Pipe, reads: true},
	{name: "pipe to write", of: func(t testing.TB) (here, there *fixture.End) {
		there, here = fixture.Pipe(t)
		return here, there
	}, writes: true, fills: true, most: 20},
}

// Those of the sequences that are not random: of a connection, of TCP, and another.
var kindStream, kindTCP, kindOther = kinds[0], kinds[1], kinds[3]
