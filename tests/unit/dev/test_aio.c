/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A batch goes out for as long as it may, and what does not is said to be unsent. The kernel's
 * asynchronous I/O is replaced by that here: its queue is full, so each transfer that it takes
 * keeps the caller waiting.
 */
#include <errno.h>
#include <linux/aio_abi.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "dev/aio.h"
#include "dev/dev_impl.h"

#define MS_NS 1000000ull
#define FULL_MS 10u   /* for which each transfer waits */
#define RIGHT_MS 25u  /* for which the caller may send */
#define AT_ONCE_MAX 8 /* transfers between two looks at the clock */

/* ---- the kernel --------------------------------------------------------------------------- */

static struct {
	uint64_t wait_ns;
	long takes; /* so many, then no more */
	struct io_event ended[AIO_BATCH_MAX];
	long sent, reaped;
} k;

static long submit(long n, struct iocb **list)
{
	long taken = n < k.takes ? n : k.takes;

	for (long i = 0; i < taken; i++) {
		dev_nap_ns(k.wait_ns);
		assert_true(k.sent < AIO_BATCH_MAX);
		k.ended[k.sent++] = (struct io_event){.data = list[i]->aio_data,
						      .res = (int64_t)list[i]->aio_offset};
	}
	k.takes -= taken;
	if (taken || !n)
		return taken;
	errno = EAGAIN;
	return -1;
}

static long reap(long min, long max, struct io_event *out)
{
	long n = 0;

	assert_true(min <= k.sent - k.reaped); /* else it would wait for ever */
	while (n < max && k.reaped < k.sent)
		out[n++] = k.ended[k.reaped++];
	return n;
}

long syscall(long nr, ...)
{
	long a, b, c, rc = 0;
	va_list ap;

	va_start(ap, nr);
	a = va_arg(ap, long);
	b = va_arg(ap, long);
	if (nr == SYS_io_submit) {
		rc = submit(b, va_arg(ap, struct iocb **));
	} else if (nr == SYS_io_getevents) {
		c = va_arg(ap, long);
		rc = reap(b, c, va_arg(ap, struct io_event *));
	} else {
		assert_true(nr == SYS_io_setup || nr == SYS_io_destroy);
	}
	va_end(ap);
	(void)a;
	return rc;
}

/* ---- batches ------------------------------------------------------------------------------ */

/* All that goes well gives the number of its place, from 1 on. */
static void batch(struct aio_io *io, uint64_t until_ns)
{
	struct aio *q = aio_new(-1, "none");

	assert_non_null(q);
	for (size_t i = 0; i < AIO_BATCH_MAX; i++)
		io[i] = (struct aio_io){.write = true, .off_bytes = i + 1, .until_ns = until_ns};
	aio_batch(q, io, AIO_BATCH_MAX);
	assert_int_equal(k.reaped, k.sent);
	aio_free(q);
}

static void all_sent(const struct aio_io *io, long n)
{
	for (long i = 0; i < AIO_BATCH_MAX; i++)
		assert_int_equal(io[i].result, i < n ? i + 1 : -EAGAIN);
	assert_int_equal(k.sent, n);
}

static int kernel_new(void **state)
{
	(void)state;
	memset(&k, 0, sizeof(k));
	k.takes = AIO_BATCH_MAX;
	return 0;
}

static void all_of_a_batch_go_out_and_come_back(void **state)
{
	struct aio_io io[AIO_BATCH_MAX];

	(void)state;
	batch(io, UINT64_MAX);
	all_sent(io, AIO_BATCH_MAX);
}

static void what_the_kernel_does_not_take_is_said_to_be_unsent(void **state)
{
	struct aio_io io[AIO_BATCH_MAX];

	(void)state;
	k.takes = 11;
	batch(io, UINT64_MAX);
	all_sent(io, 11);
}

static void no_more_of_a_batch_goes_out_when_the_kernel_took_too_long_to_take_it(void **state)
{
	struct aio_io io[AIO_BATCH_MAX];

	(void)state;
	k.wait_ns = FULL_MS * MS_NS;
	batch(io, dev_now_ns() + RIGHT_MS * MS_NS);
	assert_in_range(k.sent, 1, AT_ONCE_MAX);
	all_sent(io, k.sent);
}

static void what_changes_nothing_goes_out_all_the_same(void **state)
{
	struct aio_io io[AIO_BATCH_MAX];

	(void)state;
	k.wait_ns = FULL_MS * MS_NS / 10;
	batch(io, UINT64_MAX);
	all_sent(io, AIO_BATCH_MAX);
}

#define TEST(f) cmocka_unit_test_setup(f, kernel_new)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(all_of_a_batch_go_out_and_come_back),
	    TEST(what_the_kernel_does_not_take_is_said_to_be_unsent),
	    TEST(no_more_of_a_batch_goes_out_when_the_kernel_took_too_long_to_take_it),
	    TEST(what_changes_nothing_goes_out_all_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
