package kqsim

import (
	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/kq"
)

// kind is the kind of object that a knote watches.
type kind int

const (
	user    kind = iota // none: EVFILT_USER
	process             // a process
	nested              // another queue
	plain               // a regular file, or a directory
	always              // a device that never blocks
	device              // another device, except terminals
	terminal
	pipe
	fifo
	tcp
	stream // a Unix stream, or another socket with a peer
	datagram
	other
)

func (k kind) isSocket() bool    { return k == tcp || k == stream || k == datagram }
func (k kind) isConnected() bool { return k == tcp || k == stream }

// file is the file of a descriptor.
type file struct {
	kind     kind
	unix     bool // a Unix stream
	null     bool // /dev/null
	dev, ino uint64
	access   int
	queue    *queue
}

func isOpen(ident uint64) bool {
	if ident > maxDescriptor {
		return false
	}
	_, err := unix.FcntlInt(uintptr(ident), unix.F_GETFD, 0)
	return err == nil
}

// pipefs is the file system of pipes without a name.
const pipefs = 0x50495045

// identify returns the file of a descriptor.
func (k *Kernel) identify(ident uint64) (f file, errno unix.Errno) {
	fd := int(ident)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return f, errnoOf(err)
	}
	f.dev, f.ino = uint64(st.Dev), st.Ino
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err == nil {
		f.access = flags & unix.O_ACCMODE
	}
	if f.queue = k.queue(fd); f.queue != nil {
		f.kind = nested
		return f, 0
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
		f.kind = plain
	case unix.S_IFBLK, unix.S_IFCHR:
		f.kind = device
		if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
			f.kind = terminal
		}
		f.null = st.Mode&unix.S_IFMT == unix.S_IFCHR && uint64(st.Rdev) == unix.Mkdev(1, 3)
	case unix.S_IFIFO:
		f.kind = pipe
		var fs unix.Statfs_t
		if err := unix.Fstatfs(fd, &fs); err == nil && fs.Type != pipefs {
			f.kind = fifo
		}
	case unix.S_IFSOCK:
		f.kind = stream
		how, domain := option(fd, unix.SO_TYPE), option(fd, unix.SO_DOMAIN)
		switch {
		case how == unix.SOCK_DGRAM || how == unix.SOCK_RAW:
			f.kind = datagram
		case how == unix.SOCK_STREAM && (domain == unix.AF_INET || domain == unix.AF_INET6):
			f.kind = tcp
		}
		f.unix = how == unix.SOCK_STREAM && domain == unix.AF_UNIX
	default:
		f.kind = other
	}
	return f, 0
}

// admit returns the error of adding a knote, or 0 if the system takes its filter on its
// file.
func (kn *knote) admit(p *Profile) unix.Errno {
	switch {
	case kn.null && p.noNull:
		return unix.ENODEV
	case p.fewFiles && (kn.kind == fifo || kn.kind == terminal || kn.kind == device),
		kn.watch == watchWrite && kn.kind == nested,
		kn.watch == watchExcept && !kn.kind.isSocket():
		return unix.EINVAL
	case kn.watch == watchWrite && kn.kind == pipe && poll(kn.ident)&unix.POLLERR != 0:
		return p.noReader
	}
	return 0
}

// condition reports whether the condition of a knote holds, and with which event.
func (q *queue) condition(kn *knote) (e kq.Event, ok bool) {
	p := &q.k.p
	e = kq.Event{Ident: kn.ident, Filter: kn.filter, Flags: kn.flags, Udata: kn.udata}
	if p.eventDropsActions {
		e.Flags &^= kq.Add | kq.Delete | kq.Enable | kq.Disable
	}
	switch kn.kind {
	case user:
		e.Fflags, e.Data, ok = kn.fflags, kn.data, kn.triggered
		return e, ok
	case process:
		return kn.exit(e)
	case nested:
		e.Data = int64(kn.queue.pending())
		return e, e.Data > 0
	case plain, always:
		return e, kn.fileCondition(p, &e)
	}
	bits := poll(kn.ident)
	if bits&unix.POLLNVAL != 0 {
		return e, false
	}
	var end bool
	switch {
	case kn.filter == p.sys.Read:
		ok, end = kn.readable(bits, &e)
	case kn.filter == p.sys.Write:
		ok, end = kn.writable(bits, &e)
	default:
		e.Fflags = p.sys.OOB
		ok = bits&unix.POLLPRI != 0 && kn.fflags&p.sys.OOB != 0
	}
	if end {
		e.Flags |= kq.EOF
		if kn.filter == p.sys.Write || e.Data == 0 {
			e.Flags |= p.noData
		}
		if kn.kind.isSocket() && bits&unix.POLLERR != 0 {
			e.Fflags = uint32(kn.pendingError())
		}
	}
	return e, ok || end
}

