package socket_test

import (
	"encoding/binary"
	"fmt"
	"log"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

// Generic segmentation offload: the kernel cuts what it is given into datagrams. (WriteBatch
// does so by itself for messages of one size; here the caller has one piece of memory.)
func ExamplePacketConn_WriteBatch_segments() {
	server, err := socket.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	client, err := socket.DialPacket("udp", server.LocalAddr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	// The control data is a header and the size of a segment: see udp(7).
	control := make([]byte, unix.CmsgSpace(2))
	header := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	header.Level, header.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	header.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(control[unix.CmsgLen(0):], 6)
	out := []socket.Message{{Data: []byte("first second third."), Control: control}}
	if _, err := client.WriteBatch(out); err != nil {
		log.Fatal(err)
	}

	poll, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer poll.Close()
	if err := poll.Registry().Register(server, 1, epore.Readable); err != nil {
		log.Fatal(err)
	}
	in := make([]socket.Message, 8)
	for i := range in {
		in[i].Data = make([]byte, 64)
	}
	events := epore.NewEvents(8)
	for received := 0; received < 4; {
		if err := poll.Poll(events, epore.Forever); err != nil {
			log.Fatal(err)
		}
		for range events.All() {
			n, err := server.ReadBatch(in)
			if err != nil && err != socket.ErrWouldBlock {
				log.Fatal(err)
			}
			for _, m := range in[:n] {
				fmt.Printf("%q\n", m.Data[:m.N])
			}
			received += n
		}
	}
	// Output:
	// "first "
	// "second"
	// " third"
	// "."
}
