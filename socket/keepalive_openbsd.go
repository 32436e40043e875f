package socket

// OpenBSD has these times only for the whole system (sysctl net.inet.tcp.keepidle).

func setKeepAliveIdle(handle, int) error     { return errNoOption("TCP_KEEPIDLE") }
func setKeepAliveInterval(handle, int) error { return errNoOption("TCP_KEEPINTVL") }
func setKeepAliveCount(handle, int) error    { return errNoOption("TCP_KEEPCNT") }
