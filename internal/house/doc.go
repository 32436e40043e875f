// Package house holds tests only: they hold the source tree and its documents to the rules
// of CONTRIBUTING.md.
package house
