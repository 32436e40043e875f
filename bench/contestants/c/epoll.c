// The floor: epoll as the kernel offers it, with nothing above it. Whatever is measured
// here has to be paid by everybody on Linux.
//
//   cc -O2 -Wall -Wextra -o epoll epoll.c
#include "common.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

struct queue {
	int epoll, waker;
	struct sink *sink;
};

static struct queue *open_queue(struct sink *s, long n)
{
	(void)n;
	struct queue *q = zeroed(1, sizeof *q);
	q->epoll = epoll_create1(EPOLL_CLOEXEC);
	check(q->epoll >= 0, "epoll_create1");
	q->waker = -1;
	q->sink = s;
	return q;
}

// The kernel keeps the descriptor with the registration; there is nothing else to keep.
static void add(struct queue *q, long slot, int fd, int edge)
{
	(void)slot;
	struct epoll_event e = {.events = EPOLLIN | (edge ? EPOLLET : 0), .data.u64 = fd};
	check(epoll_ctl(q->epoll, EPOLL_CTL_ADD, fd, &e) == 0, "epoll_ctl ADD");
}

static void delete(struct queue *q, long slot, int fd)
{
	(void)slot;
	check(epoll_ctl(q->epoll, EPOLL_CTL_DEL, fd, NULL) == 0, "epoll_ctl DEL");
}

static void wait_queue(struct queue *q, int block)
{
	struct epoll_event e[CAPACITY];
	int n = epoll_wait(q->epoll, e, CAPACITY, block ? -1 : 0);
	check(n >= 0 || errno == EINTR, "epoll_wait");
	for (int i = 0; i < n; i++) {
		int fd = e[i].data.u64;
		q->sink->event(q->sink, fd == q->waker ? WOKEN : fd);
	}
}

static void wake_open(struct queue *q)
{
	q->waker = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	check(q->waker >= 0, "eventfd");
	add(q, 0, q->waker, 1);
}

static void wake(struct queue *q, long times)
{
	const uint64_t one = 1;
	for (long i = 0; i < times; i++)
		check(write(q->waker, &one, sizeof one) == sizeof one, "write");
}

static const struct contestant me = {
	.level = 1,
	.edge = 1,
	.open = open_queue,
	.add = add,
	.remove = delete,
	.wait = wait_queue,
	.wake_open = wake_open,
	.wake = wake,
};
