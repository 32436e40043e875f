package loop_test

import (
	"net"
	"testing"
)

// sendUrgent does without: Wine does not tell of urgent data.
func sendUrgent(testing.TB, *net.TCPConn) {}
