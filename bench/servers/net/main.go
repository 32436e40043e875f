// Net is an echo server with package net. A goroutine for each connection reads into a
// buffer and writes what it read. Each buffer is as large as the single one of a server with
// one loop; only the part that was read into is resident.
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
		c, err := l.Accept() // package net sets TCP_NODELAY
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
