//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/epore/epore"
	"github.com/epore/epore/slab"
	"github.com/epore/epore/socket"
	"github.com/epore/epore/tryio"
)

// The tokens of what is no session. Those of a Slab are never so small.
const (
	listening epore.Token = iota
	signalled
	replaced
)

// successor is set in the environment of a process that gets the listening socket as
// descriptor 3, and as descriptor 4 a pipe by which it says that it is ready.
const successor = "EPORE_RESTART_SUCCESSOR"

// server is one process.
type server struct {
	poll     *epore.Poll
	listener *socket.Listener
	signals  *epore.Signal
	sessions slab.Slab[*session]
	ready    *os.File // the pipe of a successor that was started, or nil
	ending   bool     // no connection is accepted any more
}

// session is a connection.
type session struct {
	conn *socket.Conn
	line []byte // what was read of a line
}

func serve(addr string, out io.Writer) (err error) {
	s := new(server)
	if s.poll, err = epore.New(); err != nil {
		return err
	}
	defer s.poll.Close()
	r := s.poll.Registry()
	if s.signals, err = epore.NewSignal(r, signalled, syscall.SIGHUP, syscall.SIGTERM, os.Interrupt); err != nil {
		return err
	}
	if s.listener, err = listen(addr); err != nil {
		return err
	}
	if err := r.Register(s.listener, listening, epore.Readable); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "process %d listens on %v\n", os.Getpid(), s.listener.Addr()); err != nil {
		return err
	}
	if os.Getenv(successor) != "" {
		if err := os.Unsetenv(successor); err != nil {
			return err
		}
		ready := os.NewFile(4, "ready")
		_, err := ready.Write([]byte{1})
		if err := errors.Join(err, ready.Close()); err != nil {
			return err
		}
	}
	return s.run()
}

// listen takes the socket over, or makes one.
func listen(addr string) (*socket.Listener, error) {
	if os.Getenv(successor) == "" {
		return socket.Listen("tcp", addr)
	}
	inherited, err := socket.FromFD(3)
	if err != nil {
		return nil, err
	}
	l, ok := inherited.(*socket.Listener)
	if !ok {
		return nil, fmt.Errorf("inherited a %T, which does not listen", inherited)
	}
	return l, nil
}

// run is the loop. It ends when no connection is accepted any more and the last one is over.
func (s *server) run() error {
	events := epore.NewEvents(256)
	for !s.ending || s.sessions.Len() > 0 {
		if err := s.poll.Poll(events, epore.Forever); err != nil {
			return err
		}
		for ev := range events.All() {
			var err error
			switch ev.Token {
			case listening:
				err = s.accept()
			case signalled:
				err = s.signal()
			case replaced:
				err = s.replace()
			default:
				s.answer(ev.Token)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *server) accept() error {
	for {
		conn, err := s.listener.Accept()
		if err == socket.ErrWouldBlock {
			return nil // another process that shares the socket may have been faster
		}
		if err != nil {
			return err
		}
		token := s.sessions.Insert(&session{conn: conn})
		if err := s.poll.Registry().Register(conn, token, epore.Readable); err != nil {
			return err
		}
	}
}

// answer reads from a connection and answers each whole line.
func (s *server) answer(token epore.Token) {
	c, ok := s.sessions.Get(token)
	if !ok {
		return
	}
	buf := make([]byte, 512)
	n, err := c.conn.Read(buf)
	if err == socket.ErrWouldBlock {
		return
	}
	c.line = append(c.line, buf[:n]...)
	for err == nil {
		_, rest, whole := bytes.Cut(c.line, []byte("\n"))
		if !whole {
			break
		}
		c.line = rest
		// A client that does not read its answers is let go: here, would block is an error.
		_, err = fmt.Fprintf(c.conn, "%d\n", os.Getpid())
	}
	if err != nil || len(c.line) > 4096 {
		_ = c.conn.Close()
		s.sessions.Remove(token)
	}
}

func (s *server) signal() error {
	for sig := range s.signals.Received() {
		if sig != syscall.SIGHUP {
			return s.end()
		}
		if s.ready != nil || s.ending {
			continue // a successor is on its way already
		}
		if err := s.startSuccessor(); err != nil {
			fmt.Fprintln(os.Stderr, "restart: this process goes on:", err)
		}
	}
	return nil
}

// startSuccessor starts the executable again, with the listening socket.
func (s *server) startSuccessor() error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	l, err := s.listener.File()
	if err != nil {
		return err
	}
	defer l.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close()
	cmd := exec.Command(executable, os.Args[1:]...)
	cmd.Env = append(os.Environ(), successor+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{l, w}
	if err := cmd.Start(); err != nil {
		return errors.Join(err, r.Close())
	}
	go func() { _ = cmd.Wait() }() // so that one that fails leaves nothing behind
	s.ready = r
	return s.poll.Registry().Register(r, replaced, epore.Readable)
}

// replace looks at what the successor has said. If its end of the pipe was closed without a
// word, it has failed, and this process goes on.
func (s *server) replace() error {
	_, err := tryio.Read(s.ready, make([]byte, 1))
	if err == tryio.ErrWouldBlock {
		return nil
	}
	failed := err != nil
	err = errors.Join(s.poll.Registry().Deregister(s.ready), s.ready.Close())
	s.ready = nil
	if failed || err != nil {
		return err
	}
	return s.end()
}

// end closes the listener. Connections that wait to be accepted are those of the successor;
// the sessions of this process go on until their clients close them.
func (s *server) end() error {
	if s.ending {
		return nil
	}
	s.ending = true
	return s.listener.Close()
}
