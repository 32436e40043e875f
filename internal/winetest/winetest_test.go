//go:build !windows

package main

import (
	"bufio"
	"bytes"
	"debug/pe"
	"encoding/binary"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// asProgram, set in the environment, makes the test binary behave as winetest.
const asProgram = "EPORE_TEST_RUN_WINETEST"

func TestMain(m *testing.M) {
	if isRunner() || os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// winetest returns a command that runs winetest in another process.
func winetest(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// The library has one function, which it forwards to another library.
func TestLibrary_ForwardsOneFunction(t *testing.T) {
	b := library("some.dll", "Function", "OTHER.Function2")
	require.Len(t, b, 1024)
	f, err := pe.NewFile(bytes.NewReader(b))
	require.NoError(t, err)
	require.EqualValues(t, pe.IMAGE_FILE_MACHINE_AMD64, f.Machine)
	require.NotZero(t, f.Characteristics&pe.IMAGE_FILE_DLL)
	header := f.OptionalHeader.(*pe.OptionalHeader64)
	require.EqualValues(t, 0x20b, header.Magic)
	require.EqualValues(t, 16, header.NumberOfRvaAndSizes)
	require.Len(t, f.Sections, 1)
	section := f.Sections[0]
	require.Equal(t, ".edata", section.Name)
	require.GreaterOrEqual(t, header.SizeOfImage, section.VirtualAddress+section.VirtualSize)

	exports := header.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_EXPORT]
	require.Equal(t, section.VirtualAddress, exports.VirtualAddress)
	require.Equal(t, section.VirtualSize, exports.Size, "an address within it is a forwarder")
	data, err := section.Data()
	require.NoError(t, err)
	at := func(rva uint32) []byte { return data[rva-section.VirtualAddress:] }
	number := func(rva uint32) uint32 { return binary.LittleEndian.Uint32(at(rva)) }
	text := func(rva uint32) string {
		s, _, _ := bytes.Cut(at(rva)[:exports.VirtualAddress+exports.Size-rva], []byte{0})
		return string(s)
	}
	d := exports.VirtualAddress
	require.Equal(t, "some.dll", text(number(d+12)))
	require.EqualValues(t, 1, number(d+20), "functions")
	require.EqualValues(t, 1, number(d+24), "names")
	require.Equal(t, "OTHER.Function2", text(number(number(d+28))))
	require.Equal(t, "Function", text(number(number(d+32))))
	require.Zero(t, binary.LittleEndian.Uint16(at(number(d+36))), "the first function has that name")
}

// The patches fit the installed Go version. One that they do not fit is an error.
func TestOverlay_FitsThisGo(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command here")
	}
	dir := t.TempDir()
	tool, err := findToolchain(dir)
	require.NoError(t, err)
	path, err := writeOverlay(dir, tool.goroot)
	require.NoError(t, err)
	var overlay struct{ Replace map[string]string }
	list, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(list, &overlay))
	require.Len(t, overlay.Replace, len(patches))
	for _, p := range patches {
		original := filepath.Join(tool.goroot, p.file)
		was, err := os.ReadFile(original)
		require.NoError(t, err)
		is, err := os.ReadFile(overlay.Replace[original])
		require.NoError(t, err)
		needless := p.needless != "" && strings.Contains(string(was), p.needless)
		assert.Equal(t, needless, string(was) == string(is), p.file)
		assert.Equal(t, !needless, strings.Contains(string(is), p.new), p.file)
	}

	p := patch{file: "a.go", why: "reason", old: "old", new: "new", needless: "fine"}
	for src, want := range map[string]string{"an old line": "an new line", "fine, old old": "fine, old old", "other": "", "old old": ""} {
		got, err := p.apply(src)
		require.Equal(t, want, got)
		if want == "" {
			require.ErrorContains(t, err, "a.go")
			require.ErrorContains(t, err, "reason")
		}
	}
}

func TestRun_PrintsUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"-h"}} {
		var stderr strings.Builder
		require.Equal(t, statusUsage, run(args, &stderr))
		require.Contains(t, stderr.String(), "usage: winetest command")
	}
}

func TestRun_WithoutWine(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	defer func(was []string) { wineFolders = was }(wineFolders)
	wineFolders = []string{t.TempDir()}
	var stderr strings.Builder
	require.Equal(t, statusNoWine, run([]string{"go", "version"}, &stderr))
	require.Contains(t, stderr.String(), "no usable Wine")
}

// Debian's Wine without its preloader fails at random, so it is refused.
func TestFindWine_WithoutPreloader(t *testing.T) {
	folder := t.TempDir()
	defer func(folders []string, debian string) { wineFolders, debianFolder = folders, debian }(wineFolders, debianFolder)
	wineFolders, debianFolder = []string{folder}, folder
	t.Setenv("PATH", folder)
	for _, program := range []string{"wine64", "wineserver"} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, program), nil, 0o700))
	}
	_, err := findWine()
	if err != nil && strings.Contains(err.Error(), "raise the hard limit") {
		t.Skip(err)
	}
	require.ErrorContains(t, err, "install the package wine64-preloader")
	require.NoError(t, os.WriteFile(filepath.Join(folder, "wine64-preloader"), nil, 0o700))
	w, err := findWine()
	require.NoError(t, err)
	require.Equal(t, filepath.Join(folder, "wine64"), w.program)
}

