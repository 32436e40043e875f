//go:build unix

package socket_test

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/socket"
)

func init() { programs["listen without descriptors"] = listenWithoutDescriptors }

// The first Listen on all addresses asks the system whether it has sockets for both families.
// It must be the first one of a process, so this needs a process.
// contract: N5
func TestListen_DualStackAfterEMFILE(t *testing.T) {
	guard(t, "N5, N7: a Listen that ran out of descriptors does not make later ones IPv4-only")
	cmd, output := program(t, "listen without descriptors")
	require.NoError(t, cmd.Run(), output)
	require.Equal(t, "too many open files\nlike package net\n", output.String())
}

func listenWithoutDescriptors() {
	check := func(err error) {
		if err != nil {
			println(err.Error())
			os.Exit(1)
		}
	}
	var limit unix.Rlimit
	check(unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	none := limit
	none.Cur = 0
	check(unix.Setrlimit(unix.RLIMIT_NOFILE, &none))
	for _, listen := range []func() error{
		func() error { _, err := socket.Listen("tcp", ":0"); return err },
		func() error { _, err := socket.ListenPacket("udp", ":0"); return err },
	} {
		if err := listen(); !errors.Is(err, syscall.EMFILE) {
			println("not EMFILE:", err)
			os.Exit(1)
		}
	}
	println(syscall.EMFILE.Error())
	check(unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	l, err := socket.Listen("tcp", ":0")
	check(err)
	like, err := net.Listen("tcp", ":0")
	check(err)
	if l.Addr().(*net.TCPAddr).IP.Equal(like.Addr().(*net.TCPAddr).IP) {
		println("like package net")
	} else {
		println("at", l.Addr().String(), "and package net at", like.Addr().String())
	}
}
