package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// delayServer answers GET /<milliseconds>/<text> with the text after that time.
// It is an ordinary net/http server and does not use package epore.
type delayServer struct {
	listener net.Listener
	http     http.Server
	served   chan struct{}      // closed once no more connections are accepted
	conns    sync.WaitGroup     // counts the open connections
	giveUp   context.CancelFunc // ends the delays
}

// startServer starts a delayServer on a free port of the loopback interface.
func startServer() (*delayServer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("cannot start the delay server: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &delayServer{listener: listener, served: make(chan struct{}), giveUp: cancel}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{ms}/{text}", delayed)
	mux.HandleFunc("/", badRequest)
	s.http.Handler = mux
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	s.http.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.conns.Add(1)
		case http.StateClosed:
			s.conns.Done()
		}
	}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(listener) // until stop closes the listener
	}()
	return s, nil
}

// addr returns the server's host:port.
func (s *delayServer) addr() string { return s.listener.Addr().String() }

// stop ends the server immediately, and returns once all its connections are
// closed.
func (s *delayServer) stop() {
	s.giveUp()
	_ = s.listener.Close()
	<-s.served
	_ = s.http.Close()
	s.conns.Wait()
}

func delayed(w http.ResponseWriter, r *http.Request) {
	ms, err := strconv.ParseUint(r.PathValue("ms"), 10, 31) // at most 24 days
	if err != nil {
		badRequest(w, r)
		return
	}
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, r.PathValue("text"))
	case <-r.Context().Done(): // the client has left, or the server stops
		panic(http.ErrAbortHandler) // closes the connection without an answer
	}
}

func badRequest(w http.ResponseWriter, r *http.Request) {
	http.Error(w, "ask for GET /<milliseconds>/<text>", http.StatusBadRequest)
}
