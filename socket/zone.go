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
	failed  bool // the system has not answered
	indexes map[string]uint32
	names   map[uint32]string
}

// zoneCacheTTL is how long an answer of the system is used.
const zoneCacheTTL = time.Minute

// index returns the index of the zone, which may be given as a number; 0 if it has none.
func (z *zoneCache) index(zone string) uint32 {
	if zone == "" {
		return 0
	}
	number, err := strconv.ParseUint(zone, 10, 32)
	if n, ok := lookUp(z, &z.indexes, zone, err != nil); ok {
		return n
	}
	return uint32(number)
}

// withZone returns the address a in the zone with the given index.
func (z *zoneCache) withZone(a netip.Addr, index uint32) netip.Addr {
	if index == 0 || !a.Is6() {
		return a
	}
	if name, ok := lookUp(z, &z.names, index, true); ok {
		return a.WithZone(name)
	}
	return a.WithZone(strconv.FormatUint(uint64(index), 10))
}

// lookUp looks in one of the maps. It asks the system again when the maps are old, and, if
// retry is set, when they lack the key: the interface may be new.
func lookUp[K comparable, V any](z *zoneCache, in *map[K]V, key K, retry bool) (V, bool) {
	z.mu.RLock()
	value, ok := (*in)[key]
	old := time.Since(z.fetched) > zoneCacheTTL
	retry = retry && !ok && !z.failed
	z.mu.RUnlock()
	if !old && !retry {
		return value, ok
	}
	z.fetch()
	z.mu.RLock()
	defer z.mu.RUnlock()
	value, ok = (*in)[key]
	return value, ok
}

func (z *zoneCache) fetch() {
	interfaces, err := net.Interfaces() // on failure none: zones are then shown as numbers
	z.mu.Lock()
	defer z.mu.Unlock()
	z.fetched, z.failed = time.Now(), err != nil
	z.indexes, z.names = make(map[string]uint32), make(map[uint32]string)
	for _, i := range interfaces {
		z.indexes[i.Name], z.names[uint32(i.Index)] = uint32(i.Index), i.Name
	}
}
