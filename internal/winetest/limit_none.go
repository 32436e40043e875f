//go:build !unix

package main

// checkLimit has nothing to check where there is no such limit, nor Wine.
func checkLimit() error { return nil }
