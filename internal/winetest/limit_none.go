//go:build !unix

package main

// allowDescriptors does nothing on systems without such a limit, which lack Wine, too.
func allowDescriptors() error { return nil }
