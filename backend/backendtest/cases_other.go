//go:build !unix && !windows

package backendtest

// internal/fixture does not support these systems yet, so they have no cases.
var waitCases, registrationCases, modeCases, concurrencyCases, conditionCases, sourceCases, processCases, scaleCases []wantedCase
