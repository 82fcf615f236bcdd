/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Persistent reservations on a real LUN: test_dev_reserve NAME OTHER [CUT]. Both name the same
 * device along different paths (an iscsi:// name is another path each time it is opened). It writes
 * to its first 64 MiB, and removes all registrations there are. CUT is a shell command that cuts
 * the connections there are. With "refused" in the place of OTHER, probe() must refuse the device.
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
#include <time.h>

#include <cmocka.h>

#define AREA_OFF (8ull << 20)

static const char *name, *other_name, *cut_cmd;

static struct dev *open_named(const char *which)
{
	char why[512] = "";
	struct dev *d = NULL;
	int rc = dev_open(which, 0, 0, &d, why, sizeof(why));

	if (rc)
		fail_msg("dev_open(%s): %d %s", which, rc, why);
	return d;
}

static void fill(uint8_t *buf, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(seed + i * 13 + i / 509);
}

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

/* As after a path came back: all of them have the key then, and nothing was open in between. */
static void registering_anyway_keeps_key_and_reservation(void **state)
{
	struct two *t = *state;
	const struct dev_pr_ops *pr = t->a->ops->pr;
	uint64_t keys[DEV_PR_KEYS_MAX];
	struct dev_pr_state st;
	unsigned paths;

	join(t->a, KEY_A);
	paths = count_key(t->b, KEY_A);
	assert_int_equal(pr->register_anyway(t->a, KEY_A), 0);
	assert_int_equal(count_key(t->b, KEY_A), paths);
	read_keys(t->b, &st, keys);
	assert_true(st.reserved);
	assert_int_equal(write_one(t->a, 1), 0);
	assert_int_equal(write_one(t->b, 2), -EBADE);
	assert_int_equal(pr->register_key(t->a, KEY_A, 0), 0);
	assert_int_equal(pr->register_anyway(t->a, KEY_A), 0);
	assert_int_equal(count_key(t->b, KEY_A), paths);
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
	atomic_bool going;  /* a write has ended well */
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
		if (!io[i].result)
			atomic_store(&w->going, true);
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
	pthread_t thread;

	join(t->a, KEY_A);
	join(t->b, KEY_B);
	dev_set_deadline(t->b, 2000);
	pthread_create(&thread, NULL, write_until_refused, &w);
	for (unsigned i = 0; i < 2000 && !atomic_load(&w.going); i++)
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
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

/* For a SCSI disk that is a reset of the logical unit, of which the other path is told. */
static void a_drained_path_leaves_the_other_at_work(void **state)
{
	struct two *t = *state;

	join(t->a, KEY_A);
	join(t->b, KEY_B);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(caw_same(t->b), DEV_CAW_GOOD);
		assert_int_equal(t->a->ops->drain(t->a), 0);
		assert_int_equal(caw_same(t->b), DEV_CAW_GOOD);
		assert_int_equal(caw_same(t->a), DEV_CAW_GOOD);
	}
	assert_int_not_equal(count_key(t->a, KEY_A), 0);
	assert_int_not_equal(count_key(t->a, KEY_B), 0);
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

/* Changes nothing, so it needs no second path. */
static void a_device_on_which_others_register_is_refused(void **state)
{
	struct dev *d = open_named(name);
	char why[512] = "";

	(void)state;
	assert_int_equal(d->ops->pr->probe(d, why, sizeof(why)), -EOPNOTSUPP);
	print_message("%s\n", why);
	assert_true(why[0] && why[strlen(why) - 1] == '.');
	dev_close(d);
}

#define BETWEEN_TWO(f) cmocka_unit_test_setup_teardown(f, two_set_up, two_tear_down)

int main(int argc, char **argv)
{
	const struct CMUnitTest reserving[] = {
	    BETWEEN_TWO(the_device_can_be_reserved),
	    BETWEEN_TWO(a_path_has_one_key_and_only_its_owner_changes_it),
	    BETWEEN_TWO(a_host_without_a_key_can_read_but_not_write),
	    BETWEEN_TWO(a_preempted_host_writes_no_more_until_it_registers_again),
	    BETWEEN_TWO(the_key_of_a_process_that_died_gives_way),
	    BETWEEN_TWO(registering_anyway_keeps_key_and_reservation),
	    BETWEEN_TWO(the_reservation_outlives_the_host_that_made_it),
	    BETWEEN_TWO(nothing_of_a_preempted_host_lands_afterwards),
	    BETWEEN_TWO(a_drained_path_leaves_the_other_at_work),
	    BETWEEN_TWO(a_key_survives_the_loss_of_the_connection),
	};

	const struct CMUnitTest refused[] = {
	    cmocka_unit_test(a_device_on_which_others_register_is_refused),
	};

	if (argc < 3) {
		fprintf(stderr, "usage: %s DEVICE OTHER|refused [CUT-COMMAND]\n", argv[0]);
		return 77;
	}
	name = argv[1];
	other_name = argv[2];
	cut_cmd = argc > 3 ? argv[3] : NULL;
	if (!strcmp(other_name, "refused"))
		return cmocka_run_group_tests(refused, NULL, NULL);
	return cmocka_run_group_tests(reserving, NULL, NULL);
}
