package main

import (
	"io"
	"net"
)

// serveProxy passes connections on with package net, whose io.Copy splices.
func serveProxy(backend string) error {
	for l := listen(); ; {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			to, err := net.Dial("tcp", backend)
			if err != nil {
				return
			}
			defer to.Close()
			done := make(chan struct{})
			go func() {
				pass(to, c)
				close(done)
			}()
			pass(c, to)
			<-done
		}()
	}
}

// pass copies one direction, and passes its end on.
func pass(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.(*net.TCPConn).CloseWrite()
}
