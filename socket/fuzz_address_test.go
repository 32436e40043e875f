//go:build unix

package socket_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/socket"
)

// FuzzAddress compares how package socket and package net understand an address. Both
// accept it or neither does, and the resulting addresses are equal. Names are the
// exception: package socket refuses them, because resolving them would block.
//
// No packet leaves the machine: TCP connects only to loopback, and UDP sends nothing.
// contract: N5
func FuzzAddress(f *testing.F) {
	for _, network := range []string{"tcp", "tcp4", "tcp6", "udp", "udp4", "udp6"} {
		for _, address := range []string{
			"", ":", ":0", "127.0.0.1:", "127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0", "[::ffff:127.0.0.1]:0",
			"[::ffff:0.0.0.0]:0", "[fe80::1%lo]:0", "[::1%1]:0", "[::1%lo]:0", "[::%lo]:0", "[::1%]:0", "[::ffff:127.0.0.1%lo]:0",
			"a:b:c", "localhost:0", "127.0.0.1:http", "127.0.0.1:+0", "127.0.0.1:-1", "127.0.0.1:00000000000", "127.0.0.1:65535",
			"127.0.0.1:65536", "127.0.0.1:18446744073709551617", "[::1]", "::1:0", "127.1:0", "0177.0.0.1:0", "[127.0.0.1]:0",
			"127.0.0.1:9", "[::1]:9", ":9", "0.0.0.0:9", "1.2.3.4:0", "224.0.0.1:0", "255.255.255.255:0", "[ff02::1%lo]:0", "[fe80::1]:0", "[fe80::1%nosuch]:0",
		} {
			f.Add(network, address)
		}
	}
	for _, network := range []string{"unix", "unixgram"} {
		for _, address := range []string{
			"", "@", "@x", "x", "x y", "@a\x00b", "a\x00b", "\x00abc", "é", strings.Repeat("x", 60), strings.Repeat("x", 108),
			"@" + strings.Repeat("y", 106), "@" + strings.Repeat("y", 107), "@" + strings.Repeat("y", 108),
		} {
			f.Add(network, address)
		}
	}
	f.Add("ip", "127.0.0.1:0")
	f.Add("", "")
	directory := f.TempDir()
	f.Fuzz(func(t *testing.T, network, address string) {
		if len(address) > 300 {
			return
		}
		unixNetwork := strings.HasPrefix(network, "unix")
		switch network {
		case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
			if !literal(address) {
				mustRefuse(t, network, address)
				return
			}
		case "unix", "unixgram":
			if !strings.HasPrefix(address, "@") && address != "" {
				if strings.Contains(address, "/") {
					return // it could be any file
				}
				address = filepath.Join(directory, "/") + "/" + address
			}
			if runtime.GOOS != "linux" && (address == "" || address[0] == '@') {
				return // only Linux has abstract names
			}
		default:
			mustRefuse(t, network, address)
			return
		}
		for _, op := range addressOperations {
			if op.of(network) && !incomparable(op.name, network, address) {
				compareAddress(t, op, network, address)
			}
		}
		if unixNetwork {
			_ = os.Remove(address)
		}
	})
}

// incomparable reports where package socket and package net differ on purpose.
func incomparable(op, network, address string) bool {
	host, port, _ := net.SplitHostPort(address)
	n, _ := strconv.Atoi(port)
	switch {
	case op == "DialPacket" && n == 0:
		return true // the system reports no peer with port 0, and package socket remembers none
	case op == "Dial" && strings.Trim(host, "0.") == "" && host != "" && runtime.GOOS != "linux", op == "DialPacket" && runtime.GOOS != "linux":
		return true // package net lets some systems choose the address of this host
	case strings.HasPrefix(host, "::") && (runtime.GOOS == "openbsd" || runtime.GOOS == "dragonfly"):
		return true // no sockets for both families: package net prefers IPv4 for [::]
	}
	return false
}

