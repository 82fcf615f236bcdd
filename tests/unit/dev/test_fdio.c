/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is sent again after the kernel gave it up, and until when. The system calls that write, and
 * the kernel's asynchronous I/O, are replaced by those here: they take their time and fail.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <lunfs/dev.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "dev/dev_impl.h"
#include "dev/fdio.h"

#define IMAGE_BYTES (1u << 20)
#define BLOCK 4096u
#define SHORT_MS 30u
#define LONG_MS 60000u
#define MS_NS 1000000ull

/* ---- the kernel --------------------------------------------------------------------------- */

static struct {
	atomic_uint fails; /* so many calls end with EIO ... */
	uint64_t take_ns;  /* ... after this long; */
	bool short_first;  /* the first writes one block instead, and says so */
	atomic_uint reads, writes, discards, doubts;
	int doubt_says; /* 0: send it again */
	bool no_threads;
} k;

int pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

	*(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
	return k.no_threads ? EAGAIN : real(t, attr, fn, arg);
}

/* 0: go on; else what the call returns. */
static ssize_t hang_and_fail(size_t len)
{
	if (!atomic_load(&k.fails))
		return 0;
	atomic_fetch_sub(&k.fails, 1);
	dev_nap_ns(k.take_ns);
	if (k.short_first && len > BLOCK)
		return BLOCK;
	errno = EIO;
	return -1;
}

ssize_t pread(int fd, void *buf, size_t len, off_t off)
{
	ssize_t n = hang_and_fail(0);

	atomic_fetch_add(&k.reads, 1);
	return n ? n : (ssize_t)syscall(SYS_pread64, fd, buf, len, off);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t off)
{
	ssize_t n = hang_and_fail(len);

	atomic_fetch_add(&k.writes, 1);
	return n ? n : (ssize_t)syscall(SYS_pwrite64, fd, buf, len, off);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
	ssize_t done, all = 0;
	size_t len = 0;

	for (int i = 0; i < n; i++)
		len += iov[i].iov_len;
	done = hang_and_fail(len);
	atomic_fetch_add(&k.writes, 1);
	for (int i = 0; !done && i < n; i++) {
		all += syscall(SYS_pwrite64, fd, iov[i].iov_base, iov[i].iov_len, off + all);
		assert_true(all > 0);
	}
	return done ? done : all;
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	ssize_t n = hang_and_fail(0);

	(void)fd;
	(void)mode;
	(void)off;
	(void)len;
	atomic_fetch_add(&k.discards, 1);
	return (int)n;
}

int ioctl(int fd, unsigned long request, ...)
{
	(void)fd;
	assert_int_equal(request, BLKDISCARD);
	atomic_fetch_add(&k.discards, 1);
	return (int)hang_and_fail(0);
}

struct aio {
	int fd;
};

struct aio *aio_new(int fd, const char *name)
{
	struct aio *q = calloc(1, sizeof(*q));

	(void)name;
	assert_non_null(q);
	*q = (struct aio){fd};
	return q;
}

void aio_free(struct aio *q)
{
	free(q);
}

static int64_t aio_do(const struct aio *q, const struct aio_io *io)
{
	ssize_t n = pwritev(q->fd, io->iov, (int)io->iovs, (off_t)io->off_bytes);

	assert_true(io->write);
	return n < 0 ? -errno : n;
}

void aio_batch(struct aio *q, struct aio_io *io, size_t n)
{
	for (size_t i = 0; i < n; i++)
		io[i].result = aio_do(q, &io[i]);
}

struct aio_lane {
	struct aio *q;
	aio_ended *ended;
	void *ctx;
	struct aio_one one; /* to be sent */
};

struct aio_lane *aio_lane_new(struct aio *q, aio_ended *ended, void *ctx)
{
	struct aio_lane *l = calloc(1, sizeof(*l));

	assert_non_null(l);
	*l = (struct aio_lane){.q = q, .ended = ended, .ctx = ctx};
	return l;
}

void aio_lane_free(struct aio_lane *l)
{
	free(l);
}

int aio_lane_start(struct aio_lane *l, const struct aio_one *io)
{
	l->one = *io;
	return 0;
}

void aio_lane_turn(struct aio_lane *l)
{
	struct iovec iov = {l->one.buf, l->one.len_bytes};
	struct aio_io io = {l->one.write, l->one.off_bytes, &iov, 1, 0, l->one.until_ns};

	assert_true(l->one.until_ns > dev_now_ns());
	l->ended(l->ctx, l->one.data, aio_do(l->q, &io));
}

