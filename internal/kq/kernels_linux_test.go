package kq_test

import (
	"github.com/epore/epore/internal/kq"
	"github.com/epore/epore/internal/kqsim"
)

// kernels returns the simulated kernels by name.
func kernels() map[string]kq.Kernel {
	all := make(map[string]kq.Kernel)
	for _, p := range kqsim.Profiles {
		all[p.Name] = kqsim.New(p)
	}
	return all
}
