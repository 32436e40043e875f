//go:build !portable

package socket_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/internal/fixture"
)

// A reset socket has no peer any more, as far as getpeername(2) knows.
// contract: E1
func TestConn_ErrorAfterResetNamesBothEnds(t *testing.T) {
	for name, at := range map[string][2]string{
		"IPv4":         {"127.0.0.1:0", "127.0.0.1"},
		"IPv6":         {"[::1]:0", "::1"},
		"IPv4 on IPv6": {":0", "127.0.0.1"},
	} {
		for _, side := range []string{"dialed", "accepted"} {
			t.Run(name+", "+side, func(t *testing.T) {
				guard(t, "E1: an error says what was attempted on what")
				l := listen(t, "tcp", at[0])
				c := dial(t, "tcp", net.JoinHostPort(at[1], fmt.Sprint(l.Addr().(*net.TCPAddr).Port)))
				peer := accept(t, l)
				awaitWritable(t, c)
				require.NoError(t, c.ConnectError())
				if side == "accepted" {
					c, peer = peer, c
				}
				names := " tcp " + c.LocalAddr().String() + "->" + c.RemoteAddr().String() + ": "
				require.NoError(t, peer.SetLinger(0))
				require.NoError(t, peer.Close())
				awaitReadable(t, c)
				_, err := c.Read(make([]byte, 1))
				require.ErrorIs(t, err, fixture.WasReset)
				require.ErrorContains(t, err, "read"+names)
				_, err = c.Write([]byte("x"))
				require.ErrorContains(t, err, "write"+names)
			})
		}
	}
}
