// Net is an echo server with package net: a goroutine for each connection, which reads
// into a buffer of its own, and writes what it read. The buffer is as large as that of a
// server with one for all; only what was read into it once takes memory.
//
//	net [-buffer BYTES]
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
)

func main() {
	size := flag.Int("buffer", 65536, "the `bytes` of the buffer of each connection")
	flag.Parse()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", l.Addr())
	for {
		c, err := l.Accept() // with TCP_NODELAY, as of package net
		if err != nil {
			log.Fatal(err)
		}
		go echo(c, make([]byte, *size))
	}
}

func echo(c net.Conn, buf []byte) {
	defer c.Close()
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}
