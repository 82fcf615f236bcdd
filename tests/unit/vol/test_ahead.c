/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Directories that are looked through: what is read ahead, when it is not, and whom it costs. */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define SLOW (2 * SC_S / 1000) /* a command of the device */
#define LIST 64u

static void name_of(char *name, unsigned k)
{
	snprintf(name, 32, "file-%05u", k);
}

/* Host 0 makes them. */
static struct nodeid directory(struct simcluster *t, unsigned files)
{
	struct nodeid dir = sc_mkdir(t, 0, sc_root_id(t, 0), "d");
	char name[32];

	for (unsigned k = 0; k < files; k++) {
		name_of(name, k);
		sc_mkfile(t, 0, dir, name);
	}
	return dir;
}

/* And leaves, so that nobody has their locks; host 1 has seen that. */
static struct nodeid left_behind(struct simcluster *t, unsigned files)
{
	struct nodeid dir;

	sc_up(t, 0);
	dir = directory(t, files);
	sc_down(t, 0);
	sc_up(t, 1);
	return dir;
}

static unsigned long long ahead(struct simcluster *t, unsigned host)
{
	return atomic_load(&locks_stats(t->v[host]->locks)->ahead);
}

static unsigned long long cold(struct simcluster *t, unsigned host)
{
	return atomic_load(&locks_stats(t->v[host]->locks)->cold);
}

/* ls -l, or rm; @max: no more than so many. How many there were. */
static unsigned go_through(struct simcluster *t, unsigned host, struct nodeid dir, unsigned max,
			   bool rm)
{
	struct vdirent *vd = calloc(LIST, sizeof(*vd));
	uint64_t cookie = 0;
	unsigned seen = 0;
	size_t n;

	do {
		SC_OK(t, vol_readdir(t->v[host], &sc_root, dir, cookie, VATTRS_NONE, vd, LIST, &n));
		for (size_t k = 0; k < n && seen < max; k++) {
			const char *name = vd[k].de.name;
			struct nodeid id;

			cookie = vd[k].next;
			if (name[0] == '.')
				continue;
			SC_OK(t, sc_lookup(t, host, dir, name, &id));
			assert_int_equal(id.ino, vd[k].de.ino);
			if (rm)
				SC_OK(t, vol_unlink(t->v[host], &sc_root, dir, name));
			seen++;
		}
	} while (n && seen < max);
	free(vd);
	return seen;
}

static unsigned look_through(struct simcluster *t, unsigned host, struct nodeid dir, unsigned max)
{
	return go_through(t, host, dir, max, false);
}

/* ---- what it is good for --------------------------------------------------------------------- */

#define FILES 1000u

static void scan_body(struct simcluster *t)
{
	struct nodeid dir = left_behind(t, FILES);
	unsigned long long was = cold(t, 1);
	uint64_t began;

	simdev_set_latency(t->medium, SLOW, SLOW);
	began = clock_now_ns(t->clk);
	assert_int_equal(look_through(t, 1, dir, UINT32_MAX), FILES);
	assert_in_range(clock_now_ns(t->clk) - began, 0, FILES * SLOW / 8); /* 2 each without */
	assert_in_range(ahead(t, 1), FILES - FILES / 20, FILES);
	assert_in_range(cold(t, 1) - was, 1, FILES / 20);
	simdev_set_latency(t->medium, 20000, 300000);
	was = ahead(t, 1);
	look_through(t, 1, dir, UINT32_MAX);
	assert_int_equal(ahead(t, 1), was);
}

static void a_directory_that_is_looked_through_is_read_ahead(void **s)
{
	(void)s;
	sc_run(scan_body, NULL);
}

