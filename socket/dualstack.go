package socket

import "sync/atomic"

// hasDualStack caches that the system has sockets for both IPv6 and IPv4.
var hasDualStack atomic.Bool

// dualStack reports whether a socket can listen for both IPv6 and IPv4. Only "yes" is cached:
// "no" may change, when IPv6 is enabled, and an error passes.
func dualStack() (bool, error) {
	if hasDualStack.Load() {
		return true, nil
	}
	has, err := probeDualStack()
	if has {
		hasDualStack.Store(true)
	}
	return has, err
}
