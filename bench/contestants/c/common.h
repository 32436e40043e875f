// What the contestants in C share: arguments, socket pairs, slices, the measures themselves,
// and main. A contestant includes it, fills in `me`, and so shows little but the interface
// of its library. All is in one translation unit, so that the compiler sees through `me`.
#ifndef COMMON_H
#define COMMON_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SLICES = 11, CAPACITY = 256 };
enum { EXIT_USAGE = 2, EXIT_NONE = 3 };

struct queue; // each contestant has its own

// A sink is where a queue delivers to: event is called for each event with the descriptor
// that is ready, WOKEN for a wake, and the number of the timer for one that fired.
enum { WOKEN = -1 };
struct sink {
	void (*event)(struct sink *s, int what);
	long count; // events so far
	long sum;   // of what was reported, so that it is really looked at
};

// A contestant. A mode or function that is not there is false or NULL.
struct contestant {
	int level, edge;
	// open makes a queue for up to n registrations (or timers).
	struct queue *(*open)(struct sink *s, long n);
	// add registers fd for reading. The slot, below n, is always used with the same fd:
	// a place for what the user of the library has to keep for each registration.
	void (*add)(struct queue *q, long slot, int fd, int edge);
	void (*remove)(struct queue *q, long slot, int fd);
	// wait delivers what is ready; if block, it first waits until there is something.
	void (*wait)(struct queue *q, int block);
	// wake_open is called once, before wake, which calls the library's wake so many times.
	void (*wake_open)(struct queue *q);
	void (*wake)(struct queue *q, long times);
	void (*timers_open)(struct queue *q, long n);
	void (*timers_set)(struct queue *q, long n, const long *milliseconds);
	void (*timers_stop)(struct queue *q, long n);
};

static const struct contestant me; // defined by the contestant

__attribute__((noreturn, format(printf, 2, 3)))
static inline void quit(int status, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fputc('\n', stderr);
	exit(status);
}

// check ends the program if a call failed.
static inline void check(int ok, const char *what)
{
	if (!ok)
		quit(1, "%s: %s", what, strerror(errno));
}

static inline void *zeroed(long n, size_t size)
{
	void *p = calloc(n, size);
	check(p != NULL, "calloc");
	return p;
}

// now is in nanoseconds.
static inline int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

// Arguments

struct option {
	const char *key;
	long value;
	const char *text; // not NULL: the option is a word, not a number
};

// parse reads key=value into options, which end with an empty key.
static inline void parse(char **arg, struct option *options)
{
	for (; *arg; arg++) {
		struct option *o = options;
		size_t n = strcspn(*arg, "=");
		while (o->key && (strlen(o->key) != n || strncmp(o->key, *arg, n)))
			o++;
		if (!o->key || (*arg)[n] != '=')
			quit(EXIT_USAGE, "unknown argument %s", *arg);
		const char *value = *arg + n + 1;
		if (o->text) {
			o->text = value;
			continue;
		}
		char *end;
		errno = 0;
		o->value = strtol(value, &end, 10);
		if (errno || end == value || *end || o->value < 1)
			quit(EXIT_USAGE, "%s wants a number above zero", o->key);
	}
}

// Socket pairs

static inline long raise_limit(void)
{
	struct rlimit l;
	check(getrlimit(RLIMIT_NOFILE, &l) == 0, "getrlimit");
	l.rlim_cur = l.rlim_max;
	check(setrlimit(RLIMIT_NOFILE, &l) == 0, "setrlimit");
	return l.rlim_cur > 1000000000 ? 1000000000 : (long)l.rlim_cur;
}

// fitting is how many of n pairs, times sets, fit the limit of descriptors.
static inline long fitting(long n, int sets)
{
	long most = (raise_limit() - 256) / (2 * sets);
	if (most < 1)
		quit(1, "the limit of descriptors is too low");
	return n < most ? n : most;
}

struct pair { int near, far; };

static inline struct pair *open_pairs(long n)
{
	struct pair *p = zeroed(n, sizeof *p);
	for (long i = 0; i < n; i++) {
		int fd[2];
		check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0, "socketpair");
		p[i] = (struct pair){fd[0], fd[1]};
	}
	return p;
}

static inline void put_byte(int fd)
{
	check(write(fd, "x", 1) == 1, "write");
}

static inline void take_byte(int fd)
{
	char c;
	check(read(fd, &c, 1) == 1, "read");
}

