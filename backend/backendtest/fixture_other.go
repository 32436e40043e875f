//go:build !unix

package backendtest

import "runtime"

// noFixtures says why the cases cannot run here.
func noFixtures() string { return "no descriptors to test with on " + runtime.GOOS + " yet" }

var waitCases, registrationCases, modeCases, concurrencyCases, conditionCases, sourceCases, scaleCases []wantedCase
