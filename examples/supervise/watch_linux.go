package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/tryio"
)

// inotify watches by inotify(7). Its descriptor is a source like any other.
type inotify struct {
	*os.File
	paths []string
}

const changes = unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVE | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF

// watch looks by a Timer where the user has no inotify instance left.
func watch(r *epore.Registry, paths []string, every time.Duration) (watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return look(r, paths, every)
	}
	w := &inotify{os.NewFile(uintptr(fd), "inotify"), paths}
	for _, path := range paths {
		if _, err := os.Lstat(path); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	if err := errors.Join(w.add(), r.Register(w, fromFiles, epore.Readable)); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// add watches the paths and their subfolders: a folder does not report what happens in
// those. What is watched already stays so.
func (w *inotify) add() (err error) {
	raw, err := w.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for _, root := range w.paths {
			failed = errors.Join(failed, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err == nil && (d.IsDir() || path == root) {
					_, err = unix.InotifyAddWatch(int(fd), path, changes)
				}
				if errors.Is(err, fs.ErrNotExist) {
					return nil // it has gone meanwhile
				}
				return err
			}))
		}
	})
	return errors.Join(err, failed)
}

func (w *inotify) changed() (bool, error) {
	buf := make([]byte, 4096)
	for n := 0; ; n++ {
		_, err := tryio.Read(w.File, buf)
		switch {
		case err == tryio.ErrWouldBlock && n > 0:
			return true, w.add() // folders may be new, and files replaced
		case err == tryio.ErrWouldBlock:
			return false, nil
		case err != nil:
			return false, err
		}
	}
}

// openTerminal opens a pseudoterminal: see pty(7) and ioctl_tty(2).
func openTerminal() (ours, theirs *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, &fs.PathError{Op: "open", Path: "/dev/ptmx", Err: err}
	}
	ours = os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, errors.Join(os.NewSyscallError("ioctl TIOCSPTLCK", err), ours.Close())
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, nil, errors.Join(os.NewSyscallError("ioctl TIOCGPTPEER", errno), ours.Close())
	}
	return ours, os.NewFile(peer, "terminal"), nil
}