// exit reports whether a process has ended.
func (kn *knote) exit(e kq.Event) (kq.Event, bool) {
	if kn.fflags&kq.Exit == 0 || poll(kn.descriptor())&unix.POLLIN == 0 {
		return e, false
	}
	// The event comes once, whether EV_ONESHOT was requested or not.
	kn.flags |= kq.OneShot | kq.EOF
	e.Flags |= kq.OneShot | kq.EOF
	e.Fflags = kq.Exit
	return e, true
}

// fileCondition is condition for files that epoll does not take.
func (kn *knote) fileCondition(p *Profile, e *kq.Event) bool {
	if kn.kind == always || kn.filter == p.sys.Write {
		return true
	}
	var st unix.Stat_t
	at, err := unix.Seek(int(kn.ident), 0, unix.SEEK_CUR)
	if err != nil || unix.Fstat(int(kn.ident), &st) != nil {
		return false
	}
	e.Data = st.Size - at
	return e.Data != 0
}

// readable reports whether there is data to read, or the end of it.
func (kn *knote) readable(bits int16, e *kq.Event) (ok, end bool) {
	ok = bits&unix.POLLIN != 0
	if kn.kind.isConnected() && option(int(kn.ident), unix.SO_ACCEPTCONN) == 1 {
		e.Data = 0
		if ok {
			e.Data = kn.backlog()
		}
		return ok, false
	}
	n, err := unix.IoctlGetUint32(int(kn.ident), unix.TIOCINQ)
	switch {
	case err == nil:
		e.Data = int64(n)
	case ok:
		e.Data = 1
	}
	if !kn.kind.isSocket() {
		// The writing end of a pipe, too, is at its end when the other one is closed.
		broken := kn.kind == pipe && kn.access == unix.O_WRONLY && bits&unix.POLLERR != 0
		return ok, bits&unix.POLLHUP != 0 || broken
	}
	// An error without an end does not last, such as that of a refused datagram.
	return ok || bits&unix.POLLERR != 0, bits&unix.POLLRDHUP != 0
}

// backlog returns the number of connections to accept.
func (kn *knote) backlog() int64 {
	if kn.kind == tcp {
		info, err := unix.GetsockoptTCPInfo(int(kn.ident), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil && info.Unacked > 0 {
			return int64(info.Unacked)
		}
	}
	return 1
}

// writable reports whether there is room to write, or no reader.
func (kn *knote) writable(bits int16, e *kq.Event) (ok, end bool) {
	ok = bits&unix.POLLOUT != 0
	e.Data = kn.room()
	if !kn.kind.isSocket() {
		return ok, bits&unix.POLLERR != 0 || kn.kind == terminal && bits&unix.POLLHUP != 0
	}
	hup, rdhup := bits&unix.POLLHUP != 0, bits&unix.POLLRDHUP != 0
	if kn.kind.isConnected() && hup && !rdhup {
		return false, false // it was never connected
	}
	return ok || bits&unix.POLLERR != 0, hup && rdhup || ok && kn.isShut()
}

// room estimates how much can be written.
func (kn *knote) room() int64 {
	if !kn.kind.isSocket() {
		return 4096
	}
	out, err := unix.IoctlGetUint32(int(kn.ident), unix.TIOCOUTQ)
	if err != nil {
		out = 0
	}
	return int64(max(1, option(int(kn.ident), unix.SO_SNDBUF)-int(out)))
}

// These are the TCP states in which this side has sent, or will send, its FIN.
const (
	tcpFinWait1 = 4
	tcpFinWait2 = 5
	tcpTimeWait = 6
	tcpLastAck  = 9
	tcpClosing  = 11
)

// isShut reports whether this side was shut down for writing.
func (kn *knote) isShut() bool {
	fd := int(kn.ident)
	if kn.kind == tcp {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return false
		}
		switch info.State {
		case tcpFinWait1, tcpFinWait2, tcpTimeWait, tcpLastAck, tcpClosing:
			return true
		}
		return false
	}
	// On a stream, an empty send has no effect except its error.
	return kn.unix && unix.Sendto(fd, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil) == unix.EPIPE
}

// pendingError guesses the pending error of a socket: to read it would take it from the
// application.
func (kn *knote) pendingError() unix.Errno {
	if kn.kind == tcp {
		info, err := unix.GetsockoptTCPInfo(int(kn.ident), unix.IPPROTO_TCP, unix.TCP_INFO)
		// If anything was negotiated or acknowledged, there was a peer.
		if err == nil && info.Options == 0 && info.Bytes_acked == 0 && info.Bytes_received == 0 {
			return unix.ECONNREFUSED
		}
	}
	return unix.ECONNRESET
}

// poll returns all conditions of a descriptor, from poll(2).
func poll(ident uint64) int16 {
	p := []unix.PollFd{{Fd: int32(ident), Events: unix.POLLIN | unix.POLLOUT | unix.POLLPRI | unix.POLLRDHUP}}
	for {
		n, err := unix.Poll(p, 0)
		switch {
		case err == unix.EINTR:
		case n == 1:
			return p[0].Revents
		default:
			return 0
		}
	}
}

func option(fd, which int) int {
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, which)
	if err != nil {
		return -1
	}
	return v
}
