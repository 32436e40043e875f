// Winetest runs a command in an environment in which the go command builds for Windows
// and runs the programs that it has built under Wine, on a system that is not Windows:
//
//	go run ./internal/winetest go test ./...
//	go run ./internal/winetest go test -race ./...
//	go run ./internal/winetest go run ./examples/delayed
//	go run ./internal/winetest ./delayed.exe -n 3
//
// Each run makes a new Wine prefix in a temporary folder, without any trace of an
// earlier run. That takes some seconds. When the command has ended, winetest ends all
// processes that still run in the prefix, and removes it.
//
// The command itself runs on this system. Its environment is changed: GOOS, GOARCH,
// GOFLAGS with -exec and -overlay, and the variables of Wine. A command whose name ends
// in .exe runs under Wine. The race detector needs a C compiler for Windows: if
// mingw-w64 is installed, winetest turns cgo on with it, unless CC names another.
//
// With GOARCH=386, programs have 32 bits. This needs a Wine with 32-bit libraries and with
// bcryptprimitives.dll, version 9 or later: on Debian, the package wine32:i386.
//
// When a program fails, Wine may know more than the program could say. Winetest collects
// what Wine reports about itself, and prints it if the command fails.
//
// On Debian, Wine is the packages wine64 and wine64-preloader, and the compiler is
// gcc-mingw-w64-x86-64-win32. Winetest adds what Go needs and an old Wine lacks: see
// library.go and overlay.go.
//
// The exit status is that of the command; 2 if there is no command; 77 if Wine is not
// available; 1 if something else failed.
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
	statusNoWine = 77 // conventional for skipped tests
)

func main() {
	if isRunner() {
		os.Exit(runProgram(os.Args[1:], os.Stderr))
	}
	os.Exit(run(os.Args[1:], os.Stderr))
}

// run is the whole program.
func run(command []string, stderr io.Writer) (status int) {
	if len(command) == 0 || strings.HasPrefix(command[0], "-") {
		fmt.Fprintln(stderr, "usage: winetest command [argument...]\nexample: winetest go test ./...")
		return statusUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	status, err := runIn(ctx, command, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "winetest:", err)
	}
	return status
}

// runIn runs the command with a new prefix.
func runIn(ctx context.Context, command []string, stderr io.Writer) (status int, err error) {
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
	if err == nil {
		return 0, nil
	}
	if logErr := p.printDebugLogs(stderr); logErr != nil {
		return statusFailed, errors.Join(err, logErr)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 && ctx.Err() == nil {
		return exit.ExitCode(), nil // the command has reported why
	}
	return statusFailed, err
}
