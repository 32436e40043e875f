//go:build race && linux

package fileop_test

const raceEnabled = true
