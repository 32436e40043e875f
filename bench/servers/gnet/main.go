// Gnet is an echo server with gnet and one event loop, as in gnet's README. With the build
// tag poll_opt, gnet uses another poller.
package main

import (
	"fmt"
	"log"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

type server struct {
	gnet.BuiltinEventEngine
}

// OnBoot prints the port that the system chose, which gnet does not report.
func (*server) OnBoot(e gnet.Engine) gnet.Action {
	fd, err := e.Dup()
	if err != nil {
		log.Fatal(err)
	}
	defer unix.Close(fd)
	addr, err := unix.Getsockname(fd)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on 127.0.0.1:%d\n", addr.(*unix.SockaddrInet4).Port)
	return gnet.None
}

func (*server) OnTraffic(c gnet.Conn) gnet.Action {
	buf, _ := c.Next(-1)
	_, _ = c.Write(buf)
	return gnet.None
}

// logger logs important messages to standard error. gnet's logger uses standard output.
type logger struct{}

func (logger) Debugf(string, ...any)             {}
func (logger) Infof(string, ...any)              {}
func (logger) Warnf(format string, args ...any)  { log.Printf(format, args...) }
func (logger) Errorf(format string, args ...any) { log.Printf(format, args...) }
func (logger) Fatalf(format string, args ...any) { log.Fatalf(format, args...) }

func main() {
	log.Fatal(gnet.Run(&server{}, "tcp4://127.0.0.1:0",
		gnet.WithMulticore(false), gnet.WithTCPNoDelay(gnet.TCPNoDelay),
		gnet.WithLogger(logger{})))
}
