//go:build !race && linux

package fileop_test

const raceEnabled = false
