// Package conformance holds tests only: they hold every queue of this system to the
// contract, through the public API of package epore.
package conformance
