// Chat is a chat server for browsers, on package loop: WebSockets, plain and over TLS, with
// rooms. It serves its page too. See README.md.
//
//	$ go run . -addr 127.0.0.1:8080
//	listening on http://127.0.0.1:8080; ^C stops it
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/epore/epore/loop"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the server until ctx is done, and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("chat", flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("addr", "127.0.0.1:8080", "`address` to listen on: a literal IP address or nothing, and a port (0: a free one)")
	tlsAddr := flags.String("tls", "", "`address` to listen on with TLS (empty: none)")
	cert := flags.String("cert", "", "`file` of the certificate for TLS (empty: a new self-signed one)")
	key := flags.String("key", "", "`file` of the key of the certificate")
	ping := flags.Duration("ping", 30*time.Second, "ping members at this `interval`, and drop those that sent nothing since the last ping")
	unsent := flags.Int("unsent", 256<<10, "drop a member when more than this number of `bytes` is unsent")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err == nil && flags.NArg() > 0:
		fmt.Fprintf(stderr, "chat: unexpected argument %q: run it with -h for help\n", flags.Arg(0))
		return 2
	case err == nil && (*ping <= 0 || *unsent <= 0):
		fmt.Fprintln(stderr, "chat: -ping and -unsent must be positive")
		return 2
	case err == nil && (*cert == "") != (*key == ""):
		fmt.Fprintln(stderr, "chat: -cert and -key belong together")
		return 2
	case err == nil && *cert != "" && *tlsAddr == "":
		fmt.Fprintln(stderr, "chat: -cert is for TLS: say where to listen with -tls")
		return 2
	case err != nil:
		return 2
	}
	s := &server{rooms: make(map[string]map[*loop.Conn]*member), ping: *ping}
	cfg := loop.Config{MaxIn: maxMessage + 1<<10, MaxOut: *unsent, Grace: time.Second}
	err := loop.Run(ctx, 1, cfg, func(l *loop.Loop) error {
		a, err := l.Listen("tcp", *addr, nil, s)
		if err != nil {
			return err
		}
		where := "http://" + a.String()
		if *tlsAddr != "" {
			t, err := tlsConfig(*cert, *key)
			if err != nil {
				return err
			}
			if a, err = l.Listen("tcp", *tlsAddr, t, s); err != nil {
				return err
			}
			where += " and https://" + a.String()
		}
		fmt.Fprintf(stdout, "listening on %s; ^C stops it\n", where)
		s.start(l)
		return nil
	})
	if err != nil {
		fmt.Fprintln(stderr, "chat:", err)
		return 1
	}
	fmt.Fprintf(stdout, "%d members, %d messages, %d dropped\n", s.joined, s.messages, s.dropped)
	return 0
}

// tlsConfig loads a certificate, or makes one.
func tlsConfig(cert, key string) (*tls.Config, error) {
	if cert != "" {
		c, err := tls.LoadX509KeyPair(cert, key)
		return &tls.Config{Certificates: []tls.Certificate{c}}, err
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	// The serial number is a random one: browsers refuse a second certificate with the same.
	template := x509.Certificate{NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(0, 1, 0), DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &k.PublicKey, k)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: k}}}, err
}
