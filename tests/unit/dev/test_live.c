/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device interface on a real LUN: test_dev_live NAME [CUT MUTE]. It writes to the first 64 MiB
 * of that device. NAME is whatever dev_open() takes; tests/system/iscsi_dev.sh gives it a LUN of a
 * kernel target. CUT is a shell command that cuts the connections there are, MUTE one that
 * makes the target's answers on them disappear; without them those tests are skipped. With
 * "rejects" in the place of CUT the device is one that must be refused, and nothing else is tried.
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

static const char *name, *cut_cmd, *mute_cmd;

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

	print_message("%s: \"%s\" %llu bytes, sectors %u/%u, discard %d, designator type %u\n",
		      d->id.name, d->id.product, (unsigned long long)d->id.size_bytes,
		      d->id.sector_bytes, d->id.phys_bytes, d->id.has_discard,
		      d->id.dev_id[1] & 15);
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
		io[i] = (struct dev_caw_io){.off_bytes = LUNFS_SCRATCH_OFF + i * s,
					    .test = i % 3 ? zero : a,
					    .set = a,
					    .result = -1};
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
	for (unsigned i = 0; i < PROCESSES; i++) {
		pid[i] = fork();
		if (!pid[i])
			_exit(increment_by_threads(open_ok()));
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

static void a_cut_connection_is_logged_in_again_by_the_next_use(void **state)
{
	struct dev *d = *state;
	size_t s = d->id.sector_bytes;
	void *buf = dev_buf_alloc(s);

	if (!cut_cmd)
		skip();
	for (unsigned i = 0; i < 3; i++) {
		double start;
		int rc;

		assert_int_equal(dev_read(d, 0, s, buf), 0);
		assert_int_equal(system(cut_cmd), 0);
		start = now_s();
		rc = dev_read(d, 0, s, buf);
		assert_true(rc == 0 || rc == -ETIMEDOUT);
		assert_int_equal(dev_read(d, 0, s, buf), 0);
		assert_true(now_s() - start < 5);
	}
	assert_int_equal(d->ops->drain(d), 0);
	free(buf);
}

/* Write @set while no answer comes back, by a compare-and-write from @test or plainly. */
static int write_muted(struct dev *d, const void *test, const void *set)
{
	double start;
	int rc;

	assert_int_equal(system(mute_cmd), 0);
	dev_set_deadline(d, 500);
	start = now_s();
	if (test)
		rc = dev_caw(d, LUNFS_SCRATCH_OFF, test, set);
	else
		rc = dev_write(d, LUNFS_SCRATCH_OFF, d->id.sector_bytes, set);
	assert_true(now_s() - start < 1.5);
	dev_set_deadline(d, 8000);
	assert_int_equal(d->ops->drain(d), 0);
	return rc;
}

/*
 * The command landed and nobody said so. Of a compare-and-write it may be what goes ahead of it
 * that got no answer: then it did not land.
 */
static void a_lost_answer_is_unknown_in_time_and_drained_by_a_login(void **state)
{
	struct dev *d = *state;
	size_t s = d->id.sector_bytes;
	uint8_t *zero = dev_buf_alloc(s), *set = dev_buf_alloc(s), *now = dev_buf_alloc(s);
	int rc;

	if (!mute_cmd)
		skip();
	fill(set, s, 3);
	assert_int_equal(dev_zero(d, LUNFS_SCRATCH_OFF, s), 0);
	rc = write_muted(d, zero, set);
	assert_true(rc == -ETIMEDOUT || rc == -EAGAIN);
	assert_int_equal(dev_read(d, LUNFS_SCRATCH_OFF, s, now), 0);
	assert_memory_equal(now, rc == -ETIMEDOUT ? set : zero, s);
	fill(set, s, 4);
	assert_int_equal(write_muted(d, NULL, set), -ETIMEDOUT);
	assert_int_equal(dev_read(d, LUNFS_SCRATCH_OFF, s, now), 0);
	assert_memory_equal(now, set, s);
	free(zero);
	free(set);
	free(now);
}

static void *cut_after(void *arg)
{
	const double *seconds = arg;
	uint64_t ns = (uint64_t)(*seconds * 1e9);
	struct timespec t = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};

	nanosleep(&t, NULL);
	return system(cut_cmd) ? arg : NULL;
}

struct load {
	struct dev *d;
	uint8_t *a, *b;
	unsigned good, lost;
};

