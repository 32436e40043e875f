package socket_test

import (
	"errors"
	"math"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"
)

// contract: N9
func TestOptions_KeepAliveTimes(t *testing.T) {
	guard(t, "N9: SetKeepAliveConfig rounds up to seconds; zero means the default, negative means unchanged")
	a, _ := connected(t, "tcp4", "127.0.0.1:0")
	err := a.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 7001 * time.Millisecond, Interval: 3 * time.Second, Count: 4})
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("old Windows, or Wine: %v", err)
	}
	require.NoError(t, err)
	get := func() [3]int {
		return [3]int{
			option(t, a, windows.IPPROTO_TCP, windows.TCP_KEEPIDLE),
			option(t, a, windows.IPPROTO_TCP, windows.TCP_KEEPINTVL),
			option(t, a, windows.IPPROTO_TCP, windows.TCP_KEEPCNT),
		}
	}
	require.Equal(t, [3]int{8, 3, 4}, get())
	require.NoError(t, a.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}))
	require.Equal(t, [3]int{8, 3, 4}, get())
	require.NoError(t, a.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true}))
	require.Equal(t, [3]int{15, 15, 9}, get())
}

// contract: N2, N9
func TestOptions_Linger(t *testing.T) {
	guard(t, "N9: SetLinger: below 0 off, otherwise on with that time, which has 16 bits")
	a, _ := connected(t, "tcp4", "127.0.0.1:0")
	for _, c := range [][2]int{{-1, -1}, {0, 0}, {7, 7}, {-3, -1}, {1 << 16, math.MaxUint16}} {
		require.NoError(t, a.SetLinger(c[0]))
		linger := option(t, a, windows.SOL_SOCKET, windows.SO_LINGER)
		require.Equal(t, c[1] >= 0, linger&math.MaxUint16 != 0, "on")
		if c[1] >= 0 {
			require.Equal(t, c[1], linger>>16&math.MaxUint16)
		}
	}
}
