package pollfd

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/fixture"
)

// envNoCookie makes a test program one without SO_COOKIE.
const envNoCookie = "EPORE_TEST_NO_SO_COOKIE"

func init() {
	if os.Getenv(envNoCookie) == "" {
		return
	}
	if err := fixture.DenyOption(unix.SO_COOKIE, unix.ENOPROTOOPT); err != nil {
		fmt.Println("getsockopt(2) cannot be made to fail here:", err)
		os.Exit(0)
	}
}

// Kernels before 4.12, emulators and sandboxes lack SO_COOKIE.
// contract: R7
func TestContract_WithoutSocketCookie(t *testing.T) {
	self := exec.Command(os.Args[0], "-test.run=^TestContract$")
	self.Env = append(os.Environ(), envNoCookie+"=1")
	out, err := self.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func TestContract_Simulated(t *testing.T) {
	for _, profile := range profiles {
		t.Run(profile.name, func(t *testing.T) {
			t.Setenv(backendtest.EnvLong, "") // the long run of the real system is enough
			backendtest.Run(t, func() (backend.Backend, error) {
				p := &Pollfd{system: profile.system()}
				return p, p.Open()
			}, exceptionsOn(profile.name)...)
		})
	}
}
