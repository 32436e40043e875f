package socket

import (
	"net"

	"github.com/epore/epore/backend"
)

// Dial begins to connect to an address and returns without waiting. When the attempt has
// ended, the Conn becomes writable, and [Conn.ConnectError] reports how it ended. Until then
// reading and writing return ErrWouldBlock.
//
// The network and the address are as for [Listen]. As in package net, an address without a
// host means this host.
//
// A Unix socket is connected when Dial returns. If the peer's backlog is full, Dial fails
// with syscall.EAGAIN, because no event would report the end of the attempt.
func Dial(network, address string) (*Conn, error) {
	t, err := parse("dial", network, address, false, false)
	if err != nil {
		return nil, err
	}
	c := new(Conn)
	err = t.open(&c.base, func(h handle) error {
		if t.proto == tcp {
			if err := setNoDelay(h, true); err != nil {
				return err
			}
		}
		err := connect(h, &t)
		if err == errInProgress {
			c.connect.Store(&connectState{err, t})
			return nil
		}
		return err
	})
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: t.addr(), Err: err}
	}
	return c, nil
}

// ConnectError reports how the attempt to connect has ended: nil if the Conn is connected,
// ErrWouldBlock if it is still connecting, otherwise the reason for the failure. It returns
// the same result each time it is called after the end of the attempt.
//
// Call it after the first Writable event, from the goroutine that reads and writes.
func (c *Conn) ConnectError() error {
	d := c.descriptor()
	if !d.Acquire() {
		return c.closed("dial")
	}
	defer d.Release()
	state := c.connect.Load()
	if state.inProgress() {
		state = c.updateConnectState(d.Handle(), state)
	}
	switch {
	case state == nil:
		return nil
	case state.inProgress():
		return c.wouldBlock(backend.Writable)
	}
	return c.failed("dial", state.err)
}

// updateConnectState asks the system about an attempt that was in progress, and records its
// end.
func (c *Conn) updateConnectState(h handle, was *connectState) *connectState {
	if err := pendingError(h); err != nil {
		c.connect.CompareAndSwap(was, &connectState{err, was.to})
	} else if isConnected(h) {
		c.noteConnected(was)
	}
	return c.connect.Load() // a concurrent Read or Write may have recorded the end first
}
