// libevent: event_new with EV_READ|EV_PERSIST (and EV_ET), event_active, timers.
//
// An event is made once for its descriptor; event_add and event_del then register and
// deregister it. Making a new one each time is the other usual way, and slower.
//
//   cc -O2 -Wall -Wextra -o libevent libevent.c -levent -levent_pthreads
#include "common.h"
#include <event2/event.h>
#include <event2/thread.h>

struct queue {
	struct event_base *base;
	struct sink *sink;
	struct event **events; // of descriptors, or timers
	struct event *waker;
};

static struct queue *open_queue(struct sink *s, long n)
{
	struct queue *q = zeroed(1, sizeof *q);
	q->base = event_base_new();
	check(q->base != NULL, "event_base_new");
	if (strcmp(event_base_get_method(q->base), "epoll") != 0)
		quit(1, "libevent took %s", event_base_get_method(q->base));
	q->sink = s;
	q->events = zeroed(n, sizeof *q->events);
	return q;
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	(void)what;
	struct sink *s = arg;
	s->event(s, fd);
}

static void add(struct queue *q, long slot, int fd, int edge)
{
	struct event **e = &q->events[slot];
	if (!*e) {
		*e = event_new(q->base, fd, EV_READ | EV_PERSIST | (edge ? EV_ET : 0), on_event, q->sink);
		check(*e != NULL, "event_new");
	}
	check(event_add(*e, NULL) == 0, "event_add");
}

static void delete(struct queue *q, long slot, int fd)
{
	(void)fd;
	check(event_del(q->events[slot]) == 0, "event_del");
}

// EVLOOP_NONBLOCK alone goes on until nothing is ready any more.
static void wait_queue(struct queue *q, int block)
{
	check(event_base_loop(q->base, EVLOOP_ONCE | (block ? 0 : EVLOOP_NONBLOCK)) >= 0, "event_base_loop");
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	struct sink *s = arg;
	s->event(s, WOKEN);
}

// A wake is there for other threads, which event_active may only be called from when the
// base has locks; they have to be asked for before the base is made.
static void wake_open(struct queue *q)
{
	event_base_free(q->base);
	check(evthread_use_pthreads() == 0, "evthread_use_pthreads");
	q->base = event_base_new();
	check(q->base != NULL, "event_base_new");
	q->waker = event_new(q->base, -1, EV_PERSIST, on_wake, q->sink);
	check(q->waker != NULL, "event_new");
}

static void wake(struct queue *q, long times)
{
	for (long i = 0; i < times; i++)
		event_active(q->waker, EV_READ, 0);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	struct sink *s = arg;
	s->event(s, 0);
}

static void timers_open(struct queue *q, long n)
{
	for (long i = 0; i < n; i++) {
		q->events[i] = evtimer_new(q->base, on_timer, q->sink);
		check(q->events[i] != NULL, "evtimer_new");
	}
}

struct setting {
	struct queue *q;
	long n;
	const long *milliseconds;
};

static void on_set(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	struct setting *s = arg;
	for (long i = 0; i < s->n; i++) {
		long ms = s->milliseconds[i];
		struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
		check(event_add(s->q->events[i], &delay) == 0, "event_add");
	}
}

// The timers are set by a callback, as they mostly are: there libevent has the time at
// hand, and reads the clock for each event_add outside of one.
static void timers_set(struct queue *q, long n, const long *milliseconds)
{
	struct setting s = {q, n, milliseconds};
	const struct timeval at_once = {0, 0};
	check(event_base_once(q->base, -1, EV_TIMEOUT, on_set, &s, &at_once) == 0, "event_base_once");
	check(event_base_loop(q->base, EVLOOP_ONCE) >= 0, "event_base_loop");
}

static void timers_stop(struct queue *q, long n)
{
	for (long i = 0; i < n; i++)
		check(event_del(q->events[i]) == 0, "event_del");
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
	.timers_open = timers_open,
	.timers_set = timers_set,
	.timers_stop = timers_stop,
};
