/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device interface on a real LUN: test_dev_live NAME [CUT MUTE]. It writes to the first 64 MiB
 * of that device. NAME is whatever dev_open() takes; tests/system/iscsi_dev.sh gives it a LUN of a
 * kernel target. CUT is a shell command that cuts the connections there are, MUTE one that
 * makes the target's answers on them disappear; without them those tests are skipped. With
 * "rejects" in the place of CUT the device is one that must be refused, and nothing else is tried.
 * With "reserve" only persistent reservations are tried, between NAME and OTHER, which is another
 * path to the same device (an iscsi:// name is another path each time it is opened).
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

static const char *name, *other_name, *cut_cmd, *mute_cmd;

static struct dev *open_named(const char *which)
{
	char why[512] = "";
	struct dev *d = NULL;
	int rc = dev_open(which, 0, 0, &d, why, sizeof(why));

	if (rc)
		fail_msg("dev_open(%s): %d %s", which, rc, why);
	return d;
}

static struct dev *open_ok(void)
{
	return open_named(name);
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

/* The command landed and nobody said so. */
static void a_lost_answer_is_unknown_in_time_and_drained_by_a_login(void **state)
{
	struct dev *d = *state;
	size_t s = d->id.sector_bytes;
	uint8_t *zero = dev_buf_alloc(s), *set = dev_buf_alloc(s), *now = dev_buf_alloc(s);
	double start;

	if (!mute_cmd)
		skip();
	fill(set, s, 3);
	assert_int_equal(dev_zero(d, LUNFS_SCRATCH_OFF, s), 0);
	assert_int_equal(system(mute_cmd), 0);
	dev_set_deadline(d, 500);
	start = now_s();
	assert_int_equal(dev_caw(d, LUNFS_SCRATCH_OFF, zero, set), -ETIMEDOUT);
	assert_true(now_s() - start < 1.5);
	dev_set_deadline(d, 8000);
	assert_int_equal(d->ops->drain(d), 0);
	assert_int_equal(dev_read(d, LUNFS_SCRATCH_OFF, s, now), 0);
	assert_memory_equal(now, set, s);
	free(zero);
	free(set);
	free(now);
}

struct cutter {
	atomic_bool stop;
};

static void *cut_again_and_again(void *arg)
{
	struct cutter *c = arg;

	while (!atomic_load(&c->stop)) {
		struct timespec t = {.tv_nsec = 300000000};

		nanosleep(&t, NULL);
		if (system(cut_cmd))
			break;
	}
	return NULL;
}

/* Under load nothing hangs, crashes, or mixes up buffers; unknown fates are said to be unknown. */
static void cuts_under_load_give_each_command_an_answer(void **state)
{
	struct dev *d = *state;
	enum { N = 64 };
	struct dev_io io[N];
	uint8_t *a = dev_buf_alloc(N * 65536), *b = dev_buf_alloc(N * 65536);
	struct cutter c = {false};
	unsigned good = 0, lost = 0;
	pthread_t t;

	if (!cut_cmd)
		skip();
	pthread_create(&t, NULL, cut_again_and_again, &c);
	for (unsigned round = 0; round < 20; round++) {
		fill(a, N * 65536, round);
		for (size_t i = 0; i < N; i++)
			io[i] = (struct dev_io){DEV_WRITE, AREA_OFF + i * 65536, 65536,
						a + i * 65536, 1};
		dev_batch(d, io, N);
		for (size_t i = 0; i < N; i++) {
			assert_true(io[i].result == 0 || io[i].result == -ETIMEDOUT);
			good += !io[i].result;
			lost += io[i].result != 0;
			if (io[i].result)
				continue;
			if (!dev_read(d, io[i].off_bytes, 65536, b))
				assert_memory_equal(b, a + i * 65536, 65536);
		}
	}
	atomic_store(&c.stop, true);
	pthread_join(t, NULL);
	print_message("%u writes answered, %u of unknown fate\n", good, lost);
	assert_true(good > 0 && lost > 0);
	free(a);
	free(b);
}

/* ---- persistent reservations -------------------------------------------------------------- */

#define KEY_A 0xa1a2a3a4a5a6a7a8ull
#define KEY_B 0xb1b2b3b4b5b6b7b8ull
#define KEY_C 0x00000000000000c1ull

struct two { /* two hosts, that is two paths */
	struct dev *a, *b;
	atomic_uint conflicts; /* of b */
};

static void on_conflict(void *ctx)
{
	struct two *t = ctx;

	atomic_fetch_add(&t->conflicts, 1);
}

static void read_keys(struct dev *d, struct dev_pr_state *st, uint64_t keys[DEV_PR_KEYS_MAX])
{
	memset(st, 0, sizeof(*st));
	st->keys = keys;
	assert_int_equal(d->ops->pr->read_state(d, st), 0);
}

static unsigned count_key(struct dev *d, uint64_t key)
{
	uint64_t keys[DEV_PR_KEYS_MAX];
	struct dev_pr_state st;
	unsigned n = 0;

	read_keys(d, &st, keys);
	for (size_t i = 0; i < st.nkeys; i++)
		n += keys[i] == key;
	return n;
}

/* What an earlier test or run left. */
static void clear_keys(struct dev *d)
{
	const struct dev_pr_ops *pr = d->ops->pr;
	const uint64_t mine[] = {KEY_A, KEY_B, KEY_C};
	uint64_t keys[DEV_PR_KEYS_MAX];
	struct dev_pr_state st;

	for (size_t i = 0; i < 3; i++)
		pr->register_key(d, mine[i], 0);
	assert_int_equal(pr->register_key(d, 0, 1), 0);
	read_keys(d, &st, keys);
	for (size_t i = 0; i < st.nkeys; i++)
		if (keys[i] != 1)
			pr->preempt_abort(d, 1, keys[i]);
	assert_int_equal(pr->register_key(d, 1, 0), 0);
	read_keys(d, &st, keys);
	assert_int_equal(st.nkeys, 0);
	assert_false(st.reserved);
}

static int two_set_up(void **state)
{
	struct two *t = calloc(1, sizeof(*t));

	t->a = open_named(name);
	t->b = open_named(other_name);
	t->b->conflict = on_conflict;
	t->b->conflict_ctx = t;
	clear_keys(t->a);
	*state = t;
	return 0;
}

static int two_tear_down(void **state)
{
	struct two *t = *state;

	t->a->ops->pr->register_key(t->a, KEY_A, 0);
	t->b->ops->pr->register_key(t->b, KEY_B, 0);
	clear_keys(t->a);
	dev_close(t->a);
	dev_close(t->b);
	free(t);
	return 0;
}

static void join(struct dev *d, uint64_t key)
{
	assert_int_equal(d->ops->pr->register_key(d, 0, key), 0);
	assert_int_equal(d->ops->pr->reserve(d, key), 0);
}

/* A unit attention may come first: without effect, by its own words. */
static int caw_same(struct dev *d)
{
	size_t s = d->id.sector_bytes;
	void *now = dev_buf_alloc(s);
	int rc = dev_read(d, LUNFS_SCRATCH_OFF, s, now);

	for (unsigned i = 0; !rc && i < 5; i++) {
		rc = dev_caw(d, LUNFS_SCRATCH_OFF, now, now);
		if (rc != -EAGAIN)
			break;
		rc = 0;
	}
	free(now);
	return rc;
}

static int write_one(struct dev *d, unsigned seed)
{
	size_t s = d->id.sector_bytes;
	uint8_t *buf = dev_buf_alloc(s);
	int rc;

	fill(buf, s, seed);
	rc = dev_write(d, AREA_OFF, s, buf);
	free(buf);
	return rc;
}

static bool holds(struct dev *d, unsigned seed)
{
	size_t s = d->id.sector_bytes;
	uint8_t *buf = dev_buf_alloc(s), *now = dev_buf_alloc(s);
	bool same;

	fill(buf, s, seed);
	assert_int_equal(dev_read(d, AREA_OFF, s, now), 0);
	same = !memcmp(buf, now, s);
	free(buf);
	free(now);
	return same;
}

static void the_device_can_be_reserved(void **state)
{
	struct two *t = *state;
	char why[512] = "";

	if (t->a->ops->pr->probe(t->a, why, sizeof(why)))
		fail_msg("%s", why);
	join(t->a, KEY_A);
}

static void a_path_has_one_key_and_only_its_owner_changes_it(void **state)
{
	struct two *t = *state;
	const struct dev_pr_ops *pr = t->a->ops->pr;

	assert_int_equal(pr->register_key(t->a, 0, KEY_A), 0);
	assert_int_equal(pr->register_key(t->a, 0, KEY_C), -EBADE);
	assert_int_equal(pr->register_key(t->a, KEY_B, KEY_C), -EBADE);
	assert_int_equal(pr->register_key(t->a, KEY_A, KEY_A), 0);
	assert_int_not_equal(count_key(t->a, KEY_A), 0);
	assert_int_equal(count_key(t->a, KEY_C), 0);
	assert_int_equal(pr->register_key(t->a, KEY_A, KEY_C), 0);
	assert_int_equal(count_key(t->b, KEY_A), 0);
	assert_int_not_equal(count_key(t->b, KEY_C), 0);
	assert_int_equal(pr->register_key(t->a, KEY_C, 0), 0);
	assert_int_equal(pr->register_key(t->a, KEY_C, 0), -EBADE);
	assert_int_equal(count_key(t->b, KEY_C), 0);
}

static void a_host_without_a_key_can_read_but_not_write(void **state)
{
	struct two *t = *state;

	assert_int_equal(write_one(t->b, 1), 0);
	join(t->a, KEY_A);
	assert_int_equal(write_one(t->a, 2), 0);
	assert_int_equal(write_one(t->b, 3), -EBADE);
	assert_int_equal(t->conflicts, 1);
	assert_int_equal(caw_same(t->b), -EBADE);
	assert_int_equal(dev_zero(t->b, AREA_OFF, t->b->id.sector_bytes), -EBADE);
	assert_int_equal(t->conflicts, 3);
	if (t->b->id.has_discard)
		assert_int_equal(dev_discard(t->b, AREA_OFF, 1 << 20), -EBADE);
	assert_true(holds(t->a, 2) && holds(t->b, 2));
	assert_int_equal(t->b->ops->pr->reserve(t->b, KEY_B), -EBADE);
	join(t->b, KEY_B);
	assert_int_equal(caw_same(t->b), DEV_CAW_GOOD);
	assert_int_equal(write_one(t->b, 4), 0);
	assert_true(holds(t->a, 4));
}

static void a_preempted_host_writes_no_more_until_it_registers_again(void **state)
{
	struct two *t = *state;
	const struct dev_pr_ops *pr = t->a->ops->pr;
	uint64_t keys[DEV_PR_KEYS_MAX];
	struct dev_pr_state st;

	join(t->a, KEY_A);
	join(t->b, KEY_B);
	assert_int_equal(write_one(t->b, 1), 0);
	assert_int_equal(pr->preempt_abort(t->a, KEY_A, KEY_B), 0);
	read_keys(t->a, &st, keys);
	assert_true(st.reserved);
	assert_int_equal(st.type, DEV_PR_TYPE_WE_AR);
	assert_int_equal(count_key(t->a, KEY_B), 0);
	assert_int_not_equal(count_key(t->a, KEY_A), 0);
	assert_int_equal(write_one(t->a, 2), 0);
	assert_int_equal(write_one(t->b, 3), -EBADE);
	assert_int_equal(caw_same(t->b), -EBADE);
	assert_int_equal(pr->preempt_abort(t->a, KEY_A, KEY_B), -EBADE);
	assert_int_equal(pr->preempt_abort(t->b, KEY_B, KEY_A), -EBADE);
	assert_true(holds(t->b, 2));
	assert_int_equal(t->b->ops->pr->register_key(t->b, KEY_B, KEY_B), -EBADE);
	assert_int_equal(t->b->ops->pr->register_key(t->b, 0, KEY_C), 0);
	assert_int_equal(write_one(t->b, 4), 0);
	assert_int_equal(t->b->ops->pr->register_key(t->b, KEY_C, 0), 0);
}

/* Of the process no trace is left but its key, on the path that is used again. */
static void the_key_of_a_process_that_died_gives_way(void **state)
{
	struct two *t = *state;
	struct dev *c;

	if (t->a->id.kind != DEV_KIND_ISCSI)
		skip();
	join(t->a, KEY_A);
	join(t->b, KEY_B);
	dev_close(t->b);
	t->b = open_named(other_name);
	c = open_named(other_name);
	join(t->b, KEY_C);
	assert_int_equal(count_key(t->a, KEY_B), 0);
	assert_int_equal(write_one(t->b, 1), 0);
	assert_int_equal(write_one(c, 2), -EBADE);
	assert_int_equal(t->b->ops->pr->register_key(t->b, 0, KEY_B), -EBADE);
	assert_int_equal(t->b->ops->pr->register_key(t->b, KEY_C, 0), 0);
	dev_close(c);
}

/* The host that reserved goes: the reservation belongs to all that are registered. */
static void the_reservation_outlives_the_host_that_made_it(void **state)
{
	struct two *t = *state;
	uint64_t keys[DEV_PR_KEYS_MAX];
	struct dev_pr_state st;

	join(t->a, KEY_A);
	join(t->b, KEY_B);
	assert_int_equal(t->a->ops->pr->register_key(t->a, KEY_A, 0), 0);
	read_keys(t->b, &st, keys);
	assert_true(st.reserved);
	assert_int_equal(write_one(t->a, 1), -EBADE);
	assert_int_equal(write_one(t->b, 2), 0);
	assert_int_equal(t->b->ops->pr->register_key(t->b, KEY_B, 0), 0);
	read_keys(t->b, &st, keys);
	assert_false(st.reserved);
	assert_int_equal(write_one(t->a, 3), 0);
}

struct load {
	struct two *t;
	atomic_bool fenced; /* PREEMPT AND ABORT has returned */
	unsigned good, refused, unknown, late;
	int odd;
};

static void load_round(struct load *w, struct dev_io *io, size_t n, uint8_t *buf)
{
	bool before = !atomic_load(&w->fenced);

	for (size_t i = 0; i < n; i++)
		io[i] = (struct dev_io){DEV_WRITE, AREA_OFF + i * 65536, 65536, buf, 1};
	dev_batch(w->t->b, io, n);
	for (size_t i = 0; i < n; i++) {
		w->good += !io[i].result;
		w->late += !io[i].result && !before;
		w->refused += io[i].result == -EBADE;
		w->unknown += io[i].result == -ETIMEDOUT;
		if (io[i].result && io[i].result != -EBADE && io[i].result != -ETIMEDOUT)
			w->odd = io[i].result;
	}
}

static void *write_until_refused(void *arg)
{
	struct load *w = arg;
	enum { N = 48 };
	struct dev_io io[N];
	uint8_t *buf = dev_buf_alloc(65536);

	memset(buf, 0xbb, 65536);
	for (unsigned round = 0; round < 4000 && w->refused < 2 * N; round++)
		load_round(w, io, N, buf);
	free(buf);
	return NULL;
}

static void nothing_of_a_preempted_host_lands_afterwards(void **state)
{
	struct two *t = *state;
	struct load w = {.t = t};
	size_t len = 48 * 65536;
	uint8_t *mine = dev_buf_alloc(len), *now = dev_buf_alloc(len);
	struct timespec while_it_writes = {.tv_nsec = 200000000};
	pthread_t thread;

	join(t->a, KEY_A);
	join(t->b, KEY_B);
	dev_set_deadline(t->b, 2000);
	pthread_create(&thread, NULL, write_until_refused, &w);
	nanosleep(&while_it_writes, NULL);
	assert_int_equal(t->a->ops->pr->preempt_abort(t->a, KEY_A, KEY_B), 0);
	atomic_store(&w.fenced, true);
	assert_int_equal(count_key(t->a, KEY_B), 0);
	memset(mine, 0xaa, len);
	assert_int_equal(dev_write(t->a, AREA_OFF, len, mine), 0);
	pthread_join(thread, NULL);
	print_message("fenced in the middle: %u writes done, %u refused, %u of unknown fate\n",
		      w.good, w.refused, w.unknown);
	assert_int_equal(w.odd, 0);
	assert_int_equal(w.late, 0);
	assert_true(w.good > 0 && w.refused > 0);
	assert_int_equal(t->b->ops->drain(t->b), 0);
	assert_int_equal(dev_read(t->a, AREA_OFF, len, now), 0);
	assert_memory_equal(mine, now, len);
	free(mine);
	free(now);
}

/* The connections break, and @d is back. It notices by a lost answer, or logs in before it asks. */
static void cut(struct dev *d)
{
	void *buf = dev_buf_alloc(d->id.sector_bytes);

	assert_int_equal(system(cut_cmd), 0);
	for (unsigned i = 0; i < 50 && !dev_read(d, 0, d->id.sector_bytes, buf); i++) {
		struct timespec t = {.tv_nsec = 5000000};

		nanosleep(&t, NULL);
	}
	assert_int_equal(d->ops->drain(d), 0);
	free(buf);
}

static void a_key_survives_the_loss_of_the_connection(void **state)
{
	struct two *t = *state;

	if (!cut_cmd)
		skip();
	join(t->a, KEY_A);
	join(t->b, KEY_B);
	for (unsigned i = 0; i < 3; i++) {
		cut(t->a);
		assert_int_equal(write_one(t->a, i), 0);
		assert_int_equal(count_key(t->a, KEY_A), 1);
	}
	assert_int_equal(t->a->ops->pr->preempt_abort(t->a, KEY_A, KEY_B), 0);
	cut(t->b);
	assert_int_equal(write_one(t->b, 9), -EBADE);
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

#define BETWEEN_TWO(f) cmocka_unit_test_setup_teardown(f, two_set_up, two_tear_down)
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

	const struct CMUnitTest reserving[] = {
	    BETWEEN_TWO(the_device_can_be_reserved),
	    BETWEEN_TWO(a_path_has_one_key_and_only_its_owner_changes_it),
	    BETWEEN_TWO(a_host_without_a_key_can_read_but_not_write),
	    BETWEEN_TWO(a_preempted_host_writes_no_more_until_it_registers_again),
	    BETWEEN_TWO(the_key_of_a_process_that_died_gives_way),
	    BETWEEN_TWO(the_reservation_outlives_the_host_that_made_it),
	    BETWEEN_TWO(nothing_of_a_preempted_host_lands_afterwards),
	    BETWEEN_TWO(a_key_survives_the_loss_of_the_connection),
	};

	if (argc < 2) {
		fprintf(stderr,
			"usage: %s DEVICE [rejects | reserve OTHER [CUT-COMMAND] | CUT-COMMAND "
			"MUTE-COMMAND]\n",
			argv[0]);
		return 77;
	}
	name = argv[1];
	if (argc > 2 && !strcmp(argv[2], "rejects"))
		return cmocka_run_group_tests(refusing, NULL, NULL);
	if (argc > 3 && !strcmp(argv[2], "reserve")) {
		other_name = argv[3];
		cut_cmd = argc > 4 ? argv[4] : NULL;
		return cmocka_run_group_tests(reserving, NULL, NULL);
	}
	cut_cmd = argc > 2 ? argv[2] : NULL;
	mute_cmd = argc > 3 ? argv[3] : NULL;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
