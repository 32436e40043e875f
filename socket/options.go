package socket

import (
	"fmt"
	"io/fs"
	"math"
	"net"
	"syscall"
	"time"

	"github.com/epore/epore/internal/simfd"
)

// Option is an optional setting of Listen, ListenPacket, Dial and DialPacket.
type Option func(*options)

type options struct {
	reusePort   bool
	deferAccept *time.Duration
	backlog     *int
	control     func(network, address string, c syscall.RawConn) error
	localAddr   *string
}

// ReusePort lets several sockets listen on one address (SO_REUSEPORT; on FreeBSD
// SO_REUSEPORT_LB), for example one listener for each Poll. Linux, FreeBSD and DragonFly
// distribute connections and datagrams among the sockets; the other BSDs and macOS give them
// all to one. Where the system lacks the option, Listen and ListenPacket fail with
// errors.ErrUnsupported.
func ReusePort() Option { return func(o *options) { o.reusePort = true } }

// DeferAccept delays a connection until its first data has arrived. It is for protocols in
// which the client speaks first, and only for Listen with TCP. With 0, it delays nothing;
// a negative atMost is an error.
//
// On Linux (TCP_DEFER_ACCEPT) a connection can be accepted without data after about atMost,
// rounded up to whole seconds. On FreeBSD, where the accept filter accf_data must be loaded,
// it waits indefinitely, whatever atMost is. Where the system lacks the option, Listen fails
// with errors.ErrUnsupported.
func DeferAccept(atMost time.Duration) Option {
	return func(o *options) { o.deferAccept = &atMost }
}

// Backlog sets how many connections may wait to be accepted. Beyond that number, the system
// makes clients try again later. Without this option, or with n below 1, the backlog is the
// maximum of the system (on Linux net.core.somaxconn), which also limits n. It is only for Listen.
func Backlog(n int) Option { return func(o *options) { o.backlog = &n } }

// maxBacklog is above the default limit of every system. Old kernels use 16 bits of it.
const maxBacklog = math.MaxUint16

func apply(opts []Option) options {
	var o options
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	return o
}

// check returns an error if an option does not apply to a socket for t. listen says that it was made
// by Listen or ListenPacket.
func (o *options) check(t *target, listen bool) error {
	why := ""
	switch listener := listen && !t.proto.datagrams(); {
	case o.localAddr != nil && listen:
		why = "LocalAddr is only for Dial and DialPacket"
	case o.backlog != nil && !listener:
		why = "Backlog is only for Listen"
	case o.deferAccept == nil:
	case !listener || t.proto != tcp:
		why = "DeferAccept is only for Listen with TCP"
	case *o.deferAccept < 0:
		why = "DeferAccept of " + o.deferAccept.String() + ": negative"
	}
	if why != "" {
		return fmt.Errorf("%s: %w", why, fs.ErrInvalid)
	}
	return nil
}

// listenBacklog returns the backlog for listen(2).
func (o *options) listenBacklog() int {
	if o.backlog == nil || *o.backlog < 1 {
		return maxBacklog
	}
	return min(*o.backlog, maxBacklog)
}

// deferring returns how long DeferAccept delays connections; 0: not.
func (o *options) deferring() time.Duration {
	if o.deferAccept == nil {
		return 0
	}
	return *o.deferAccept
}

// SetReadBuffer sets the size of the system's receive buffer in bytes (SO_RCVBUF). Linux
// doubles the size, and limits it to net.core.rmem_max.
func (b *base) SetReadBuffer(bytes int) error {
	return b.option(func(h handle) error { return setReadBuffer(h, bytes) })
}

// SetWriteBuffer sets the size of the system's send buffer in bytes (SO_SNDBUF). Linux
// doubles the size, and limits it to net.core.wmem_max.
func (b *base) SetWriteBuffer(bytes int) error {
	return b.option(func(h handle) error { return setWriteBuffer(h, bytes) })
}

// SetNoDelay sets whether data is sent at once, or delayed for a moment to send fewer packets
// (TCP_NODELAY). Every TCP Conn begins with true: no delay.
func (c *Conn) SetNoDelay(noDelay bool) error {
	return c.tcpOption(func(h handle) error { return setNoDelay(h, noDelay) })
}

// SetLinger sets what happens to written data that is not delivered yet when a TCP Conn is
// closed. Below 0, the default, the system still delivers it in the background. With 0, the
// data is discarded and the connection reset. Above 0, Close waits until it is delivered, at
// most that many seconds (on some systems in the background).
func (c *Conn) SetLinger(seconds int) error {
	if d := c.descriptor(); d.Acquire() {
		defer d.Release()
		if simfd.Is(d.Handle()) {
			simfd.Get(d.Handle()).SetLinger(seconds)
			return nil
		}
	}
	return c.tcpOption(func(h handle) error { return setLinger(h, seconds) })
}

// SetKeepAlive sets whether the system probes a silent peer (SO_KEEPALIVE). Unlike in package
// net, the default is off.
func (c *Conn) SetKeepAlive(on bool) error {
	return c.tcpOption(func(h handle) error { return setKeepAlive(h, on) })
}

// SetKeepAliveConfig sets keep-alive and its parameters as [net.TCPConn] does. Times are
// rounded up to whole seconds. Zero means the default: 15 s, and 9 probes. A negative value
// leaves the parameter unchanged.
//
// A parameter that the system cannot set fails with errors.ErrUnsupported, unless it is
// negative. Then only the fields before it in the struct have taken effect.
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

// seconds rounds d up to whole seconds; zero means the default.
func seconds(d time.Duration, byDefault int) int {
	if d == 0 {
		return byDefault
	}
	return int(min((d-1)/time.Second+1, math.MaxInt32))
}

// errOptionRange returns the error of a value that does not fit an option, which has 32 bits.
func errOptionRange(value int) error {
	return fmt.Errorf("value %d out of range: %w", value, fs.ErrInvalid)
}

// tcpOption sets an option that exists only for TCP.
func (c *Conn) tcpOption(set func(h handle) error) error {
	return c.option(func(h handle) error {
		if c.proto != tcp {
			return fmt.Errorf("option only for TCP: %w", fs.ErrInvalid)
		}
		return set(h)
	})
}

// option calls set with the descriptor of b, unless it is simulated: then nothing happens.
func (b *base) option(set func(h handle) error) error {
	return b.do("set", func(h handle) error {
		if simfd.Is(h) {
			return nil
		}
		return set(h)
	})
}
