// The floor for io_uring: a multishot poll request for each descriptor, on a ring of one
// thread, with nothing above it. It takes one enter for each wait, whatever the number of
// events: see wait_queue.
//
//   cc -O2 -Wall -Wextra -o uring uring.c
#include "common.h"
#include <linux/io_uring.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

// What older headers lack.
enum { SINGLE_ISSUER = 1 << 12, DEFER_TASKRUN = 1 << 13, TASKRUN_FLAG = 1 << 9, SKIP_SUCCESS = 1 << 6 };

enum { SUBMISSIONS = 256, COMPLETIONS = 1024, KEPT = 256 };

struct queue {
	int ring, waker, enabled;
	unsigned *sq_tail, *sq_head, *sq_flags, sq_mask;
	struct io_uring_sqe *sqes;
	unsigned *cq_head, *cq_tail, cq_mask, head;
	struct io_uring_cqe *cqes;
	struct sink *sink;
};

static struct queue *open_queue(struct sink *s, long n)
{
	(void)n;
	struct queue *q = zeroed(1, sizeof *q);
	struct io_uring_params p = {.cq_entries = COMPLETIONS, .flags = IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED | SINGLE_ISSUER | DEFER_TASKRUN | TASKRUN_FLAG};
	q->ring = syscall(SYS_io_uring_setup, SUBMISSIONS, &p);
	if (q->ring < 0)
		quit(EXIT_NONE, "io_uring_setup: %s", strerror(errno));
	size_t size = p.cq_off.cqes + p.cq_entries * sizeof *q->cqes, array = p.sq_off.array + p.sq_entries * sizeof(unsigned);
	char *rings = mmap(NULL, size > array ? size : array, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, q->ring, IORING_OFF_SQ_RING);
	q->sqes = mmap(NULL, p.sq_entries * sizeof *q->sqes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, q->ring, IORING_OFF_SQES);
	check(rings != MAP_FAILED && q->sqes != MAP_FAILED, "mmap");
	q->sq_head = (unsigned *)(rings + p.sq_off.head);
	q->sq_tail = (unsigned *)(rings + p.sq_off.tail);
	q->sq_flags = (unsigned *)(rings + p.sq_off.flags);
	q->sq_mask = p.sq_entries - 1;
	q->cq_head = (unsigned *)(rings + p.cq_off.head);
	q->cq_tail = (unsigned *)(rings + p.cq_off.tail);
	q->cq_mask = p.cq_entries - 1;
	q->cqes = (struct io_uring_cqe *)(rings + p.cq_off.cqes);
	for (unsigned i = 0; i < p.sq_entries; i++)
		((unsigned *)(rings + p.sq_off.array))[i] = i;
	q->waker = -1;
	q->sink = s;
	return q;
}

// enter submits what is queued, and waits for so many completions that were not consumed. The
// ring belongs to the thread that calls it first.
static void enter(struct queue *q, unsigned wait)
{
	if (!q->enabled) {
		check(syscall(SYS_io_uring_register, q->ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0) == 0, "io_uring_register");
		q->enabled = 1;
	}
	unsigned pending = *q->sq_tail - __atomic_load_n(q->sq_head, __ATOMIC_ACQUIRE);
	long n = syscall(SYS_io_uring_enter, q->ring, pending, q->head - *q->cq_head + wait, IORING_ENTER_GETEVENTS, NULL, 0);
	check(n == (long)pending || errno == EINTR, "io_uring_enter");
}

static struct io_uring_sqe *next(struct queue *q)
{
	if (*q->sq_tail - __atomic_load_n(q->sq_head, __ATOMIC_ACQUIRE) > q->sq_mask)
		enter(q, 0);
	struct io_uring_sqe *e = &q->sqes[*q->sq_tail & q->sq_mask];
	memset(e, 0, sizeof *e);
	return e;
}

static void commit(struct queue *q)
{
	__atomic_store_n(q->sq_tail, *q->sq_tail + 1, __ATOMIC_RELEASE);
}

// A multishot request reports edges. No descriptor is zero here, and the results of removals
// are.
static void add(struct queue *q, long slot, int fd, int edge)
{
	(void)slot, (void)edge;
	struct io_uring_sqe *e = next(q);
	e->opcode = IORING_OP_POLL_ADD;
	e->fd = fd;
	e->len = IORING_POLL_ADD_MULTI;
	e->poll32_events = POLLIN;
	e->user_data = fd;
	commit(q);
}

// The file is let go of at once, as epoll_ctl does. Nothing looks whether it still is the one
// that was added.
static void delete(struct queue *q, long slot, int fd)
{
	(void)slot;
	struct io_uring_sqe *e = next(q);
	e->opcode = IORING_OP_POLL_REMOVE;
	e->fd = -1;
	e->addr = fd;
	e->flags = SKIP_SUCCESS;
	commit(q);
	enter(q, 0);
}

// One enter completes 20 requests, or as many as it is told to wait for. If so many
// completions are in the ring already, it does not wait. So those that were consumed last
// stay in the ring, and are waited for.
static void wait_queue(struct queue *q, int block)
{
	if (!block || __atomic_load_n(q->sq_flags, __ATOMIC_RELAXED) & IORING_SQ_TASKRUN || *q->sq_tail != *q->sq_head)
		enter(q, 0);
	if (block && q->head == __atomic_load_n(q->cq_tail, __ATOMIC_ACQUIRE))
		enter(q, 1);
	unsigned tail = __atomic_load_n(q->cq_tail, __ATOMIC_ACQUIRE);
	while (q->head != tail) {
		struct io_uring_cqe c = q->cqes[q->head++ & q->cq_mask];
		int fd = c.user_data;
		if (fd && c.res > 0)
			q->sink->event(q->sink, fd == q->waker ? WOKEN : fd);
	}
	if (q->head - *q->cq_head > KEPT)
		__atomic_store_n(q->cq_head, q->head - KEPT, __ATOMIC_RELEASE);
}

static void wake_open(struct queue *q)
{
	q->waker = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	check(q->waker >= 0, "eventfd");
	add(q, 0, q->waker, 1);
	enter(q, 0);
}

static void wake(struct queue *q, long times)
{
	const uint64_t one = 1;
	for (long i = 0; i < times; i++)
		check(write(q->waker, &one, sizeof one) == sizeof one, "write");
}

static const struct contestant me = {
	.edge = 1,
	.open = open_queue,
	.add = add,
	.remove = delete,
	.wait = wait_queue,
	.wake_open = wake_open,
	.wake = wake,
};
