// Tls is an echo server over TLS with crypto/tls: on package loop, or with package net and
// a goroutine for each connection.
//
//	tls loop|goroutines
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"os"

	"github.com/epore/epore/bench/internal/selfsigned"
	"github.com/epore/epore/loop"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: tls loop|goroutines")
	}
	config, err := selfsigned.Config()
	if err != nil {
		log.Fatal(err)
	}
	switch os.Args[1] {
	case "loop":
		log.Fatal(onLoop(config))
	case "goroutines":
		log.Fatal(onGoroutines(config))
	}
	log.Fatalf("there is no %q", os.Args[1])
}

type echo struct{}

func (echo) Open(*loop.Conn) {}

func (echo) Data(c *loop.Conn, b []byte) int {
	_, _ = c.Write(b)
	return len(b)
}

func (echo) Close(*loop.Conn, error) {}

func onLoop(config *tls.Config) error {
	return loop.Run(context.Background(), 1, loop.Config{}, func(l *loop.Loop) error {
		addr, err := l.Listen("tcp", "127.0.0.1:0", config, echo{})
		if err == nil {
			fmt.Println("listening on", addr)
		}
		return err
	})
}

func onGoroutines(config *tls.Config) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("listening on", l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			c := tls.Server(c, config)
			defer c.Close()
			for buf := make([]byte, 16<<10); ; { // a record
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				if _, err := c.Write(buf[:n]); err != nil {
					return
				}
			}
		}()
	}
}
