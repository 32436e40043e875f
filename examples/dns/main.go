// Dns answers queries from a hosts file, and forwards the others, on package loop.
//
//	$ go run . -addr 127.0.0.1:5300 -hosts /etc/hosts -upstream 127.0.0.53:53
//	listening on 127.0.0.1:5300; ^C stops it
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/epore/epore"
	"github.com/epore/epore/loop"
	"github.com/epore/epore/socket"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the server until ctx is done, and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("dns", flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("addr", "127.0.0.1:5300", "`address` to listen on: a literal IP address or nothing, and a port (0: a free one)")
	file := flags.String("hosts", "/etc/hosts", "`file` of addresses and names, as in hosts(5)")
	upstream := flags.String("upstream", "", "`address` of the server that answers other queries (empty: they are refused)")
	timeout := flags.Duration("timeout", 2*time.Second, "`time` for an answer from there, once repeated")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err == nil && flags.NArg() > 0:
		fmt.Fprintf(stderr, "dns: unexpected argument %q: run it with -h for help\n", flags.Arg(0))
		fallthrough
	case err != nil:
		return 2
	case *timeout <= 0:
		fmt.Fprintln(stderr, "dns: -timeout must be positive")
		return 2
	}
	s := &server{queries: make(map[uint16]*query), timeout: *timeout, log: stderr}
	err := s.readHosts(*file)
	if err == nil {
		err = s.serve(ctx, loop.Config{}, system{}, *addr, *upstream, func() {
			fmt.Fprintf(stdout, "listening on %s; ^C stops it\n", s.clients.LocalAddr())
		})
	}
	if err != nil {
		fmt.Fprintln(stderr, "dns:", err)
		return 1
	}
	fmt.Fprintf(stdout, "%d queries answered, %d forwarded, %d failed\n", s.answered, s.forwarded, s.failed)
	return 0
}

// readHosts reads a file of lines with an address and names.
func (s *server) readHosts(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	s.hosts = make(map[string][]netip.Addr)
	s.names = make(map[string]string)
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		a, err := netip.ParseAddr(fields[0])
		if err != nil || len(fields) == 1 {
			return fmt.Errorf("%s: line %d: %q is not an address and names", name, n, line)
		}
		for _, field := range fields[1:] {
			if _, ok := dns.IsDomainName(field); !ok {
				return fmt.Errorf("%s: line %d: %q is not a name", name, n, field)
			}
			if host := dns.CanonicalName(field); !slices.Contains(s.hosts[host], a) {
				s.hosts[host] = append(s.hosts[host], a)
			}
		}
		if reverse, err := dns.ReverseAddr(a.WithZone("").String()); err == nil && s.names[reverse] == "" {
			s.names[reverse] = dns.CanonicalName(fields[1])
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// network makes the sockets. It is package socket, or a simulated host.
type network interface {
	ListenPacket(network, address string, opts ...socket.Option) (*socket.PacketConn, error)
	DialPacket(network, address string, opts ...socket.Option) (*socket.PacketConn, error)
}

type system struct{}

func (system) ListenPacket(network, address string, opts ...socket.Option) (*socket.PacketConn, error) {
	return socket.ListenPacket(network, address, opts...)
}

func (system) DialPacket(network, address string, opts ...socket.Option) (*socket.PacketConn, error) {
	return socket.DialPacket(network, address, opts...)
}

// serve runs the loop until ctx is done. It calls listening on it.
func (s *server) serve(ctx context.Context, cfg loop.Config, n network, addr, upstream string, listening func()) error {
	defer s.close()
	return loop.Run(ctx, 1, cfg, func(l *loop.Loop) error {
		err := s.listen(l, n, addr, upstream)
		if err == nil {
			listening()
		}
		return err
	})
}

// listen opens the sockets, and watches them.
func (s *server) listen(l *loop.Loop, n network, addr, upstream string) (err error) {
	s.loop = l
	if s.clients, err = n.ListenPacket("udp", addr); err != nil {
		return err
	}
	if a, ok := s.clients.LocalAddr().(*net.UDPAddr); ok && a.IP.IsUnspecified() {
		if s.controlSize, err = reportDestination(s.clients, a.IP.To4() != nil); err != nil {
			return err
		}
	}
	r := l.Poll().Registry()
	if err := r.Register(s.clients, l.Handle(func(epore.Event) { s.readQueries() }), epore.Readable); err != nil {
		return err
	}
	if upstream == "" {
		return nil
	}
	if s.upstream, err = n.DialPacket("udp", upstream); err != nil {
		return err
	}
	return r.Register(s.upstream, l.Handle(func(epore.Event) { s.readAnswers() }), epore.Readable)
}

func (s *server) close() {
	if s.clients != nil {
		_ = s.clients.Close()
	}
	if s.upstream != nil {
		_ = s.upstream.Close()
	}
}
