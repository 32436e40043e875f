//go:build !poll_opt

package main

import "github.com/panjf2000/gnet/v2/pkg/netpoll"

func (l *loop) polling() error { return l.Polling(l.callback) }

// reserve does nothing: this poller keeps no data for a registration.
func (l *loop) reserve(int) {}

func (l *loop) add(fd int, edge bool) error {
	return l.AddRead(&netpoll.PollAttachment{FD: fd}, edge)
}
