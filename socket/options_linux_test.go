package socket_test

import (
	"math"
	"net"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// contract: N9
func TestOptions_KeepAliveTimes(t *testing.T) {
	guard(t, "N9: SetKeepAliveConfig rounds up to seconds; zero means the default, negative means unchanged")
	a, _ := connected(t, "tcp4", "127.0.0.1:0")
	require.NoError(t, a.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 7001 * time.Millisecond, Interval: 3 * time.Second, Count: 4}))
	get := func() [3]int {
		return [3]int{
			option(t, a, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE),
			option(t, a, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL),
			option(t, a, unix.IPPROTO_TCP, unix.TCP_KEEPCNT),
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
	guard(t, "N9: SetLinger: below 0 off, otherwise on with that time")
	a, _ := connected(t, "tcp4", "127.0.0.1:0")
	for _, seconds := range []int{-1, 0, 7, -3, math.MaxInt} {
		require.NoError(t, a.SetLinger(seconds))
		var l unix.Linger
		size := uint32(unsafe.Sizeof(l))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(descriptor(t, a)), unix.SOL_SOCKET, unix.SO_LINGER,
			uintptr(unsafe.Pointer(&l)), uintptr(unsafe.Pointer(&size)), 0)
		require.Zero(t, errno)
		require.Equal(t, seconds >= 0, l.Onoff != 0)
		if seconds >= 0 {
			require.GreaterOrEqual(t, int(l.Linger), min(seconds, 1_000_000), "32-bit kernels limit it")
			require.LessOrEqual(t, int(l.Linger), seconds)
		}
	}
}
