//go:build !linux

package epore_test

import "github.com/epore/epore"

// envQueue is for systems with several.
const envQueue = "EPORE_QUEUE"

// openQueue is New: there is one queue on this system.
func openQueue(opts ...epore.Option) (*epore.Poll, error) { return epore.New(opts...) }

// openBare is New, too.
func openBare(opts ...epore.Option) (*epore.Poll, error) { return epore.New(opts...) }
