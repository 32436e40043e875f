package conformance_test

import (
	"math/rand/v2"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

// soakPair makes two connected sockets.
func soakPair(*rand.Rand) (here, there link, source epore.Source, bare bool, err error) {
	a, b, err := socket.Pair()
	return a, b, a, false, err
}
