/* Random reads by liburing, for comparison: uring FILE DIRECT DEPTH MILLISECONDS BLOCKS */
#define _GNU_SOURCE
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static unsigned long long state = 88172645463325252ull;
static unsigned long long next(void) {
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

int main(int argc, char **argv) {
	int direct = atoi(argv[2]), depth = atoi(argv[3]), ms = atoi(argv[4]);
	long blocks = atol(argv[5]), done = 0;
	int fd = open(argv[1], O_RDONLY | (direct ? O_DIRECT : 0));
	struct io_uring ring;
	struct timespec begin, now;
	char *buffers;
	if (argc != 6 || fd < 0 || io_uring_queue_init(256, &ring, 0) < 0 || posix_memalign((void **)&buffers, 4096, 4096L * depth))
		return 1;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (int i = 0; i < depth; i++) {
		struct io_uring_sqe *e = io_uring_get_sqe(&ring);
		io_uring_prep_read(e, fd, buffers + 4096L * i, 4096, next() % blocks * 4096);
		e->user_data = i;
	}
	for (;;) {
		struct io_uring_cqe *c;
		unsigned head, n = 0;
		if (io_uring_submit_and_wait(&ring, 1) < 0)
			return 2;
		io_uring_for_each_cqe(&ring, head, c) {
			if (c->res != 4096)
				return 3;
			struct io_uring_sqe *e = io_uring_get_sqe(&ring);
			int i = c->user_data;
			io_uring_prep_read(e, fd, buffers + 4096L * i, 4096, next() % blocks * 4096);
			e->user_data = i;
			n++;
		}
		io_uring_cq_advance(&ring, n);
		done += n;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 >= ms)
			break;
	}
	printf("%ld\n", done);
	return 0;
}
