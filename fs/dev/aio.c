/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two ways to use io_submit(2). Who waits for a whole batch takes a context that nobody else uses
 * meanwhile. A lane is a context for transfers that go out and come back while its thread does
 * something else: a few are sent together, the thread sees in memory that it shares with the kernel
 * whether something has ended, and where it has nothing else to do it sleeps until something has,
 * or until there is something else to do. In neither case another thread is woken for an answer.
 *
 * Not io_uring: a ring outlives its process. The kernel takes apart the ring of one that was killed
 * in the background, so a write can still reach the device when everybody can see that the process
 * is gone, and that is what recovery on one machine relies on (fs/LOCKING.md). The contexts used
 * here are waited for before a process ends. What a ring would gain: tests/bench/README.md.
 *
 * A transfer is never cancelled: its memory belongs to the kernel until the answer is there, and
 * the answer comes when nothing of it is on its way any more, exactly as with pread(2) and
 * pwrite(2).
 */
#include "dev/aio.h"

#include "base/log.h"
#include "dev/dev_impl.h"

#include <errno.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
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

#define DEPTH 96u   /* on their way in all lanes: less than a block device takes without blocking */
#define TOGETHER 8u /* so many are sent at once, if nothing comes in between */

struct slot { /* a context for one batch at a time */
	struct slot *next;
	aio_context_t ctx;
};

struct aio {
	int fd;
	const char *name;
	pthread_mutex_t mtx;
	struct slot *idle; /* those that no batch uses */
	atomic_uint on_way; /* in lanes, and what is to be sent there */
	atomic_bool told;   /* that no lane was to be had */
};

struct aio_lane {
	struct aio *q;
	aio_ended *ended;
	void *ended_ctx;
	aio_context_t ctx;
	int signal_fd; /* an eventfd: something has ended */
	unsigned on_way, unsent;
	struct aio_one wait[DEPTH]; /* to be sent */
};

/* What the kernel shows of a context, at its address; not in its headers, but what libaio reads. */
struct shown {
	unsigned id, nr;
	atomic_uint head, tail;
	unsigned magic;
};
#define SHOWN_MAGIC 0xa10a10a1u

struct aio *aio_new(int fd, const char *name)
{
	struct aio *q = calloc(1, sizeof(*q));
	struct slot *s = calloc(1, sizeof(*s));

	lunfs_assert(q && s);
	if (syscall(SYS_io_setup, AIO_BATCH_MAX, &s->ctx)) {
		log_info("no-async-io",
			 "%s: the kernel grants no asynchronous I/O (%s; see fs.aio-max-nr), so "
			 "transfers are slower; nothing else changes.",
			 name, strerror(errno));
		free(s);
		free(q);
		return NULL;
	}
	q->fd = fd;
	q->name = name;
	q->idle = s;
	pthread_mutex_init(&q->mtx, NULL);
	return q;
}

void aio_free(struct aio *q)
{
	if (!q)
		return;
	while (q->idle) {
		struct slot *s = q->idle;

		q->idle = s->next;
		syscall(SYS_io_destroy, s->ctx);
		free(s);
	}
	pthread_mutex_destroy(&q->mtx);
	free(q);
}

/* ---- batches ------------------------------------------------------------------------------ */

static struct slot *slot_get(struct aio *q)
{
	struct slot *s;

	pthread_mutex_lock(&q->mtx);
	s = q->idle;
	if (s)
		q->idle = s->next;
	pthread_mutex_unlock(&q->mtx);
	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (s && syscall(SYS_io_setup, AIO_BATCH_MAX, &s->ctx)) {
		free(s);
		s = NULL;
	}
	return s;
}

static void slot_put(struct aio *q, struct slot *s)
{
	pthread_mutex_lock(&q->mtx);
	s->next = q->idle;
	q->idle = s;
	pthread_mutex_unlock(&q->mtx);
}

