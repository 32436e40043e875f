//go:build !linux

package fileop

// cachedState is what tryRead keeps in a request.
type cachedState struct{} //lint:ignore U1000 a field has this type on every system

// tryRead is for systems that can read what is cached without waiting.
func tryRead(*Op) bool { return false }

func dataSync(op *Op) error { return op.file.Sync() }
