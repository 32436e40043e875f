//go:build unix || windows

package socket_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

const ruleBatch = "ReadBatch, WriteBatch: each message is a datagram, in order, with its address; ErrWouldBlock when there are no more"

// room returns messages to read into.
func room(n, size int) []socket.Message {
	ms := make([]socket.Message, n)
	for i := range ms {
		ms[i].Data = make([]byte, size)
	}
	return ms
}

// readBatches reads n datagrams, in batches of some size.
func readBatches(t testing.TB, c *socket.PacketConn, n, batch, size int) (all []socket.Message) {
	t.Helper()
	for len(all) < n {
		ms := room(batch, size)
		got, err := c.ReadBatch(ms)
		if err == socket.ErrWouldBlock {
			require.Zero(t, got)
			awaitReadable(t, c)
			continue
		}
		require.NoError(t, err)
		require.Positive(t, got)
		all = append(all, ms[:got]...)
	}
	return all
}

// contract: N14
func TestBatch(t *testing.T) {
	for _, network := range udpNetworks {
		for _, batch := range []int{1, 3, 64, 65, 200} {
			t.Run(fmt.Sprint(network[0], ", ", batch), func(t *testing.T) {
				guard(t, ruleBatch)
				a, b := listenPacket(t, network[0], network[1]), listenPacket(t, network[0], network[1])
				require.NoError(t, b.SetReadBuffer(1<<20))
				n, err := b.ReadBatch(room(batch, 16))
				require.Equal(t, socket.ErrWouldBlock, err)
				require.Zero(t, n)

				ms := make([]socket.Message, batch)
				for i := range ms {
					ms[i] = socket.Message{Data: []byte(fmt.Sprint("message ", i)), Addr: udpAddress(b)}
				}
				ms[batch/2].Data = nil // an empty one is one, too
				sent, err := a.WriteBatch(ms)
				require.NoError(t, err)
				require.Equal(t, batch, sent)
				for i, got := range readBatches(t, b, batch, batch, 16) {
					require.Equal(t, string(ms[i].Data), string(got.Data[:got.N]))
					require.Equal(t, len(ms[i].Data), ms[i].N)
					require.Equal(t, udpAddress(a), got.Addr)
					require.False(t, got.Truncated || got.ControlTruncated)
					require.Zero(t, got.ControlN)
				}
				_, err = b.ReadBatch(room(1, 16))
				require.Equal(t, socket.ErrWouldBlock, err)
			})
		}
	}
}

// Fields of earlier reads do not stay, nor do addresses of another family.
// contract: N14
func TestBatch_MessagesAreUsedAgain(t *testing.T) {
	guard(t, ruleBatch)
	ms := room(2, 4)
	for round, network := range [][2]string{{"udp6", "[::1]:0"}, {"udp4", "127.0.0.1:0"}, {"udp6", "[::1]:0"}} {
		if lacks(network[0]) != "" {
			continue
		}
		a, b := listenPacket(t, network[0], network[1]), listenPacket(t, network[0], network[1])
		data := "short"[:4+round%2]
		_, err := a.WriteBatch([]socket.Message{{Data: []byte(data), Addr: udpAddress(b)}})
		require.NoError(t, err)
		awaitReadable(t, b)
		n, err := b.ReadBatch(ms)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, len(data) > 4, ms[0].Truncated)
		require.Equal(t, data[:4], string(ms[0].Data[:ms[0].N]))
		require.Equal(t, udpAddress(a), ms[0].Addr)
		back := []socket.Message{{Data: ms[0].Data, Addr: ms[0].Addr}}
		_, err = b.WriteBatch(back)
		require.NoError(t, err)
		got := readBatches(t, a, 1, 1, 8)
		require.Equal(t, "shor", string(got[0].Data[:got[0].N]))
	}
}

