package socket

import (
	"fmt"
	"io/fs"
	"math"
	"net"
	"time"
)

// Option is an argument to Listen and ListenPacket.
type Option func(*options)

type options struct {
	reusePort   bool
	deferAccept time.Duration
	backlog     int
}

// ReusePort lets several sockets listen on one address (SO_REUSEPORT, and
// SO_REUSEPORT_LB on FreeBSD): a listener for each Poll. Linux, FreeBSD and DragonFly
// spread connections and datagrams over them; the other BSDs and macOS give them to one.
// Where there is no such thing: errors.ErrUnsupported.
func ReusePort() Option { return func(o *options) { o.reusePort = true } }

// DeferAccept has connections accepted only when their first data has come, or after
// about this time, which is rounded up to whole seconds (Linux, TCP_DEFER_ACCEPT); or
// without end, whatever the time (FreeBSD, where the accept filter accf_data has to be
// loaded). For protocols in which the client speaks first. It concerns Listen with TCP.
// Where there is no such thing: errors.ErrUnsupported.
func DeferAccept(atMost time.Duration) Option {
	return func(o *options) { o.deferAccept = atMost }
}

// Backlog is how many connections may wait to be accepted, beyond which the system lets
// clients try again later. Without it, or below 1, as many as the system allows (on
// Linux net.core.somaxconn), which also cuts what is asked for here.
func Backlog(n int) Option { return func(o *options) { o.backlog = n } }

// maxBacklog is above what any system allows by default. Old kernels keep 16 bits of it.
const maxBacklog = math.MaxUint16

func apply(opts []Option) options {
	o := options{backlog: maxBacklog}
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	if o.backlog < 1 || o.backlog > maxBacklog {
		o.backlog = maxBacklog
	}
	return o
}

// SetReadBuffer sets the size of the system's receive buffer (SO_RCVBUF). Linux doubles
// it, and cuts it at net.core.rmem_max.
func (b *base) SetReadBuffer(bytes int) error {
	return b.do("set", func(h handle) error { return setReadBuffer(h, bytes) })
}

// SetWriteBuffer sets the size of the system's send buffer (SO_SNDBUF). Linux doubles
// it, and cuts it at net.core.wmem_max.
func (b *base) SetWriteBuffer(bytes int) error {
	return b.do("set", func(h handle) error { return setWriteBuffer(h, bytes) })
}

// SetNoDelay says whether data is sent at once (true, as every TCP Conn begins) or
// collected for a moment into fewer packets (TCP_NODELAY).
func (c *Conn) SetNoDelay(noDelay bool) error {
	return c.tcpOption(func(h handle) error { return setNoDelay(h, noDelay) })
}

// SetLinger says what becomes of data that was written and not yet delivered when a TCP
// Conn is closed: below 0, as a Conn begins, it is still delivered in the background;
// with 0 it is thrown away and the connection reset; above 0, Close waits for it,
// at most so many seconds (on some systems in the background).
func (c *Conn) SetLinger(seconds int) error {
	return c.tcpOption(func(h handle) error { return setLinger(h, seconds) })
}

// SetKeepAlive says whether the system asks a silent peer if it is there. Unlike in
// package net a Conn begins without.
func (c *Conn) SetKeepAlive(on bool) error {
	return c.tcpOption(func(h handle) error { return setKeepAlive(h, on) })
}

// SetKeepAliveConfig sets SetKeepAlive and its times as [net.TCPConn] does: times are
// rounded up to whole seconds, zero stands for 15 s and 9 probes, and what is negative
// stays as it is. What the system cannot set is errors.ErrUnsupported, unless it is
// negative; then nothing was changed but what stands before it in the struct.
func (c *Conn) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	return c.tcpOption(func(h handle) error {
		if err := setKeepAlive(h, config.Enable); err != nil || !config.Enable {
			return err
		}
		if config.Idle >= 0 {
			if err := setKeepAliveIdle(h, seconds(config.Idle, 15)); err != nil {
				return fmt.Errorf("idle: %w", err)
			}
		}
		if config.Interval >= 0 {
			if err := setKeepAliveInterval(h, seconds(config.Interval, 15)); err != nil {
				return fmt.Errorf("interval: %w", err)
			}
		}
		if config.Count >= 0 {
			count := config.Count
			if count == 0 {
				count = 9
			}
			if err := setKeepAliveCount(h, count); err != nil {
				return fmt.Errorf("count: %w", err)
			}
		}
		return nil
	})
}

// seconds rounds up, and takes zero for the default.
func seconds(d time.Duration, byDefault int) int {
	if d == 0 {
		return byDefault
	}
	return int(min((d-1)/time.Second+1, math.MaxInt32))
}

// tcpOption sets what only TCP has.
func (c *Conn) tcpOption(set func(h handle) error) error {
	return c.do("set", func(h handle) error {
		if c.proto != tcp {
			return fmt.Errorf("an option of TCP: %w", fs.ErrInvalid)
		}
		return set(h)
	})
}