/* The locks come exclusively as soon as it shows that this is what they are wanted for. */
static void remove_body(struct simcluster *t)
{
	struct nodeid dir = left_behind(t, FILES);
	uint64_t began;

	simdev_set_latency(t->medium, SLOW, SLOW);
	began = clock_now_ns(t->clk);
	assert_int_equal(go_through(t, 1, dir, UINT32_MAX, true), FILES);
	assert_in_range(clock_now_ns(t->clk) - began, 0, FILES * SLOW / 4); /* 4 each without */
	assert_in_range(atomic_load(&locks_stats(t->v[1]->locks)->upgraded), 1, FILES / 8);
	assert_int_equal(look_through(t, 1, dir, UINT32_MAX), 0);
	simdev_set_latency(t->medium, 20000, 300000);
}

static void what_is_removed_is_taken_exclusively(void **s)
{
	(void)s;
	sc_run(remove_body, NULL);
}

/* By name, as git status: a small one is had as a whole. */
static void sorted_body(struct simcluster *t)
{
	struct nodeid dir = left_behind(t, 100), id;
	unsigned long long was = cold(t, 1);
	char name[32];

	for (unsigned k = 0; k < 100; k++) {
		name_of(name, k);
		SC_OK(t, sc_lookup(t, 1, dir, name, &id));
		clock_sleep_ns(t->clk, SC_S / 1000);
	}
	assert_in_range(cold(t, 1) - was, 1, 15);
	assert_in_range(ahead(t, 1), 85, 99);
}

static void a_small_one_is_read_ahead_in_whatever_order(void **s)
{
	(void)s;
	sc_run(sorted_body, NULL);
}

/* ---- what it must not do --------------------------------------------------------------------- */

#define LOOKS 300u

/* Each a second after the last: no scan at all. At once: a few windows, and then ever fewer. */
static void random_body(struct simcluster *t)
{
	struct nodeid dir = left_behind(t, 4000), id;
	char name[32];

	for (unsigned k = 0; k < LOOKS; k++) {
		name_of(name, (unsigned)sc_random(t, 4000));
		SC_OK(t, sc_lookup(t, 1, dir, name, &id));
		if (k < 20)
			clock_sleep_ns(t->clk, 3 * SC_S);
		if (k == 20)
			assert_int_equal(ahead(t, 1), 0);
	}
	assert_in_range(ahead(t, 1), 1, 2 * LOOKS);
}

static void lookups_at_random_bring_little_with_them(void **s)
{
	(void)s;
	sc_run(random_body, &(struct sc_shape){.size_bytes = 256ull << 20});
}

static unsigned kept(struct simcluster *t, struct nodeid dir, unsigned files)
{
	unsigned sum = 0;
	char name[32];

	for (unsigned k = 0; k < files; k++) {
		struct nodeid id;

		name_of(name, k);
		SC_OK(t, sc_lookup(t, 0, dir, name, &id));
		sum += lock_held(t->v[0]->locks, id.ino) == LOCK_EX;
	}
	return sum;
}

/* They are host 0's, which is there: by the listing, but backwards, so that nothing shows a scan.
 */
static void others_body(struct simcluster *t)
{
	struct vdirent *vd = calloc(LIST, sizeof(*vd));
	struct nodeid dir, id;
	size_t n;

	sc_up(t, 0);
	sc_up(t, 1);
	dir = directory(t, 400);
	SC_OK(t, vol_readdir(t->v[1], &sc_root, dir, 0, VATTRS_NONE, vd, LIST, &n));
	for (size_t k = n; k-- > 2;)
		SC_OK(t, sc_lookup(t, 1, dir, vd[k].de.name, &id));
	assert_int_equal(ahead(t, 1), 0);
	assert_int_equal(aheads_got_from_others(t->v[1]->aheads), 0);
	assert_int_equal(kept(t, dir, 400), 400 - (LIST - 2));
	free(vd);
}

static void what_others_hold_is_left_to_them(void **s)
{
	(void)s;
	sc_run(others_body, NULL);
}

/* ---- who goes through a listing -------------------------------------------------------------- */

