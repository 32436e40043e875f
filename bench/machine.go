package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// anonymous returns the resident anonymous memory of a process, in bytes.
func anonymous(pid int) (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	kb, err := strconv.Atoi(field(status, "RssAnon"))
	return kb * 1024, err
}

// field returns the first word of a line that begins with a name and a colon.
func field(text []byte, name string) string {
	for line := range bytes.Lines(text) {
		if key, value, ok := strings.Cut(string(line), ":"); ok && strings.TrimSpace(key) == name {
			return strings.Join(strings.Fields(value)[:1], "")
		}
	}
	return ""
}

// describeMachine describes the system that the figures depend on, in lines.
func describeMachine(ctx context.Context) (lines []string) {
	add := func(name, value string) {
		if value = strings.TrimSpace(value); value != "" {
			lines = append(lines, name+": "+value)
		}
	}
	first := func(name string, args ...string) string {
		out, err := exec.CommandContext(ctx, name, args...).Output()
		if err != nil {
			return ""
		}
		line, _, _ := strings.Cut(string(out), "\n")
		return line
	}
	add("system", system()+", "+runtime.GOARCH)
	add("processors", fmt.Sprint(runtime.NumCPU()))
	add("processor", processor())
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		add("load before", strings.Join(strings.Fields(string(load))[:1], ""))
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		add("descriptors a process may have", fmt.Sprint(limit.Max))
	}
	add("Go", runtime.Version())
	add("C", first("cc", "--version"))
	add("Rust", first("rustc", "--version"))
	for _, lib := range []string{"libuv", "libevent"} {
		if v := first("pkg-config", "--modversion", lib); v != "" {
			add(lib, v)
		}
	}
	for _, p := range []string{"libev-dev", "librust-mio-dev"} {
		add(p, first("dpkg-query", "-W", "-f", "${Version}", p))
	}
	if out, err := exec.CommandContext(ctx, "go", append([]string{"list", "-m"}, peers...)...).Output(); err == nil {
		for line := range strings.Lines(string(out)) {
			path, version, _ := strings.Cut(line, " ")
			add(path, version)
		}
	}
	return lines
}

// system returns the name and the version of the kernel.
func system() string {
	var uts unix.Utsname
	if unix.Uname(&uts) != nil {
		return ""
	}
	release, _, _ := strings.Cut(unix.ByteSliceToString(uts.Release[:]), "-")
	return unix.ByteSliceToString(uts.Sysname[:]) + " " + release
}

// processor returns the model of the processors.
func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

// hostName names the machine for the history. Runs on machines of one name are compared, so
// it has what figures depend on, and not the patch level of the kernel.
func hostName() string {
	kernel := strings.Join(strings.SplitN(system(), ".", 3)[:2], ".")
	return fmt.Sprintf("%s, %s, %d × %s", kernel, runtime.GOARCH, runtime.NumCPU(), processor())
}

// peers are the modules that Epore is compared with.
var peers = []string{"github.com/panjf2000/gnet/v2", "github.com/cloudwego/netpoll", "github.com/lesismal/nbio",
	"github.com/mailru/easygo", "github.com/smallnest/epoller"}