static void slot_wait(struct slot *s, size_t n)
{
	struct io_event ev[AIO_BATCH_MAX];

	while (n) {
		long got = syscall(SYS_io_getevents, s->ctx, (long)n, (long)n, ev, NULL);

		lunfs_assert(got >= 0 || errno == EINTR);
		for (long k = 0; k < got; k++)
			((struct aio_io *)(uintptr_t)ev[k].data)->result = ev[k].res;
		n -= got > 0 ? (size_t)got : 0;
	}
}

static struct iocb batch_iocb(const struct aio *q, struct aio_io *io)
{
	return (struct iocb){
	    .aio_data = (uintptr_t)io,
	    .aio_lio_opcode = io->write ? IOCB_CMD_PWRITEV : IOCB_CMD_PREADV,
	    .aio_fildes = (uint32_t)q->fd,
	    .aio_buf = (uintptr_t)io->iov,
	    .aio_nbytes = io->iovs,
	    .aio_offset = (int64_t)io->off_bytes,
	};
}

/*
 * At most TOGETHER, of which those go out whose time is not over; the kernel may keep us waiting
 * while its queue is full, so the next look at the clock. Returns how many it has taken.
 */
static size_t send_part(const struct aio *q, const struct slot *s, struct aio_io *io, size_t of)
{
	struct iocb cb[TOGETHER], *list[TOGETHER];
	uint64_t now_ns = dev_now_ns();
	long n = 0, sent;

	for (size_t k = 0; k < of; k++) {
		if (io[k].until_ns <= now_ns)
			continue;
		cb[n] = batch_iocb(q, &io[k]);
		list[n] = &cb[n];
		n++;
	}
	sent = n ? syscall(SYS_io_submit, s->ctx, n, list) : 0;
	return sent > 0 ? (size_t)sent : 0;
}

void aio_batch(struct aio *q, struct aio_io *io, size_t n)
{
	struct slot *s = slot_get(q);
	size_t sent = 0;

	lunfs_assert(n <= AIO_BATCH_MAX);
	for (size_t k = 0; k < n; k++)
		io[k].result = -EAGAIN;
	if (!s)
		return;
	for (size_t k = 0; k < n; k += TOGETHER)
		sent += send_part(q, s, io + k, n - k < TOGETHER ? n - k : TOGETHER);
	slot_wait(s, sent);
	slot_put(q, s);
}

/* ---- lanes -------------------------------------------------------------------------------- */

struct aio_lane *aio_lane_new(struct aio *q, aio_ended *ended, void *ctx)
{
	struct aio_lane *l = calloc(1, sizeof(*l));

	lunfs_assert(l);
	l->q = q;
	l->ended = ended;
	l->ended_ctx = ctx;
	l->signal_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (l->signal_fd >= 0 && syscall(SYS_io_setup, DEPTH, &l->ctx) == 0)
		return l;
	if (!atomic_exchange(&q->told, true))
		log_info(
		    "no-lane",
		    "%s: the kernel grants no more asynchronous I/O now (%s; see fs.aio-max-nr "
		    "and the limit of open files), so small transfers are slower until it "
		    "does; nothing else changes.",
		    q->name, strerror(errno));
	if (l->signal_fd >= 0)
		close(l->signal_fd);
	free(l);
	return NULL;
}

void aio_lane_free(struct aio_lane *l)
{
	lunfs_assert(!l->on_way && !l->unsent);
	syscall(SYS_io_destroy, l->ctx);
	close(l->signal_fd);
	free(l);
}

int aio_lane_start(struct aio_lane *l, const struct aio_one *io)
{
	if (atomic_fetch_add(&l->q->on_way, 1) >= DEPTH) {
		atomic_fetch_sub(&l->q->on_way, 1);
		return -EAGAIN;
	}
	l->wait[l->unsent++] = *io;
	return 0;
}

