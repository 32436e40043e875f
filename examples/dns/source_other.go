//go:build !linux

package main

import "github.com/epore/epore/socket"

// reportDestination does nothing: the control data of other systems has another form for
// writing than for reading. So the system chooses the address that an answer comes from.
func reportDestination(*socket.PacketConn, bool) (size int, err error) { return 0, nil }