void aio_lane_wait(struct aio_lane *l, int fd)
{
	(void)fd;
	aio_lane_turn(l);
}

bool aio_lane_due(const struct aio_lane *l)
{
	(void)l;
	return true;
}

int aio_lane_fd(const struct aio_lane *l)
{
	(void)l;
	return -1;
}

/* ---- the device --------------------------------------------------------------------------- */

struct fixture {
	struct dev d;
	struct fdio f;
	char path[128];
	uint8_t *buf;
};

static int in_doubt(void *ctx, unsigned tries)
{
	(void)ctx;
	(void)tries;
	atomic_fetch_add(&k.doubts, 1);
	return k.doubt_says;
}

static int set_up(void **state)
{
	struct fixture *fx = calloc(1, sizeof(*fx));
	const char *dir = getenv("TMPDIR");
	int fd;

	assert_non_null(fx);
	memset(&k, 0, sizeof(k));
	snprintf(fx->path, sizeof(fx->path), "%s/lunfs-test-fdio-XXXXXX", dir ? dir : "/tmp");
	fd = mkstemp(fx->path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, IMAGE_BYTES), 0);
	close(fd);
	assert_int_equal(fdio_open(&fx->f, &fx->d, fx->path, 0), 0);
	assert_int_equal(fdio_set_sector(&fx->f, 512), 0);
	fx->f.doubt = in_doubt;
	fx->buf = dev_buf_alloc(8 * BLOCK);
	*state = fx;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fx = *state;

	fdio_close(&fx->f);
	unlink(fx->path);
	free(fx->buf);
	free(fx);
	return 0;
}

/* @n calls fail, each after twice as long as the deadline allows. */
static void fail_late(struct fixture *fx, unsigned n)
{
	dev_set_deadline(&fx->d, SHORT_MS);
	k.take_ns = 2 * SHORT_MS * MS_NS;
	k.reads = k.writes = k.discards = 0;
	atomic_store(&k.fails, n);
}

static void fail_soon(struct fixture *fx, unsigned n)
{
	fail_late(fx, n);
	dev_set_deadline(&fx->d, LONG_MS);
	k.take_ns = 0;
}

/* ---- the tests ---------------------------------------------------------------------------- */

static void a_write_is_sent_again_within_the_deadline_only(void **state)
{
	struct fixture *fx = *state;

	fail_soon(fx, 1);
	assert_int_equal(fdio_write(&fx->f, 0, BLOCK, fx->buf), 0);
	assert_int_equal(k.writes, 2);
	fail_late(fx, 1);
	assert_int_equal(fdio_write(&fx->f, 0, BLOCK, fx->buf), -ECANCELED);
	assert_int_equal(k.writes, 1);
}

static void the_rest_of_a_short_write_is_sent_within_the_deadline_only(void **state)
{
	struct fixture *fx = *state;

	k.short_first = true;
	fail_soon(fx, 1);
	assert_int_equal(fdio_write(&fx->f, 0, 2 * BLOCK, fx->buf), 0);
	assert_int_equal(k.writes, 2);
	fail_late(fx, 1);
	assert_int_equal(fdio_write(&fx->f, 0, 2 * BLOCK, fx->buf), -ECANCELED);
	assert_int_equal(k.writes, 1);
}

static void a_read_is_sent_again_whenever_it_failed(void **state)
{
	struct fixture *fx = *state;

	fail_late(fx, 1);
	assert_int_equal(fdio_read(&fx->f, 0, BLOCK, fx->buf), 0);
	assert_int_equal(k.reads, 2);
}

static void a_discard_is_sent_again_within_the_deadline_only(void **state)
{
	struct fixture *fx = *state;

	fail_soon(fx, 1);
	assert_int_equal(fdio_discard(&fx->f, 0, BLOCK), 0);
	assert_int_equal(k.discards, 2);
	fail_late(fx, 1);
	assert_int_equal(fdio_discard(&fx->f, 0, BLOCK), -ECANCELED);
	assert_int_equal(k.discards, 1);
}

