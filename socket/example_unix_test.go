//go:build unix

package socket_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"golang.org/x/sys/unix"

	"github.com/epore/epore/socket"
)

// A descriptor is passed through a Unix socket, as to another process.
func ExampleConn_WriteMsg() {
	a, b, err := socket.Pair()
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	r, w, err := os.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.WriteString(w, "what the pipe had"); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	if _, err := a.WriteMsg([]byte("here"), unix.UnixRights(int(r.Fd()))); err != nil {
		log.Fatal(err)
	}
	if err := r.Close(); err != nil {
		log.Fatal(err)
	}

	buf, control := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
	n, controlN, err := b.ReadMsg(buf, control)
	if err != nil {
		log.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:controlN])
	if err != nil {
		log.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		log.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "received")
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s\n", buf[:n], text)
	// Output:
	// here: what the pipe had
}

// A connection that the loop has accepted is handed to a goroutine, which may wait.
func ExampleConn_NetConn() {
	a, b, err := socket.Pair()
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	c, err := b.NetConn()
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := io.Copy(c, io.LimitReader(c, 4)) // it waits
		done <- errors.Join(err, c.Close())
	}()
	if _, err := io.WriteString(a, "ping"); err != nil {
		log.Fatal(err)
	}
	if err := <-done; err != nil {
		log.Fatal(err)
	}
	buf := make([]byte, 4)
	if _, err := a.Read(buf); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", buf)
	// Output:
	// ping
}