// The filter removes Wine's lines, however the output is cut into writes.
func TestDebugFilter(t *testing.T) {
	const output = "one\n0024:err:module:f failed\nab\n0:1\n00a8:trace:seh:f code=c0000005\nlast 0024:err:x:f no\ndead"
	for size := 1; size <= len(output); size++ {
		var program, log strings.Builder
		f := &debugFilter{program: &program, log: &log}
		for at := 0; at < len(output); at += size {
			n, err := f.Write([]byte(output[at:min(at+size, len(output))]))
			require.NoError(t, err)
			require.Equal(t, min(size, len(output)-at), n)
		}
		require.NoError(t, f.flush())
		require.Equal(t, "one\nab\n0:1\nlast 0024:err:x:f no\ndead", program.String())
		require.Equal(t, "0024:err:module:f failed\n00a8:trace:seh:f code=c0000005\n", log.String())
	}

	// A prompt without the end of a line is passed on at once.
	var program strings.Builder
	f := &debugFilter{program: &program}
	_, err := f.Write([]byte("name? "))
	require.NoError(t, err)
	require.Equal(t, "name? ", program.String())
}

// If Wine fails, nothing is left behind, and the error names the program that failed.
func TestNewPrefix_BrokenWine(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	p, err := newPrefix(t.Context(), wine{program: filepath.Join(tmp, "no-wine"), server: filepath.Join(tmp, "no-server")})
	require.Nil(t, p)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "no-server -p")
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Empty(t, left)
}

// With too few descriptors Wine fails now and then, without naming the cause. Winetest
// names it.
func TestRun_FewDescriptors(t *testing.T) {
	cmd := winetest(t, "sh", "-c", "exit 7")
	out, err := exec.Command("sh", append([]string{"-c", `ulimit -n 256 && export "$1=1" && shift && exec "$@"`, "sh", asProgram}, cmd.Args...)...).CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, statusNoWine, exit.ExitCode(), "%s", out)
	require.Contains(t, string(out), "256 descriptors")
}

var tried atomic.Bool

// Winetest runs programs written in Go, with its remedies for what Wine lacks (see
// TestProbe), and returns their exit status. When it is interrupted, it ends all processes
// and leaves nothing behind.
func TestWinetest_RunsPrograms(t *testing.T) {
	if _, err := findWine(); err != nil {
		t.Skip(err)
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command here")
	}
	if tried.Swap(true) {
		t.Skip("already run: it takes seconds, and a repetition shows nothing new")
	}
	exe := filepath.Join(t.TempDir(), "probe.test.exe")
	cmd := winetest(t, "sh", "-c", `[ "$(ulimit -n)" != 256 ] && go test -c -o "$0" . && go test -v -run '^TestProbe$' . && exit 7`, exe)
	// A soft limit that is too low is raised.
	cmd.Args = append([]string{"sh", "-c", `ulimit -S -n 256 && exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	cmd.Env = append(cmd.Environ(), "GOARCH=amd64") // whatever this test is built for
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, 7, cmd.ProcessState.ExitCode(), "%s", out)
	require.Contains(t, string(out), "--- PASS: TestProbe")
	require.NotContains(t, string(out), "Wine reported:", "no program has failed")

	// When a program crashes, what Wine reports about it is printed.
	cmd = winetest(t, exe, "-test.run=^TestCrash$")
	cmd.Env = append(cmd.Env, envCrash+"=1")
	out, err = cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "Wine reported:")
	require.Contains(t, string(out), "-test.run=^TestCrash$")
	require.Regexp(t, "[0-9a-f]{4}:trace:seh:.*e0c0ffee", string(out))

	cmd = winetest(t, exe, "-test.run=^TestHang$")
	cmd.Env = append(cmd.Env, envHang+"=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	prefix := ""
	for lines := bufio.NewScanner(stdout); prefix == "" && lines.Scan(); {
		_, prefix, _ = strings.Cut(strings.TrimSpace(lines.Text()), "hangs in ")
	}
	require.DirExists(t, prefix)
	require.NotEmpty(t, processesIn(t, prefix))
	if _, err := os.Stat(debianFolder); err == nil {
		require.Regexp(t, `probe\.test\.exe \S+preloader`, strings.Join(processesIn(t, prefix), "\n"), "it runs without Wine's preloader")
	}
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.Error(t, cmd.Wait())
	require.Equal(t, statusFailed, cmd.ProcessState.ExitCode(), "%s", &stderr)
	require.Contains(t, stderr.String(), "context canceled")
	require.NoDirExists(t, filepath.Dir(prefix))
	for begin := time.Now(); len(processesIn(t, prefix)) > 0; time.Sleep(time.Millisecond) {
		require.Less(t, time.Since(begin), 30*time.Second, "still there: %v", processesIn(t, prefix))
	}
}

// processesIn returns the names and programs of the processes that have prefix in their
// environment.
func processesIn(t *testing.T, prefix string) (names []string) {
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	require.NoError(t, err)
	for _, file := range files {
		env, _ := os.ReadFile(file) // it may have ended
		if bytes.Contains(env, []byte("WINEPREFIX="+prefix+"\x00")) {
			name, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "comm"))
			program, _ := os.Readlink(filepath.Join(filepath.Dir(file), "exe"))
			names = append(names, strings.TrimSpace(string(name))+" "+program)
		}
	}
	return names
}
