package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// wineFolders are the folders to look for Wine in after those of PATH. Debian installs it
// outside PATH, unless its package wine, for 32-bit programs, is installed, too.
var wineFolders = []string{debianFolder, "/usr/lib64/wine", "/opt/wine-stable/bin"}

// debianFolder is where Debian installs Wine.
var debianFolder = "/usr/lib/wine"

// wine has the paths of the two programs of Wine that winetest uses.
type wine struct{ program, server string }

// findWine returns an error if Wine is not installed, or cannot run.
func findWine() (w wine, err error) {
	if err := allowDescriptors(); err != nil {
		return w, err
	}
	if w.program, err = find("wine64", "wine"); err == nil {
		w.server, err = find("wineserver")
	}
	if err != nil {
		return w, fmt.Errorf("no usable Wine: %w: on Debian, install the packages wine64 and wine64-preloader", err)
	}
	return w, checkPreloader()
}

// checkPreloader returns an error if Debian's Wine lacks its preloader, which is a package
// of its own there. The preloader reserves the addresses that Windows programs expect to be
// free, before the loader and its heap can take them. Without it, a program now and then
// ends with status 1 before it begins ("failed to map the shared user data").
func checkPreloader() error {
	program := filepath.Join(debianFolder, "wine64")
	if _, err := os.Stat(program); err != nil {
		return nil // not Debian's
	}
	if _, err := exec.LookPath(program + "-preloader"); err != nil {
		return fmt.Errorf("no usable Wine: programs fail at random without its preloader: install the package wine64-preloader: %w", err)
	}
	return nil
}

// find returns the path of the first program with one of the names.
func find(names ...string) (path string, err error) {
	for _, name := range names {
		for _, candidate := range append([]string{name}, inFolders(name)...) {
			if path, err = exec.LookPath(candidate); err == nil {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("%s not found, neither in PATH nor in %s", strings.Join(names, " or "), strings.Join(wineFolders, ", "))
}

func inFolders(name string) (paths []string) {
	for _, folder := range wineFolders {
		paths = append(paths, filepath.Join(folder, name))
	}
	return paths
}

// prefix is a Wine prefix, a separate Windows installation: a folder with drive C and the
// registry, and a server process.
type prefix struct {
	wine      wine
	dir       string // a temporary folder, which contains the prefix
	runner    string // the link that starts programs
	debugLogs string // the folder with Wine's reports
	env       []string
}

// newPrefix makes a prefix that is ready to run programs written in Go.
func newPrefix(ctx context.Context, w wine) (p *prefix, err error) {
	dir, err := os.MkdirTemp("", "winetest-")
	if err != nil {
		return nil, err
	}
	made := &prefix{wine: w, dir: dir}
	defer func() {
		if err != nil {
			p, err = nil, errors.Join(err, made.close())
		}
	}()
	return made, made.make(ctx)
}

// make fills the folder. After a failure, close removes what is left of it.
func (p *prefix) make(ctx context.Context) error {
	w := p.wine
	if err := os.Mkdir(p.path(), 0o700); err != nil {
		return err
	}
	p.env = append(os.Environ(),
		"WINEPREFIX="+p.path(),
		"WINEARCH=win64",
		"WINEDEBUG="+wineDebug,
		"DISPLAY=", "WAYLAND_DISPLAY=",
		"WINEDLLOVERRIDES=mscoree,mshtml,winemenubuilder.exe=", // no questions, no traces in the user's menu
	)
	// None of these commands may inherit our standard files: they start services that
	// stay, and a pipe that a service holds open never ends.
	for _, command := range [][]string{
		{w.server, "-p"}, // does not exit when idle
		{w.program, "wineboot", "-i"},
		{w.program, "winecfg", "-v", "win10"},
	} {
		cmd := p.command(ctx, p.env, command...)
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("make a Wine prefix: %s: %w", strings.Join(command, " "), errors.Join(err, ctx.Err()))
		}
	}
	if err := p.addLibrary(); err != nil {
		return err
	}
	return p.setUpRunner()
}

func (p *prefix) path() string { return filepath.Join(p.dir, "prefix") }

// addLibrary adds the library that Go needs, unless Wine has it.
func (p *prefix) addLibrary() error {
	path := filepath.Join(p.path(), "drive_c", "windows", "system32", libraryName)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.Write(library(libraryName, libraryExport, libraryForward))
	return errors.Join(err, f.Close())
}

// endAll ends all processes in the prefix, the server last. It is no error if nothing
// runs.
func (p *prefix) endAll() {
	cmd := exec.Command(p.wine.server, "-k")
	cmd.Env = p.env
	_ = cmd.Run()
}

// close ends all processes in the prefix and removes it.
func (p *prefix) close() error {
	p.endAll()
	return os.RemoveAll(p.dir)
}

// mingw is Debian's name of the C compiler that makes programs for Windows.
const mingw = "x86_64-w64-mingw32-gcc"

// run runs a command with the standard files of this process, in an environment in which
// the go command builds for Windows and runs under Wine what it has built.
func (p *prefix) run(ctx context.Context, command []string) error {
	tool, err := findToolchain(p.dir)
	if err != nil {
		return err
	}
	overlay, err := writeOverlay(p.dir, tool.goroot)
	if err != nil {
		return err
	}
	arch := "amd64"
	if os.Getenv("GOARCH") == "386" {
		arch = "386"
	}
	env := append(slices.Concat(p.env, tool.env), "GOOS=windows", "GOARCH="+arch,
		fmt.Sprintf("GOFLAGS=%s -exec=%s -overlay=%s", os.Getenv("GOFLAGS"), p.runner, overlay))
	if _, err := exec.LookPath(mingw); err == nil && arch == "amd64" && os.Getenv("CC") == "" {
		env = append(env, "CGO_ENABLED=1", "CC="+mingw)
	}
	switch {
	case command[0] == "go":
		command = slices.Concat([]string{tool.command}, command[1:])
	case strings.HasSuffix(command[0], ".exe"):
		command = slices.Concat([]string{p.runner}, command)
	}
	cmd := p.command(ctx, env, command...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", command[0], errors.Join(err, ctx.Err()))
	}
	return nil
}

// command returns a command that ends when ctx does, together with all processes in the
// prefix, because the command may be waiting for one of them.
func (p *prefix) command(ctx context.Context, env []string, command ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = env
	cmd.Cancel = func() error {
		p.endAll()
		return cmd.Process.Signal(os.Interrupt)
	}
	cmd.WaitDelay = 10 * time.Second
	return cmd
}
