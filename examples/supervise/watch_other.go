//go:build unix && !linux

package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/epore/epore"
)

func watch(r *epore.Registry, paths []string, every time.Duration) (watcher, error) {
	return look(r, paths, every)
}

func openTerminal() (ours, theirs *os.File, err error) {
	return nil, nil, fmt.Errorf("-terminal works on Linux only: %w", errors.ErrUnsupported)
}
