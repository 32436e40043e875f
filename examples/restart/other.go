//go:build !unix

package main

import (
	"errors"
	"fmt"
	"io"
	"runtime"
)

func serve(string, io.Writer) error {
	return fmt.Errorf("not on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
