package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// slowSync is how long a sync takes on the slow disk.
const slowSync = 10 * time.Millisecond

// openSlow starts a process that serves a file system (FUSE) with one file, whose syncs take
// slowSync, and opens that file. Another process, because one that waits for a file system of
// its own cannot even end.
// stop closes it and ends the process.
func openSlow(parent string) (f *os.File, stop func(), err error) {
	dir, err := os.MkdirTemp(parent, "slow")
	if err != nil {
		return nil, nil, err
	}
	server := exec.Command(os.Args[0], "-serve-slow", dir)
	server.Stderr = os.Stderr
	in, err := server.StdinPipe() // its end ends the server, however this process ends
	if err != nil {
		return nil, nil, err
	}
	out, err := server.StdoutPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		return nil, nil, err
	}
	end := func() {
		_ = in.Close()
		_ = server.Wait()
		_ = os.Remove(dir)
	}
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		end()
		return nil, nil, fmt.Errorf("no file system of its own: it needs /dev/fuse and the right to mount: %w", err)
	}
	path := filepath.Join(dir, "log")
	n, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0) // not with the runtime's poller
	if err != nil {
		end()
		return nil, nil, err
	}
	f = os.NewFile(uintptr(n), path)
	return f, func() { _ = f.Close(); end() }, nil
}

// serveSlow mounts the file system on dir and serves it until standard input ends.
func serveSlow(dir string) error {
	signal.Ignore(os.Interrupt)
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", fd, os.Getuid(), os.Getgid())
	if err := unix.Mount("slow", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = unix.Unmount(dir, unix.MNT_DETACH) // ends the loop below when the file is closed
		time.Sleep(time.Second)
		os.Exit(0)
	}()
	fmt.Println("up")
	in := make([]byte, 1<<20)
	for {
		n, err := unix.Read(fd, in)
		if err == unix.EINTR || err == unix.ENOENT || err == unix.EAGAIN {
			continue
		}
		if err != nil || n < 40 {
			return nil
		}
		e := binary.NativeEndian
		var out []byte
		errno, delay := int32(0), time.Duration(0)
		switch node := e.Uint64(in[16:]); e.Uint32(in[4:]) { // include/uapi/linux/fuse.h
		case 26: // INIT
			out = make([]byte, 64)
			e.PutUint32(out, 7)
			e.PutUint32(out[4:], 31)
			e.PutUint32(out[20:], 1<<17) // max_write
		case 1: // LOOKUP
			out = append(make([]byte, 40), slowAttributes(2)...)
			e.PutUint64(out, 2)
			e.PutUint64(out[16:], 3600) // both stay valid
			e.PutUint64(out[24:], 3600)
		case 3: // GETATTR
			out = append(make([]byte, 16), slowAttributes(node)...)
			e.PutUint64(out, 3600)
		case 14: // OPEN
			out = make([]byte, 16)
			e.PutUint32(out[8:], 1|1<<5) // FOPEN_DIRECT_IO, FOPEN_NOFLUSH
		case 16: // WRITE
			out = make([]byte, 8)
			e.PutUint32(out, e.Uint32(in[40+16:])) // all of it
		case 20: // FSYNC
			delay = slowSync
		case 2: // FORGET
			continue
		case 18: // RELEASE
		default:
			errno = int32(unix.ENOSYS)
		}
		header := make([]byte, 16, 16+len(out))
		e.PutUint32(header, uint32(16+len(out)))
		e.PutUint32(header[4:], uint32(-errno))
		copy(header[8:], in[8:16])
		answer := append(header, out...)
		time.AfterFunc(delay, func() { _, _ = unix.Write(fd, answer) })
	}
}

// slowAttributes returns a struct fuse_attr.
func slowAttributes(node uint64) []byte {
	b := make([]byte, 88)
	e := binary.NativeEndian
	mode := uint32(unix.S_IFREG | 0o644)
	if node == 1 {
		mode = unix.S_IFDIR | 0o755
	}
	e.PutUint64(b, node)
	e.PutUint64(b[8:], 1<<30) // size
	e.PutUint32(b[60:], mode)
	e.PutUint32(b[64:], 1)
	e.PutUint32(b[68:], uint32(os.Getuid()))
	e.PutUint32(b[72:], uint32(os.Getgid()))
	e.PutUint32(b[80:], 4096)
	return b
}
