//go:build unix || windows

package socket_test

import (
	"fmt"
	"log"

	"github.com/epore/epore"
	"github.com/epore/epore/socket"
)

// An echo server reads all datagrams that are available with one system call, and writes them
// back with another.
func ExamplePacketConn_ReadBatch() {
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
	poll, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer poll.Close()
	const serving, asking = 1, 2
	if err := poll.Registry().Register(server, serving, epore.Readable); err != nil {
		log.Fatal(err)
	}
	if err := poll.Registry().Register(client, asking, epore.Readable); err != nil {
		log.Fatal(err)
	}
	for _, word := range []string{"one", "two", "three"} {
		if _, err := client.Write([]byte(word)); err != nil {
			log.Fatal(err)
		}
	}

	// The memory is made once. What is to be written is described by other messages, whose
	// Data is the part of it that was read.
	in, out := make([]socket.Message, 64), make([]socket.Message, 64)
	for i := range in {
		in[i].Data = make([]byte, 1500)
	}
	answers, buf := 0, make([]byte, 1500)
	for events := epore.NewEvents(8); answers < 3; {
		if err := poll.Poll(events, epore.Forever); err != nil {
			log.Fatal(err)
		}
		for ev := range events.All() {
			if ev.Token == asking {
				n, err := client.Read(buf)
				if err != nil {
					continue // level-triggered: there will be another event
				}
				fmt.Printf("%s\n", buf[:n])
				answers++
				continue
			}
			n, err := server.ReadBatch(in)
			if err != nil {
				continue
			}
			for i, m := range in[:n] {
				out[i] = socket.Message{Data: m.Data[:m.N], Addr: m.Addr}
			}
			if n, err = server.WriteBatch(out[:n]); err != nil {
				log.Print(err) // there was no room for the others: datagrams may be lost
			}
		}
	}
	// Output:
	// one
	// two
	// three
}
