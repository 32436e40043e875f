//go:build unix || windows

package loop_test

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/sim"
)

// simTLS returns the settings of both sides. In a bubble it is the year 2000, in which the
// certificate is not valid yet.
func simTLS(seed uint64) (server, client *tls.Config) {
	valid := time.Now()
	server, client = serverTLS(), clientTLS()
	client.Time = func() time.Time { return valid }
	if seed%2 == 1 {
		client.MaxVersion = tls.VersionTLS12
	}
	return server, client
}

// Over TLS, the same holds as without, and more: what is cut off never looks complete. The
// random numbers of crypto/tls do not come from the seed, and signatures vary in length, so the
// trace of a run does not repeat: a failure may need several runs of its seed. The seed still
// repeats the faults, the data, and when the server dies. The coroutines of handshakes do not
// matter: one runs inside a turn of its loop, and never concurrently with it.
func TestSim_TLS(t *testing.T) {
	configs := [2][2]*tls.Config{} // made outside of a bubble
	for i := range configs {
		configs[i][0], configs[i][1] = simTLS(uint64(i))
	}
	sim.Explore(t, fixture.Seeds(20), func(t *testing.T, w *sim.World) {
		c := configs[w.Seed()%2]
		hostileWorld(t, w, c[0], c[1])
	})
}
