// The load on the echo servers: ping-pong over many connections, one thread, epoll.
//
//   cc -O2 -Wall -Wextra -o client client.c
//   client ADDRESS connections=N size=BYTES seconds=S [warmup=0.3]
//
// Each connection always has one message under way. With seconds=0, each sends one message,
// and then all are held until stdin ends.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CAPACITY = 256, BUFFER = 65536 };

__attribute__((noreturn, format(printf, 2, 3)))
static void quit(int status, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fputc('\n', stderr);
	exit(status);
}

static void check(int ok, const char *what)
{
	if (!ok)
		quit(1, "%s: %s", what, strerror(errno));
}

// now is in nanoseconds.
static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

// The histogram of latencies. Up to SUB nanoseconds each value has a bucket; above, each
// power of two has SUB of them, so that the middle of a bucket is at most 1/256 from any
// value in it.
enum { SUB_BITS = 7, SUB = 1 << SUB_BITS };
static uint64_t histogram[(64 - SUB_BITS + 1) * SUB], messages;
static int64_t slowest;

static void record(int64_t ns)
{
	uint64_t v = ns;
	int shift = v < SUB ? 0 : 63 - __builtin_clzll(v) - SUB_BITS;
	histogram[shift * SUB + (v >> shift)]++;
	messages++;
	if (ns > slowest)
		slowest = ns;
}

// reset also touches every page, so that none is first touched while measuring.
static void reset(void)
{
	memset(histogram, 0, sizeof histogram);
	messages = 0;
	slowest = 0;
}

static uint64_t percentile(double p)
{
	uint64_t seen = 0, wanted = p * messages;
	if (wanted < p * messages)
		wanted++;
	for (uint64_t i = 0; i < sizeof histogram / sizeof *histogram; i++) {
		seen += histogram[i];
		if (seen < wanted)
			continue;
		if (i < 2 * SUB)
			return i;
		int shift = i / SUB - 1;
		uint64_t middle = ((i - (uint64_t)shift * SUB) << shift) + (UINT64_C(1) << shift) / 2;
		return middle < (uint64_t)slowest ? middle : (uint64_t)slowest;
	}
	return 0;
}

// Connections

struct connection {
	int fd, blocked;  // blocked: it waits until it can send on
	size_t sent, got; // of the message under way
	int64_t start;
};

static int epoll;
static struct connection *connections;
static size_t size;
static char *message; // what all send
static char buffer[BUFFER];
static int again;          // whether the next message follows the last
static int compare;        // whether what comes back is compared; not while measuring
static uint64_t completed; // messages, all in all

static void watch(struct connection *c, int operation, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = c};
	check(epoll_ctl(epoll, operation, c->fd, &e) == 0, "epoll_ctl");
}

// send_on sends what can be sent of the message, and waits for room if that is not all.
static void send_on(struct connection *c)
{
	while (c->sent < size) {
		ssize_t n = send(c->fd, message + c->sent, size - c->sent, MSG_NOSIGNAL);
		if (n >= 0) {
			c->sent += n;
			continue;
		}
		if (errno == EINTR)
			continue;
		check(errno == EAGAIN, "send");
		break;
	}
	int blocked = c->sent < size;
	if (blocked != c->blocked) {
		c->blocked = blocked;
		watch(c, EPOLL_CTL_MOD, blocked ? EPOLLIN | EPOLLOUT : EPOLLIN);
	}
}

static void start(struct connection *c, int64_t t)
{
	c->sent = c->got = 0;
	c->start = t;
	send_on(c);
}

static void receive(struct connection *c)
{
	ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	check(n >= 0, "recv");
	if (n == 0)
		quit(1, "the server closed a connection");
	if (c->got + n > c->sent)
		quit(1, "more came back than was sent");
	if (compare && memcmp(buffer, message + c->got, n) != 0)
		quit(1, "something else came back than was sent");
	c->got += n;
	if (c->got < size)
		return;
	int64_t t = now();
	record(t - c->start);
	completed++;
	if (again)
		start(c, t);
}

static void step(void)
{
	struct epoll_event e[CAPACITY];
	int n = epoll_wait(epoll, e, CAPACITY, 10); // in time for the end when nothing moves
	check(n >= 0 || errno == EINTR, "epoll_wait");
	for (int i = 0; i < n; i++) {
		struct connection *c = e[i].data.ptr;
		if (c->blocked && e[i].events & EPOLLOUT)
			send_on(c);
		if (e[i].events & ~EPOLLOUT)
			receive(c);
	}
}