static inline void sink_count(struct sink *s, int what)
{
	s->count++;
	s->sum += what;
}

static inline void sink_take(struct sink *s, int fd)
{
	s->count++;
	take_byte(fd);
}

// Results

static inline int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static inline double median(double *v, int n)
{
	qsort(v, n, sizeof *v, by_size);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

// median_slice is the median of the slices without the first.
static inline double median_slice(double *v)
{
	return median(v + 1, SLICES - 1);
}

static inline long per_slice(long rounds)
{
	return rounds < SLICES ? 1 : rounds / SLICES;
}

// Measures

static inline void measure_event(char **arg)
{
	struct option o[] = {{"mode", 0, me.edge ? "edge" : "level"}, {"active", 64, 0}, {"registered", 2000, 0}, {"rounds", 2200, 0}, {"rotate", 0, "yes"}, {0}};
	parse(arg, o);
	int rotate = strcmp(o[4].text, "yes") == 0;
	if (!rotate && strcmp(o[4].text, "no") != 0)
		quit(EXIT_USAGE, "rotate is yes or no");
	int edge = strcmp(o[0].text, "edge") == 0;
	if (!edge && strcmp(o[0].text, "level") != 0)
		quit(EXIT_USAGE, "mode is edge or level");
	if (edge ? !me.edge : !me.level)
		quit(EXIT_NONE, "no %s-triggered events", o[0].text);
	// The baseline has sockets of its own, of which it touches as many.
	long active = o[1].value, n = fitting(o[2].value, rotate ? 2 : 1), rounds = per_slice(o[3].value);
	if (active > n)
		quit(EXIT_USAGE, "more active than registered");

	struct sink s = {.event = sink_take};
	long plain = rotate ? n : active;
	struct pair *with = open_pairs(n), *without = open_pairs(plain);
	struct queue *q = me.open(&s, n);
	for (long i = 0; i < n; i++)
		me.add(q, i, with[i].near, edge);

	double ns[SLICES], base[SLICES];
	long round = 0, step = n / active, plain_step = plain / active, events = active * rounds;
	for (int slice = 0; slice < SLICES; slice++) {
		int64_t t0 = now();
		for (long r = round; r < round + rounds; r++) {
			for (long i = 0; i < active; i++)
				put_byte(with[(i * step + (rotate ? r : 0)) % n].far);
			for (s.count = 0; s.count < active;)
				me.wait(q, 1);
		}
		int64_t t1 = now();
		for (long r = round; r < round + rounds; r++) {
			for (long i = 0; i < active; i++)
				put_byte(without[(i * plain_step + (rotate ? r : 0)) % plain].far);
			for (long i = 0; i < active; i++)
				take_byte(without[(i * plain_step + (rotate ? r : 0)) % plain].near);
		}
		int64_t t2 = now();
		round += rounds;
		base[slice] = (double)(t2 - t1) / events;
		ns[slice] = (double)(t1 - t0) / events - base[slice];
	}
	printf("ns %.2f\nbase %.2f\nregistered %ld\n", median_slice(ns), median_slice(base), n);
}

static inline void measure_ready(char **arg)
{
	struct option o[] = {{"active", 64, 0}, {"rounds", 20000, 0}, {0}};
	parse(arg, o);
	if (!me.level)
		quit(EXIT_NONE, "no level-triggered events");
	long active = fitting(o[0].value, 1), rounds = per_slice(o[1].value);
	if (active != o[0].value)
		quit(1, "the limit of descriptors is too low");
	if (active > CAPACITY)
		quit(EXIT_USAGE, "active is at most %d", CAPACITY);

	struct sink s = {.event = sink_count};
	struct pair *p = open_pairs(active);
	struct queue *q = me.open(&s, active);
	long expect = 0;
	for (long i = 0; i < active; i++) {
		me.add(q, i, p[i].near, 0);
		put_byte(p[i].far);
		expect += p[i].near;
	}
	// A library whose own list of events grows may need some looks until all fit.
	for (int i = 0; i < 8; i++)
		me.wait(q, 0);

	double ns[SLICES];
	for (int slice = 0; slice < SLICES; slice++) {
		s.sum = 0;
		int64_t t0 = now();
		for (long r = 0; r < rounds; r++) {
			s.count = 0;
			me.wait(q, 0);
			if (s.count != active)
				quit(1, "%ld of %ld events were reported", s.count, active);
		}
		ns[slice] = (double)(now() - t0) / (active * rounds);
		if (s.sum != expect * rounds)
			quit(1, "wrong descriptors were reported");
	}
	printf("ns %.2f\n", median_slice(ns));
}

static inline void measure_register(char **arg)
{
	struct option o[] = {{"registered", 1000, 0}, {"rounds", 110, 0}, {0}};
	parse(arg, o);
	long n = fitting(o[0].value, 1), rounds = per_slice(o[1].value);

	struct sink s = {.event = sink_count};
	struct pair *p = open_pairs(n);
	struct queue *q = me.open(&s, n);
	double ns[SLICES];
	for (int slice = 0; slice < SLICES; slice++) {
		int64_t t0 = now();
		for (long r = 0; r < rounds; r++) {
			for (long i = 0; i < n; i++)
				me.add(q, i, p[i].near, me.edge);
			me.wait(q, 0);
			for (long i = 0; i < n; i++)
				me.remove(q, i, p[i].near);
			me.wait(q, 0);
		}
		ns[slice] = (double)(now() - t0) / (n * rounds);
	}
	printf("ns %.2f\nregistered %ld\n", median_slice(ns), n);
}

// rss_anon is in bytes; it allocates nothing itself.
static inline long rss_anon(void)
{
	char text[4096];
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	check(fd >= 0, "/proc/self/status");
	ssize_t n = read(fd, text, sizeof text - 1);
	check(n > 0, "/proc/self/status");
	close(fd);
	text[n] = 0;
	const char *line = strstr(text, "\nRssAnon:");
	if (!line)
		quit(1, "/proc/self/status has no RssAnon");
	return atol(line + strlen("\nRssAnon:")) * 1024;
}

static inline void measure_memory(char **arg)
{
	struct option o[] = {{"registered", 8000, 0}, {0}};
	parse(arg, o);
	long n = fitting(o[0].value, 1);

	struct sink s = {.event = sink_count};
	struct pair *p = open_pairs(n);
	struct queue *q = me.open(&s, n);
	me.wait(q, 0);
	rss_anon(); // its page of stack is not to be counted
	long before = rss_anon();
	for (long i = 0; i < n; i++)
		me.add(q, i, p[i].near, me.edge);
	me.wait(q, 0); // some do their work only now
	printf("bytes %.2f\nregistered %ld\n", (double)(rss_anon() - before) / n, n);
}

static inline void measure_wake(char **arg)
{
	struct option o[] = {{"kind", 0, "coalesced"}, {"rounds", 1000000, 0}, {0}};
	parse(arg, o);
	if (strcmp(o[0].text, "coalesced") != 0)
		quit(EXIT_NONE, "no wake of the kind %s", o[0].text);
	long rounds = per_slice(o[1].value);

	struct sink s = {.event = sink_count};
	struct queue *q = me.open(&s, 1);
	me.wake_open(q);
	me.wake(q, 1); // the one that all others are merged with
	double ns[SLICES];
	for (int slice = 0; slice < SLICES; slice++) {
		int64_t t0 = now();
		me.wake(q, rounds);
		ns[slice] = (double)(now() - t0) / rounds;
	}
	me.wait(q, 1);
	if (s.count != 1)
		quit(1, "%ld wakes were reported", s.count);
	printf("ns %.2f\n", median_slice(ns));
}

static inline void measure_timers(char **arg)
{
	struct option o[] = {{"n", 100000, 0}, {"rounds", 5, 0}, {0}};
	parse(arg, o);
	if (!me.timers_set)
		quit(EXIT_NONE, "no timers");
	long n = o[0].value, rounds = o[1].value;

	long *late = zeroed(n, sizeof *late), *soon = zeroed(n, sizeof *soon);
	uint64_t x = 88172645463325252u; // xorshift
	for (long i = 0; i < n; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		late[i] = 3600000 + x % 3600000;
		soon[i] = 1 + late[i] % 10;
	}
	struct sink s = {.event = sink_count};
	struct queue *q = me.open(&s, n);
	me.timers_open(q, n);
	double *set = zeroed(rounds, sizeof *set), *stop = zeroed(rounds, sizeof *stop), *fire = zeroed(rounds, sizeof *fire);
	for (long r = 0; r < rounds; r++) {
		int64_t t0 = now();
		me.timers_set(q, n, late);
		int64_t t1 = now();
		me.timers_stop(q, n);
		int64_t t2 = now();
		me.timers_set(q, n, soon);
		int64_t due = now() + 12000000;
		if (s.count)
			quit(1, "a timer fired early");
		while (now() < due)
			;
		int64_t t3 = now();
		while (s.count < n)
			me.wait(q, 0);
		fire[r] = (double)(now() - t3) / n;
		set[r] = (double)(t1 - t0) / n;
		stop[r] = (double)(t2 - t1) / n;
		s.count = 0;
	}
	int skip = rounds > 1;
	printf("set %.2f\n", median(set + skip, rounds - skip));
	printf("stop %.2f\n", median(stop + skip, rounds - skip));
	printf("fire %.2f\n", median(fire + skip, rounds - skip));
}

static inline void measure_threads(char **arg)
{
	struct option o[] = {{"queues", 1000, 0}, {0}};
	parse(arg, o);
	quit(EXIT_NONE, "no goroutines: each waiting thread is a thread");
}

// A side of the ping-pong: a queue and its thread.
struct side {
	struct sink sink; // first, so that a sink is a side
	struct queue *queue;
	long slice;                // trips of a slice
	int64_t stamp[SLICES + 1]; // when each slice ended
	int done;                  // slices (here), or whether the end was seen (there)
};

static inline void sink_here(struct sink *sink, int fd)
{
	struct side *s = (struct side *)sink;
	take_byte(fd);
	if (s->done == SLICES)
		return;
	if (++sink->count == s->slice) {
		sink->count = 0;
		s->stamp[++s->done] = now();
	}
	// The end is told on the pair that has no byte under way: were there one, a single
	// edge could stand for both, and the end not be seen.
	if (s->done < SLICES)
		put_byte(fd);
	else
		check(shutdown(fd, SHUT_WR) == 0, "shutdown");
}

static inline void sink_there(struct sink *sink, int fd)
{
	char c;
	ssize_t n = read(fd, &c, 1);
	check(n >= 0, "read");
	if (n == 0)
		((struct side *)sink)->done = 1;
	else
		put_byte(fd);
}

static inline void *run_there(void *arg)
{
	struct side *s = arg;
	while (!s->done)
		me.wait(s->queue, 1);
	return NULL;
}

static inline void measure_pingpong(char **arg)
{
	struct option o[] = {{"pairs", 1, 0}, {"trips", 20000, 0}, {0}};
	parse(arg, o);
	long n = fitting(o[0].value, 1);

	struct pair *p = open_pairs(n);
	struct side here = {.sink = {.event = sink_here}, .slice = per_slice(o[1].value)};
	struct side there = {.sink = {.event = sink_there}};
	here.queue = me.open(&here.sink, n);
	there.queue = me.open(&there.sink, n);
	for (long i = 0; i < n; i++) {
		me.add(here.queue, i, p[i].near, me.edge);
		me.add(there.queue, i, p[i].far, me.edge);
	}
	pthread_t thread;
	check((errno = pthread_create(&thread, NULL, run_there, &there)) == 0, "pthread_create");

	here.stamp[0] = now();
	for (long i = 0; i < n; i++)
		put_byte(p[i].near);
	while (here.done < SLICES)
		me.wait(here.queue, 1);
	pthread_join(thread, NULL);

	double ns[SLICES];
	for (int i = 0; i < SLICES; i++)
		ns[i] = (double)(here.stamp[i + 1] - here.stamp[i]) / here.slice;
	printf("ns %.2f\nregistered %ld\n", median_slice(ns), n);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(char **arg);
	} measures[] = {
		{"event", measure_event}, {"ready", measure_ready}, {"register", measure_register},
		{"memory", measure_memory}, {"wake", measure_wake}, {"timers", measure_timers},
		{"threads", measure_threads}, {"pingpong", measure_pingpong},
	};
	raise_limit();
	for (size_t i = 0; i < sizeof measures / sizeof *measures; i++) {
		if (argc > 1 && strcmp(argv[1], measures[i].name) == 0) {
			measures[i].run(argv + 2);
			return 0;
		}
	}
	quit(EXIT_USAGE, "usage: %s event|ready|register|memory|wake|timers|threads|pingpong [key=value ...]", argv[0]);
}

#endif
