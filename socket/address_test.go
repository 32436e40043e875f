//go:build unix

package socket_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/socket"
)

// Every address with a literal IP means the same as in package net: where to listen, and for
// datagrams where to send.
// contract: N5
func TestAddresses_DifferFromPackageNetNowhere(t *testing.T) {
	guard(t, "N5: addresses are those of package net with literal IPs")
	hosts := []string{
		"", "127.0.0.1", "127.0.0.2", "0.0.0.0", "1.2.3.4", "255.255.255.255", "127.1", "127.0.0.01", "127.0.0.256", "127.0.0.1%lo",
		"[::]", "[::1]", "[::2]", "[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[0:0:0:0:0:0:0:1]",
		"[::%lo]", "[::1%lo]", "[::1%1]", "[::1%]", "[::1%none]", "[::ffff:127.0.0.1%lo]", "[fe80::1]", "[fe80::1%lo]", "[fe80::1%none]",
		"[127.0.0.1]", "[0.0.0.0]", "[]", "::1", "::", "[::1", "::1]", "[[::1]]", "[::g]", "[1]",
	}
	ports := []string{"", ":", ":0", ":00", ":+0", ":-0", ":+", ":-", ":65535", ":65536", ":-1", ":4294967296", ":99999999999999999999", ":0x0", ":0:0", ": 0", ":0 ", ":1_0"}
	var addresses []string
	for _, host := range hosts {
		for _, port := range ports {
			addresses = append(addresses, host+port)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		b := []byte(addresses[random.IntN(len(addresses))] + " ")
		const letters = "0123456789:.[]%+-afl"
		b[random.IntN(len(b))] = letters[random.IntN(len(letters))]
		addresses = append(addresses, strings.TrimRight(string(b), " "))
	}
	compared := 0
	for _, address := range addresses {
		for _, network := range []string{"tcp", "tcp4", "tcp6", "udp", "udp4", "udp6"} {
			if !literal(address) {
				mustRefuse(t, network, address)
				continue
			}
			for _, op := range addressOperations {
				if op.of(network) && op.name != "Dial" && !incomparable(op.name, network, address) {
					compareAddress(t, op, network, address)
					compared++
				}
			}
		}
	}
	t.Logf("%d addresses compared", compared)
	require.Greater(t, compared, 2000)
}

// The names of Unix sockets mean the same as in package net.
// contract: N5
func TestAddresses_UnixNames(t *testing.T) {
	guard(t, "N5: names of Unix sockets are those of package net")
	need(t, "unix")
	dir := strings.TrimSuffix(socketPath(t), "s")
	names := []string{"", dir}
	for length := 100; length <= 112; length++ {
		names = append(names, dir+strings.Repeat("x", length-len(dir)))
		if runtime.GOOS == "linux" {
			names = append(names, "@"+strings.Repeat("x", length-1), "\x00"+strings.Repeat("y", length-1))
		}
	}
	if runtime.GOOS == "linux" {
		unique := fmt.Sprint(os.Getpid())
		names = append(names, "@", "@"+unique, "\x00"+unique, "@"+unique+"\x00b", "@@"+unique)
	}
	for _, name := range names {
		for _, network := range []string{"unix", "unixgram"} {
			for _, op := range addressOperations {
				if op.of(network) && lacks(network) == "" {
					compareAddress(t, op, network, name)
					_ = os.Remove(name)
				}
			}
		}
	}
	_, err := socket.Dial("unix", "")
	require.ErrorContains(t, err, "missing address")
}
