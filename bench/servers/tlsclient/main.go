// Tlsclient is the load on the TLS echo servers: what servers/c/client.c is for the others,
// with the same arguments and the same lines of output, but for the latencies.
//
//	tlsclient ADDRESS connections=N size=BYTES seconds=S [warmup=0.3]
package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: tlsclient ADDRESS connections=N size=BYTES seconds=S [warmup=0.3]")
	}
	args := map[string]float64{"connections": 1, "size": 64, "seconds": 1, "warmup": 0.3}
	for _, arg := range os.Args[2:] {
		name, value, _ := strings.Cut(arg, "=")
		v, err := strconv.ParseFloat(value, 64)
		if _, known := args[name]; !known || err != nil {
			log.Fatalf("unknown argument %s", arg)
		}
		args[name] = v
	}
	if err := run(os.Args[1], int(args["connections"]), int(args["size"]), args["seconds"], args["warmup"]); err != nil {
		log.Fatal(err)
	}
}

func run(address string, n, size int, seconds, warmup float64) error {
	message := make([]byte, size)
	for i := range message {
		message[i] = byte(i % 251)
	}
	config := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a load
	var conns []*tls.Conn
	for range n {
		c, err := tls.Dial("tcp", address, config)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := ask(c, message, make([]byte, size)); err != nil {
			return err
		}
		conns = append(conns, c)
	}
	if seconds == 0 {
		fmt.Println("connections", n)
	}
	fmt.Println("connected")
	if seconds == 0 {
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	var messages atomic.Int64
	var stop atomic.Bool
	var all sync.WaitGroup
	failed := make(chan error, n)
	for _, c := range conns {
		all.Go(func() {
			for buf := make([]byte, size); !stop.Load(); messages.Add(1) {
				if err := ask(c, message, buf); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	time.Sleep(time.Duration(warmup * float64(time.Second)))
	fmt.Println("begin")
	from, begin := messages.Load(), time.Now()
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	fmt.Printf("end\nmessages %d\nseconds %f\n", messages.Load()-from, time.Since(begin).Seconds())
	stop.Store(true)
	all.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// ask sends a message and compares what comes back.
func ask(c *tls.Conn, message, buf []byte) error {
	if _, err := c.Write(message); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, buf); err != nil {
		return err
	}
	if !bytes.Equal(message, buf) {
		return fmt.Errorf("something else came back than was sent")
	}
	return nil
}
