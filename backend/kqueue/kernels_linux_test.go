package kqueue

import (
	"github.com/epore/epore/internal/kq"
	"github.com/epore/epore/internal/kqsim"
)

// kernels returns how to make the simulated kernels, by name.
func kernels() map[string]func() kq.Kernel {
	all := make(map[string]func() kq.Kernel)
	for _, p := range kqsim.Profiles {
		all[p.Name] = func() kq.Kernel { return kqsim.New(p) }
	}
	return all
}