// contract: N14
func TestBatch_Connected(t *testing.T) {
	guard(t, ruleBatch)
	b := listenPacket(t, "udp4", "127.0.0.1:0")
	a, err := socket.DialPacket("udp4", b.LocalAddr().String())
	require.NoError(t, err)
	closeLater(t, a)
	n, err := a.WriteBatch([]socket.Message{{Data: []byte("one")}, {Data: []byte("two")}})
	require.NoError(t, err)
	require.Equal(t, 2, n)
	from := a.LocalAddr().(*net.UDPAddr).AddrPort()
	for i, got := range readBatches(t, b, 2, 8, 8) {
		require.Equal(t, []string{"one", "two"}[i], string(got.Data[:got.N]))
		require.Equal(t, from, got.Addr)
	}
	n, err = a.WriteBatch([]socket.Message{{Data: []byte("three")}, {Addr: udpAddress(b)}, {Data: []byte("four")}})
	require.ErrorIs(t, err, net.ErrWriteToConnected)
	require.Equal(t, 1, n, "those before it are written, those behind it are not")
	got := readBatches(t, b, 1, 8, 8)
	require.Len(t, got, 1)
	require.Equal(t, "three", string(got[0].Data[:got[0].N]))
}

// contract: N14
func TestBatch_Unix(t *testing.T) {
	need(t, "unixgram")
	guard(t, ruleBatch)
	b := listenPacket(t, "unixgram", socketPath(t))
	a, err := socket.DialPacket("unixgram", b.LocalAddr().String())
	require.NoError(t, err)
	closeLater(t, a)
	_, err = a.WriteBatch([]socket.Message{{Data: []byte("one")}, {Data: []byte("longer")}})
	require.NoError(t, err)
	got := readBatches(t, b, 2, 8, 4)
	require.Equal(t, "one", string(got[0].Data[:got[0].N]))
	require.Equal(t, "long", string(got[1].Data[:got[1].N]))
	require.True(t, got[1].Truncated)
	require.Equal(t, netip.AddrPort{}, got[0].Addr)
}

// contract: N14
func TestBatch_Errors(t *testing.T) {
	guard(t, ruleBatch)
	a := listenPacket(t, "udp4", "127.0.0.1:0")
	for _, ms := range [][]socket.Message{nil, {}} {
		n, err := a.ReadBatch(ms)
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = a.WriteBatch(ms)
		require.NoError(t, err)
		require.Zero(t, n)
	}
	to := udpAddress(a)
	for _, addr := range []netip.AddrPort{{}, netip.MustParseAddrPort("[::1]:1")} {
		n, err := a.WriteBatch([]socket.Message{{Addr: to}, {Addr: addr}})
		require.ErrorIs(t, err, fs.ErrInvalid)
		require.Equal(t, 1, n)
	}
	n, err := a.WriteBatch([]socket.Message{{Addr: to}, {Addr: to}, {Data: make([]byte, 1<<17), Addr: to}, {Addr: to}})
	require.ErrorIs(t, err, errTooLong)
	require.Equal(t, 2, n, "the kernel stops at the one that fails")
	require.NoError(t, a.Close())
	_, err = a.ReadBatch(room(1, 1))
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = a.WriteBatch(room(1, 1))
	require.ErrorIs(t, err, net.ErrClosed)
	var zero socket.PacketConn
	_, err = zero.ReadBatch(nil)
	require.ErrorIs(t, err, net.ErrClosed)
}

