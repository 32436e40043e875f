//go:build unix

package pollfd

import (
	"testing"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
)

func TestContract(t *testing.T) {
	backendtest.Run(t, func() (backend.Backend, error) {
		p := New()
		return p, p.Open(backend.Config{})
	})
}

// What other Unixes have: milliseconds, and fstat to tell files apart.
func TestContractOfPOSIX(t *testing.T) {
	backendtest.Run(t, func() (backend.Backend, error) {
		p := &Pollfd{system: posixSystem}
		return p, p.Open(backend.Config{})
	}, backendtest.Exception{
		Case: "an eventfd's number goes to another eventfd",
		Why:  "fstat says the same of all eventfds",
	})
}