static void asking_body(struct simcluster *t)
{
	struct nodeid dir;
	uint64_t began;

	sc_up(t, 0);
	sc_up(t, 1);
	dir = directory(t, 400);
	look_through(t, 1, dir, 1); /* the directory's own lock */
	simdev_set_latency(t->medium, SLOW, SLOW);
	began = clock_now_ns(t->clk);
	assert_int_equal(look_through(t, 1, dir, UINT32_MAX), 400);
	assert_in_range(clock_now_ns(t->clk) - began, 0, 400 * SLOW); /* 5 each without */
	simdev_set_latency(t->medium, 20000, 300000);
	assert_in_range(aheads_got_from_others(t->v[1]->aheads), 300, 400);
	assert_int_equal(kept(t, dir, 400), 0);
}

static void others_are_asked_for_many_at_once(void **s)
{
	(void)s;
	sc_run(asking_body, NULL);
}

/* He loses interest: so much may have been asked for in vain. */
static void stopping_body(struct simcluster *t)
{
	struct nodeid dir;

	sc_up(t, 0);
	sc_up(t, 1);
	dir = directory(t, 1000);
	look_through(t, 1, dir, 30);
	clock_sleep_ns(t->clk, 2 * SC_S);
	assert_in_range(kept(t, dir, 1000), 1000 - 30 - 2 * 64, 1000 - 30);
}

static void not_much_more_is_asked_for_than_is_used(void **s)
{
	(void)s;
	sc_run(stopping_body, NULL);
}

/* Unmounted in the middle of it. */
static void leaving_task(void *arg)
{
	struct simcluster *t = arg;

	sc_down(t, 1);
}

static void leaving_body(struct simcluster *t)
{
	struct nodeid dir, id[16];
	struct vdirent *vd = calloc(LIST, sizeof(*vd));
	struct task *task;
	size_t n;

	sc_up(t, 0);
	sc_up(t, 1);
	dir = directory(t, 40);
	SC_OK(t, vol_readdir(t->v[1], &sc_root, dir, 0, VATTRS_NONE, vd, LIST, &n));
	for (unsigned k = 0; k < 6; k++)
		SC_OK(t, sc_lookup(t, 1, dir, vd[2 + k].de.name, &id[k]));
	clock_sleep_ns(t->clk, sc_random(t, 4 * SC_S / 1000));
	task = sc_task(t, 1, leaving_task, t);
	sc_join(t, task);
	free(vd);
}

static void it_can_leave_while_it_asks(void **s)
{
	(void)s;
	sc_run_seeds(leaving_body, 40);
}

/* ---- listings with attributes ---------------------------------------------------------------- */

static unsigned with_attr(const struct vdirent *vd, size_t n)
{
	unsigned sum = 0;

	for (size_t k = 0; k < n; k++) {
		if (vd[k].has_attr)
			assert_int_equal(vd[k].attr.id.ino, vd[k].de.ino);
		sum += vd[k].has_attr && vd[k].de.name[0] != '.';
	}
	return sum;
}

/* Who goes on has used what came first: the rest comes with attributes, by a few commands. */
static void plus_body(struct simcluster *t)
{
	struct nodeid dir = left_behind(t, 180);
	struct vdirent *vd = calloc(LIST, sizeof(*vd));
	unsigned sum = 0;
	uint64_t cookie;
	size_t n;

	SC_OK(t, vol_readdir(t->v[1], &sc_root, dir, 0, VATTRS_CACHED, vd, LIST, &n));
	assert_int_equal(n, LIST);
	assert_int_equal(with_attr(vd, n), 0);
	assert_int_equal(ahead(t, 1), 0);
	cookie = vd[n - 1].next;
	simdev_set_latency(t->medium, SLOW, SLOW);
	do {
		uint64_t began = clock_now_ns(t->clk);

		SC_OK(t, vol_readdir(t->v[1], &sc_root, dir, cookie, VATTRS_FREE, vd, LIST, &n));
		assert_in_range(clock_now_ns(t->clk) - began, 0, 8 * SLOW);
		assert_int_equal(with_attr(vd, n), n);
		sum += (unsigned)n;
		cookie = n ? vd[n - 1].next : cookie;
	} while (n);
	assert_int_equal(sum, 180 - (LIST - 2));
	assert_int_equal(ahead(t, 1), sum);
	simdev_set_latency(t->medium, 20000, 300000);
	free(vd);
}

