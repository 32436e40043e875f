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
	"github.com/epore/epore/tryio"
)

// maxAnswer is the maximum length of an answer in bytes, including its header.
const maxAnswer = 64 << 10

// request is one HTTP request. Each has a separate connection.
type request struct {
	name   string
	delay  time.Duration // after which the server answers
	conn   *net.TCPConn
	answer []byte // the part that has arrived
}

// send writes the request.
func (r *request) send() error {
	// "Connection: close" makes the server close the connection after the answer,
	// so the end of the stream is the end of the answer.
	_, err := fmt.Fprintf(r.conn, "GET /%d/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
		r.delay.Milliseconds(), r.name)
	if err != nil {
		return fmt.Errorf("%s: cannot send: %w", r.name, err)
	}
	return nil
}

// receive reads the available data without waiting for more, and reports whether
// the stream has ended. It reads until "would block", as Edge requires: only
// then is the next event certain.
func (r *request) receive() (complete bool, err error) {
	buf := make([]byte, 4096)
	for {
		n, err := tryio.Read(r.conn, buf)
		switch {
		case err == tryio.ErrWouldBlock:
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

// body returns the body of the answer, which must be complete.
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
		return nil, fmt.Errorf("%s: the server closed the connection before the answer was complete (%d bytes arrived)",
			r.name, len(r.answer))
	case err != nil:
		return nil, fmt.Errorf("%s: malformed answer: %w", r.name, err)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: the server refused the request: %q", r.name, response.Status)
	}
	return body, nil
}

// close deregisters the connection, then closes it. The order matters: a closed
// descriptor's number may be reused, and the Poll must not watch the new file.
func (r *request) close(registry *epore.Registry) error {
	return errors.Join(registry.Deregister(r.conn), r.conn.Close())
}