// literal reports whether neither host nor port is a name, so that package net resolves
// nothing. A malformed address is literal: package net refuses it before it resolves.
func literal(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return true
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" {
		return false
	}
	if strings.HasPrefix(port, "+") || strings.HasPrefix(port, "-") {
		port = port[1:]
	}
	return strings.Trim(port, "0123456789") == ""
}

func mustRefuse(t *testing.T, network, address string) {
	t.Helper()
	for _, open := range []func() (io.Closer, error){
		func() (io.Closer, error) { return socket.Listen(network, address) },
		func() (io.Closer, error) { return socket.ListenPacket(network, address) },
		func() (io.Closer, error) { return socket.Dial(network, address) },
		func() (io.Closer, error) { return socket.DialPacket(network, address) },
	} {
		c, err := open()
		if err == nil {
			_ = c.Close()
			t.Errorf("%q %q is accepted", network, address)
		} else if !errors.As(err, new(*net.OpError)) {
			t.Errorf("%q %q: %T is no *net.OpError", network, address, err)
		}
	}
}

// addressOperation is a way to use an address: with package socket, and with package net.
// Each returns what it opened, and the addresses to compare.
type addressOperation struct {
	name  string
	of    func(network string) bool
	ours  func(network, address string) (io.Closer, []net.Addr, error)
	nets  func(network, address string) (io.Closer, []net.Addr, error)
	other func(network, address string) (io.Closer, error) // must refuse the network
}

func stream(network string) bool { return strings.HasPrefix(network, "tcp") || network == "unix" }

var addressOperations = []addressOperation{
	{
		"Listen", stream,
		func(network, address string) (io.Closer, []net.Addr, error) {
			l, err := socket.Listen(network, address)
			if err != nil {
				return nil, nil, err
			}
			return l, []net.Addr{l.Addr()}, nil
		},
		func(network, address string) (io.Closer, []net.Addr, error) {
			l, err := net.Listen(network, address)
			if err != nil {
				return nil, nil, err
			}
			return l, []net.Addr{l.Addr()}, nil
		},
		func(network, address string) (io.Closer, error) { return socket.ListenPacket(network, address) },
	},
	{
		"ListenPacket", func(network string) bool { return !stream(network) },
		func(network, address string) (io.Closer, []net.Addr, error) {
			c, err := socket.ListenPacket(network, address)
			if err != nil {
				return nil, nil, err
			}
			return c, []net.Addr{c.LocalAddr()}, nil
		},
		func(network, address string) (io.Closer, []net.Addr, error) {
			c, err := net.ListenPacket(network, address)
			if err != nil {
				return nil, nil, err
			}
			return c, []net.Addr{c.LocalAddr()}, nil
		},
		func(network, address string) (io.Closer, error) { return socket.Listen(network, address) },
	},
	{
		"DialPacket", func(network string) bool { return strings.HasPrefix(network, "udp") },
		func(network, address string) (io.Closer, []net.Addr, error) {
			c, err := socket.DialPacket(network, address)
			if err != nil {
				return nil, nil, err
			}
			return c, []net.Addr{c.RemoteAddr(), c.LocalAddr()}, nil
		},
		func(network, address string) (io.Closer, []net.Addr, error) {
			c, err := net.Dial(network, address)
			if err != nil {
				return nil, nil, err
			}
			return c, []net.Addr{c.RemoteAddr(), c.LocalAddr()}, nil
		},
		func(network, address string) (io.Closer, error) { return socket.Dial(network, address) },
	},
	{
		"Dial", func(network string) bool { return strings.HasPrefix(network, "tcp") },
		func(network, address string) (io.Closer, []net.Addr, error) {
			listener, address, err := loopbackListener(network, address)
			if err != nil {
				return nil, nil, err
			}
			defer listener.Close()
			c, err := socket.Dial(network, address)
			if err != nil {
				return nil, nil, err
			}
			peer, err := listener.Accept()
			if err != nil {
				return nil, nil, errors.Join(err, c.Close())
			}
			defer peer.Close()
			return c, []net.Addr{c.RemoteAddr(), c.LocalAddr()}, nil
		},
		func(network, address string) (io.Closer, []net.Addr, error) {
			listener, address, err := loopbackListener(network, address)
			if err != nil {
				return nil, nil, err
			}
			defer listener.Close()
			c, err := net.Dial(network, address)
			if err != nil {
				return nil, nil, err
			}
			return c, []net.Addr{c.RemoteAddr(), c.LocalAddr()}, nil
		},
		func(network, address string) (io.Closer, error) { return socket.DialPacket(network, address) },
	},
}

