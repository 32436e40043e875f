package socket

// Newer illumos has it, by a number that package unix does not know.
func setReusePort(handle) error { return errNoOption("SO_REUSEPORT") }
