package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/epore/epore"
)

// maxAnswer is how long an answer may be, in bytes, with its header.
const maxAnswer = 64 << 10

// request is one HTTP request, on a connection of its own.
type request struct {
	name   string
	delay  time.Duration // after which the server is to answer
	conn   *net.TCPConn
	answer []byte // what has arrived of it
}

// send writes the request.
func (r *request) send() error {
	// "Connection: close" makes the server close after the answer: the end of the
	// stream is the end of the answer.
	_, err := fmt.Fprintf(r.conn, "GET /%d/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
		r.delay.Milliseconds(), r.name)
	if err != nil {
		return fmt.Errorf("%s: cannot send: %w", r.name, err)
	}
	return nil
}

// receive reads what is there, without waiting for more, and says whether the
// stream has ended. It reads until "would block": that is the rule with Edge,
// for only then the next event is certain.
func (r *request) receive() (complete bool, err error) {
	buf := make([]byte, 4096)
	for {
		n, err := recv(r.conn, buf)
		switch {
		case err == errWouldBlock:
			return false, nil
		case err == io.EOF:
			return true, nil
		case err != nil:
			return false, fmt.Errorf("%s: the connection broke before the answer was complete: %w", r.name, err)
		}
		if r.answer = append(r.answer, buf[:n]...); len(r.answer) > maxAnswer {
			return false, fmt.Errorf("%s: the answer is longer than %d bytes", r.name, maxAnswer)
		}
	}
}

// body returns what the server said, once everything was received.
func (r *request) body() ([]byte, error) {
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(r.answer)), nil)
	var body []byte
	if err == nil {
		body, err = io.ReadAll(response.Body)
	}
	cut := errors.Is(err, io.ErrUnexpectedEOF) ||
		err != nil && bytes.HasPrefix(r.answer, []byte("HTTP/")) && !bytes.Contains(r.answer, []byte("\r\n\r\n"))
	switch {
	case cut:
		return nil, fmt.Errorf("%s: the server closed the connection before the answer was complete (%d bytes came)",
			r.name, len(r.answer))
	case err != nil:
		return nil, fmt.Errorf("%s: cannot understand the answer: %w", r.name, err)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: the server refused it: %q", r.name, response.Status)
	}
	return body, nil
}

// close deregisters the connection, then closes it: in this order, so that the
// Poll never watches a descriptor that is somebody else's by now.
func (r *request) close(registry *epore.Registry) error {
	return errors.Join(registry.Deregister(r.conn), r.conn.Close())
}
