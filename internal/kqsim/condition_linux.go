package kqsim

import (
	"golang.org/x/sys/unix"

	"github.com/epore/epore/internal/kq"
)

// kind is what a knote is on.
type kind int

const (
	user    kind = iota // nothing but itself
	process             // not a descriptor's, but a process's
	nested              // another queue
	plain               // a regular file, or a directory
	always              // a device that never blocks
	device              // another one, not a terminal
	terminal
	pipe
	fifo
	tcp
	stream // a Unix stream, or another socket that needs a peer
	datagram
	other
)

func (k kind) isSocket() bool    { return k == tcp || k == stream || k == datagram }
func (k kind) isConnected() bool { return k == tcp || k == stream }

// file is what a descriptor stands for.
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

// pipefs is where pipes without a name live.
const pipefs = 0x50495045

// identify tells what a descriptor stands for.
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

// admit says whether a system takes a filter on a file.
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

// condition says whether the condition of a knote holds, and the event of that.
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

// exit says whether a process has ended.
func (kn *knote) exit(e kq.Event) (kq.Event, bool) {
	if kn.fflags&kq.Exit == 0 || poll(kn.descriptor())&unix.POLLIN == 0 {
		return e, false
	}
	// It happens once, asked for or not.
	kn.flags |= kq.OneShot | kq.EOF
	e.Flags |= kq.OneShot | kq.EOF
	e.Fflags = kq.Exit
	return e, true
}

// fileCondition is that of what no epoll takes.
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

// readable says whether there is something to read, or the end of it.
func (kn *knote) readable(bits int16, e *kq.Event) (ok, end bool) {
	ok = bits&unix.POLLIN != 0
	if kn.kind.isConnected() && option(int(kn.ident), unix.SO_ACCEPTCONN) == 1 {
		e.Data = 0
		if ok {
			e.Data = kn.backlog()
		}
		return ok, false
	}
	n, err := unix.IoctlGetInt(int(kn.ident), unix.TIOCINQ)
	switch {
	case err == nil:
		e.Data = int64(n)
	case ok:
		e.Data = 1
	}
	if !kn.kind.isSocket() {
		return ok, bits&unix.POLLHUP != 0
	}
	// An error by itself is a passing one, as of a datagram that nobody wanted.
	return ok || bits&unix.POLLERR != 0, bits&unix.POLLRDHUP != 0
}

// backlog counts the connections that wait to be accepted.
func (kn *knote) backlog() int64 {
	if kn.kind == tcp {
		info, err := unix.GetsockoptTCPInfo(int(kn.ident), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil && info.Unacked > 0 {
			return int64(info.Unacked)
		}
	}
	return 1
}

// writable says whether there is room, or nobody who would read.
func (kn *knote) writable(bits int16, e *kq.Event) (ok, end bool) {
	ok = bits&unix.POLLOUT != 0
	e.Data = kn.room()
	if !kn.kind.isSocket() {
		return ok, bits&unix.POLLERR != 0 || kn.kind == terminal && bits&unix.POLLHUP != 0
	}
	hup, rdhup := bits&unix.POLLHUP != 0, bits&unix.POLLRDHUP != 0
	if kn.kind.isConnected() && hup && !rdhup {
		return false, false // it never had a peer
	}
	return ok || bits&unix.POLLERR != 0, hup && rdhup || ok && kn.isShut()
}

// room is how much can be written, roughly.
func (kn *knote) room() int64 {
	if !kn.kind.isSocket() {
		return 4096
	}
	out, err := unix.IoctlGetInt(int(kn.ident), unix.TIOCOUTQ)
	if err != nil {
		out = 0
	}
	return int64(max(1, option(int(kn.ident), unix.SO_SNDBUF)-out))
}

// States of TCP in which this side has sent, or will send, its FIN.
const (
	tcpFinWait1 = 4
	tcpFinWait2 = 5
	tcpTimeWait = 6
	tcpLastAck  = 9
	tcpClosing  = 11
)

// isShut reports that this side was shut down for writing.
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
	// To send nothing sends nothing on a stream.
	return kn.unix && unix.Sendto(fd, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil) == unix.EPIPE
}

// pendingError guesses the error that a socket has: to ask for it would take it from
// the application.
func (kn *knote) pendingError() unix.Errno {
	if kn.kind == tcp {
		info, err := unix.GetsockoptTCPInfo(int(kn.ident), unix.IPPROTO_TCP, unix.TCP_INFO)
		// Whatever was negotiated, or acknowledged, was so by a peer.
		if err == nil && info.Options == 0 && info.Bytes_acked == 0 && info.Bytes_received == 0 {
			return unix.ECONNREFUSED
		}
	}
	return unix.ECONNRESET
}

// poll asks for everything that poll(2) says of a descriptor.
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
