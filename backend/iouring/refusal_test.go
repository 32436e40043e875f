//go:build linux

package iouring

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/uring"
)

// The errors where a system refuses io_uring, tested in child processes that really are
// refused.

// envRefuse has TestMain make the system refuse io_uring to this process: by a seccomp
// filter that answers EPERM or ENOSYS, or by a limit of locked memory.
const envRefuse = "EPORE_TEST_REFUSE"

func TestMain(m *testing.M) {
	if err := refuse(os.Getenv(envRefuse)); err != nil {
		fmt.Println("cannot be refused here:", err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func refuse(how string) error {
	switch how {
	case "EPERM":
		return fixture.Deny(unix.SYS_IO_URING_SETUP, unix.EPERM)
	case "ENOSYS":
		return fixture.Deny(unix.SYS_IO_URING_SETUP, unix.ENOSYS)
	case "memlock":
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{}); err != nil || os.Getuid() != 0 {
			return err
		}
		return syscall.Setuid(65534) // root is not limited
	}
	return nil
}

// refused runs tests of this package in a process that io_uring is refused to.
func refused(t *testing.T, how, tests string) string {
	if os.Getenv(envRefuse) != "" {
		t.Skip("this is the refused one")
	}
	self := exec.Command(os.Args[0], "-test.v", "-test.run=^"+tests+"$")
	self.Env = append(os.Environ(), envRefuse+"="+how)
	out, err := self.CombinedOutput()
	require.NoError(t, err, "%s", out)
	if !bytes.Contains(out, []byte("=== RUN")) || bytes.Contains(out, []byte("--- SKIP: "+tests+" ")) {
		t.Skipf("%s", out)
	}
	return string(out)
}

// contract: E2
func TestOpen_RefusedBySeccomp(t *testing.T) {
	for _, errno := range []string{"EPERM", "ENOSYS"} {
		t.Run(errno, func(t *testing.T) {
			out := refused(t, errno, "TestOpen_ErrorOfARefusal")
			require.Contains(t, out, "--- PASS: TestOpen_ErrorOfARefusal")
			t.Log(out)
		})
	}
}

// TestOpen_ErrorOfARefusal is run by TestOpen_RefusedBySeccomp.
func TestOpen_ErrorOfARefusal(t *testing.T) {
	want, ok := map[string]unix.Errno{"EPERM": unix.EPERM, "ENOSYS": unix.ENOSYS}[os.Getenv(envRefuse)]
	if !ok {
		t.Skip("for processes that are refused")
	}
	err := New().Open()
	require.ErrorIs(t, err, want)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	for _, text := range []string{"io_uring_setup", "seccomp", `import "github.com/epore/epore/backend/epoll"`, "epore.NewWith(epoll.New())"} {
		require.ErrorContains(t, err, text)
	}
	t.Log(err)
	require.ErrorIs(t, New().Open(), want, "again, and no descriptor was lost")
}

// Without io_uring the suite skips, and says why.
func TestContract_SkippedWhereRefused(t *testing.T) {
	out := refused(t, "EPERM", "TestContract")
	require.Contains(t, out, "--- SKIP: TestContract/default/")
	require.NotContains(t, out, "--- PASS: TestContract/default/")
	require.Contains(t, out, "seccomp")
}

// Many kernels count the rings as locked memory: those before 5.12, and 6.18.
// contract: E2
func TestOpen_LittleLockedMemory(t *testing.T) {
	out := refused(t, "memlock", "TestOpen_ErrorOfLittleMemory")
	require.Contains(t, out, "--- PASS: TestOpen_ErrorOfLittleMemory")
	t.Log(out)
}

// TestOpen_ErrorOfLittleMemory is run by TestOpen_LittleLockedMemory.
func TestOpen_ErrorOfLittleMemory(t *testing.T) {
	if os.Getenv(envRefuse) != "memlock" {
		t.Skip("for processes that may lock no memory")
	}
	u := New()
	err := u.Open()
	if err == nil {
		t.Log("it does not matter on this kernel")
		require.NoError(t, u.Close())
		return
	}
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.ErrorIs(t, err, unix.ENOMEM)
	require.ErrorContains(t, err, "RLIMIT_MEMLOCK")
	require.ErrorContains(t, err, "epore.NewWith(epoll.New())")
	t.Log(err)
}

// contract: E2
func TestRefusal_NamesTheCause(t *testing.T) {
	for _, c := range []struct {
		errno       unix.Errno
		disabled    string
		want        string
		unsupported bool
	}{
		{unix.ENOSYS, "", uring.Kernel(), true},
		{unix.EINVAL, "0", "5.13", true},
		{unix.EPERM, "0", "seccomp", true},
		{unix.EPERM, "1", "kernel.io_uring_group", true},
		{unix.EPERM, "2", "kernel.io_uring_disabled=2", true},
		{unix.ENOMEM, "0", "RLIMIT_MEMLOCK", false},
		{unix.EMFILE, "0", "io_uring_setup", false},
		{unix.ENFILE, "0", "fs.file-max", false},
	} {
		err := explain("io_uring_setup", c.errno, c.disabled)
		require.ErrorIs(t, err, c.errno)
		require.ErrorContains(t, err, c.want)
		require.Equal(t, c.unsupported, errors.Is(err, errors.ErrUnsupported), "%v", err)
		if c.unsupported || c.errno == unix.ENOMEM {
			require.ErrorContains(t, err, "epore.NewWith(epoll.New())")
		}
	}
	require.ErrorIs(t, explain("io_uring_setup", unix.EPERM, ""), fs.ErrPermission)
}

// A kernel refuses flags that it does not know with EINVAL, and the next set of flags
// is tried. No kernel knows bit 31.
func TestOpen_OlderKernels(t *testing.T) {
	const unknownFlag = 1 << 31
	r, flags, err := openBest(8, []uint32{unknownFlag, unknownFlag | uring.SetupSubmitAll, 0})
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.Zero(t, flags)
	require.NoError(t, r.Close())
	_, _, err = openBest(8, []uint32{unknownFlag})
	require.ErrorIs(t, err, unix.EINVAL)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}
