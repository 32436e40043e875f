package socket

// RelaysInUse is how many Conns have bytes that they had no room for.
func RelaysInUse() int {
	pendings.mu.Lock()
	defer pendings.mu.Unlock()
	return len(pendings.of)
}