/* One that asks before each of them whether it may write still asks before each command. */
static void a_discard_of_the_stated_size_is_one_command(void **state)
{
	struct fixture *fx = *state;
	uint64_t most = fdio_discard_max(UINT64_MAX);

	assert_int_equal(fdio_discard_max(BLOCK), BLOCK);
	assert_int_equal(fdio_discard_max(0), 0);
	fx->f.block = true;
	fail_soon(fx, 0);
	assert_int_equal(fdio_discard(&fx->f, 0, most), 0);
	assert_int_equal(k.discards, 1);
	assert_int_equal(fdio_discard(&fx->f, 0, most + BLOCK), 0);
	assert_int_equal(k.discards, 3);
}

static void runs(struct dev_io *io, size_t n, uint8_t *buf, uint64_t step_bytes)
{
	for (size_t i = 0; i < n; i++)
		io[i] = (struct dev_io){.op = DEV_WRITE,
					.off_bytes = i * step_bytes,
					.len_bytes = BLOCK,
					.buf = buf + i * BLOCK,
					.result = 1};
}

static void all_end_with(const struct dev_io *io, size_t n, int result)
{
	for (size_t i = 0; i < n; i++)
		assert_int_equal(io[i].result, result);
}

static void neighbours_are_sent_one_by_one_within_the_deadline_only(void **state)
{
	struct fixture *fx = *state;
	struct dev_io io[4];

	runs(io, 4, fx->buf, BLOCK);
	fail_soon(fx, 1);
	fdio_batch(&fx->f, io, 4);
	all_end_with(io, 4, 0);
	assert_int_equal(k.writes, 5);
	fail_late(fx, 1);
	fdio_batch(&fx->f, io, 4);
	all_end_with(io, 4, -ECANCELED);
	assert_int_equal(k.writes, 1);
}

static void a_batch_sends_nothing_that_its_first_has_kept_waiting_for_too_long(void **state)
{
	struct fixture *fx = *state;
	struct dev_io io[4];

	runs(io, 4, fx->buf, 2ull * BLOCK);
	fail_late(fx, 1);
	fdio_batch(&fx->f, io, 4);
	all_end_with(io, 4, -ECANCELED);
	assert_int_equal(k.writes, 1);
	runs(io, 4, fx->buf, BLOCK);
	io[2].off_bytes += BLOCK;
	io[3].off_bytes += BLOCK;
	fail_late(fx, 1);
	fdio_batch(&fx->f, io, 4);
	all_end_with(io, 4, -ECANCELED);
	assert_int_equal(k.writes, 1);
	io[1].op = DEV_READ;
	fail_late(fx, 1);
	fdio_batch(&fx->f, io, 4);
	assert_int_equal(io[0].result, -ECANCELED);
	assert_int_equal(io[1].result, 0);
	all_end_with(io + 2, 2, -ECANCELED);
}

static void asynchronous_ones_of_a_batch_are_sent_again_within_the_deadline_only(void **state)
{
	struct fixture *fx = *state;
	struct dev_io io[4];

	fx->f.block = fx->f.direct = true;
	runs(io, 4, fx->buf, 2ull * BLOCK);
	fail_soon(fx, 4);
	fdio_batch(&fx->f, io, 4);
	all_end_with(io, 4, 0);
	assert_int_equal(k.writes, 8);
	fail_late(fx, 4);
	fdio_batch(&fx->f, io, 4);
	all_end_with(io, 4, -ECANCELED);
	assert_int_equal(k.writes, 4);
}

static void what_does_not_fit_beside_them_is_sent_within_the_deadline_only(void **state)
{
	struct fixture *fx = *state;
	struct dev_io io[AIO_BATCH_MAX + 2];

	fx->f.block = fx->f.direct = true;
	runs(io, AIO_BATCH_MAX + 2, fx->buf, 2ull * BLOCK);
	for (size_t i = 0; i < AIO_BATCH_MAX + 2; i++)
		io[i].buf = fx->buf;
	fail_late(fx, 1);
	fdio_batch(&fx->f, io, AIO_BATCH_MAX + 2);
	assert_int_equal(io[0].result, -ECANCELED);
	all_end_with(io + 1, AIO_BATCH_MAX - 1, 0);
	all_end_with(io + AIO_BATCH_MAX, 2, -ECANCELED);
	assert_int_equal(k.writes, AIO_BATCH_MAX);
}

struct waiter {
	struct dev_async a;
	pthread_mutex_t mtx;
	pthread_cond_t cond;
	bool done;
};

