/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Mounting, what is refused, and what becomes of a volume whose host lost its slot. */
#include "unit.h"

#include <stdlib.h>

static void poke_super(struct simcluster *t, uint64_t off, const struct geo *g)
{
	uint8_t *sb = dev_buf_alloc(4096);

	if (g)
		sb_encode(g, sb);
	simdev_poke(t->medium, off, 4096, sb);
	free(sb);
}

static void expect_refusal(struct simcluster *t, int rc)
{
	char why[512] = "";

	assert_int_equal(sc_mount(t, 0, false, why, sizeof(why)), rc);
	assert_true(strlen(why) > 20);
}

/* ---- superblocks ----------------------------------------------------------------------------- */

static void copies_body(struct simcluster *t)
{
	uint64_t tail = sb_tail_off(64ull << 20);
	struct geo g, read;
	char why[512];
	bool copy = false;
	uint8_t junk[4096];

	sc_up(t, 0);
	sc_mkfile(t, 0, sc_root_id(t, 0), "f");
	sc_down(t, 0);
	g = t->geo;
	simdev_peek(t->medium, LUNFS_SB_OFF, 4096, junk);
	junk[0x200] ^= 1; /* a bit of it flipped: the copy at the end */
	simdev_poke(t->medium, LUNFS_SB_OFF, 4096, junk);
	assert_int_equal(vol_read_super(t->first, &read, &copy, why, sizeof(why)), 0);
	assert_true(copy && read.root_ino == g.root_ino);
	poke_super(t, tail, NULL); /* that is gone, too: a group's copy, if there is one */
	if (g.groups > 1) {
		assert_int_equal(vol_read_super(t->first, &read, &copy, why, sizeof(why)), 0);
		assert_true(copy && read.root_ino == g.root_ino);
		sc_up(t, 0);
		assert_int_equal(sc_lookup(t, 0, sc_root_id(t, 0), "f", NULL), 0);
		sc_down(t, 0);
	}
	poke_super(t, LUNFS_SB_OFF, &g);
	poke_super(t, tail, &g);
}

static void damaged_superblock_is_replaced_by_a_copy(void **s)
{
	(void)s;
	sc_run(copies_body, NULL);
	sc_run(copies_body, &(struct sc_shape){.sector_bytes = 4096});
}

static void refused_body(struct simcluster *t)
{
	struct geo g = t->geo;
	char why[512] = "";

	g.incompat = 1ull << 40;
	poke_super(t, LUNFS_SB_OFF, &g);
	expect_refusal(t, -EPROTONOSUPPORT);
	g.incompat = 0;
	g.ro_compat = 2;
	poke_super(t, LUNFS_SB_OFF, &g);
	expect_refusal(t, -EROFS);
	assert_int_equal(sc_mount(t, 0, true, why, sizeof(why)), 0);
	sc_down(t, 0);
	poke_super(t, LUNFS_SB_OFF, &t->geo);
	sc_up(t, 1);
	t->v[2] = t->v[1]; /* the same name again, while it beats */
	assert_int_equal(sc_mount(t, 1, false, why, sizeof(why)), -EEXIST);
	t->v[1] = t->v[2];
	t->v[2] = NULL;
}

static void what_cannot_be_mounted_is_refused_with_a_sentence(void **s)
{
	(void)s;
	sc_run(refused_body, NULL);
}

/* ---- lost and interrupted -------------------------------------------------------------------- */

static void lost_body(struct simcluster *t)
{
	struct nodeid root, f;
	struct vattr va;
	size_t done;
	int rc;

	sc_up(t, 0);
	sc_up(t, 1);
	root = sc_root_id(t, 0);
	f = sc_mkfile(t, 0, root, "f");
	assert_int_equal(vol_open(t->v[0], &sc_root, f), 0);
	assert_int_equal(vol_syncfs(t->v[0]), 0);
	simclock_pause(t->clk, 1, clock_now_ns(t->clk) + 5 * SC_S);
	clock_sleep_ns(t->clk, 4 * SC_S);
	assert_int_equal(sc_lookup(t, 1, root, "f", NULL), 0); /* it was recovered */
	clock_sleep_ns(t->clk, 3 * SC_S);
	rc = vol_write(t->v[0], &sc_root, f, 0, 1, "x", 0, &done, NULL);
	assert_int_equal(rc, -EIO);
	assert_int_equal(vol_getattr(t->v[0], &sc_root, f, &va), -EIO);
	assert_int_equal(vol_fsync(t->v[0], &sc_root, f, false), -EIO);
	vol_release(t->v[0], f);
	assert_int_equal(vol_unmount(t->v[0]), -EIO);
	t->v[0] = NULL;
	assert_int_equal(sc_stat(t, 1, f).st_size, 0);
	sc_up(t, 0);
	assert_int_equal(sc_lookup(t, 0, root, "f", NULL), 0);
}

