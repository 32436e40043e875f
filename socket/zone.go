//go:build unix || windows

package socket

import (
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// zones translates between the zones of IPv6 addresses and the indexes of network
// interfaces. Asking the system takes long, so the answer is cached, as in package net.
var zones zoneCache

type zoneCache struct {
	mu      sync.RWMutex
	fetched time.Time
	indexes map[string]uint32
	names   map[uint32]string
}

// zoneCacheTTL is how long an answer of the system is used.
const zoneCacheTTL = time.Minute

// index returns the index of the zone; 0 if it has none.
func (z *zoneCache) index(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if n, ok := lookUp(z, &z.indexes, zone); ok {
		return n
	}
	n, _ := strconv.ParseUint(zone, 10, 32)
	return uint32(n)
}

// withZone returns the address a in the zone with the given index.
func (z *zoneCache) withZone(a netip.Addr, index uint32) netip.Addr {
	if index == 0 || !a.Is6() {
		return a
	}
	if name, ok := lookUp(z, &z.names, index); ok {
		return a.WithZone(name)
	}
	return a.WithZone(strconv.FormatUint(uint64(index), 10))
}

// lookUp looks in one of the maps, and asks the system first when the maps are old.
func lookUp[K comparable, V any](z *zoneCache, in *map[K]V, key K) (V, bool) {
	z.mu.RLock()
	value, ok := (*in)[key]
	old := time.Since(z.fetched) > zoneCacheTTL
	z.mu.RUnlock()
	if !old {
		return value, ok
	}
	z.fetch()
	z.mu.RLock()
	defer z.mu.RUnlock()
	value, ok = (*in)[key]
	return value, ok
}

func (z *zoneCache) fetch() {
	interfaces, _ := net.Interfaces() // on failure none: zones are then shown as numbers
	z.mu.Lock()
	defer z.mu.Unlock()
	z.fetched = time.Now()
	z.indexes, z.names = make(map[string]uint32), make(map[uint32]string)
	for _, i := range interfaces {
		z.indexes[i.Name], z.names[uint32(i.Index)] = uint32(i.Index), i.Name
	}
}
