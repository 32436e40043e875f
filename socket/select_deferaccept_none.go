//go:build !(linux || freebsd)

package socket

func setDeferAccept(handle, int) error { return errNoOption("TCP_DEFER_ACCEPT") }
