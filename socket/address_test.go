//go:build unix || windows

package socket_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/socket"
)

// chosenPort is above the ephemeral ports of most systems, and another one in each process.
var chosenPort = fmt.Sprint(":", 65535-os.Getpid()%400)

// Every address with a literal IP means the same as in package net: where to listen, and for
// datagrams where to send.
func TestAddresses_DifferFromPackageNetNowhere(t *testing.T) {
	guard(t, "N5: addresses are those of package net with literal IPs")
	hosts := []string{
		"", "127.0.0.1", "127.0.0.2", "0.0.0.0", "1.2.3.4", "255.255.255.255", "127.1", "127.0.0.01", "127.0.0.256", "127.0.0.1%lo",
		"[::]", "[::1]", "[::2]", "[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[0:0:0:0:0:0:0:1]",
		"[::%lo]", "[::1%lo]", "[::1%1]", "[::1%]", "[::1%none]", "[::ffff:127.0.0.1%lo]", "[fe80::1]", "[fe80::1%lo]", "[fe80::1%none]",
		"[127.0.0.1]", "[0.0.0.0]", "[]", "::1", "::", "[::1", "::1]", "[[::1]]", "[::g]", "[1]",
	}
	ports := []string{"", ":", ":0", ":00", ":+0", ":-0", ":+", ":-", chosenPort, ":65536", ":-1", ":4294967296", ":99999999999999999999", ":0x0", ":0:0", ": 0", ":0 ", ":1_0"}
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
		if needsResolver(address) {
			for _, network := range []string{"tcp", "udp6"} {
				_, err := socket.Dial(network, address)
				require.Error(t, err, "%q", address)
			}
			continue
		}
		for _, network := range []string{"tcp", "tcp4", "tcp6", "udp", "udp4", "udp6"} {
			if fixture.Wine && network[:3] == "udp" {
				continue // package net has no UDP there
			}
			if (runtime.GOOS == "openbsd" || runtime.GOOS == "dragonfly") && strings.HasPrefix(address, "[::") {
				continue // no socket for both families: package net prefers IPv4 for [::]
			}
			compared++
			want, wantErr := netListen(network, address)
			got, gotErr := socketListen(network, address)
			require.Equal(t, wantErr == nil, gotErr == nil, "listen %s %q: %v; package net: %v", network, address, gotErr, wantErr)
			require.Equal(t, want, got, "listen %s %q", network, address)
			if network[:3] == "udp" && strings.HasSuffix(address, chosenPort) { // without a port the system knows no peer
				want, wantErr = netDial(network, address)
				got, gotErr = socketDial(network, address)
				require.Equal(t, wantErr == nil, gotErr == nil, "dial %s %q: %v; package net: %v", network, address, gotErr, wantErr)
				if runtime.GOOS == "linux" { // elsewhere the system chooses the address of this host
					require.Equal(t, want, got, "dial %s %q", network, address)
				}
			}
		}
	}
	t.Logf("%d addresses compared", compared)
	require.Greater(t, compared, 2000)
}

// needsResolver reports whether package net would resolve a name, which this package does not.
func needsResolver(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	_, err = netip.ParseAddr(host)
	return host != "" && err != nil || strings.Trim(strings.TrimLeft(port, "+-"), "0123456789") != "" ||
		len(port) > 1 && strings.ContainsAny(port[1:], "+-")
}

// portless returns what must be equal of an address: the port, if the test has chosen it.
func portless(a net.Addr, address string) string {
	var p netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		p = a.AddrPort()
	case *net.UDPAddr:
		p = a.AddrPort()
	}
	if strings.HasSuffix(address, chosenPort) {
		return p.String()
	}
	return p.Addr().Unmap().String()
}

func netListen(network, address string) (string, error) {
	if network[:3] == "udp" {
		c, err := net.ListenPacket(network, address)
		if err != nil {
			return "", err
		}
		defer c.Close()
		return portless(c.LocalAddr(), address), nil
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return "", err
	}
	defer l.Close()
	return portless(l.Addr(), address), nil
}

func socketListen(network, address string) (string, error) {
	if network[:3] == "udp" {
		c, err := socket.ListenPacket(network, address)
		if err != nil {
			return "", err
		}
		defer c.Close()
		return portless(c.LocalAddr(), address), nil
	}
	l, err := socket.Listen(network, address)
	if err != nil {
		return "", err
	}
	defer l.Close()
	return portless(l.Addr(), address), nil
}

func netDial(network, address string) (string, error) {
	c, err := net.Dial(network, address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return portless(c.RemoteAddr(), address), nil
}

func socketDial(network, address string) (string, error) {
	c, err := socket.DialPacket(network, address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return portless(c.RemoteAddr(), address), nil
}

// The names of Unix sockets mean the same as in package net.
func TestAddresses_UnixNames(t *testing.T) {
	guard(t, "N5: names of Unix sockets are those of package net")
	need(t, "unix")
	dir := strings.TrimSuffix(socketPath(t), "s")
	names := []string{"", dir, dir + "a\x00b"}
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
			if lacks(network) != "" {
				continue
			}
			want, wantErr := netUnix(network, name)
			got, gotErr := socketUnix(network, name)
			require.Equal(t, wantErr == nil, gotErr == nil, "%s %d %q: %v; package net: %v", network, len(name), name, gotErr, wantErr)
			if name != "" { // else the system chooses
				require.Equal(t, want, got, "%s %q", network, name)
			}
			_, err := socket.Dial("unix", "")
			require.ErrorContains(t, err, "missing address")
		}
	}
}

func netUnix(network, name string) (string, error) {
	defer os.Remove(strings.SplitN(name, "\x00", 2)[0])
	if network == "unixgram" {
		c, err := net.ListenPacket(network, name)
		if err != nil {
			return "", err
		}
		defer c.Close()
		return c.LocalAddr().String(), nil
	}
	l, err := net.Listen(network, name)
	if err != nil {
		return "", err
	}
	defer l.Close()
	return unixName(l), nil
}

func socketUnix(network, name string) (string, error) {
	defer os.Remove(strings.SplitN(name, "\x00", 2)[0])
	if network == "unixgram" {
		c, err := socket.ListenPacket(network, name)
		if err != nil {
			return "", err
		}
		defer c.Close()
		return c.LocalAddr().String(), nil
	}
	l, err := socket.Listen(network, name)
	if err != nil {
		return "", err
	}
	defer l.Close()
	return unixName(l), nil
}

// unixName is the name that a client finds the listener by.
func unixName(l interface{ Addr() net.Addr }) string { return l.Addr().String() }
