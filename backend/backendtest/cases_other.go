//go:build !unix && !windows

package backendtest

// There are no fixtures for these systems yet, so no cases either.
var waitCases, registrationCases, modeCases, concurrencyCases, conditionCases, sourceCases, processCases, scaleCases []wantedCase
