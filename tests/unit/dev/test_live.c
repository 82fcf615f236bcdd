/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device interface on a real LUN: test_dev_live NAME [BREAK]. It writes to the first 64 MiB of
 * that device. NAME is whatever dev_open() takes; tests/system/iscsi_dev.sh gives it a LUN of a
 * kernel target. BREAK is a shell command that cuts the connections of this process without telling
 * it (kill the target's side, drop packets); without it those tests are skipped.
 */
#include <errno.h>
#include <lunfs/dev.h>
#include <lunfs/format.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define AREA_OFF (8ull << 20)
#define ROUNDS 50u
#define PROCESSES 2u
#define THREADS 3u
#define BIG_BYTES (5u << 20)

static const char *name, *break_cmd;

static struct dev *open_ok(void)
{
	char why[512] = "";
	struct dev *d = NULL;
	int rc = dev_open(name, 0, 0, &d, why, sizeof(why));

	if (rc)
		fail_msg("dev_open(%s): %d %s", name, rc, why);
	return d;
}

static int set_up(void **state)
{
	*state = open_ok();
	return 0;
}

static int tear_down(void **state)
{
	dev_close(*state);
	return 0;
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fill(uint8_t *buf, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(seed + i * 13 + i / 509);
}

static void the_device_says_what_it_is(void **state)
{
	struct dev *d = *state;
	uint8_t none[64] = {0};

	print_message("%s: \"%s\" %llu bytes, sectors %u/%u, discard %d, designator type %u\n", d->id.name,
		      d->id.product, (unsigned long long)d->id.size_bytes, d->id.sector_bytes,
		      d->id.phys_bytes, d->id.has_discard, d->id.dev_id[1] & 15);
	assert_true(d->id.kind == DEV_KIND_ISCSI || d->id.kind == DEV_KIND_SG);
	assert_true(d->id.product[0]);
	assert_memory_not_equal(d->id.dev_id, none, sizeof(none));
	assert_false(d->id.one_machine);
	assert_true(d->id.size_bytes >= 64 << 20);
}

static void large_and_small_transfers_come_back_as_written(void **state)
{
	struct dev *d = *state;
	uint8_t *a = dev_buf_alloc(BIG_BYTES), *b = dev_buf_alloc(BIG_BYTES);
	size_t s = d->id.sector_bytes;

	fill(a, BIG_BYTES, 11);
	assert_int_equal(dev_write(d, AREA_OFF, BIG_BYTES, a), 0);
	assert_int_equal(dev_flush(d), 0);
	assert_int_equal(dev_read(d, AREA_OFF, BIG_BYTES, b), 0);
	assert_memory_equal(a, b, BIG_BYTES);
	fill(a, s, 99);
	assert_int_equal(dev_write(d, AREA_OFF + 3 * s, s, a), 0);
	assert_int_equal(dev_read(d, AREA_OFF + 3 * s, s, b), 0);
	assert_memory_equal(a, b, s);
	assert_int_equal(dev_read(d, d->id.size_bytes - s, s, b), 0);
	free(a);
	free(b);
}

static void a_batch_of_many_is_in_flight_together(void **state)
{
	struct dev *d = *state;
	enum { N = 200 };
	struct dev_io *io = calloc(N, sizeof(*io));
	uint8_t *a = dev_buf_alloc(N * 4096), *b = dev_buf_alloc(N * 4096);

	fill(a, N * 4096, 5);
	for (size_t i = 0; i < N; i++)
		io[i] = (struct dev_io){DEV_WRITE, AREA_OFF + i * 8192, 4096, a + i * 4096, 1};
	dev_batch(d, io, N);
	for (size_t i = 0; i < N; i++) {
		assert_int_equal(io[i].result, 0);
		io[i].op = DEV_READ;
		io[i].buf = b + i * 4096;
	}
	dev_batch(d, io, N);
	for (size_t i = 0; i < N; i++)
		assert_int_equal(io[i].result, 0);
	assert_memory_equal(a, b, N * 4096);
	free(io);
	free(a);
	free(b);
}

static void zeroing_and_discarding_hit_their_range_only(void **state)
{
	struct dev *d = *state;
	size_t len = 1 << 20, part = 256 << 10;
	uint8_t *a = dev_buf_alloc(len), *b = dev_buf_alloc(len);

	fill(a, len, 1);
	assert_int_equal(dev_write(d, AREA_OFF, len, a), 0);
	assert_int_equal(dev_zero(d, AREA_OFF + part, part), 0);
	if (d->id.has_discard)
		assert_int_equal(dev_discard(d, AREA_OFF + 3 * part, part), 0);
	memset(a + part, 0, part);
	assert_int_equal(dev_read(d, AREA_OFF, len, b), 0);
	assert_memory_equal(a, b, 3 * part);
	free(a);
	free(b);
}

static void compare_and_write_compares(void **state)
{
	struct dev *d = *state;
	size_t s = d->id.sector_bytes;
	uint8_t *a = dev_buf_alloc(s), *b = dev_buf_alloc(s), *now = dev_buf_alloc(s);
	char why[512] = "";

	fill(a, s, 1);
	fill(b, s, 2);
	assert_int_equal(dev_write(d, LUNFS_SCRATCH_OFF, s, a), 0);
	if (dev_caw_probe(d, LUNFS_SCRATCH_OFF, why, sizeof(why)))
		fail_msg("%s", why);
	assert_int_equal(dev_caw(d, LUNFS_SCRATCH_OFF, b, b), DEV_CAW_MISCOMPARE);
	assert_int_equal(dev_read(d, LUNFS_SCRATCH_OFF, s, now), 0);
	assert_memory_equal(now, a, s);
	assert_int_equal(dev_caw(d, LUNFS_SCRATCH_OFF, a, b), DEV_CAW_GOOD);
	assert_int_equal(dev_read(d, LUNFS_SCRATCH_OFF, s, now), 0);
	assert_memory_equal(now, b, s);
	free(a);
	free(b);
	free(now);
}

static void a_batch_of_compare_and_writes_is_judged_one_by_one(void **state)
{
	struct dev *d = *state;
	enum { N = 20 };
	size_t s = d->id.sector_bytes;
	uint8_t *zero = dev_buf_alloc(s), *a = dev_buf_alloc(s);
	struct dev_caw_io io[N];

	fill(a, s, 4);
	assert_int_equal(dev_zero(d, LUNFS_SCRATCH_OFF, N * s), 0);
	for (size_t i = 0; i < N; i++)
		io[i] = (struct dev_caw_io){LUNFS_SCRATCH_OFF + i * s, i % 3 ? zero : a, a, -1};
	dev_caw_batch(d, io, N);
	for (size_t i = 0; i < N; i++)
		assert_int_equal(io[i].result, i % 3 ? DEV_CAW_GOOD : DEV_CAW_MISCOMPARE);
	free(zero);
	free(a);
}

/* ---- races -------------------------------------------------------------------------------- */

static int increment(struct dev *d)
{
	size_t s = d->id.sector_bytes;
	uint64_t *test = dev_buf_alloc(s), *set = dev_buf_alloc(s);
	int rc = 0;

	for (unsigned done = 0; done < ROUNDS && rc >= 0;) {
		rc = dev_read(d, LUNFS_SCRATCH_OFF, s, test);
		if (rc)
			break;
		memcpy(set, test, s);
		set[0]++;
		rc = dev_caw(d, LUNFS_SCRATCH_OFF, test, set);
		if (rc == -EAGAIN)
			rc = DEV_CAW_MISCOMPARE; /* no effect: once more */
		if (rc == DEV_CAW_GOOD)
			done++;
	}
	free(test);
	free(set);
	return rc < 0 ? rc : 0;
}

static void *increment_thread(void *arg)
{
	return (void *)(intptr_t)increment(arg);
}

static int increment_by_threads(struct dev *d)
{
	pthread_t t[THREADS];
	int bad = 0;

	for (unsigned i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, increment_thread, d);
	for (unsigned i = 0; i < THREADS; i++) {
		void *rc;

		pthread_join(t[i], &rc);
		bad |= rc != NULL;
	}
	return bad;
}

static void no_increment_is_lost_between_sessions(void **state)
{
	uint64_t *buf;
	pid_t pid[PROCESSES];
	struct dev *d;

	(void)state;
	for (unsigned i = 0; i <= PROCESSES; i++) {
		pid_t p;

		if (!i)
			continue;
		p = fork();
		if (!p) {
			d = open_ok();
			_exit(increment_by_threads(d));
		}
		pid[i - 1] = p;
	}
	for (unsigned i = 0; i < PROCESSES; i++) {
		int status;

		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
	}
	d = open_ok();
	buf = dev_buf_alloc(d->id.sector_bytes);
	assert_int_equal(dev_read(d, LUNFS_SCRATCH_OFF, d->id.sector_bytes, buf), 0);
	assert_int_equal(buf[0], PROCESSES * THREADS * ROUNDS);
	free(buf);
	dev_close(d);
}

static int clear_counter(void **state)
{
	struct dev *d = open_ok();
	int rc = dev_zero(d, LUNFS_SCRATCH_OFF, d->id.sector_bytes);

	*state = NULL;
	dev_close(d);
	return rc;
}

/* ---- loss of the connection --------------------------------------------------------------- */

static void a_lost_connection_is_logged_in_again_by_the_next_use(void **state)
{
	struct dev *d = *state;
	size_t s = d->id.sector_bytes;
	void *buf = dev_buf_alloc(s);
	double start;

	if (!break_cmd)
		skip();
	assert_int_equal(dev_read(d, 0, s, buf), 0);
	for (unsigned i = 0; i < 3; i++) {
		int rc;

		assert_int_equal(system(break_cmd), 0);
		start = now_s();
		rc = dev_read(d, 0, s, buf);
		assert_true(rc == 0 || rc == -ETIMEDOUT);
		assert_int_equal(dev_read(d, 0, s, buf), 0);
		assert_true(now_s() - start < 9);
	}
	assert_int_equal(d->ops->drain(d), 0);
	free(buf);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_device_says_what_it_is, set_up, tear_down),
		cmocka_unit_test_setup_teardown(large_and_small_transfers_come_back_as_written, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_batch_of_many_is_in_flight_together, set_up, tear_down),
		cmocka_unit_test_setup_teardown(zeroing_and_discarding_hit_their_range_only, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(compare_and_write_compares, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_batch_of_compare_and_writes_is_judged_one_by_one, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(no_increment_is_lost_between_sessions, clear_counter, NULL),
		cmocka_unit_test_setup_teardown(a_lost_connection_is_logged_in_again_by_the_next_use,
						set_up, tear_down),
	};

	if (argc < 2) {
		fprintf(stderr, "usage: %s DEVICE [COMMAND-THAT-BREAKS-THE-CONNECTION]\n", argv[0]);
		return 77;
	}
	name = argv[1];
	break_cmd = argc > 2 ? argv[2] : NULL;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