static struct iocb lane_iocb(const struct aio_lane *l, const struct aio_one *io)
{
	return (struct iocb){
	    .aio_data = (uintptr_t)io->data,
	    .aio_lio_opcode = io->write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
	    .aio_fildes = (uint32_t)l->q->fd,
	    .aio_buf = (uintptr_t)io->buf,
	    .aio_nbytes = io->len_bytes,
	    .aio_offset = (int64_t)io->off_bytes,
	    .aio_flags = IOCB_FLAG_RESFD,
	    .aio_resfd = (uint32_t)l->signal_fd,
	};
}

static void bring(const struct aio_lane *l, void *data, int64_t result)
{
	atomic_fetch_sub(&l->q->on_way, 1);
	l->ended(l->ended_ctx, data, result);
}

/*
 * At most TOGETHER of those that wait, whose time is not over; the kernel may keep us waiting, so
 * the next look at the clock. What it does not take now is not sent.
 */
static void send_some(struct aio_lane *l, const struct aio_one *io, unsigned of)
{
	struct iocb cb[TOGETHER], *list[TOGETHER];
	uint64_t now_ns = dev_now_ns();
	unsigned n = 0;
	long sent;

	for (unsigned k = 0; k < of; k++) {
		if (io[k].until_ns <= now_ns)
			continue;
		SUBMITTED(io[k].data);
		cb[n] = lane_iocb(l, &io[k]);
		list[n] = &cb[n];
		n++;
	}
	sent = n ? syscall(SYS_io_submit, l->ctx, (long)n, list) : 0;
	sent = sent < 0 ? 0 : sent;
	l->on_way += (unsigned)sent;
	for (unsigned k = 0; k < of; k++) {
		if (io[k].until_ns <= now_ns)
			bring(l, io[k].data, AIO_TOO_LATE);
		else if (sent-- <= 0)
			bring(l, io[k].data, -EAGAIN);
	}
}

static void send_unsent(struct aio_lane *l)
{
	unsigned of = l->unsent;

	for (unsigned k = 0; k < of; k += TOGETHER)
		send_some(l, l->wait + k, of - k < TOGETHER ? of - k : TOGETHER);
	l->unsent = 0;
}

/* Without asking the kernel. */
static bool has_ended(const struct aio_lane *l)
{
	const struct shown *s = (const void *)(uintptr_t)l->ctx;

	return s->magic != SHOWN_MAGIC || atomic_load_explicit(&s->head, memory_order_relaxed) !=
					      atomic_load_explicit(&s->tail, memory_order_acquire);
}

/* How many had ended. */
static long take(struct aio_lane *l)
{
	struct timespec at_once = {0};
	struct io_event ev[DEPTH]; /* all: a signal is read once for what it tells of */
	long n =
	    has_ended(l) ? syscall(SYS_io_getevents, l->ctx, 0l, (long)DEPTH, ev, &at_once) : 0;

	for (long k = 0; k < n; k++) {
		void *data = (void *)(uintptr_t)ev[k].data;

		ENDED(data);
		l->on_way--;
		bring(l, data, ev[k].res);
	}
	return n;
}

/* Until something has ended, or @fd (-1: none) can be read, or a signal comes. */
static void sleep_for(const struct aio_lane *l, int fd)
{
	struct pollfd p[2] = {{.fd = l->signal_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
	uint64_t count;

	if (poll(p, 2, -1) > 0 && p[0].revents && read(l->signal_fd, &count, sizeof(count)) < 0)
		lunfs_assert(errno == EAGAIN);
}

void aio_lane_turn(struct aio_lane *l)
{
	send_unsent(l);
	take(l);
}

void aio_lane_wait(struct aio_lane *l, int fd)
{
	send_unsent(l);
	if (take(l) > 0 || !l->on_way)
		return;
	sleep_for(l, fd);
	take(l);
}

bool aio_lane_due(const struct aio_lane *l)
{
	return l->unsent >= TOGETHER || (l->on_way && has_ended(l));
}

int aio_lane_fd(const struct aio_lane *l)
{
	return l->signal_fd;
}