static void connect_one(struct connection *c, const struct sockaddr_in *address)
{
	int one = 1;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check(c->fd >= 0, "socket");
	check(connect(c->fd, (const struct sockaddr *)address, sizeof *address) == 0, "connect");
	check(setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0, "TCP_NODELAY");
	check(fcntl(c->fd, F_SETFL, O_NONBLOCK) == 0, "O_NONBLOCK");
	watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

// Arguments

static struct sockaddr_in address_of(const char *text)
{
	char host[64];
	const char *colon = strrchr(text, ':');
	struct sockaddr_in a = {.sin_family = AF_INET};
	if (!colon || colon - text >= (long)sizeof host)
		quit(2, "%s is not HOST:PORT", text);
	memcpy(host, text, colon - text);
	host[colon - text] = 0;
	int port = atoi(colon + 1);
	if (inet_pton(AF_INET, host, &a.sin_addr) != 1 || port < 1 || port > 65535)
		quit(2, "%s is not an IPv4 address and a port", text);
	a.sin_port = htons(port);
	return a;
}

// number_of returns the value if arg is key=value, else what it was.
static double number_of(const char *arg, const char *key, double was, double least, int *known)
{
	size_t n = strlen(key);
	if (strncmp(arg, key, n) != 0 || arg[n] != '=')
		return was;
	char *end;
	double v = strtod(arg + n + 1, &end);
	if (end == arg + n + 1 || *end || !(v >= least && v <= 1e9))
		quit(2, "%s: not in range", arg);
	*known = 1;
	return v;
}

static void say(const char *word)
{
	puts(word);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		quit(2, "usage: %s ADDRESS connections=N size=BYTES seconds=S [warmup=0.3]", argv[0]);
	struct sockaddr_in address = address_of(argv[1]);
	double number = 1, bytes = 64, seconds = 1, warmup = 0.3;
	for (int i = 2; i < argc; i++) {
		int known = 0;
		number = number_of(argv[i], "connections", number, 1, &known);
		bytes = number_of(argv[i], "size", bytes, 1, &known);
		seconds = number_of(argv[i], "seconds", seconds, 0, &known);
		warmup = number_of(argv[i], "warmup", warmup, 0, &known);
		if (!known)
			quit(2, "unknown argument %s", argv[i]);
	}
	struct rlimit l;
	check(getrlimit(RLIMIT_NOFILE, &l) == 0, "getrlimit");
	l.rlim_cur = l.rlim_max;
	check(setrlimit(RLIMIT_NOFILE, &l) == 0, "setrlimit");

	// As many as fit, with some for the program itself. The server's limit is the same.
	long count = number, room = l.rlim_cur > 1000000000 ? 1000000000 : (long)l.rlim_cur - 256;
	if (count > room)
		count = room;
	if (count < 1)
		quit(1, "the limit of descriptors is too low");
	size = bytes;
	message = malloc(size);
	connections = calloc(count, sizeof *connections);
	check(message && connections, "malloc");
	for (size_t i = 0; i < size; i++)
		message[i] = i % 251; // a prime, so that no part looks like one that is shifted
	epoll = epoll_create1(EPOLL_CLOEXEC);
	check(epoll >= 0, "epoll_create1");

	// One message on each, so that all are known to be accepted.
	compare = 1;
	for (long i = 0; i < count; i++)
		connect_one(&connections[i], &address);
	for (long i = 0; i < count; i++)
		start(&connections[i], now());
	while (completed < (uint64_t)count)
		step();
	if (seconds == 0) {
		printf("connections %ld\n", count);
		fflush(stdout);
	}
	say("connected");
	if (seconds == 0) {
		while (read(0, buffer, sizeof buffer) > 0)
			;
		return 0;
	}

	again = 1;
	int64_t t = now(), begin = t + (int64_t)(warmup * 1e9);
	for (long i = 0; i < count; i++)
		start(&connections[i], now());
	while ((t = now()) < begin)
		step();
	compare = 0;
	reset();
	say("begin");
	begin = now();
	int64_t end = begin + (int64_t)(seconds * 1e9);
	while ((t = now()) < end)
		step();
	printf("end\nmessages %llu\nseconds %.6f\n", (unsigned long long)messages, (t - begin) / 1e9);
	printf("p50 %llu\np99 %llu\n", (unsigned long long)percentile(.5), (unsigned long long)percentile(.99));
	printf("p999 %llu\nmax %lld\n", (unsigned long long)percentile(.999), (long long)slowest);
	return 0;
}
