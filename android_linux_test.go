package epore_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore"
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/epoll"
	"github.com/epore/epore/backend/iouring"
	"github.com/epore/epore/backend/pollfd"
	"github.com/epore/epore/internal/android"
	"github.com/epore/epore/internal/fixture"
	"github.com/epore/epore/internal/queuetest"
)

// envAndroid makes a process of these tests run under a filter like Android's: "tests" then
// runs tests, "program" runs underAndroidsFilter.
const envAndroid = "EPORE_TEST_ANDROID"

// optionalCalls are the system calls that this module makes and that Android's filter, of
// one version or another, answers with SIGSYS.
var optionalCalls = []uint32{
	unix.SYS_EPOLL_PWAIT2, unix.SYS_PIDFD_OPEN,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
}

func init() {
	how := os.Getenv(envAndroid)
	if how == "" {
		return
	}
	child := exec.Command("/proc/self/exe") // before the filter: package os tries pidfd_open first
	child.Env = append(os.Environ(), envAndroid+"=child")
	switch how {
	case "child":
		os.Exit(0)
	case "program":
		if err := child.Start(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	if err := fixture.Trap(optionalCalls...); err != nil {
		fmt.Println("no filter can be installed here:", err)
		os.Exit(0)
	}
	android.Filtered = func() bool { return true }
	if how == "program" {
		if err := underAndroidsFilter(child.Process); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// Android's filter ends a process that makes a system call which apps may not use. This
// module does not try such a call: the kernel really traps it here.
// contract: P17
func TestAndroid_MakesNoTrappedCall(t *testing.T) {
	if os.Getenv(queuetest.Env) != "" || os.Getenv(envAndroid) != "" {
		t.Skip("on one queue, once")
	}
	if _, again := queuesTested.LoadOrStore(t.Name(), true); again {
		t.Skip("tested already")
	}
	run := func(how string, args ...string) {
		self := exec.Command(os.Args[0], args...)
		self.Env = append(os.Environ(), envAndroid+"="+how)
		out, err := self.CombinedOutput()
		require.NoError(t, err, "%s: %s", how, out)
		if testing.Verbose() {
			t.Logf("%s", out)
		}
	}
	run("program")
	// Not those that find a process: package os tries pidfd_open in a program for Linux.
	run("tests", "-test.v", "-test.timeout=5m", "-test.run=^Test(Poll|Park|Register|Waker)_")
}

// underAndroidsFilter uses what has an optional system call.
func underAndroidsFilter(child *os.Process) error {
	for _, queue := range []func() backend.Backend{
		func() backend.Backend { return epoll.New() },
		func() backend.Backend { return pollfd.New() },
	} {
		for _, s := range []epore.Strategy{epore.Park, epore.Block} {
			p, err := epore.NewWith(queue(), epore.WithStrategy(s))
			if err != nil {
				return err
			}
			events := epore.NewEvents(4)
			for _, timeout := range []time.Duration{0, time.Microsecond, time.Millisecond, 5 * time.Millisecond} {
				if err := p.Poll(events, timeout); err != nil || events.Len() > 0 {
					return fmt.Errorf("Poll with timeout %v: %d events, %w", timeout, events.Len(), err)
				}
			}
			watch, err := epore.NewProcess(p.Registry(), 1, child) // by SIGCHLD
			if err != nil {
				return err
			}
			if err := p.Poll(events, fixture.Soon); err != nil || events.Len() != 1 {
				return fmt.Errorf("%d events of a process that ends, %w", events.Len(), err)
			}
			if err := errors.Join(watch.Close(), p.Close()); err != nil {
				return err
			}
		}
	}
	_, err := epore.NewWith(iouring.New())
	if !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("io_uring: %w", err)
	}
	_, err = child.Wait()
	return err
}
