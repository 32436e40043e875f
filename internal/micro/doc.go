// Package micro holds benchmarks only: of the public API of package epore, compared with the
// same work by raw system calls or by what Go offers otherwise. "make micro" runs them.
package micro
