package main

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/tryio"
)

// inotify watches by inotify(7). Its descriptor is a source like any other.
type inotify struct {
	*os.File
	paths []string
	// gone is how many of the paths do not exist now. Nothing reports that they are back: the
	// timer looks.
	gone  int
	timer *epore.Timer
	every time.Duration
}

const changes = unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVE | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF

// watch looks by a Timer where the user has no inotify instance or watch left.
func watch(r *epore.Registry, paths []string, every time.Duration) (watcher, error) {
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			return nil, err
		}
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return look(r, paths, every)
	}
	w := &inotify{File: os.NewFile(uintptr(fd), "inotify"), paths: paths, every: every}
	if w.timer, err = epore.NewTimer(r, fromFiles); err != nil {
		return nil, errors.Join(err, w.File.Close())
	}
	if err = errors.Join(w.add(), r.Register(w, fromFiles, epore.Readable)); err == nil {
		return w, nil
	}
	if err = errors.Join(err, w.Close()); errors.Is(err, unix.ENOSPC) {
		return look(r, paths, every)
	}
	return nil, err
}

func (w *inotify) Close() error { return errors.Join(w.timer.Close(), w.File.Close()) }

// add watches the paths and their subfolders: a folder does not report what happens in
// those. What is watched already stays so.
func (w *inotify) add() (err error) {
	raw, err := w.SyscallConn()
	if err != nil {
		return err
	}
	w.gone = 0
	var failed error
	err = raw.Control(func(fd uintptr) {
		for _, path := range w.paths {
			failed = errors.Join(failed, w.addTree(int(fd), path))
		}
	})
	if w.gone > 0 {
		err = errors.Join(err, w.timer.Reset(w.every))
	}
	return errors.Join(err, failed)
}

func (w *inotify) addTree(fd int, root string) error {
	top := true
	return walk(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && (top || d.IsDir()) {
			if _, err = unix.InotifyAddWatch(fd, path, changes); err != nil {
				err = &fs.PathError{Op: "inotify_add_watch", Path: path, Err: err}
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			if top {
				w.gone++
			}
			err = nil // it has gone meanwhile
		}
		top = false
		return err
	})
}

func (w *inotify) changed() (bool, error) {
	buf := make([]byte, 4096)
	for n := 0; ; n++ {
		_, err := tryio.Read(w.File, buf)
		switch {
		case err == tryio.ErrWouldBlock && (n > 0 || w.gone > 0):
			gone := w.gone
			err := w.add() // folders may be new, and files replaced or back
			return n > 0 || w.gone < gone, err
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
	// The output looks as it would without this program.
	if size, err := unix.IoctlGetWinsize(1, unix.TIOCGWINSZ); err == nil {
		_ = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size)
	}
	return ours, os.NewFile(peer, "terminal"), nil
}
