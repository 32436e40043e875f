//go:build unix || windows

package epore_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/queuetest"
)

// queuesTested holds the tests of other queues that have run, with the number of
// processors.
var queuesTested sync.Map

// All tests of this package run again on each other queue of this system, in a process of
// its own.
func TestOnOtherQueues(t *testing.T) {
	if os.Getenv(queuetest.Env) != "" {
		t.Skip("this process tests another queue")
	}
	p := open(t)
	for _, queue := range queuetest.All() {
		if queue.Name == p.Backend() {
			continue
		}
		t.Run(queue.Name, func(t *testing.T) {
			t.Parallel() // these processes mostly wait
			processors := runtime.GOMAXPROCS(0)
			if _, again := queuesTested.LoadOrStore(fmt.Sprint(t.Name(), processors), true); again {
				t.Skip("tested already on as many processors; build with the queue's tag to repeat it")
			}
			other, err := epore.NewWith(queue.New())
			skipWithout(t, err)
			_ = other.Close()
			self := exec.Command(os.Args[0], "-test.skip=^(TestOnOtherQueues|Example.*)$", "-test.timeout=10m", fmt.Sprint("-test.cpu=", processors))
			if testing.Verbose() {
				self.Args = append(self.Args, "-test.v")
			}
			self.Env = append(os.Environ(), queuetest.Env+"="+queue.Name)
			if strings.HasPrefix(queue.Name, "kqueue") { // a long run takes even longer on a simulated kernel
				self.Env = append(self.Env, backendtest.EnvLong+"=")
			}
			out, err := self.CombinedOutput()
			if err != nil || testing.Verbose() {
				t.Logf("%s", out)
			}
			if err != nil {
				t.Fatalf("on %s: %v", queue.Name, err)
			}
		})
	}
}
