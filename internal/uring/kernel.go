//go:build linux

package uring

// What golang.org/x/sys lacks of include/uapi/linux/io_uring.h, each with the version of
// Linux that has it.
const (
	// Flags of io_uring_setup.
	SetupCQSize       = 1 << 3  // 5.5
	SetupDisabled     = 1 << 6  // 5.10, IORING_SETUP_R_DISABLED
	SetupSubmitAll    = 1 << 7  // 5.18
	SetupCoopTaskrun  = 1 << 8  // 5.19
	SetupTaskrunFlag  = 1 << 9  // 5.19
	SetupSingleIssuer = 1 << 12 // 6.0
	SetupDeferTaskrun = 1 << 13 // 6.1

	// Features that io_uring_setup reports.
	featSingleMmap = 1 << 0  // 5.4
	featNoDrop     = 1 << 1  // 5.5
	featExtArg     = 1 << 8  // 5.11
	featRsrcTags   = 1 << 10 // 5.13, as multishot poll, which has no feature of its own
	FeatCQESkip    = 1 << 11 // 5.17

	// Where the rings and the submission entries are mapped from.
	offsetRings = 0
	offsetSQEs  = 0x10000000

	// Flags of io_uring_enter.
	EnterGetEvents = 1 << 0
	EnterExtArg    = 1 << 3

	// Flags that the kernel sets in the submission ring.
	sqOverflow = 1 << 1 // IORING_SQ_CQ_OVERFLOW
	sqTaskrun  = 1 << 2

	// The flag that the program sets in the completion ring (5.8).
	cqEventFDDisabled = 1 << 0 // IORING_CQ_EVENTFD_DISABLED

	// io_uring_register.
	RegisterEventFD     = 4
	RegisterEnableRings = 12
	RegisterNothing     = 1<<16 - 1 // an operation that no kernel has

	// Operations.
	OpReadv       = 1
	OpWritev      = 2
	OpFsync       = 3
	OpPollAdd     = 6
	OpPollRemove  = 7
	OpAsyncCancel = 14
	OpRead        = 22
	OpWrite       = 23

	// Of FSYNC, in the entry's OpFlags: sync data, and what is needed to find it.
	FsyncData = 1 << 0

	// Flags of an entry.
	Link        = 1 << 2 // IOSQE_IO_LINK
	Async       = 1 << 4 // IOSQE_ASYNC, 5.6
	SkipSuccess = 1 << 6 // IOSQE_CQE_SKIP_SUCCESS, 5.17

	// Of a completion: the request goes on.
	More = 1 << 1

	// Of POLL_ADD, in sqe.length: continue after the first event (5.13).
	PollMulti = 1 << 0
)

// params is struct io_uring_params.
type params struct {
	sqEntries, cqEntries uint32
	flags                uint32
	threadCPU            uint32
	threadIdle           uint32
	features             uint32
	workqueueFD          uint32
	_                    [3]uint32
	sq                   struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		_                                                   uint64
	}
}

// SQE is struct io_uring_sqe, a submission: 64 bytes.
type SQE struct {
	Opcode   uint8
	Flags    uint8
	Priority uint16
	FD       int32
	Offset   uint64
	Address  uint64
	Length   uint32
	OpFlags  uint32 // poll32_events, cancel_flags
	UserData uint64
	_        [3]uint64
}

// CQE is struct io_uring_cqe, a completion: 16 bytes.
type CQE struct {
	UserData uint64
	Result   int32
	Flags    uint32
}

// waitArgument is struct io_uring_getevents_arg.
type waitArgument struct {
	sigmask     uint64
	sigmaskSize uint32
	minWait     uint32
	timespec    uint64
}
