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
		if _, err := os.Lstat(path); err != nil {
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

func (l *looker) changed() (bool, error) {
	now := make(map[string]string)
	for _, root := range l.paths {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
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