/* A batch of writes, and reads of what is said to be written. */
static void write_and_look(struct load *l, unsigned seed)
{
	enum { N = 64 };
	struct dev_io io[N];

	fill(l->a, N * 65536, seed);
	for (size_t i = 0; i < N; i++)
		io[i] =
		    (struct dev_io){DEV_WRITE, AREA_OFF + i * 65536, 65536, l->a + i * 65536, 1};
	dev_batch(l->d, io, N);
	for (size_t i = 0; i < N; i++) {
		assert_true(io[i].result == 0 || io[i].result == -ETIMEDOUT);
		l->good += !io[i].result;
		l->lost += io[i].result != 0;
		if (io[i].result)
			continue;
		if (!dev_read(l->d, io[i].off_bytes, 65536, l->b))
			assert_memory_equal(l->b, l->a + i * 65536, 65536);
	}
}

/*
 * Under load nothing hangs, crashes, or mixes up buffers; unknown fates are said to be unknown. The
 * connection is cut once a round, later each time, over what a round takes.
 */
static void cuts_under_load_give_each_command_an_answer(void **state)
{
	enum { CUTS = 24, SIZE = 64 * 65536 };
	struct load l = {*state, dev_buf_alloc(SIZE), dev_buf_alloc(SIZE), 0, 0};
	double start, round_s;

	if (!cut_cmd)
		skip();
	start = now_s();
	write_and_look(&l, 0);
	round_s = now_s() - start;
	assert_int_equal(l.lost, 0);
	for (unsigned i = 1; i <= CUTS; i++) {
		double after_s = round_s * i / CUTS;
		void *failed;
		pthread_t t;

		assert_int_equal(pthread_create(&t, NULL, cut_after, &after_s), 0);
		write_and_look(&l, i);
		pthread_join(t, &failed);
		assert_null(failed);
	}
	print_message("%u writes answered, %u of unknown fate\n", l.good, l.lost);
	assert_true(l.good > 0 && l.lost > 0);
	free(l.a);
	free(l.b);
}

/* ---- a device without the command --------------------------------------------------------- */

static void a_device_that_rejects_compare_and_write_is_refused(void **state)
{
	struct dev *d = *state;
	size_t s = d->id.sector_bytes;
	uint8_t *a = dev_buf_alloc(s), *now = dev_buf_alloc(s);
	char why[512] = "";

	fill(a, s, 8);
	assert_int_equal(dev_write(d, LUNFS_SCRATCH_OFF, s, a), 0);
	assert_int_equal(dev_caw_probe(d, LUNFS_SCRATCH_OFF, why, sizeof(why)), -EOPNOTSUPP);
	print_message("%s\n", why);
	assert_non_null(strstr(why, "rejects COMPARE AND WRITE"));
	assert_false(d->id.has_caw);
	assert_int_equal(dev_read(d, LUNFS_SCRATCH_OFF, s, now), 0);
	assert_memory_equal(now, a, s);
	free(a);
	free(now);
}

#define ON_DEVICE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    ON_DEVICE(the_device_says_what_it_is),
	    ON_DEVICE(large_and_small_transfers_come_back_as_written),
	    ON_DEVICE(a_batch_of_many_is_in_flight_together),
	    ON_DEVICE(zeroing_and_discarding_hit_their_range_only),
	    ON_DEVICE(compare_and_write_compares),
	    ON_DEVICE(a_batch_of_compare_and_writes_is_judged_one_by_one),
	    cmocka_unit_test_setup_teardown(no_increment_is_lost_between_sessions, clear_counter,
					    NULL),
	    ON_DEVICE(a_cut_connection_is_logged_in_again_by_the_next_use),
	    ON_DEVICE(a_lost_answer_is_unknown_in_time_and_drained_by_a_login),
	    ON_DEVICE(cuts_under_load_give_each_command_an_answer),
	};
	const struct CMUnitTest refusing[] = {
	    ON_DEVICE(a_device_that_rejects_compare_and_write_is_refused),
	};

	if (argc < 2) {
		fprintf(stderr, "usage: %s DEVICE [rejects | CUT-COMMAND MUTE-COMMAND]\n", argv[0]);
		return 77;
	}
	name = argv[1];
	if (argc > 2 && !strcmp(argv[2], "rejects"))
		return cmocka_run_group_tests(refusing, NULL, NULL);
	cut_cmd = argc > 2 ? argv[2] : NULL;
	mute_cmd = argc > 3 ? argv[3] : NULL;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