static void a_listing_that_goes_on_brings_all_attributes(void **s)
{
	(void)s;
	sc_run(plus_body, NULL);
}

/* ---- beside changes -------------------------------------------------------------------------- */

struct changer {
	struct simcluster *t;
	struct nodeid dir;
};

static void change_task(void *arg)
{
	struct changer *c = arg;
	char name[32], to[32];

	for (unsigned k = 0; k < 60; k++) {
		struct nodeid id;

		name_of(name, (unsigned)sc_random(c->t, 200));
		snprintf(to, sizeof(to), "new-%u", k);
		if (sc_random(c->t, 2)) {
			vol_unlink(c->t->v[0], &sc_root, c->dir, name);
		} else if (sc_lookup(c->t, 0, c->dir, name, &id) == 0) {
			sc_truncate(c->t, 0, id, 1000 + k);
			vol_rename(c->t->v[0], &sc_root, c->dir, name, c->dir, to, 0);
		}
		sc_mkfile(c->t, 0, c->dir, name[5] == '0' ? to + 1 : to);
	}
}

/* Whatever the one sees at last is what the other has done, and fsck.lunfs agrees. */
static void beside_body(struct simcluster *t)
{
	struct changer c = {t, left_behind(t, 200)};
	struct vdirent *vd = calloc(LIST, sizeof(*vd));
	struct task *task;
	uint64_t cookie = 0;
	size_t n;

	sc_up(t, 0);
	task = sc_task(t, 0, change_task, &c);
	for (unsigned k = 0; k < 200; k++) {
		char name[32];
		struct nodeid id;

		name_of(name, k);
		sc_lookup(t, 1, c.dir, name, &id);
	}
	sc_join(t, task);
	do {
		SC_OK(t, vol_readdir(t->v[1], &sc_root, c.dir, cookie, VATTRS_FREE, vd, LIST, &n));
		for (size_t k = 0; k < n; k++) {
			struct nodeid id = {vd[k].de.ino, vd[k].de.generation};

			cookie = vd[k].next;
			if (vd[k].de.name[0] == '.')
				continue;
			assert_int_equal(sc_stat(t, 1, id).st_size, sc_stat(t, 0, id).st_size);
			if (vd[k].has_attr)
				assert_int_equal(vd[k].attr.st.st_size,
						 sc_stat(t, 0, id).st_size);
		}
	} while (n);
	free(vd);
}

static void it_gets_on_with_changes_by_another_host(void **s)
{
	(void)s;
	sc_run_seeds(beside_body, 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_directory_that_is_looked_through_is_read_ahead),
	    cmocka_unit_test(what_is_removed_is_taken_exclusively),
	    cmocka_unit_test(a_small_one_is_read_ahead_in_whatever_order),
	    cmocka_unit_test(lookups_at_random_bring_little_with_them),
	    cmocka_unit_test(what_others_hold_is_left_to_them),
	    cmocka_unit_test(others_are_asked_for_many_at_once),
	    cmocka_unit_test(not_much_more_is_asked_for_than_is_used),
	    cmocka_unit_test(it_can_leave_while_it_asks),
	    cmocka_unit_test(a_listing_that_goes_on_brings_all_attributes),
	    cmocka_unit_test(it_gets_on_with_changes_by_another_host),
	};

	return cmocka_run_group_tests_name("vol-ahead", tests, NULL, NULL);
}
