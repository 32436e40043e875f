//go:build !portable

package socket_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/socket"
)

// gro is the size of the segments that control data reports, or 0.
func gro(t testing.TB, m *socket.Message) int {
	t.Helper()
	messages, err := unix.ParseSocketControlMessage(m.Control[:m.ControlN])
	require.NoError(t, err)
	for _, c := range messages {
		if c.Header.Level == unix.SOL_UDP && c.Header.Type == unix.UDP_GRO {
			return int(binary.NativeEndian.Uint32(c.Data))
		}
	}
	return 0
}

// A reader that asks for it gets segments as they went through the kernel.
// contract: N14
func TestWriteBatch_Segments(t *testing.T) {
	guard(t, ruleBatch)
	a, b := listenPacket(t, "udp4", "127.0.0.1:0"), listenPacket(t, "udp4", "127.0.0.1:0")
	setInt(t, b, unix.SOL_UDP, unix.UDP_GRO, 1)
	to := udpAddress(b)
	write := func(sizes ...int) {
		out := make([]socket.Message, len(sizes))
		for i, size := range sizes {
			out[i] = socket.Message{Data: make([]byte, size), Addr: to}
		}
		n, err := a.WriteBatch(out)
		require.NoError(t, err)
		require.Equal(t, len(out), n)
		for i, size := range sizes {
			require.Equal(t, size, out[i].N)
		}
	}
	read := func() (int, int) {
		ms := room(1, 64<<10)
		ms[0].Control = make([]byte, unix.CmsgSpace(4))
		awaitReadable(t, b)
		n, err := b.ReadBatch(ms)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		return ms[0].N, gro(t, &ms[0])
	}
	write(64, 64, 64, 10, 64)
	n, size := read()
	if size == 0 {
		t.Skip("this kernel has no segments")
	}
	require.Equal(t, 202, n)
	require.Equal(t, 64, size)
	n, _ = read()
	require.Equal(t, 64, n)
	write(1300, 1300) // this may be too long for a network
	for range 2 {
		n, _ = read()
		require.Equal(t, 1300, n)
	}
}

// Whatever the sizes and the addresses are, what arrives is what was written.
// contract: N14
func TestWriteBatch_AnySizes(t *testing.T) {
	guard(t, ruleBatch)
	for _, prepare := range []func(t *testing.T, c *socket.PacketConn){
		func(*testing.T, *socket.PacketConn) {},
		// Without checksums the kernel refuses segments.
		func(t *testing.T, c *socket.PacketConn) { setInt(t, c, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1) },
	} {
		a := listenPacket(t, "udp4", "127.0.0.1:0")
		prepare(t, a)
		var readers [2]*socket.PacketConn
		for i := range readers {
			readers[i] = listenPacket(t, "udp4", "127.0.0.1:0")
			_ = readers[i].SetReadBuffer(4 << 20)
		}
		random := rand.New(rand.NewPCG(1, 2))
		for round := range 50 {
			var sent [2][]string
			out := make([]socket.Message, 1+random.IntN(80))
			reader, size := 0, 0
			for i := range out {
				if random.IntN(4) == 0 {
					reader = random.IntN(2)
				}
				if random.IntN(4) == 0 {
					size = []int{0, 1, 63, 64, 1232, 1233, 2000}[random.IntN(7)]
				}
				data := []byte(fmt.Sprint(round, " ", i))
				data = append(data, make([]byte, 2000)...)[:size]
				out[i] = socket.Message{Data: data, Addr: udpAddress(readers[reader])}
				sent[reader] = append(sent[reader], string(data))
			}
			n, err := a.WriteBatch(out)
			require.NoError(t, err)
			require.Equal(t, len(out), n)
			for i, want := range sent {
				for j, m := range readBatches(t, readers[i], len(want), 64, 2000) {
					require.Equal(t, want[j], string(m.Data[:m.N]), "%d", j)
				}
				_, err := readers[i].ReadBatch(room(1, 1))
				require.Equal(t, socket.ErrWouldBlock, err)
			}
		}
	}
}

// The owner of a socket may have set a size for all that it sends: it stands.
// contract: N14
func TestWriteBatch_SegmentsOfTheOwner(t *testing.T) {
	guard(t, ruleBatch)
	a, b := listenPacket(t, "udp4", "127.0.0.1:0"), listenPacket(t, "udp4", "127.0.0.1:0")
	if err := unix.SetsockoptInt(descriptor(t, a), unix.SOL_UDP, unix.UDP_SEGMENT, 4); err != nil {
		t.Skipf("this kernel has no segments: %v", err)
	}
	out := make([]socket.Message, 3)
	for i := range out {
		out[i] = socket.Message{Data: []byte("12345678"), Addr: udpAddress(b)}
	}
	_, err := a.WriteBatch(out)
	require.NoError(t, err)
	for _, m := range readBatches(t, b, 6, 8, 8) {
		require.Equal(t, 4, m.N)
	}
}

// P10: nothing is allocated to read and write batches, nor messages with control data.
// contract: P10
func TestBatch_AllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties pools")
	}
	for _, n := range udpNetworks {
		a, b := listenPacket(t, n[0], n[1]), listenPacket(t, n[0], n[1])
		const batch = 100
		out, in := make([]socket.Message, batch), room(batch, 64)
		for i := range out {
			out[i] = socket.Message{Data: make([]byte, 1+i%64), Addr: udpAddress(b)}
			in[i].Control = make([]byte, 64)
		}
		noAllocs(t, "WriteBatch and ReadBatch", 0, func() error {
			if _, err := a.WriteBatch(out); err != nil {
				return err
			}
			for got := 0; got < batch; {
				n, err := b.ReadBatch(in)
				if err != nil && err != socket.ErrWouldBlock {
					return err
				}
				got += n
			}
			return nil
		})
	}
	x, y := pair(t)
	buf, control := make([]byte, 8), make([]byte, 64)
	noAllocs(t, "WriteMsg and ReadMsg", 0, func() error {
		if _, err := x.WriteMsg(buf, nil); err != nil {
			return err
		}
		_, _, err := y.ReadMsg(buf, control)
		return err
	})
}
