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

struct aio;

struct aio_io { /* one transfer */
	bool write;
	uint64_t off_bytes;
	const struct iovec *iov; /* until aio_start() returns; the memory itself until the end */
	unsigned iovs;
	int64_t result; /* out, of aio_batch(): bytes, or a negative errno; -EAGAIN: not sent */
};

/*
 * @ended is called on the queue's thread with what aio_start() was given and the kernel's result,
 * bytes or a negative errno; others wait for that thread, so it must not sleep. NULL: the kernel
 * grants none (said once in the log); the callers then do without.
 */
struct aio *aio_new(int fd, const char *name, void (*ended)(void *ctx, void *data, int64_t result),
		    void *ctx);
/* Waits until nothing is on its way. Nobody starts anything any more. */
void aio_free(struct aio *q);
/* 0: ended() will be called, maybe before this returns. -EAGAIN: too many are on their way. */
int aio_start(struct aio *q, const struct aio_io *io, void *data);
/* Send @n of them, at most AIO_BATCH_MAX, and wait until all have ended. */
void aio_batch(struct aio *q, struct aio_io *io, size_t n);

#endif
