//go:build !linux

package queuetest

import "github.com/epore/epore/backend"

// onThread is never called: no queue of this system belongs to one thread.
func onThread(string) backend.Backend { panic("no queue belongs to one thread") }
