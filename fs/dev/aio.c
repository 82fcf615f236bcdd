/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two ways to use io_submit(2). What is started and not waited for goes through one context, and a
 * thread takes what has ended and tells its owner. Who waits for a whole batch takes a context that
 * nobody else uses meanwhile, and hears from the kernel itself: no thread is woken for it but the
 * caller, once.
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
 * pwrite(2).
 */
#include "dev/aio.h"

#include "base/log.h"

#include <errno.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* It does not see that what came before a transfer was submitted comes before what its end brings.
 */
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#define SUBMITTED(data) __tsan_release(data)
#define ENDED(data) __tsan_acquire(data)
#else
#define SUBMITTED(data)
#define ENDED(data)
#endif

#define DEPTH 96u /* started and on their way: less than a block device takes without blocking */
#define REAP 64	  /* taken from the kernel together */

struct lane { /* a context for one batch at a time */
	struct lane *next;
	aio_context_t ctx;
};

struct aio {
	int fd;
	void (*ended)(void *ctx, void *data, int64_t result);
	void *ended_ctx;
	aio_context_t ctx;
	pthread_t reaper;
	pthread_mutex_t mtx;
	pthread_cond_t none;
	struct lane *idle; /* lanes that no batch uses */
	unsigned on_way;
	bool closing;
};

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
			void *data = (void *)(uintptr_t)ev[k].data;

			ENDED(data);
			q->ended(q->ended_ctx, data, ev[k].res); /* it may be gone now */
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

struct aio *aio_new(int fd, const char *name, void (*ended)(void *ctx, void *data, int64_t result),
		    void *ctx)
{
	struct aio *q = calloc(1, sizeof(*q));

	lunfs_assert(q);
	q->fd = fd;
	q->ended = ended;
	q->ended_ctx = ctx;
	pthread_mutex_init(&q->mtx, NULL);
	pthread_cond_init(&q->none, NULL);
	if (syscall(SYS_io_setup, DEPTH, &q->ctx)) {
		log_info("no-async-io",
			 "%s: the kernel grants no asynchronous I/O (%s; see fs.aio-max-nr), so "
			 "transfers are slower; nothing else changes.",
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
	while (q->idle) {
		struct lane *l = q->idle;

		q->idle = l->next;
		syscall(SYS_io_destroy, l->ctx);
		free(l);
	}
	pthread_cond_destroy(&q->none);
	pthread_mutex_destroy(&q->mtx);
	free(q);
}

static struct iocb iocb_of(const struct aio *q, const struct aio_io *io, void *data)
{
	return (struct iocb){
	    .aio_data = (uintptr_t)data,
	    .aio_lio_opcode = io->write ? IOCB_CMD_PWRITEV : IOCB_CMD_PREADV,
	    .aio_fildes = (uint32_t)q->fd,
	    .aio_buf = (uintptr_t)io->iov,
	    .aio_nbytes = io->iovs,
	    .aio_offset = (int64_t)io->off_bytes,
	};
}

int aio_start(struct aio *q, const struct aio_io *io, void *data)
{
	struct iocb cb = iocb_of(q, io, data), *list = &cb;
	bool room;

	pthread_mutex_lock(&q->mtx);
	room = !q->closing && q->on_way < DEPTH;
	q->on_way += room;
	pthread_mutex_unlock(&q->mtx);
	if (!room)
		return -EAGAIN;
	SUBMITTED(data);
	if (syscall(SYS_io_submit, q->ctx, 1l, &list) == 1)
		return 0;
	left(q, 1); /* not sent: whoever asked does it by a call that says why */
	return -EAGAIN;
}

/* ---- batches ------------------------------------------------------------------------------ */

static struct lane *lane_get(struct aio *q)
{
	struct lane *l;

	pthread_mutex_lock(&q->mtx);
	l = q->idle;
	if (l)
		q->idle = l->next;
	pthread_mutex_unlock(&q->mtx);
	if (l)
		return l;
	l = calloc(1, sizeof(*l));
	if (l && syscall(SYS_io_setup, AIO_BATCH_MAX, &l->ctx)) {
		free(l);
		l = NULL;
	}
	return l;
}

static void lane_put(struct aio *q, struct lane *l)
{
	pthread_mutex_lock(&q->mtx);
	l->next = q->idle;
	q->idle = l;
	pthread_mutex_unlock(&q->mtx);
}

static void lane_wait(struct lane *l, size_t n)
{
	struct io_event ev[AIO_BATCH_MAX];

	while (n) {
		long got = syscall(SYS_io_getevents, l->ctx, (long)n, (long)n, ev, NULL);

		lunfs_assert(got >= 0 || errno == EINTR);
		for (long k = 0; k < got; k++)
			((struct aio_io *)(uintptr_t)ev[k].data)->result = ev[k].res;
		n -= got > 0 ? (size_t)got : 0;
	}
}

void aio_batch(struct aio *q, struct aio_io *io, size_t n)
{
	struct iocb cb[AIO_BATCH_MAX], *list[AIO_BATCH_MAX];
	struct lane *l = lane_get(q);
	long sent;

	lunfs_assert(n <= AIO_BATCH_MAX);
	for (size_t k = 0; k < n; k++) {
		io[k].result = -EAGAIN;
		cb[k] = iocb_of(q, &io[k], &io[k]);
		list[k] = &cb[k];
	}
	if (!l)
		return;
	sent = syscall(SYS_io_submit, l->ctx, (long)n, list);
	if (sent > 0)
		lane_wait(l, (size_t)sent);
	lane_put(q, l);
}
