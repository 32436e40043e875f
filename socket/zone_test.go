//go:build unix || windows

package socket

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An interface that was created after the last answer of the system is found at once.
// contract: N5
func TestZones_NewInterface(t *testing.T) {
	interfaces, err := net.Interfaces()
	require.NoError(t, err)
	require.NotEmpty(t, interfaces)
	i := interfaces[0]
	before := func() *zoneCache { return &zoneCache{fetched: time.Now()} } // asked when there was none
	require.Equal(t, uint32(i.Index), before().index(i.Name))
	address := netip.MustParseAddr("fe80::1")
	require.Equal(t, address.WithZone(i.Name), before().withZone(address, uint32(i.Index)))
}

// A zone that does not exist stays a number. A number is not a reason to ask the system.
// contract: N5
func TestZones_Unknown(t *testing.T) {
	z := &zoneCache{fetched: time.Now()}
	require.Equal(t, uint32(4_000_000_000), z.index("4000000000"))
	require.Empty(t, z.names, "the system was asked")
	require.Zero(t, z.index("no such interface"))
	address := netip.MustParseAddr("fe80::1")
	require.Equal(t, address.WithZone("4000000000"), z.withZone(address, 4_000_000_000))
}
