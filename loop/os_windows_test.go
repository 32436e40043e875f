package loop_test

import (
	"net"
	"testing"
)

// sendUrgent does without: Wine does not report urgent data.
func sendUrgent(testing.TB, *net.TCPConn) {}