static void host_whose_slot_was_taken_answers_eio(void **s)
{
	(void)s;
	sc_run_seeds(lost_body, 4);
}

struct waiter {
	struct simcluster *t;
	struct nodeid id;
	struct lock_intr intr;
	int rc;
	bool ended;
};

static void wait_task(void *arg)
{
	struct waiter *w = arg;
	struct op_ctx c = {.intr = &w->intr};
	char b;
	size_t done;

	w->rc = vol_read(w->t->v[0], &c, w->id, 0, 1, &b, &done);
	w->ended = true;
}

static void interrupted_body(struct simcluster *t)
{
	struct waiter w = {.t = t};
	struct task *task;

	sc_up(t, 0);
	sc_up(t, 1);
	w.id = sc_mkfile(t, 1, sc_root_id(t, 1), "f");
	assert_int_equal(vol_syncfs(t->v[1]), 0);
	simclock_pause(t->clk, 2,
		       clock_now_ns(t->clk) + SC_S / 4); /* holds the lock, answers late */
	task = sc_task(t, 0, wait_task, &w);
	clock_sleep_ns(t->clk, SC_S / 20);
	assert_false(w.ended);
	vol_interrupt(t->v[0], &w.intr);
	sc_join(t, task);
	assert_int_equal(w.rc, -EINTR);
}

static void waiting_for_a_lock_can_be_interrupted(void **s)
{
	(void)s;
	sc_run_seeds(interrupted_body, 4);
}

/* ---- statistics ------------------------------------------------------------------------------ */

static void stats_body(struct simcluster *t)
{
	char *text;

	sc_up(t, 0);
	text = vol_stats_json(t->v[0]);
	assert_non_null(strstr(text, "\"ats_commands\":"));
	assert_non_null(strstr(text, "\"dev_reads\":"));
	assert_non_null(strstr(text, "\"dev_writes\":"));
	assert_non_null(strstr(text, "\"dev_flushes\":"));
	assert_non_null(strstr(text, "\"name\":\"host0\""));
	assert_non_null(strstr(text, "\"state\":\"active\""));
	free(text);
}

static void statistics_name_what_scripts_ask_for(void **s)
{
	(void)s;
	sc_run(stats_body, NULL);
}

/* ---- a volume that failed ---------------------------------------------------------------------
 */

struct leaver {
	struct simcluster *t;
	bool left;
	int rc;
};

static void leave_task(void *arg)
{
	struct leaver *l = arg;

	l->rc = vol_unmount(l->t->v[0]);
	l->left = true;
}

/* A wish of host 0 was granted a moment ago, and is still to be taken off the board. */
static void fail_with_a_wish_out(struct simcluster *t)
{
	struct simdev_fault bad = {.kind = SIMDEV_FAIL, .ops = SIMDEV_WRITE};
	struct nodeid f = sc_mkfile(t, 1, sc_root_id(t, 1), "f");

	sc_write(t, 1, f, 0, "one", 3);
	sc_write(t, 0, f, 0, "two", 3);
	bad.off_bytes = geo_blk_off(t->geo.journal_blk[host_slot(vol_host(t->v[0]))]);
	bad.len_bytes = (uint64_t)t->geo.journal_blks * LUNFS_BLOCK_BYTES;
	simdev_inject(t->dev[0], &bad);
	assert_int_equal(vol_fsync(t->v[0], &sc_root, f, false), -EIO);
	assert_true(txn_failed(t->v[0]->txns));
}

static void failed_away_body(struct simcluster *t)
{
	struct leaver l = {.t = t};
	struct task *task;

	simdev_set_latency(t->medium, SC_S / 5000, SC_S / 1000);
	sc_up(t, 0);
	sc_up(t, 1);
	fail_with_a_wish_out(t);
	simdev_outage(t->dev[0], clock_now_ns(t->clk) + 60 * SC_S, SIMDEV_OUTAGE_SILENT);
	clock_sleep_ns(t->clk, sc_random(t, SC_S));
	task = sc_task(t, 0, leave_task, &l);
	clock_sleep_ns(t->clk, 4 * SC_S);
	assert_true(l.left);
	sc_join(t, task);
	assert_int_equal(l.rc, -EIO);
	t->v[0] = NULL;
}

