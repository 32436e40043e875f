// Winetest runs a command such that the go command builds and tests for Windows,
// and runs what it has built under Wine, on a system that is not Windows:
//
//	go run ./internal/winetest go test ./...
//	go run ./internal/winetest go test -race ./...
//	go run ./internal/winetest go run ./examples/delayed
//	go run ./internal/winetest ./delayed.exe -n 3
//
// Each run has a Wine of its own, and a Windows without any trace of an earlier
// run: a prefix in a temporary folder, which takes some seconds to make. It is
// removed when the command is over, and whatever still runs in it is ended.
//
// The command runs here, with its environment changed: GOOS, GOARCH, GOFLAGS with
// -exec and -overlay, and what Wine wants to know. A command whose name ends in
// .exe runs under Wine. The race detector needs a C compiler for Windows: where
// mingw-w64 is installed, cgo is turned on with it, unless CC names another.
//
// On Debian, Wine is the package wine64, the compiler gcc-mingw-w64-x86-64-win32.
// What Go needs and an old Wine lacks is added: see library.go and overlay.go.
//
// The exit status is that of the command; 2 when there is none; 77 when Wine is
// not to be had here; 1 when something else failed.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
)

// The exit statuses of winetest itself.
const (
	statusFailed = 1
	statusUsage  = 2
	statusNoWine = 77 // the custom of test programs that are skipped
)

func main() { os.Exit(run(os.Args[1:], os.Stderr)) }

// run is the whole program.
func run(command []string, stderr io.Writer) (status int) {
	if len(command) == 0 || strings.HasPrefix(command[0], "-") {
		fmt.Fprintln(stderr, "usage: winetest command [argument...]\nexample: winetest go test ./...")
		return statusUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	status, err := runIn(ctx, command)
	if err != nil {
		fmt.Fprintln(stderr, "winetest:", err)
	}
	return status
}

// runIn runs the command with a prefix of its own.
func runIn(ctx context.Context, command []string) (status int, err error) {
	wine, err := findWine()
	if err != nil {
		return statusNoWine, err
	}
	p, err := newPrefix(ctx, wine)
	if err != nil {
		return statusFailed, err
	}
	defer func() {
		if closeErr := p.close(); closeErr != nil {
			status, err = max(status, statusFailed), errors.Join(err, closeErr)
		}
	}()
	err = p.run(ctx, command)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.ExitCode() > 0 && ctx.Err() == nil:
		return exit.ExitCode(), nil // the command has said why
	}
	return statusFailed, err
}
