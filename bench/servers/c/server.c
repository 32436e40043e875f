// The floor of the echo servers: raw epoll, one thread. The argument is level (default) or
// edge.
//
//   cc -O2 -Wall -Wextra -o server server.c
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CAPACITY = 256, BUFFER = 65536 };

// What was read from a connection and could not be written back yet. Nothing more is read
// from it until it is.
struct pending {
	char *data; // NULL: nothing
	size_t length, sent;
};

static int epoll, edge;
static struct pending *pendings; // by descriptor
static char buffer[BUFFER];

static void check(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(1);
	}
}

static long raise_limit(void)
{
	struct rlimit l;
	check(getrlimit(RLIMIT_NOFILE, &l) == 0, "getrlimit");
	l.rlim_cur = l.rlim_max;
	check(setrlimit(RLIMIT_NOFILE, &l) == 0, "setrlimit");
	return l.rlim_cur < 1000000 ? (long)l.rlim_cur : 1000000;
}

// watch registers a descriptor or, for level, changes what it waits for. With edges, both
// directions are asked for once and for all.
static void watch(int fd, int operation, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.fd = fd};
	check(epoll_ctl(epoll, operation, fd, &e) == 0, "epoll_ctl");
}

static void hang_up(int fd)
{
	free(pendings[fd].data);
	pendings[fd] = (struct pending){0};
	close(fd);
}

// send_some sends as much as goes, and returns how much, or -1 if the connection is lost.
static ssize_t send_some(int fd, const char *data, size_t length)
{
	size_t sent = 0;
	while (sent < length) {
		ssize_t n = send(fd, data + sent, length - sent, MSG_NOSIGNAL);
		if (n >= 0)
			sent += n;
		else if (errno == EAGAIN)
			break;
		else if (errno != EINTR)
			return -1;
	}
	return sent;
}

static void keep(int fd, const char *data, size_t length)
{
	struct pending *p = &pendings[fd];
	p->data = malloc(length);
	check(p->data != NULL, "malloc");
	memcpy(p->data, data, length);
	p->length = length;
	p->sent = 0;
	if (!edge)
		watch(fd, EPOLL_CTL_MOD, EPOLLOUT);
}

// flush returns whether the connection may be read from.
static int flush(int fd)
{
	struct pending *p = &pendings[fd];
	if (!p->data)
		return 1;
	ssize_t n = send_some(fd, p->data + p->sent, p->length - p->sent);
	if (n < 0) {
		hang_up(fd);
		return 0;
	}
	p->sent += n;
	if (p->sent < p->length)
		return 0;
	free(p->data);
	*p = (struct pending){0};
	if (!edge)
		watch(fd, EPOLL_CTL_MOD, EPOLLIN);
	return 1;
}

// echo reads once, or with edges until the socket is empty. That it is, a read of less than
// there is room for tells as well, except that it says nothing about the end of the stream.
static void echo(int fd, uint32_t events)
{
	int ended = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
	for (;;) {
		ssize_t n = recv(fd, buffer, sizeof buffer, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			hang_up(fd);
			return;
		}
		ssize_t sent = send_some(fd, buffer, n);
		if (sent < 0) {
			hang_up(fd);
			return;
		}
		if (sent < n) {
			keep(fd, buffer + sent, n - sent);
			return;
		}
		if (!edge || (n < BUFFER && !ended))
			return;
	}
}

static void accept_all(int listener)
{
	for (;;) {
		int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0 && errno == EAGAIN)
			return;
		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		check(fd >= 0, "accept4");
		check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0, "TCP_NODELAY");
		watch(fd, EPOLL_CTL_ADD, edge ? EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET : EPOLLIN);
	}
}

static int listen_somewhere(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	check(fd >= 0, "socket");
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof a;
	check(bind(fd, (struct sockaddr *)&a, sizeof a) == 0, "bind");
	check(listen(fd, 65535) == 0, "listen"); // the kernel makes it what is allowed
	check(getsockname(fd, (struct sockaddr *)&a, &size) == 0, "getsockname");
	printf("listening on 127.0.0.1:%d\n", ntohs(a.sin_port));
	fflush(stdout);
	return fd;
}

int main(int argc, char **argv)
{
	edge = argc == 2 && strcmp(argv[1], "edge") == 0;
	if (argc > 2 || (argc == 2 && !edge && strcmp(argv[1], "level") != 0)) {
		fprintf(stderr, "usage: %s [level|edge]\n", argv[0]);
		return 2;
	}
	pendings = calloc(raise_limit(), sizeof *pendings);
	check(pendings != NULL, "calloc");
	epoll = epoll_create1(EPOLL_CLOEXEC);
	check(epoll >= 0, "epoll_create1");
	int listener = listen_somewhere();
	watch(listener, EPOLL_CTL_ADD, EPOLLIN);

	struct epoll_event e[CAPACITY];
	for (;;) {
		int n = epoll_wait(epoll, e, CAPACITY, -1);
		check(n >= 0 || errno == EINTR, "epoll_wait");
		for (int i = 0; i < n; i++) {
			int fd = e[i].data.fd;
			if (fd == listener)
				accept_all(listener);
			else if (e[i].events == EPOLLOUT && !pendings[fd].data)
				; // an edge that says only that it can be written to, and nobody waits for it
			else if (flush(fd))
				echo(fd, e[i].events);
		}
	}
}
