/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The queue of aio.h: the kernel's own asynchronous I/O (io_submit(2)), one context a device, and a
 * thread that takes what has ended and tells its owner.
 *
 * Not io_uring, for two reasons. A ring outlives its process: the kernel takes apart the ring of
 * one that was killed in the background, so a write can still reach the device when everybody can
 * see that the process is gone, and that is what recovery on one machine relies on (fs/LOCKING.md).
 * The contexts used here are waited for before a process ends. And what ends in a ring is finished
 * by the thread that submitted it, which here sleeps in a read of the next request: it would be
 * woken for each.
 *
 * A transfer is never cancelled: its memory belongs to the kernel until the answer is there, and
 * the answer comes when nothing of it is on its way any more, exactly as with pread(2) and
 * pwrite(2). What ends short goes on from there by such a call.
 */
#include "dev/aio.h"

#include "base/log.h"
#include "dev/fdio.h"

#include <errno.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEPTH 96u  /* on their way at once: less than a block device takes without blocking */
#define REAP 64	   /* taken from the kernel together */

struct aio {
	int fd;
	uint32_t sector_bytes;
	aio_context_t ctx;
	pthread_t reaper;
	pthread_mutex_t mtx;
	pthread_cond_t none;
	unsigned on_way;
	bool closing;
};

/* The rest of a transfer of which the kernel did @n bytes, or which failed. */
static int settle(struct aio *q, const struct dev_io *io, int64_t n)
{
	struct fdio f = {.fd = q->fd, .direct = true, .sector_bytes = q->sector_bytes};
	size_t done;

	if (n == (int64_t)io->len_bytes)
		return 0;
	if (n < 0 && n != -EINTR && n != -EAGAIN)
		return fdio_errno((int)-n);
	done = n < 0 ? 0 : (size_t)(n - n % q->sector_bytes);
	if (io->op == DEV_READ)
		return fdio_read(&f, io->off_bytes + done, io->len_bytes - done,
				 (uint8_t *)io->buf + done);
	return fdio_write(&f, io->off_bytes + done, io->len_bytes - done,
			  (const uint8_t *)io->buf + done);
}

static void left(struct aio *q, unsigned n)
{
	pthread_mutex_lock(&q->mtx);
	q->on_way -= n;
	if (!q->on_way)
		pthread_cond_broadcast(&q->none);
	pthread_mutex_unlock(&q->mtx);
}

static void *reap(void *arg)
{
	struct aio *q = arg;
	struct io_event ev[REAP];

	for (;;) {
		long n = syscall(SYS_io_getevents, q->ctx, 1l, (long)REAP, ev, NULL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break; /* io_destroy: nothing is on its way */
		for (long k = 0; k < n; k++) {
			struct dev_async *a = (struct dev_async *)(uintptr_t)ev[k].data;

			a->io.result = settle(q, &a->io, ev[k].res);
			dev_started_done(a); /* it may be gone now */
		}
		left(q, (unsigned)n);
	}
	return NULL;
}

static int start_reaper(struct aio *q)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&q->reaper, NULL, reap, q);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

struct aio *aio_new(int fd, const char *name, uint32_t sector_bytes)
{
	struct aio *q = calloc(1, sizeof(*q));

	lunfs_assert(q);
	q->fd = fd;
	q->sector_bytes = sector_bytes;
	pthread_mutex_init(&q->mtx, NULL);
	pthread_cond_init(&q->none, NULL);
	if (syscall(SYS_io_setup, DEPTH, &q->ctx)) {
		log_info(
		    "no-async-io",
		    "%s: the kernel grants no asynchronous I/O (%s; see fs.aio-max-nr), so each "
		    "transfer takes a thread; nothing else changes.",
		    name, strerror(errno));
		free(q);
		return NULL;
	}
	if (start_reaper(q)) {
		syscall(SYS_io_destroy, q->ctx);
		free(q);
		return NULL;
	}
	return q;
}

void aio_free(struct aio *q)
{
	if (!q)
		return;
	pthread_mutex_lock(&q->mtx);
	q->closing = true;
	while (q->on_way)
		pthread_cond_wait(&q->none, &q->mtx);
	pthread_mutex_unlock(&q->mtx);
	syscall(SYS_io_destroy, q->ctx); /* wakes the thread */
	pthread_join(q->reaper, NULL);
	pthread_cond_destroy(&q->none);
	pthread_mutex_destroy(&q->mtx);
	free(q);
}

int aio_start(struct aio *q, struct dev_async *a)
{
	struct iocb cb = {
	    .aio_data = (uintptr_t)a,
	    .aio_lio_opcode = a->io.op == DEV_READ ? IOCB_CMD_PREAD : IOCB_CMD_PWRITE,
	    .aio_fildes = (uint32_t)q->fd,
	    .aio_buf = (uintptr_t)a->io.buf,
	    .aio_nbytes = a->io.len_bytes,
	    .aio_offset = (int64_t)a->io.off_bytes,
	};
	struct iocb *list = &cb;
	bool room;

	pthread_mutex_lock(&q->mtx);
	room = !q->closing && q->on_way < DEPTH;
	q->on_way += room;
	pthread_mutex_unlock(&q->mtx);
	if (!room)
		return -EAGAIN;
	if (syscall(SYS_io_submit, q->ctx, 1l, &list) == 1)
		return 0;
	left(q, 1); /* not sent: whoever asked does it by a call that says why */
	return -EAGAIN;
}
