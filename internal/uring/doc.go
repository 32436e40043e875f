// Package uring sets up an io_uring(7) and moves entries through its two queues. It knows
// nothing of what the requests are for: package iouring makes a queue of it, package fileop
// uses it for files.
package uring
