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

func init() { programs["dial the only local port"] = dialTheOnlyLocalPort }

// In a network namespace of its own, a program can make the system choose the port that it
// dials as the local port. Without that, one dial in some ten thousand would do.
// contract: N6
func TestDial_NeverToItself(t *testing.T) {
	guard(t, "N6: a connection to a closed port fails, even if the system chooses that port as the local one")
	cmd, output := program(t, "dial the only local port")
	root := []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET, UidMappings: root}
	err := cmd.Start()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSPC) {
		t.Skipf("no user namespaces on this system: %v", err)
	}
	require.NoError(t, err)
	require.NoError(t, cmd.Wait(), output)
	if output.String() == notAllowed {
		t.Skip(notAllowed)
	}
	require.Equal(t, "other port, refused\nonly port, refused\n", output.String())
}

const notAllowed = "no change of network settings allowed"

// dialTheOnlyLocalPort dials a closed port while the system has two local ports to choose
// from, and then no other one.
func dialTheOnlyLocalPort() {
	check := func(err error) {
		if errors.Is(err, os.ErrPermission) {
			_, _ = os.Stderr.WriteString(notAllowed)
			os.Exit(0)
		}
		if err != nil {
			println(err.Error())
			os.Exit(1)
		}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	check(err)
	lo, err := unix.NewIfreq("lo")
	check(err)
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	check(unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo))
	for _, c := range []struct{ what, ports string }{{"other port", "40000 40001"}, {"only port", "40000 40000"}} {
		check(os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte(c.ports), 0))
		conn, err := socket.Dial("tcp4", "127.0.0.1:40000")
		if err == nil {
			if conn.LocalAddr().(*net.TCPAddr).Port == 40000 {
				println(c.what, "is both ends")
				os.Exit(1)
			}
			err = conn.ConnectError() // on the loopback interface the attempt has ended already
			check(conn.Close())
		}
		if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EADDRNOTAVAIL) {
			println(c.what + ", refused")
			continue
		}
		check(err)
		println(c.what, "is connected")
		os.Exit(1)
	}
}
