package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// contestant is one library in one configuration.
type contestant struct {
	id    string // in the results
	title string // for people
	// make are the commands that build the program in {bin}. Contestants with the same
	// commands share the program.
	program string
	make    []string
	args    []string // of each run, after those of the measure
	server  bool     // serves echo
	mover   bool     // moves data; what is neither this nor a server is a queue
	tls     bool     // over TLS
}

func goTool(program, tags, pkg string) []string {
	return []string{"go", "build", "-tags", tags, "-o", "{bin}/" + program, pkg}
}

func cc(program, source string, libs ...string) []string {
	return append([]string{"cc", "-O2", "-o", "{bin}/" + program, source, "-pthread", "-lm"}, libs...)
}

// Debian installs the sources of mio; cargo is told where.
var cargo = []string{"cargo", "build", "--quiet", "--release", "--offline", "--manifest-path", "contestants/mio/Cargo.toml", "--target-dir", "{bin}/mio-target",
	"--config", `source.crates-io.replace-with="debian"`, "--config", `source.debian.directory="/usr/share/cargo/registry"`}

// contestants, in the order of the tables. The first is the floor.
var contestants = []contestant{
	{id: "c-epoll", title: "C, epoll", program: "epoll-c", make: cc("epoll-c", "contestants/c/epoll.c")},
	{id: "c-uring", title: "C, io_uring", program: "uring-c", make: cc("uring-c", "contestants/c/uring.c")},
	{id: "go-epoll", title: "Go, epoll by raw system calls", program: "rawepoll", make: goTool("rawepoll", "", "./contestants/rawepoll")},
	{id: "epore-epoll", title: "**Epore**, epoll, parks", program: "epore", make: goTool("epore", "", "./contestants/epore"), args: []string{"gear=park"}},
	{id: "epore-epoll-block", title: "**Epore**, epoll, blocks", program: "epore", args: []string{"gear=block"}},
	{id: "epore-uring", title: "**Epore**, io_uring", program: "epore-uring", make: goTool("epore-uring", "iouring", "./contestants/epore"), args: []string{"gear=block"}},
	{id: "epore-pollfd", title: "**Epore**, poll(2), blocks", program: "epore-pollfd", make: goTool("epore-pollfd", "pollfd", "./contestants/epore"), args: []string{"gear=block"}},
	{id: "mio", title: "mio (Rust)", program: "mio-target/release/mio-contestant", make: cargo},
	{id: "libev", title: "libev (C)", program: "libev", make: cc("libev", "contestants/c/libev.c", "-lev")},
	{id: "libevent", title: "libevent (C)", program: "libevent", make: cc("libevent", "contestants/c/libevent.c", "-levent", "-levent_pthreads")},
	{id: "libuv", title: "libuv (C)", program: "libuv", make: cc("libuv", "contestants/c/libuv.c", "-luv")},
	{id: "gnet", title: "gnet netpoll", program: "gnet", make: goTool("gnet", "", "./contestants/gnet")},
	{id: "gnet-opt", title: "gnet netpoll, poll_opt", program: "gnet-opt", make: goTool("gnet-opt", "poll_opt", "./contestants/gnet")},
	{id: "easygo", title: "easygo netpoll", program: "easygo", make: goTool("easygo", "", "./contestants/easygo")},
	{id: "epoller", title: "smallnest/epoller", program: "epoller", make: goTool("epoller", "", "./contestants/epoller")},
	{id: "net", title: "package net, channels, time", program: "net", make: goTool("net", "", "./contestants/net")},

	{id: "sockets-net", title: "package net", program: "sockets", make: goTool("sockets", "", "./contestants/sockets"), args: []string{"way=net"}, mover: true},
	{id: "sockets-epore-plain", title: "**Epore**, one at a time; Read and Write", program: "sockets", args: []string{"way=plain"}, mover: true},
	{id: "sockets-epore", title: "**Epore**, batches; splice", program: "sockets", args: []string{"way=fast"}, mover: true},

	{id: "server-c-level", title: "C, epoll, level", program: "server-c", make: cc("server-c", "servers/c/server.c"), args: []string{"level"}, server: true},
	{id: "server-c-edge", title: "C, epoll, edge", program: "server-c", args: []string{"edge"}, server: true},
	{id: "server-epore", title: "**Epore** by hand, epoll", program: "server-epore", make: goTool("server-epore", "", "./servers/epore"), server: true},
	{id: "server-epore-block", title: "**Epore** by hand, epoll, -block", program: "server-epore", args: []string{"-block"}, server: true},
	{id: "server-epore-uring", title: "**Epore** by hand, io_uring", program: "server-epore-uring", make: goTool("server-epore-uring", "iouring", "./servers/epore"), server: true},
	{id: "server-epore-loop", title: "**Epore** package loop, epoll", program: "server-loop", make: goTool("server-loop", "", "./servers/loop"), server: true},
	{id: "server-epore-loop-uring", title: "**Epore** package loop, io_uring", program: "server-loop-uring", make: goTool("server-loop-uring", "iouring", "./servers/loop"), server: true},
	{id: "server-net", title: "package net", program: "server-net", make: goTool("server-net", "", "./servers/net"), server: true},
	{id: "server-gnet", title: "gnet", program: "server-gnet", make: goTool("server-gnet", "", "./servers/gnet"), server: true},
	{id: "server-gnet-opt", title: "gnet, poll_opt", program: "server-gnet-opt", make: goTool("server-gnet-opt", "poll_opt", "./servers/gnet"), server: true},
	{id: "server-nbio", title: "nbio", program: "server-nbio", make: goTool("server-nbio", "", "./servers/nbio"), server: true},
	{id: "server-cloudwego", title: "cloudwego/netpoll", program: "server-cloudwego", make: goTool("server-cloudwego", "", "./servers/cloudwego"), server: true},

	{id: "tls-net", title: "crypto/tls, package net, a goroutine each", program: "server-tls", make: goTool("server-tls", "", "./servers/tls"), args: []string{"goroutines"}, server: true, tls: true},
	{id: "tls-epore-loop", title: "crypto/tls, **Epore** package loop, epoll", program: "server-tls", args: []string{"loop"}, server: true, tls: true},
}

