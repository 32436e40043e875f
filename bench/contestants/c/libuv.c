// libuv: uv_poll_t for descriptors, uv_async_t for wakes, uv_timer_t. Level-triggered only.
//
// The handles belong to the user, so their memory is counted. A descriptor is bound to its
// handle by uv_poll_init; after that, uv_poll_start and uv_poll_stop register and deregister
// it as often as one likes. Closing the handle and initializing it anew each time is the
// other usual way, and slower.
//
//   cc -O2 -Wall -Wextra -o libuv libuv.c -luv
#include "common.h"
#include <uv.h>

struct handle {
	uv_poll_t poll; // first, so that a uv_poll_t is a handle
	int fd;
};

struct queue {
	uv_loop_t loop;
	uv_async_t async;
	struct handle *handles;
	uv_timer_t *timers;
};

static void check_uv(int status, const char *what)
{
	if (status < 0)
		quit(1, "%s: %s", what, uv_strerror(status));
}

static struct queue *open_queue(struct sink *s, long n)
{
	struct queue *q = zeroed(1, sizeof *q);
	check_uv(uv_loop_init(&q->loop), "uv_loop_init");
	q->loop.data = s;
	q->handles = zeroed(n, sizeof *q->handles);
	return q;
}

static void on_poll(uv_poll_t *p, int status, int events)
{
	(void)events;
	check_uv(status, "uv_poll_cb");
	struct sink *s = p->loop->data;
	s->event(s, ((struct handle *)p)->fd);
}

static void add(struct queue *q, long slot, int fd, int edge)
{
	(void)edge;
	struct handle *h = &q->handles[slot];
	if (h->poll.type != UV_POLL) {
		check_uv(uv_poll_init(&q->loop, &h->poll, fd), "uv_poll_init");
		h->fd = fd;
	}
	check_uv(uv_poll_start(&h->poll, UV_READABLE, on_poll), "uv_poll_start");
}

static void stop(struct queue *q, long slot, int fd)
{
	(void)fd;
	check_uv(uv_poll_stop(&q->handles[slot].poll), "uv_poll_stop");
}

static void wait_queue(struct queue *q, int block)
{
	uv_run(&q->loop, block ? UV_RUN_ONCE : UV_RUN_NOWAIT);
}

static void on_async(uv_async_t *a)
{
	struct sink *s = a->loop->data;
	s->event(s, WOKEN);
}

static void wake_open(struct queue *q)
{
	check_uv(uv_async_init(&q->loop, &q->async, on_async), "uv_async_init");
}

static void wake(struct queue *q, long times)
{
	for (long i = 0; i < times; i++)
		check_uv(uv_async_send(&q->async), "uv_async_send");
}

static void on_timer(uv_timer_t *t)
{
	struct sink *s = t->loop->data;
	s->event(s, 0);
}

static void timers_open(struct queue *q, long n)
{
	q->timers = zeroed(n, sizeof *q->timers);
	for (long i = 0; i < n; i++)
		check_uv(uv_timer_init(&q->loop, &q->timers[i]), "uv_timer_init");
}

static void timers_set(struct queue *q, long n, const long *milliseconds)
{
	uv_update_time(&q->loop); // delays count from the loop's time, which is of its last run
	for (long i = 0; i < n; i++)
		check_uv(uv_timer_start(&q->timers[i], on_timer, milliseconds[i], 0), "uv_timer_start");
}

static void timers_stop(struct queue *q, long n)
{
	for (long i = 0; i < n; i++)
		check_uv(uv_timer_stop(&q->timers[i]), "uv_timer_stop");
}

static const struct contestant me = {
	.level = 1,
	.open = open_queue,
	.add = add,
	.remove = stop,
	.wait = wait_queue,
	.wake_open = wake_open,
	.wake = wake,
	.timers_open = timers_open,
	.timers_set = timers_set,
	.timers_stop = timers_stop,
};
