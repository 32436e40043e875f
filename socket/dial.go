package socket

import (
	"net"
	"os"

	"github.com/epore/epore/backend"
)

// Dial begins to connect to an address and returns without waiting. When the attempt has
// ended, the Conn becomes writable, and [Conn.ConnectError] reports how it ended. Until then
// reading and writing return ErrWouldBlock.
//
// The network and the address are as for [Listen]. As in package net, an address without a
// host means this host, by IPv4; 0.0.0.0 means the same, and [::] means this host by IPv6 where
// the system has sockets for both.
//
// A Unix socket is connected when Dial returns. If the peer's backlog is full, Dial fails
// with syscall.EAGAIN, because no event would report the end of the attempt.
func Dial(network, address string, opts ...Option) (*Conn, error) {
	t, err := parse("dial", network, address, false, false)
	if err != nil {
		return nil, err
	}
	o := apply(opts)
	c, err := dial(&t, network, &o, 2)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: t.addr(), Err: err}
	}
	return c, nil
}

// dial begins to connect to t. It tries again, at most so many times, when the socket has
// connected to itself: the system may choose the target's port as the local port, and then
// the attempt to reach a closed port succeeds (simultaneous open, RFC 9293). Package net
// tries again as often.
func dial(t *target, network string, o *options, retries int) (*Conn, error) {
	c, toItself := new(Conn), false
	err := t.open(&c.base, func(h handle) error {
		if t.proto == tcp {
			if err := setNoDelay(h, true); err != nil {
				return err
			}
		}
		if err := o.beforeConnect(&c.base, t, network); err != nil {
			return err
		}
		err := connect(h, t)
		if err != nil && err != errInProgress {
			return err
		}
		if err == errInProgress {
			c.connect.Store(&connectState{err, *t})
		}
		if t.proto == tcp && !o.namesPort() {
			local := localAddrPort(h)
			toItself = local.Port() == t.addrPort.Port() && local.Addr().WithZone("") == t.addrPort.Addr().WithZone("")
		}
		return nil
	})
	if err != nil || !toItself {
		return c, err
	}
	// Closed only after the next attempt, so that the system chooses another port for it;
	// and with a reset, so that the target's port does not stay in TIME_WAIT.
	defer c.Close()
	if err := setLinger(c.descriptor().Handle(), 0); err != nil {
		return nil, err
	}
	if retries == 0 {
		return nil, os.NewSyscallError("connect", errRefused)
	}
	return dial(t, network, o, retries-1)
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
	if err := connectError(h); err != nil {
		c.connect.CompareAndSwap(was, &connectState{err, was.to})
	} else if connected(h) {
		c.noteConnected(was)
	}
	return c.connect.Load() // a concurrent Read or Write may have recorded the end first
}
