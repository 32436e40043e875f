package socket_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/socket"
)

// setInt sets an option through the way that all options are set.
func setInt(t testing.TB, c *socket.PacketConn, level, option, value int) {
	t.Helper()
	require.NoError(t, unix.SetsockoptInt(descriptor(t, c), level, option, value))
}

// Control data comes and goes with each datagram: here the type of service, which has the
// bits of ECN.
// contract: N14
func TestBatch_Control(t *testing.T) {
	guard(t, ruleBatch)
	a, b := listenPacket(t, "udp4", "127.0.0.1:0"), listenPacket(t, "udp4", "127.0.0.1:0")
	setInt(t, b, unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
	out := make([]socket.Message, 3)
	for i := range out {
		out[i] = socket.Message{Data: []byte{byte(i)}, Addr: udpAddress(b), Control: tos(byte(i))}
	}
	_, err := a.WriteBatch(out)
	require.NoError(t, err)
	for i := range out {
		awaitReadable(t, b)
		ms := room(1, 8)
		ms[0].Control = make([]byte, unix.CmsgSpace(1))
		if i == 2 {
			ms[0].Control = ms[0].Control[:4]
		}
		n, err := b.ReadBatch(ms)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, byte(i), ms[0].Data[0])
		require.Equal(t, i == 2, ms[0].ControlTruncated)
		if i == 2 {
			continue
		}
		messages, err := unix.ParseSocketControlMessage(ms[0].Control[:ms[0].ControlN])
		require.NoError(t, err)
		require.Len(t, messages, 1)
		require.EqualValues(t, unix.IP_TOS, messages[0].Header.Type)
		require.Equal(t, byte(i), messages[0].Data[0])
	}
}

// tos is control data that sets the type of service.
func tos(value byte) []byte {
	control := make([]byte, unix.CmsgSpace(4))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	h.Level, h.Type = unix.IPPROTO_IP, unix.IP_TOS
	h.SetLen(unix.CmsgLen(4))
	binary.NativeEndian.PutUint32(control[unix.CmsgLen(0):], uint32(value))
	return control
}

// The mode belongs to the open file: somebody else may have made it blocking.
// contract: N14
func TestBatch_NeverWaits(t *testing.T) {
	guard(t, "N1: no operation blocks")
	b := listenPacket(t, "unixgram", socketPath(t))
	a, err := socket.DialPacket("unixgram", b.LocalAddr().String())
	require.NoError(t, err)
	closeLater(t, a)
	x, y := pair(t)
	for _, fd := range []int{descriptor(t, a), descriptor(t, b), descriptor(t, x), descriptor(t, y)} {
		require.NoError(t, unix.SetNonblock(fd, false))
	}
	_, err = b.ReadBatch(room(4, 4))
	require.Equal(t, socket.ErrWouldBlock, err)
	for err = nil; err == nil; {
		_, err = a.WriteBatch(room(4, 4))
	}
	require.Equal(t, socket.ErrWouldBlock, err)
	_, _, err = x.ReadMsg(make([]byte, 4), nil)
	require.Equal(t, socket.ErrWouldBlock, err)
	for err = nil; err == nil; {
		_, err = x.WriteMsg(make([]byte, 4<<10), nil)
	}
	require.Equal(t, socket.ErrWouldBlock, err)
}

// The processor time of a server that echoes datagrams of 64 bytes, without that of its
// client.
func BenchmarkDatagrams(b *testing.B) {
	const batch = 32
	for _, way := range []string{"batches", "one at a time", "net"} {
		b.Run(fmt.Sprint(way), func(b *testing.B) {
			client, server := listenPacket(b, "udp4", "127.0.0.1:0"), listenPacket(b, "udp4", "127.0.0.1:0")
			out := make([]socket.Message, batch)
			for i := range out {
				out[i] = socket.Message{Data: make([]byte, 64), Addr: udpAddress(server)}
			}
			in := room(batch, 64)
			echo := echoDatagrams(b, way, server, batch)
			b.ReportAllocs()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			spent := time.Duration(0)
			for b.Loop() {
				if n, err := client.WriteBatch(out); n < batch {
					b.Fatal(n, err)
				}
				begin := threadTime(b)
				echo()
				spent += threadTime(b) - begin
				if n, err := client.ReadBatch(in); n < batch {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(float64(spent)/float64(b.N*batch), "cpu-ns/echo")
		})
	}
}

// threadTime is the processor time that this thread has used.
func threadTime(b *testing.B) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// echoDatagrams returns a function that echoes a batch.
func echoDatagrams(b *testing.B, way string, server *socket.PacketConn, batch int) func() {
	ms := room(batch, 64)
	switch way {
	case "batches":
		return func() {
			n, err := server.ReadBatch(ms)
			if n < batch || err != nil {
				b.Fatal(n, err)
			}
			if n, err = server.WriteBatch(ms); err != nil {
				b.Fatal(n, err)
			}
		}
	case "net":
		f, err := server.File()
		require.NoError(b, err)
		defer f.Close()
		p, err := net.FilePacketConn(f)
		require.NoError(b, err)
		closeLater(b, p)
		c, buf := p.(*net.UDPConn), make([]byte, 64)
		return func() {
			for range batch {
				n, from, err := c.ReadFromUDPAddrPort(buf)
				if err != nil {
					b.Fatal(err)
				}
				if _, err = c.WriteToUDPAddrPort(buf[:n], from); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	buf := make([]byte, 64)
	return func() {
		for range batch {
			n, from, err := server.ReadFromAddrPort(buf)
			if err != nil {
				b.Fatal(err)
			}
			if _, err = server.WriteToAddrPort(buf[:n], from); err != nil {
				b.Fatal(err)
			}
		}
	}
}