static void done(struct dev_async *a)
{
	struct waiter *w = (struct waiter *)a;

	pthread_mutex_lock(&w->mtx);
	w->done = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->mtx);
}

static int start_and_wait(struct fixture *fx)
{
	struct waiter w = {
	    .a = {.io = {DEV_WRITE, 0, 2 * BLOCK, fx->buf, 1}, .done = done, .dev = &fx->d},
	    .mtx = PTHREAD_MUTEX_INITIALIZER,
	    .cond = PTHREAD_COND_INITIALIZER};

	struct dev_lane *l = fdio_lane_new(&fx->f, &fx->d);

	assert_non_null(l);
	assert_int_equal(l->ops->start(l, &w.a), 0);
	assert_int_equal(l->on_way, 1);
	dev_lane_turn(l);
	assert_int_equal(l->on_way, 0);
	dev_lane_free(l);
	pthread_mutex_lock(&w.mtx);
	while (!w.done)
		pthread_cond_wait(&w.cond, &w.mtx);
	pthread_mutex_unlock(&w.mtx);
	return w.a.io.result;
}

static void a_started_write_is_sent_again_within_the_deadline_only(void **state)
{
	struct fixture *fx = *state;

	fx->f.block = fx->f.direct = true;
	for (unsigned i = 0; i < 2; i++) {
		k.short_first = i; /* then its rest is */
		fail_soon(fx, 1);
		assert_int_equal(start_and_wait(fx), 0);
		assert_int_equal(k.writes, 2);
		fail_late(fx, 1);
		assert_int_equal(start_and_wait(fx), -ECANCELED);
		assert_int_equal(k.writes, 1);
	}
}

/* The kernel gave it up, too late to be sent again, and the device does not answer either. */
static void what_may_be_on_its_way_counts_as_that_also_when_it_is_late(void **state)
{
	struct fixture *fx = *state;
	struct dev_io io[4];

	k.doubt_says = -ETIMEDOUT;
	runs(io, 4, fx->buf, BLOCK); /* merged */
	fail_late(fx, 1);
	fdio_batch(&fx->f, io, 4);
	all_end_with(io, 4, -ETIMEDOUT);
	fx->f.block = fx->f.direct = true;
	runs(io, 4, fx->buf, 2ull * BLOCK);
	fail_late(fx, 4);
	fdio_batch(&fx->f, io, 4);
	all_end_with(io, 4, -ETIMEDOUT);
	fail_late(fx, 1);
	assert_int_equal(start_and_wait(fx), -ETIMEDOUT);
}

/* Who looks after a lane waits for nothing else, also where no thread is to be had. */
static void without_a_thread_a_rest_is_left_to_who_started_it(void **state)
{
	struct fixture *fx = *state;

	fx->f.block = fx->f.direct = true;
	k.no_threads = true;
	k.short_first = true;
	fail_soon(fx, 1);
	assert_int_equal(start_and_wait(fx), -ECANCELED);
	assert_int_equal(k.writes, 1);
	k.short_first = false;
	fail_soon(fx, 1);
	assert_int_equal(start_and_wait(fx), -ETIMEDOUT);
	assert_int_equal(k.writes, 1);
	assert_int_equal(k.doubts, 0);
}

#define ON_FILE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    ON_FILE(a_write_is_sent_again_within_the_deadline_only),
	    ON_FILE(the_rest_of_a_short_write_is_sent_within_the_deadline_only),
	    ON_FILE(a_read_is_sent_again_whenever_it_failed),
	    ON_FILE(a_discard_is_sent_again_within_the_deadline_only),
	    ON_FILE(a_discard_of_the_stated_size_is_one_command),
	    ON_FILE(neighbours_are_sent_one_by_one_within_the_deadline_only),
	    ON_FILE(a_batch_sends_nothing_that_its_first_has_kept_waiting_for_too_long),
	    ON_FILE(asynchronous_ones_of_a_batch_are_sent_again_within_the_deadline_only),
	    ON_FILE(what_does_not_fit_beside_them_is_sent_within_the_deadline_only),
	    ON_FILE(a_started_write_is_sent_again_within_the_deadline_only),
	    ON_FILE(what_may_be_on_its_way_counts_as_that_also_when_it_is_late),
	    ON_FILE(without_a_thread_a_rest_is_left_to_who_started_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
