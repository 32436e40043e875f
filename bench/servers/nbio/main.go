// Nbio is an echo server with nbio and one poller, which is level-triggered by default.
package main

import (
	"fmt"
	"log"

	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/logging"
)

func main() {
	logging.SetLevel(logging.LevelError)
	e := nbio.NewEngine(nbio.Config{Network: "tcp", Addrs: []string{"127.0.0.1:0"}, NPoller: 1})
	e.OnData(func(c *nbio.Conn, data []byte) {
		// nbio's README writes a copy. That is unnecessary: Write copies the part that
		// the socket does not accept.
		_, _ = c.Write(data)
	})
	// It accepts with package net, which sets TCP_NODELAY.
	if err := e.Start(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", e.Addrs[0])
	select {}
}
