package conformance_test

import (
	"math"

	"github.com/epore/epore/internal/fixture"
)

var kinds = []*kind{
	{name: "TCP", of: promptTCP, reads: true, writes: true, halves: true, travels: true, most: math.MaxInt},
	{name: "UDP", of: fixture.DatagramPair, reads: true, writes: true, most: math.MaxInt},
}

// Those of the sequences that are not random: of a connection, of TCP, and another.
var kindStream, kindTCP, kindOther = kinds[0], kinds[0], kinds[1]
