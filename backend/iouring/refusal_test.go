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

	"github.com/epore/epore/backend"
	"github.com/epore/epore/internal/fixture"
)

// What a system that refuses io_uring is told: tested in child processes that
// really are refused.

// envRefuse makes TestMain have this process refused: by a seccomp filter that
// answers EPERM or ENOSYS, or by a limit of locked memory.
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

// refused runs tests of this package in a process that is refused.
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

func TestRefusedBySeccomp(t *testing.T) {
	for _, errno := range []string{"EPERM", "ENOSYS"} {
		t.Run(errno, func(t *testing.T) {
			out := refused(t, errno, "TestWhatTheRefusedAreTold")
			require.Contains(t, out, "--- PASS: TestWhatTheRefusedAreTold")
			t.Log(out)
		})
	}
}

// TestWhatTheRefusedAreTold is run by TestRefusedBySeccomp.
func TestWhatTheRefusedAreTold(t *testing.T) {
	want, ok := map[string]unix.Errno{"EPERM": unix.EPERM, "ENOSYS": unix.ENOSYS}[os.Getenv(envRefuse)]
	if !ok {
		t.Skip("for processes that are refused")
	}
	for _, blocking := range []bool{false, true} {
		err := New().Open(backend.Config{Blocking: blocking})
		require.ErrorIs(t, err, want)
		require.ErrorIs(t, err, errors.ErrUnsupported)
		for _, text := range []string{"io_uring_setup", "seccomp", `import "github.com/epore/epore/backend/epoll"`, "epore.NewWith(epoll.New())"} {
			require.ErrorContains(t, err, text)
		}
		t.Log(err)
	}
	require.ErrorIs(t, New().Open(backend.Config{}), want, "again, and no descriptor was lost")
}

// Where there is no io_uring the suite skips, and says why.
func TestTheRefusedSkip(t *testing.T) {
	out := refused(t, "EPERM", "TestContract")
	require.Contains(t, out, "--- SKIP: TestContract/shared/")
	require.NotContains(t, out, "--- PASS: TestContract/shared/")
	require.Contains(t, out, "seccomp")
}

// Many kernels count the rings as locked memory: those before 5.12, and 6.18.
func TestLittleLockedMemory(t *testing.T) {
	out := refused(t, "memlock", "TestOpenWithLittleLockedMemory")
	require.Contains(t, out, "--- PASS: TestOpenWithLittleLockedMemory")
	t.Log(out)
}

// TestOpenWithLittleLockedMemory is run by TestLittleLockedMemory.
func TestOpenWithLittleLockedMemory(t *testing.T) {
	if os.Getenv(envRefuse) != "memlock" {
		t.Skip("for processes that may lock no memory")
	}
	u := New()
	err := u.Open(backend.Config{})
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

func TestRefusalsNameTheCause(t *testing.T) {
	for _, c := range []struct {
		errno       unix.Errno
		disabled    string
		want        string
		unsupported bool
	}{
		{unix.ENOSYS, "", kernelRelease(), true},
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

// Flags that a kernel does not know, it refuses with EINVAL: the next gear is
// tried. Bit 31 is unknown to all.
func TestGearsStepDown(t *testing.T) {
	const unknownFlag = 1 << 31
	r, gear, err := openBest(8, []uint32{unknownFlag, unknownFlag | sharedGear, plainGear})
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.EqualValues(t, plainGear, gear)
	require.NoError(t, r.close())
	_, _, err = openBest(8, []uint32{unknownFlag})
	require.ErrorIs(t, err, unix.EINVAL)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}
