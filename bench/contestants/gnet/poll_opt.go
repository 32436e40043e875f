//go:build poll_opt

package main

import "github.com/panjf2000/gnet/v2/pkg/netpoll"

func (l *loop) polling() error { return l.Polling() }

// reserve allocates the attachments of the given number of registrations.
func (l *loop) reserve(n int) { l.attachments = make([]netpoll.PollAttachment, 0, n) }

// add registers with an attachment that must not move, because the kernel has its address.
func (l *loop) add(fd int, edge bool) error {
	if len(l.attachments) == cap(l.attachments) {
		panic("no room for another attachment")
	}
	l.attachments = append(l.attachments, netpoll.PollAttachment{FD: fd, Callback: l.callback})
	return l.AddRead(&l.attachments[len(l.attachments)-1], edge)
}
