package epore_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/iouring"
	"github.com/epore/epore/tryio"
)

// The end of a program is an event. Wait then returns at once.
func ExampleProcess() {
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	cmd := exec.Command("sh", "-c", "exit 3")
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	child, err := epore.NewProcess(p.Registry(), 5, cmd.Process)
	if err != nil {
		log.Fatal(err)
	}
	defer child.Close()
	events := epore.NewEvents(8)
	if err := p.Poll(events, epore.Forever); err != nil {
		log.Fatal(err)
	}
	for ev := range events.All() {
		fmt.Println(ev, cmd.Wait())
	}
	// Output: token 5: Readable exit status 3
}

// A child and what it writes: its end and its output are two events of one loop, and either
// may come first. Its own children may keep the pipe open after it has ended.
func ExampleProcess_output() {
	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	r, w, err := os.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("sh", "-c", "echo one; echo two; exit 3")
	cmd.Stdout = w // a file, so package exec starts no goroutine that copies
	// The child has w now. If we kept it, the end of the output would never come.
	if err := errors.Join(cmd.Start(), w.Close()); err != nil {
		log.Fatal(err)
	}
	const ended, output = 1, 2
	child, err := epore.NewProcess(p.Registry(), ended, cmd.Process)
	if err != nil {
		log.Fatal(err)
	}
	defer child.Close()
	if err := p.Registry().Register(r, output, epore.Readable); err != nil {
		log.Fatal(err)
	}

	var text strings.Builder
	var exit error
	buf := make([]byte, 4096)
	events := epore.NewEvents(8)
	for left := 2; left > 0; {
		if err := p.Poll(events, epore.Forever); err != nil {
			log.Fatal(err)
		}
		for ev := range events.All() {
			if ev.Token == ended {
				exit = cmd.Wait() // returns at once
				left--
				continue
			}
			n, err := tryio.Read(r, buf)
			text.Write(buf[:n])
			if err == io.EOF {
				if err = p.Registry().Deregister(r); err == nil {
					left--
				}
			}
			if err != nil && err != tryio.ErrWouldBlock {
				log.Fatal(err)
			}
		}
	}
	fmt.Print(text.String())
	fmt.Println(exit)
	// Output:
	// one
	// two
	// exit status 3
}

// Changes of files, by inotify(7). Netlink sockets, tun devices, serial lines and perf events
// are watched in the same way: open the descriptor without blocking, and register it as an FD.
func ExampleFD_inotify() {
	folder, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		log.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, folder, unix.IN_CREATE); err != nil {
		log.Fatal(err)
	}

	p, err := epore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	changes := epore.FD(fd)
	if err := p.Registry().Register(changes, 1, epore.Readable); err != nil {
		log.Fatal(err)
	}
	defer p.Registry().Deregister(changes) // before the descriptor is closed
	if err := os.WriteFile(filepath.Join(folder, "new"), nil, 0o600); err != nil {
		log.Fatal(err)
	}
	events := epore.NewEvents(8)
	if err := p.Poll(events, epore.Forever); err != nil {
		log.Fatal(err)
	}
	buf := make([]byte, 4096)
	for range events.All() {
		n, err := tryio.Read(changes, buf)
		if err == tryio.ErrWouldBlock {
			continue
		}
		if err != nil {
			log.Fatal(err)
		}
		for b := buf[:n]; len(b) > 0; { // the structs inotify_event
			length := binary.NativeEndian.Uint32(b[12:])
			name := b[unix.SizeofInotifyEvent:][:length]
			fmt.Println("created:", unix.ByteSliceToString(name))
			b = b[unix.SizeofInotifyEvent+length:]
		}
	}
	// Output: created: new
}

// io_uring where the system has it and allows it, otherwise the default queue.
func ExampleNewWith_fallback() {
	p, err := epore.NewWith(iouring.New())
	if errors.Is(err, errors.ErrUnsupported) {
		p, err = epore.New()
	}
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	fmt.Println(p.Capabilities().Interests.Has(epore.Readable | epore.Edge))
	// Output: true
}
