/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's asynchronous I/O (io_submit(2)) on a file descriptor that is open for direct I/O:
 * many transfers on their way at once without a thread for each. It gives what the kernel answered;
 * fdio.c knows what that means.
 */
#ifndef DEV_AIO_H
#define DEV_AIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define AIO_BATCH_MAX 64u
#define AIO_TOO_LATE (-4096) /* a result, no errno: its time was over before it was sent */

struct aio;
struct aio_lane; /* one thread at a time looks after it; it may be handed on */

struct aio_io { /* one transfer */
	bool write;
	uint64_t off_bytes;
	const struct iovec *iov; /* until aio_batch() returns; the memory itself until the end */
	unsigned iovs;
	int64_t result;	   /* out: bytes, or a negative errno; -EAGAIN: not sent */
	uint64_t until_ns; /* of CLOCK_BOOTTIME: it is not sent later */
};

struct aio_one { /* one that nobody waits for */
	bool write;
	uint64_t off_bytes;
	void *buf;
	size_t len_bytes;
	uint64_t until_ns; /* of CLOCK_BOOTTIME: it is not sent later */
	void *data;
};

typedef void aio_ended(void *ctx, void *data, int64_t result);

/* NULL: the kernel grants none (said once in the log); the callers then do without. */
struct aio *aio_new(int fd, const char *name);
/* No lane of it is left, and no batch under way. */
void aio_free(struct aio *q);
/* Send @n of them, at most AIO_BATCH_MAX, and wait until all have ended. */
void aio_batch(struct aio *q, struct aio_io *io, size_t n);

/*
 * @ended will be called, by aio_lane_turn(), with what came in aio_one and the kernel's result,
 * bytes or a negative errno, or -EAGAIN or AIO_TOO_LATE for what was not sent. NULL: the kernel
 * grants no more of them.
 */
struct aio_lane *aio_lane_new(struct aio *q, aio_ended *ended, void *ctx);
void aio_lane_free(struct aio_lane *l); /* nothing is on its way */
/* 0: it goes out with the next turn. -EAGAIN: too many are on their way. */
int aio_lane_start(struct aio_lane *l, const struct aio_one *io);
/* See dev_lane_turn() and the others. */
void aio_lane_turn(struct aio_lane *l);
void aio_lane_wait(struct aio_lane *l, int fd);
bool aio_lane_due(const struct aio_lane *l);
int aio_lane_fd(const struct aio_lane *l);

#endif
