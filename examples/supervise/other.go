//go:build !unix

package main

import (
	"errors"
	"fmt"
	"io"
	"runtime"
)

func supervise(settings, io.Writer, io.Writer) (int, error) {
	return 0, fmt.Errorf("%s has no pipes that can be polled: this program runs on Unix: %w", runtime.GOOS, errors.ErrUnsupported)
}
