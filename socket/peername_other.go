//go:build !linux || portable

package socket

import "net"

// lostPeer would return the address of the peer of a connection that was reset. These systems do
// not report it.
func lostPeer(*base, handle) net.Addr { return nil }