struct late_asker {
	struct simcluster *t;
	int rc;
	bool ended;
};

static void late_task(void *arg)
{
	struct late_asker *a = arg;
	struct nodeid root;

	a->rc = vol_root(a->t->v[0], &root);
	a->ended = true;
}

static void answers_body(struct simcluster *t)
{
	struct late_asker a = {.t = t};
	struct txn_handle *h;
	struct task *task;

	sc_up(t, 0);
	assert_int_equal(txn_begin(t->v[0]->txns, 1, &h), 0);
	txn_abort_volume(h, "a test says so");
	txn_end(h);
	simdev_outage(t->dev[0], clock_now_ns(t->clk) + 10 * SC_S, SIMDEV_OUTAGE_SILENT);
	while (host_state(vol_host(t->v[0])) == HOST_ACTIVE)
		clock_sleep_ns(t->clk, SC_S / 10);
	task = sc_task(t, 0, late_task, &a);
	clock_sleep_ns(t->clk, SC_S);
	assert_true(a.ended);
	assert_int_equal(a.rc, -EIO);
	sc_join(t, task);
	sc_kill(t, 0);
	sc_up(t, 0); /* replays */
}

/* Else the kernel's requests would keep the daemon from being unmounted, too. */
static void a_failed_volume_answers_although_its_device_is_away(void **s)
{
	(void)s;
	sc_run(answers_body, NULL);
}

/* Whoever waits for a lock is not with the device at all. */
static void waiter_body(struct simcluster *t)
{
	struct late_asker a = {.t = t};
	struct nodeid root;
	struct txn_handle *h;
	struct task *task;

	sc_up(t, 0);
	sc_up(t, 1);
	root = sc_root_id(t, 1);
	sc_mkfile(t, 1, root, "f");
	sc_kill(t, 1);
	task = sc_task(t, 0, late_task, &a);
	clock_sleep_ns(t->clk, SC_S / 20);
	assert_false(a.ended);
	simdev_outage(t->dev[0], clock_now_ns(t->clk) + 10 * SC_S, SIMDEV_OUTAGE_SILENT);
	if (t->ctx) /* else it fails before that */
		while (host_state(vol_host(t->v[0])) == HOST_ACTIVE)
			clock_sleep_ns(t->clk, SC_S / 10);
	assert_int_equal(txn_begin(t->v[0]->txns, 1, &h), 0);
	txn_abort_volume(h, "a test says so");
	txn_end(h);
	clock_sleep_ns(t->clk, 2 * SC_S);
	assert_true(a.ended);
	assert_int_equal(a.rc, -EIO);
	sc_join(t, task);
	assert_true(atomic_load(&t->v[0]->lost));
	sc_kill(t, 0);
	sc_up(t, 1); /* replays both */
	sc_settle(t, 1);
}

static void who_waits_in_a_failed_volume_waits_for_the_end_of_the_lease_only(void **s)
{
	sc_run(waiter_body, NULL);
	sc_run(waiter_body, &(struct sc_shape){.hosts = 2, .ctx = s});
}

static void a_failed_volume_is_unmounted_although_its_device_is_away(void **s)
{
	(void)s;
	sc_run_seeds(failed_away_body, 24);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(damaged_superblock_is_replaced_by_a_copy),
	    cmocka_unit_test(what_cannot_be_mounted_is_refused_with_a_sentence),
	    cmocka_unit_test(host_whose_slot_was_taken_answers_eio),
	    cmocka_unit_test(waiting_for_a_lock_can_be_interrupted),
	    cmocka_unit_test(statistics_name_what_scripts_ask_for),
	    cmocka_unit_test(a_failed_volume_answers_although_its_device_is_away),
	    cmocka_unit_test(who_waits_in_a_failed_volume_waits_for_the_end_of_the_lease_only),
	    cmocka_unit_test(a_failed_volume_is_unmounted_although_its_device_is_away),
	};

	return cmocka_run_group_tests_name("vol-mount", tests, NULL, NULL);
}
