//go:build unix || windows

package socket_test

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore/socket"
)

var past = time.Unix(1, 0)

// asked is what a hook was called with.
type asked struct{ network, address string }

func hook(got *[]asked, unbound *bool, fail error) socket.Option {
	return socket.Control(func(network, address string, c syscall.RawConn) error {
		*got = append(*got, asked{network, address})
		err := c.Control(func(fd uintptr) { *unbound = localPort(fd) == 0 })
		return errors.Join(err, fail)
	})
}

// contract: N13
func TestControl(t *testing.T) {
	guard(t, "Control is called before bind, listen and connect")
	mine := errors.New("mine")
	for _, n := range [][3]string{{"tcp", "127.0.0.1:0", "tcp4"}, {"tcp", "[::1]:0", "tcp6"}, {"udp", "127.0.0.1:0", "udp4"}} {
		if lacks(n[2]) != "" {
			continue
		}
		var got []asked
		var unbound bool
		listening := func(opts ...socket.Option) (interface{ Close() error }, string, error) {
			if n[0] == "udp" {
				c, err := socket.ListenPacket(n[0], n[1], opts...)
				if err != nil {
					return nil, "", err
				}
				return c, c.LocalAddr().String(), nil
			}
			l, err := socket.Listen(n[0], n[1], opts...)
			if err != nil {
				return nil, "", err
			}
			return l, l.Addr().String(), nil
		}
		dialling := func(address string, opts ...socket.Option) (interface{ Close() error }, error) {
			if n[0] == "udp" {
				return socket.DialPacket(n[0], address, opts...)
			}
			return socket.Dial(n[0], address, opts...)
		}
		l, address, err := listening(hook(&got, &unbound, nil))
		require.NoError(t, err)
		require.Equal(t, []asked{{n[2], n[1]}}, got)
		require.True(t, unbound)

		got, unbound = nil, false
		c, err := dialling(address, hook(&got, &unbound, nil))
		require.NoError(t, err)
		require.NoError(t, c.Close())
		require.Equal(t, []asked{{n[2], address}}, got)
		require.True(t, unbound)

		_, _, err = listening(hook(&got, &unbound, mine))
		require.ErrorIs(t, err, mine)
		_, err = dialling(address, hook(&got, &unbound, mine))
		require.ErrorIs(t, err, mine)
		require.NoError(t, l.Close())
	}
}

// What the hook sets stands: nothing is set after it.
// contract: N13
func TestControl_HasTheLastWord(t *testing.T) {
	guard(t, "options that Control sets stay")
	off := socket.Control(func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) { err = clearNoDelay(fd) }), err)
	})
	l := listen(t, "tcp", "127.0.0.1:0", off)
	require.False(t, hasNoDelay(descriptor(t, l)))
	c, err := socket.Dial("tcp", l.Addr().String(), off)
	require.NoError(t, err)
	closeLater(t, c)
	require.False(t, hasNoDelay(descriptor(t, c)))
}

// contract: N13
func TestLocalAddr(t *testing.T) {
	guard(t, "LocalAddr is where Dial and DialPacket connect from")
	for _, n := range [][2]string{{"tcp4", "127.0.0.1"}, {"tcp6", "::1"}} {
		if lacks(n[0]) != "" {
			continue
		}
		ip := netip.MustParseAddr(n[1])
		l := listen(t, n[0], netip.AddrPortFrom(ip, 0).String())
		free := listen(t, n[0], netip.AddrPortFrom(ip, 0).String()) // a port that was free just now
		port := free.Addr().(*net.TCPAddr).AddrPort()
		require.NoError(t, free.Close())
		for _, from := range []string{port.String(), "", ":0", netip.AddrPortFrom(ip, 0).String()} {
			c, err := socket.Dial(n[0], l.Addr().String(), socket.LocalAddr(from))
			require.NoError(t, err, from)
			s := accept(t, l)
			awaitWritable(t, c)
			require.NoError(t, c.ConnectError(), from)
			if from == port.String() {
				require.Equal(t, from, c.LocalAddr().String())
			}
			require.Equal(t, c.LocalAddr().String(), s.RemoteAddr().String())
			require.NoError(t, c.Close())
		}
		p := listenPacket(t, "udp"+n[0][3:], netip.AddrPortFrom(ip, 0).String())
		c, err := socket.DialPacket("udp", p.LocalAddr().String(), socket.LocalAddr(netip.AddrPortFrom(ip, 0).String()))
		require.NoError(t, err)
		closeLater(t, c)
		require.Equal(t, p.LocalAddr(), c.RemoteAddr())
	}
	if lacks("unix") == "" {
		l := listen(t, "unix", socketPath(t))
		path := socketPath(t)
		c, err := socket.Dial("unix", l.Addr().String(), socket.LocalAddr(path))
		require.NoError(t, err)
		closeLater(t, c)
		require.Equal(t, path, accept(t, l).RemoteAddr().String())
	}
}

// contract: N13
func TestLocalAddr_WhatDoesNotFit(t *testing.T) {
	guard(t, "an option that does not fit is an error")
	for _, err := range []error{
		errOfDial(socket.Dial("tcp", "127.0.0.1:1", socket.LocalAddr("[::1]:0"))),
		errOfDial(socket.Dial("tcp", "[::1]:1", socket.LocalAddr("127.0.0.1:0"))),
		errOfDial(socket.Listen("tcp", "127.0.0.1:0", socket.LocalAddr("127.0.0.1:0"))),
		errOfDial(socket.ListenPacket("udp", "127.0.0.1:0", socket.LocalAddr("127.0.0.1:0"))),
		errOfDial(socket.Dial("tcp", "127.0.0.1:1", socket.DeferAccept(time.Second))),
	} {
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
	require.Error(t, errOfDial(socket.Dial("tcp", "127.0.0.1:1", socket.LocalAddr("localhost:0"))))
}

func errOfDial[T any](_ T, err error) error { return err }