// errElsewhere reports an address that the test does not connect to.
var errElsewhere = errors.New("not on loopback")

// loopbackListener returns a listener that a Dial of address reaches, and address with the
// listener's port. Addresses outside loopback give errElsewhere.
func loopbackListener(network, address string) (net.Listener, string, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, "", errElsewhere
	}
	listen := "127.0.0.1:0"
	if host != "" {
		ip, err := netip.ParseAddr(host)
		switch {
		case err != nil:
			return nil, "", errElsewhere
		case ip.Unmap().Is4() && ip.Unmap() != netip.AddrFrom4([4]byte{127, 0, 0, 1}) && !ip.Unmap().IsUnspecified(),
			ip.Unmap().Is6() && !ip.IsLoopback() && !ip.IsUnspecified():
			return nil, "", errElsewhere
		case ip.Unmap().Is6() && ip.IsLoopback():
			listen = "[::1]:0"
		}
	}
	if listen == "127.0.0.1:0" && (host == "" || !strings.Contains(host, "127.0.0.1")) {
		listen = "[::]:0" // for the IPv4 and the IPv6 loopback address
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, "", errElsewhere
	}
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(fixture.Soon)) // or a Dial that goes elsewhere hangs
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return l, net.JoinHostPort(host, port), nil
}

// compareAddress does op with both packages, one after the other.
func compareAddress(t *testing.T, op addressOperation, network, address string) {
	t.Helper()
	if c, err := op.other(network, address); err == nil {
		_ = c.Close()
		t.Fatalf("%q %q: the operation for the other kind of network accepts it", network, address)
	}
	ours, ourAddrs, ourErr := op.ours(network, address)
	if ourErr == nil {
		_ = ours.Close()
		if strings.HasPrefix(network, "unix") && address != "" && address[0] != '@' {
			_ = os.Remove(address)
		}
	}
	theirs, theirAddrs, theirErr := op.nets(network, address)
	if theirErr == nil {
		_ = theirs.Close()
	}
	for _, err := range []error{ourErr, theirErr} {
		if op.name == "Dial" && errors.Is(err, syscall.EADDRNOTAVAIL) {
			return // too many ports are in TIME_WAIT
		}
		for _, passing := range []error{syscall.EADDRINUSE, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, errElsewhere} {
			if errors.Is(err, passing) {
				return // a passing condition, or not to be tried: the address is not the cause
			}
		}
	}
	if (ourErr == nil) != (theirErr == nil) {
		t.Fatalf("%s %q %q: package socket: %v; package net: %v", op.name, network, address, ourErr, theirErr)
	}
	for i := range ourAddrs {
		if !sameAddress(ourAddrs[i], theirAddrs[i], address) {
			t.Fatalf("%s %q %q: package socket has %v, package net %v", op.name, network, address, ourAddrs[i], theirAddrs[i])
		}
	}
}

// sameAddress compares the addresses that two sockets got from one string, except for a
// port or an abstract name that the system chose.
func sameAddress(a, b net.Addr, address string) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	if a.Network() != b.Network() {
		return false
	}
	if a.Network() == "unix" || a.Network() == "unixgram" {
		return address == "" || a.String() == b.String()
	}
	aHost, aPort, _ := net.SplitHostPort(a.String())
	bHost, bPort, _ := net.SplitHostPort(b.String())
	_, port, _ := net.SplitHostPort(address)
	if n, _ := strconv.Atoi(port); n != 0 && (aPort == strconv.Itoa(n) || bPort == strconv.Itoa(n)) && aPort != bPort {
		return false
	}
	return aHost == bHost
}
