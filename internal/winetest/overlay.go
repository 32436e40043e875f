package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// patch is a change to a file of Go's standard library. Builds read the changed copy
// instead of the file; the installation is not modified.
type patch struct {
	file     string // below GOROOT
	why      string
	old, new string
	needless string // a Go version whose file contains this needs no change
}

// patches make Go's standard library tolerate what Wine 8 lacks. They change nothing on a
// system that has it.
var patches = []patch{
	{
		file: "src/net/fd_windows.go",
		why:  "Wine has no SIO_UDP_NETRESET, without which package net makes no UDP socket",
		old:  "windows.SIO_UDP_NETRESET, (*byte)(unsafe.Pointer(&flag)), size, nil, 0, &ret, nil, 0)\n\t\tif err != nil {\n",
		new:  "windows.SIO_UDP_NETRESET, (*byte)(unsafe.Pointer(&flag)), size, nil, 0, &ret, nil, 0)\n\t\tif err != nil && err != syscall.Errno(10045) {\n",
	},
	{
		file: "src/internal/syscall/windows/at_windows.go",
		why:  "Wine says STATUS_NOT_IMPLEMENTED where Windows would not know a class of information, so os.RemoveAll does not go the old way",
		old:  "\tcase STATUS_INVALID_INFO_CLASS,",
		new:  "\tcase NTStatus(0xC0000002), STATUS_INVALID_INFO_CLASS,",
		// Go 1.25.0: it goes the old way after every other error.
		needless: "\tcase STATUS_CANNOT_DELETE, STATUS_DIRECTORY_NOT_EMPTY:\n",
	},
}

// apply returns src, with the change if it needs it.
func (p patch) apply(src string) (string, error) {
	if p.needless != "" && strings.Contains(src, p.needless) {
		return src, nil
	}
	if n := strings.Count(src, p.old); n != 1 {
		return "", fmt.Errorf("%s of this Go version has %d places to change instead of one (%s): adapt overlay.go of winetest", p.file, n, p.why)
	}
	return strings.Replace(src, p.old, p.new, 1), nil
}

// toolchain is the go command to build with.
type toolchain struct {
	command string   // its path
	goroot  string   // the folder of its standard library
	env     []string // environment variables that it needs
}

// findToolchain returns the go command that PATH and the current folder select. If it
// was downloaded as a module, the go command accepts no overlay for its standard library,
// because that lies in the module cache. It does so for another path: a link in dir.
func findToolchain(dir string) (toolchain, error) {
	out, err := exec.Command("go", "env", "GOROOT", "GOMODCACHE").Output()
	if err != nil {
		return toolchain{}, fmt.Errorf("go env: %w", err)
	}
	goroot, modules, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if !strings.HasPrefix(goroot, modules+string(filepath.Separator)) {
		return toolchain{command: "go", goroot: goroot}, nil
	}
	link := filepath.Join(dir, "goroot")
	bin := filepath.Join(link, "bin")
	return toolchain{
		command: filepath.Join(bin, "go"),
		goroot:  link,
		env: []string{"GOROOT=" + link, "GOTOOLCHAIN=local",
			"PATH=" + bin + string(filepath.ListSeparator) + os.Getenv("PATH")},
	}, os.Symlink(goroot, link)
}

// writeOverlay writes the changed files of the standard library in goroot to dir, and the
// list of them that the -overlay flag of the go command reads. It returns the path of
// the list.
func writeOverlay(dir, goroot string) (string, error) {
	changed := make(map[string]string)
	for _, p := range patches {
		original := filepath.Join(goroot, filepath.FromSlash(p.file))
		src, err := os.ReadFile(original)
		if err != nil {
			return "", err
		}
		text, err := p.apply(string(src))
		if err != nil {
			return "", err
		}
		changed[original] = filepath.Join(dir, strings.ReplaceAll(p.file, "/", "_"))
		if err := os.WriteFile(changed[original], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": changed})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, list, 0o600)
}
