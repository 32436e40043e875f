//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/epore/epore"
)

// looker looks at the files at each tick of a Timer, and compares.
type looker struct {
	*epore.Timer
	paths []string
	seen  map[string]string
}

func look(r *epore.Registry, paths []string, every time.Duration) (watcher, error) {
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			return nil, err
		}
	}
	timer, err := epore.NewTimer(r, fromFiles)
	if err != nil {
		return nil, err
	}
	l := &looker{Timer: timer, paths: paths}
	_, err = l.changed()
	if err = errors.Join(err, timer.Every(every)); err != nil {
		return nil, errors.Join(err, timer.Close())
	}
	return l, nil
}

// walk is filepath.WalkDir, except that it follows a symbolic link at the root.
func walk(root string, f fs.WalkDirFunc) error {
	if target, err := filepath.EvalSymlinks(root); err == nil {
		root = target
	}
	return filepath.WalkDir(root, f)
}

func (l *looker) changed() (bool, error) {
	now := make(map[string]string)
	for _, root := range l.paths {
		err := walk(root, func(path string, d fs.DirEntry, err error) error {
			var info fs.FileInfo
			if err == nil {
				info, err = d.Info()
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it has gone meanwhile
			}
			if err == nil {
				now[path] = fmt.Sprint(info.ModTime().UnixNano(), info.Size(), info.Mode())
			}
			return err
		})
		if err != nil {
			return false, err
		}
	}
	changed := !maps.Equal(now, l.seen)
	l.seen = now
	return changed, nil
}
