// libev: ev_io, ev_async, ev_timer. Level-triggered only.
//
// The watchers belong to the user, so their memory is counted. What ev_io_start and
// ev_io_stop ask for is done by the next ev_run; a descriptor that was stopped stays in
// epoll until it is closed, which is how libev wants to be used and what `register` shows.
//
//   cc -O2 -Wall -Wextra -o libev libev.c -lev
#include "common.h"
#include <ev.h>

struct queue {
	struct ev_loop *loop;
	ev_io *io;
	ev_timer *timers;
	ev_async async;
};

static struct queue *open_queue(struct sink *s, long n)
{
	struct queue *q = zeroed(1, sizeof *q);
	q->loop = ev_loop_new(EVBACKEND_EPOLL);
	check(q->loop != NULL, "ev_loop_new");
	ev_set_userdata(q->loop, s);
	q->io = zeroed(n, sizeof *q->io);
	return q;
}

static void on_io(struct ev_loop *loop, ev_io *w, int events)
{
	(void)events;
	struct sink *s = ev_userdata(loop);
	s->event(s, w->fd);
}

static void add(struct queue *q, long slot, int fd, int edge)
{
	(void)edge;
	ev_io_init(&q->io[slot], on_io, fd, EV_READ);
	ev_io_start(q->loop, &q->io[slot]);
}

static void stop(struct queue *q, long slot, int fd)
{
	(void)fd;
	ev_io_stop(q->loop, &q->io[slot]);
}

static void wait_queue(struct queue *q, int block)
{
	ev_run(q->loop, block ? EVRUN_ONCE : EVRUN_NOWAIT);
}

static void on_async(struct ev_loop *loop, ev_async *w, int events)
{
	(void)w, (void)events;
	struct sink *s = ev_userdata(loop);
	s->event(s, WOKEN);
}

static void wake_open(struct queue *q)
{
	ev_async_init(&q->async, on_async);
	ev_async_start(q->loop, &q->async);
}

static void wake(struct queue *q, long times)
{
	for (long i = 0; i < times; i++)
		ev_async_send(q->loop, &q->async);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
	(void)w, (void)events;
	struct sink *s = ev_userdata(loop);
	s->event(s, 0);
}

static void timers_open(struct queue *q, long n)
{
	q->timers = zeroed(n, sizeof *q->timers);
	for (long i = 0; i < n; i++)
		ev_init(&q->timers[i], on_timer);
}

static void timers_set(struct queue *q, long n, const long *milliseconds)
{
	ev_now_update(q->loop); // delays count from the loop's time, which is of its last run
	for (long i = 0; i < n; i++) {
		ev_timer_set(&q->timers[i], milliseconds[i] / 1e3, 0.);
		ev_timer_start(q->loop, &q->timers[i]);
	}
}

static void timers_stop(struct queue *q, long n)
{
	for (long i = 0; i < n; i++)
		ev_timer_stop(q->loop, &q->timers[i]);
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
