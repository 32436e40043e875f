// Package system has what differs from one operating system to the next in the core, and
// belongs to no queue.
package system