// The event after ErrWouldBlock is certain, on every queue.
// contract: N14
func TestBatch_ThroughAPoll(t *testing.T) {
	eachQueue(t, ruleBatch, func(t *testing.T, p *epore.Poll) {
		for _, mode := range modes(p) {
			a, b := listenPacket(t, "udp4", "127.0.0.1:0"), listenPacket(t, "udp4", "127.0.0.1:0")
			require.NoError(t, p.Registry().Register(b, 1, epore.Readable|mode))
			out := make([]socket.Message, 10)
			for i := range out {
				out[i] = socket.Message{Data: []byte{byte(i)}, Addr: udpAddress(b)}
			}
			for range 5 {
				_, err := a.WriteBatch(out)
				require.NoError(t, err)
				for got := 0; got < len(out); {
					await(t, p, 1, epore.Event.Readable)
					for {
						ms := room(4, 1)
						n, err := b.ReadBatch(ms)
						if err == socket.ErrWouldBlock {
							break
						}
						require.NoError(t, err)
						for _, m := range ms[:n] {
							require.Equal(t, byte(got), m.Data[0])
							got++
						}
					}
				}
			}
			require.NoError(t, b.Close())
		}
	})
}

// A Unix socket is full at some time, and then what is left comes later.
// contract: N14
func TestBatch_WriteUntilWouldBlock(t *testing.T) {
	need(t, "unixgram")
	guard(t, ruleBatch)
	b := listenPacket(t, "unixgram", socketPath(t))
	a, err := socket.DialPacket("unixgram", b.LocalAddr().String())
	require.NoError(t, err)
	closeLater(t, a)
	out := make([]socket.Message, 1000)
	for i := range out {
		out[i].Data = []byte(fmt.Sprintf("%04d", i))
	}
	received := 0
	for sent := 0; sent < len(out); {
		n, err := a.WriteBatch(out[sent:])
		sent += n
		if err != nil && runtime.GOOS == "linux" {
			require.Equal(t, socket.ErrWouldBlock, err)
			require.Less(t, sent, len(out))
		}
		for _, m := range readBatches(t, b, 1, 64, 8) {
			require.Equal(t, fmt.Sprintf("%04d", received), string(m.Data[:m.N]))
			received++
		}
	}
	for _, m := range readBatches(t, b, len(out)-received, 64, 8) {
		require.Equal(t, fmt.Sprintf("%04d", received), string(m.Data[:m.N]))
		received++
	}
	require.Equal(t, len(out), received)
}

const ruleMsg = "ReadMsg, WriteMsg: Read and Write, with control data"

// contract: N15
func TestMsg_WithoutControl(t *testing.T) {
	eachLink(t, ruleMsg, func(t *testing.T, a, b *socket.Conn) {
		buf := make([]byte, 8)
		_, _, err := a.ReadMsg(buf, nil)
		require.Equal(t, socket.ErrWouldBlock, err)
		n, err := b.WriteMsg([]byte("hello"), nil)
		require.NoError(t, err)
		require.Equal(t, 5, n)
		awaitReadable(t, a)
		n, controlN, err := a.ReadMsg(buf, nil)
		require.NoError(t, err)
		require.Equal(t, "hello", string(buf[:n]))
		require.Zero(t, controlN)
		n, err = b.WriteMsg(nil, nil)
		require.NoError(t, err)
		require.Zero(t, n)
		_, err = b.WriteMsg(nil, make([]byte, 64))
		require.Error(t, err)
		require.NotEqual(t, socket.ErrWouldBlock, err)
		if runtime.GOOS == "windows" {
			_, err = b.WriteMsg([]byte("x"), make([]byte, 64))
			require.ErrorIs(t, err, errors.ErrUnsupported)
		}

		// More than there is room for: the rest is written as Write does.
		data := random(16 << 20)
		n, err = b.WriteMsg(data, nil)
		require.Equal(t, socket.ErrWouldBlock, err)
		require.Positive(t, n)
		done := make(chan string)
		go func() { done <- readAll(t, a) }()
		write(t, b, string(data[n:]))
		require.NoError(t, b.CloseWrite())
		require.True(t, string(data) == <-done)
		_, _, err = a.ReadMsg(buf, nil)
		require.Equal(t, "EOF", err.Error())
		require.NoError(t, a.Close())
		_, _, err = a.ReadMsg(buf, nil)
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = a.WriteMsg(buf, nil)
		require.ErrorIs(t, err, net.ErrClosed)
	})
}
