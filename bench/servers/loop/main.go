// Loop is an echo server on package loop, with one loop that closes what is idle for a
// minute, as the baseline does.
//
//	loop [-block]
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"time"

	"github.com/epore/epore"
	"github.com/epore/epore/loop"
)

type echo struct{}

func (echo) Open(*loop.Conn) {}

func (echo) Data(c *loop.Conn, b []byte) int {
	_, _ = c.Write(b)
	return len(b)
}

func (echo) Close(*loop.Conn, error) {}

func main() {
	block := flag.Bool("block", false, "wait in the kernel, on a thread for the loop")
	flag.Parse()
	cfg := loop.Config{Idle: time.Minute}
	if *block {
		cfg.NewPoll = func() (*epore.Poll, error) { return epore.New(epore.WithStrategy(epore.Block)) }
	}
	log.Fatal(loop.Run(context.Background(), 1, cfg, func(l *loop.Loop) error {
		addr, err := l.Listen("tcp", "127.0.0.1:0", nil, echo{})
		if err == nil {
			fmt.Println("listening on", addr)
		}
		return err
	}))
}
