//go:build unix && !linux

package pollfd

import "testing"

// eachSystem runs a test on this system.
func eachSystem(t *testing.T, run func(t *testing.T, p *Pollfd)) { run(t, opened(t)) }
