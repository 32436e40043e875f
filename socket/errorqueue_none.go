//go:build !linux

package socket

// dropQueuedErrors does nothing: only Linux queues errors.
func dropQueuedErrors(handle) {}
