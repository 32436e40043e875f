package socket

// Newer versions of illumos have the option, but package unix lacks its number.
func setReusePort(handle) error { return errNoOption("SO_REUSEPORT") }

// setMulticastReuse lets several sockets receive from the same group.
func setMulticastReuse(h handle) error { return setReuseAddr(h) }
