package socket

import (
	"net"

	"github.com/epore/epore/backend"
)

// Dial begins to connect to an address, and returns without waiting: the Conn is
// writable when the attempt has ended, and [Conn.ConnectError] says how. Until then
// reading and writing give ErrWouldBlock. A Unix socket is connected when Dial returns;
// if the peer's backlog is full, that is the error syscall.EAGAIN here, and no event
// would tell of the end.
//
// network and address are as in [Listen]. As in package net, no host means this one.
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

// ConnectError tells how the attempt to connect has ended: nil when the Conn is
// connected, ErrWouldBlock when it is still connecting, else why it failed; and the same
// whenever it is asked again. To be called after the first Writable event, by whoever
// reads and writes.
func (c *Conn) ConnectError() error {
	d := c.own()
	if !d.Acquire() {
		return c.closed("dial")
	}
	defer d.Release()
	state := c.connect.Load()
	if state.inProgress() {
		state = c.askConnected(d.Handle(), state)
	}
	switch {
	case state == nil:
		return nil
	case state.inProgress():
		return c.wouldBlock(backend.Writable)
	}
	return c.failed("dial", state.err)
}

// askConnected asks the system how an attempt stands that was in progress, and notes when
// it has ended.
func (c *Conn) askConnected(h handle, was *connectState) *connectState {
	var now *connectState
	if err := pendingError(h); err != nil {
		now = &connectState{err, was.to}
	} else if !isConnected(h) {
		return was
	}
	if !c.connect.CompareAndSwap(was, now) {
		return c.connect.Load() // reading or writing was told meanwhile
	}
	return now
}