// The load for servers, and for those that speak TLS.
const (
	client    = "client"
	tlsClient = "tls-client"
)

// client returns the program that is the load for a server.
func (k *contestant) client() string {
	if k.tls {
		return tlsClient
	}
	return client
}

func title(id string) string {
	for _, c := range contestants {
		if c.id == id {
			return c.title
		}
	}
	return id
}

// build builds all programs. The results list those that cannot be built as missing, with
// the reason. For Epore's programs that is an error.
func build(ctx context.Context, bin string, r *results, out io.Writer) error {
	if err := command(ctx, bin, cc(client, "servers/c/client.c")); err != nil {
		r.missing[client] = "all servers are missing, for want of the client: " + err.Error()
	}
	if err := command(ctx, bin, goTool(tlsClient, "", "./servers/tlsclient")); err != nil {
		return err
	}
	reasons := map[string]string{} // by program
	for _, c := range contestants {
		if c.make != nil {
			fmt.Fprintf(out, "builds %s\n", c.program)
			err := command(ctx, bin, c.make)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil && strings.Contains(c.title, "Epore"):
				return err
			case err != nil:
				reasons[c.program] = err.Error()
			}
		}
		if reason := reasons[c.program]; reason != "" {
			r.missing[c.id] = reason
		}
	}
	return nil
}

// command runs a build command.
func command(ctx context.Context, bin string, args []string) error {
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "{bin}", bin)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	text := strings.ReplaceAll(lines[len(lines)-1], bin, "")
	for _, line := range lines { // of a compiler: the first error is the reason
		if strings.Contains(line, "error") || strings.Contains(line, "cannot find") {
			text = strings.ReplaceAll(line, bin, "")
			break
		}
	}
	if wd, wdErr := os.Getwd(); wdErr == nil {
		text = strings.ReplaceAll(text, filepath.Dir(wd)+"/", "")
	}
	return fmt.Errorf("%s: %w: %s", args[0], err, text)
}
