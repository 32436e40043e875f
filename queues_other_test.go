//go:build unix && !linux

package epore_test

import "github.com/epore/epore"

// openQueue is New: there is one queue on this system.
func openQueue(opts ...epore.Option) (*epore.Poll, error) { return epore.New(opts...) }

func openBare(opts ...epore.Option) (*epore.Poll, error) { return epore.New(opts...) }
