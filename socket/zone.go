//go:build unix || windows

package socket

import (
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// zones translates between the zones of IPv6 addresses and the numbers of network
// interfaces. To ask the system for that takes long, so the answer is kept for a while,
// as package net does.
var zones zoneCache

type zoneCache struct {
	mu      sync.RWMutex
	fetched time.Time
	numbers map[string]uint32
	names   map[uint32]string
}

const zonesStayFor = time.Minute

// index is the number of the zone; 0: there is none.
func (z *zoneCache) index(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if n, ok := lookUp(z, &z.numbers, zone); ok {
		return n
	}
	n, _ := strconv.ParseUint(zone, 10, 32)
	return uint32(n)
}

// named is the address in the zone of that number.
func (z *zoneCache) named(a netip.Addr, index uint32) netip.Addr {
	if index == 0 || !a.Is6() {
		return a
	}
	if name, ok := lookUp(z, &z.names, index); ok {
		return a.WithZone(name)
	}
	return a.WithZone(strconv.FormatUint(uint64(index), 10))
}

// lookUp looks into one of the maps, and asks the system when they are old.
func lookUp[K comparable, V any](z *zoneCache, in *map[K]V, key K) (V, bool) {
	z.mu.RLock()
	value, ok := (*in)[key]
	old := time.Since(z.fetched) > zonesStayFor
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
	interfaces, _ := net.Interfaces() // none, if it fails: then the numbers stand
	z.mu.Lock()
	defer z.mu.Unlock()
	z.fetched = time.Now()
	z.numbers, z.names = make(map[string]uint32), make(map[uint32]string)
	for _, i := range interfaces {
		z.numbers[i.Name], z.names[uint32(i.Index)] = uint32(i.Index), i.Name
	}
}
