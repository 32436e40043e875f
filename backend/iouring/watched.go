//go:build linux

package iouring

// SetWatched implements [backend.Pollable].
func (u *Uring) SetWatched(bool) {}
