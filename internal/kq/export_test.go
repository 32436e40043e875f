//go:build unix

package kq

// OpenProcessOn is OpenProcess on a given kernel.
var OpenProcessOn = openProcess
