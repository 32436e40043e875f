package kqueue

import (
	"testing"

	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/backendtest"
	"github.com/epore/epore/internal/kqsim"
)

func TestContract_Simulated(t *testing.T) {
	for _, profile := range kqsim.Profiles {
		t.Run(profile.Name, func(t *testing.T) {
			if profile.Name != kqsim.FreeBSD.Name {
				t.Setenv(backendtest.EnvLong, "") // the long run of one kernel is enough
			}
			backendtest.Run(t, func() (backend.Backend, error) {
				q := NewOn(kqsim.New(profile))
				return q, q.Open()
			}, exceptions...)
		})
	}
}
