//go:build unix && !linux

package pollfd

var native = posixSystem
