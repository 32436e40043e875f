//go:build linux

package iouring

// What golang.org/x/sys lacks of include/uapi/linux/io_uring.h.

const (
	// Flags of io_uring_setup.
	setupCQSize       = 1 << 3  // 5.5
	setupDisabled     = 1 << 6  // 5.10, IORING_SETUP_R_DISABLED
	setupSubmitAll    = 1 << 7  // 5.18
	setupTaskrunFlag  = 1 << 9  // 5.19
	setupSingleIssuer = 1 << 12 // 6.0
	setupDeferTaskrun = 1 << 13 // 6.1

	// Features that io_uring_setup reports.
	featSingleMmap = 1 << 0  // 5.4
	featNoDrop     = 1 << 1  // 5.5
	featExtArg     = 1 << 8  // 5.11
	featRsrcTags   = 1 << 10 // 5.13, as multishot poll, which has no feature of its own
	featCQESkip    = 1 << 11 // 5.17

	// Where the rings and the submission entries are mapped from.
	offsetRings = 0
	offsetSQEs  = 0x10000000

	// Flags of io_uring_enter.
	enterGetEvents = 1 << 0
	enterExtArg    = 1 << 3

	// Flags that the kernel sets in the submission ring.
	sqOverflow = 1 << 1 // IORING_SQ_CQ_OVERFLOW
	sqTaskrun  = 1 << 2

	// io_uring_register.
	registerEnableRings = 12
	registerNothing     = 1<<16 - 1 // an operation that no kernel has

	// Operations.
	opPollAdd     = 6
	opPollRemove  = 7
	opAsyncCancel = 14

	// Flags of an entry.
	sqeSkipSuccess = 1 << 6 // IOSQE_CQE_SKIP_SUCCESS, 5.17
	cqeMore        = 1 << 1

	// Of POLL_ADD, in sqe.length: continue after the first event (5.13).
	pollMulti = 1 << 0
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

// sqe is struct io_uring_sqe, a submission: 64 bytes.
type sqe struct {
	opcode   uint8
	flags    uint8
	priority uint16
	fd       int32
	offset   uint64
	address  uint64
	length   uint32
	opFlags  uint32 // poll32_events, cancel_flags
	userData uint64
	_        [3]uint64
}

// cqe is struct io_uring_cqe, a completion: 16 bytes.
type cqe struct {
	userData uint64
	result   int32
	flags    uint32
}

// waitArgument is struct io_uring_getevents_arg.
type waitArgument struct {
	sigmask     uint64
	sigmaskSize uint32
	minWait     uint32
	timespec    uint64
}
