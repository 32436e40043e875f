// Cloudwego is an echo server with the netpoll of CloudWeGo and one poller. It uses the
// interfaces for reading and writing without a copy that its guide recommends. A goroutine
// of its pool does the work of a connection.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/cloudwego/netpoll"
)

func init() {
	if err := netpoll.Configure(netpoll.Config{PollerNum: 1}); err != nil {
		log.Fatal(err)
	}
}

func main() {
	l, err := netpoll.CreateListener("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	loop, err := netpoll.NewEventLoop(echo) // which sets TCP_NODELAY
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", l.Addr())
	log.Fatal(loop.Serve(l))
}

func echo(_ context.Context, c netpoll.Connection) error {
	r, w := c.Reader(), c.Writer()
	buf, err := r.Next(r.Len())
	if err != nil {
		return err
	}
	if _, err := w.WriteBinary(buf); err != nil {
		return err
	}
	if err := w.Flush(); err != nil { // returns when everything is written
		return err
	}
	return r.Release()
}
