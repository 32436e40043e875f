// Restart is a server that replaces itself by a new program while it is under load, and
// refuses no connection meanwhile.
//
// It answers each line with the number of its process. On SIGHUP it starts its executable
// again, which may be a newer version by then, and passes the listening socket to it. When
// the new process reports that it accepts connections, the old one stops accepting, serves
// the connections that it has, and exits. On SIGTERM or SIGINT it exits in the same way,
// without a successor.
//
//	$ go run github.com/epore/epore/examples/restart -addr 127.0.0.1:7777
//	process 4711 listens on 127.0.0.1:7777
//
// It needs a system that has such signals: any Unix.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the whole program. It returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("restart", flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("addr", "127.0.0.1:7777", "the `address` to listen on, with a literal IP")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if err := serve(*addr, stdout); err != nil {
		fmt.Fprintln(stderr, "restart:", err)
		return 1
	}
	return 0
}
