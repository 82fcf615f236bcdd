/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A write without an answer on a device that cannot say whether it will still land: the host it
 * belongs to keeps everything that the write could hurt, until others have fenced it. One that was
 * not sent is none of these.
 */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

#define LATE_NS (SC_S / 2)
#define LEASE_NS (800ull * 1000000)
#define FILES 20u

/* ---- locks ------------------------------------------------------------------------------------
 */

struct asker {
	struct simcluster *t;
	struct nodeid dir;
	uint64_t took_ns;
};

static void ask(void *arg)
{
	struct asker *a = arg;
	uint64_t began = clock_now_ns(a->t->clk);
	struct nodeid id;

	sc_lookup(a->t, 1, a->dir, "f", &id);
	a->took_ns = clock_now_ns(a->t->clk) - began;
}

static uint64_t lookup_takes(struct simcluster *t, struct nodeid dir)
{
	struct asker a = {.t = t, .dir = dir};

	sc_join(t, sc_task(t, 1, ask, &a));
	return a.took_ns;
}

/* Fresh metadata is written before anything tells of it: any lock may be the one over it. */
static void locks_body(struct simcluster *t)
{
	struct nodeid root, dir;
	struct txn_handle *h;

	sc_up(t, 0);
	sc_up(t, 1);
	root = sc_root_id(t, 0);
	dir = sc_mkdir(t, 0, root, "d");
	sc_mkfile(t, 0, dir, "f");
	assert_in_range(lookup_takes(t, dir), 1, LEASE_NS / 2);
	sc_mkfile(t, 0, dir, "g"); /* it has the directory again */
	assert_int_equal(txn_commit_all(t->v[0]->txns), 0);
	assert_int_equal(txn_flush_guard(t->v[0]->txns, dir.ino, LOCK_EX), 0);
	assert_int_equal(txn_begin(t->v[0]->txns, 1, &h), 0);
	txn_abort_volume(h, "a test says so");
	txn_end(h);
	assert_true(lookup_takes(t, dir) >= LEASE_NS);
	sc_kill(t, 0);
}

static void a_volume_that_failed_gives_no_lock_away(void **s)
{
	(void)s;
	sc_run(locks_body, NULL);
}

/* ---- replay -----------------------------------------------------------------------------------
 */

struct late {
	struct simcluster *t;
	struct simdev_fault fault;
	unsigned n; /* so many more */
	bool taken; /* somebody recovers host 0 */
};

/* What the others do in a group once one of them has taken host 0's slot is its replay. */
static void first_few(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
		      struct simdev_fault *out)
{
	struct late *l = ctx;

	(void)d;
	l->taken |= cmd->op == SIMDEV_CAW && cmd->off_bytes == geo_slot_off(0);
	if (!l->taken || !l->n || !(cmd->op & l->fault.ops) ||
	    cmd->off_bytes < geo_blk_off(geo_group_blk(&l->t->geo, 0)))
		return;
	l->n--;
	*out = l->fault;
}

static unsigned count_lost(struct simcluster *t)
{
	return (unsigned)atomic_load(&t->v[1]->lost) + (unsigned)atomic_load(&t->v[2]->lost);
}

/* Host 0 ends with files in its journal; the others recover it, with this fault. */
static struct nodeid begin_replay(struct simcluster *t, struct late *l)
{
	struct nodeid root;
	char name[16];

	for (unsigned n = 0; n < 3; n++)
		sc_up(t, n);
	root = sc_root_id(t, 0);
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		sc_mkfile(t, 0, root, name);
	}
	assert_int_equal(txn_commit_all(t->v[0]->txns), 0);
	sc_kill(t, 0);
	simdev_set_hook(t->medium, first_few, l);
	return root;
}

static void end_replay(struct simcluster *t, struct nodeid root, unsigned survivor)
{
	struct nodeid id;
	char name[16];

	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		assert_int_equal(sc_lookup(t, survivor, root, name, &id), 0);
	}
	simdev_set_hook(t->medium, NULL, NULL);
}

static void replay_body(struct simcluster *t)
{
	struct late l = {.t = t, .n = 1, .fault = {SIMDEV_LATE, .ops = SIMDEV_WRITE}};
	struct nodeid root;
	unsigned survivor;

	l.fault.delay_ns = LATE_NS;
	simdev_set_drain(t->medium, false);
	root = begin_replay(t, &l);
	for (unsigned i = 0; i < 100 && !count_lost(t); i++)
		clock_sleep_ns(t->clk, SC_S / 10);
	assert_int_equal(count_lost(t), 1);
	survivor = atomic_load(&t->v[1]->lost) ? 2 : 1;
	end_replay(t, root, survivor);
	assert_int_equal(count_lost(t), 1);
	sc_kill(t, 3 - survivor);
}

static void a_replay_whose_write_may_still_land_is_left_to_others(void **s)
{
	(void)s;
	sc_run(replay_body, NULL);
}

static void read_body(struct simcluster *t)
{
	struct late l = {.t = t, .n = 3, .fault = {SIMDEV_LOST_COMMAND, .ops = SIMDEV_READ}};
	struct nodeid root = begin_replay(t, &l);

	for (unsigned i = 0; i < 100 && l.n; i++)
		clock_sleep_ns(t->clk, SC_S / 10);
	assert_int_equal(l.n, 0);
	end_replay(t, root, 1);
	assert_int_equal(count_lost(t), 0);
}

static void a_replay_that_cannot_read_is_tried_again(void **s)
{
	(void)s;
	sc_run(read_body, NULL);
}

/* ---- who waits --------------------------------------------------------------------------------
 */

struct waiter {
	struct simcluster *t;
	struct nodeid id;
	int rc;
	bool ended;
};

static void read_task(void *arg)
{
	struct waiter *w = arg;
	uint8_t buf[8192];
	size_t done;

	w->rc = vol_read(w->t->v[0], &sc_root, w->id, 0, sizeof(buf), buf, &done);
	w->ended = true;
}

static void waiting_body(struct simcluster *t)
{
	struct simdev_fault mute = {
	    .kind = SIMDEV_LOST_COMMAND, .ops = SIMDEV_READ, .count = 1000000};
	struct waiter w = {.t = t};
	struct txn_handle *h;
	struct task *task;
	uint8_t buf[8192];

	sc_up(t, 0);
	w.id = sc_mkfile(t, 0, sc_root_id(t, 0), "f");
	memset(buf, 'w', sizeof(buf));
	sc_write(t, 0, w.id, 0, buf, sizeof(buf));
	mute.off_bytes = geo_blk_off(geo_group_blk(&t->geo, 0));
	mute.len_bytes = geo_blk_off(t->geo.end_blk) - mute.off_bytes;
	simdev_inject(t->dev[0], &mute);
	task = sc_task(t, 0, read_task, &w);
	clock_sleep_ns(t->clk, 2 * SC_S);
	assert_false(w.ended);
	assert_int_equal(txn_begin(t->v[0]->txns, 1, &h), 0);
	txn_abort_volume(h, "a test says so");
	txn_end(h);
	clock_sleep_ns(t->clk, SC_S);
	assert_true(w.ended);
	assert_int_equal(w.rc, -EIO);
	simdev_inject_clear(t->dev[0]);
	sc_join(t, task);
	sc_kill(t, 0);
	sc_up(t, 0); /* replays */
}

/* As all do that come after it has failed: nothing that they wait for can make it well. */
static void who_waits_for_the_device_hears_that_the_volume_has_failed(void **s)
{
	(void)s;
	sc_run(waiting_body, NULL);
}

static void write_task(void *arg)
{
	struct waiter *w = arg;
	uint8_t *buf = dev_buf_alloc(8192);
	size_t done;

	w->rc = vol_write(w->t->v[0], &sc_root, w->id, 0, 8192, buf, 0, &done, NULL);
	w->ended = true;
	free(buf);
}

static unsigned blamed; /* so often a write was said to be why the volume failed */

static void note_why(void *ctx, const char *why)
{
	(void)ctx;
	blamed += strstr(why, "a write of file data") != NULL;
}

static void first_reason_body(struct simcluster *t)
{
	struct waiter w = {.t = t};
	struct txn_handle *h;
	struct task *task;
	uint8_t buf[8192] = {0};

	sc_up(t, 0);
	w.id = sc_mkfile(t, 0, sc_root_id(t, 0), "f");
	sc_write(t, 0, w.id, 0, buf, sizeof(buf));
	SC_OK(t, vol_fsync(t->v[0], &sc_root, w.id, false));
	t->v[0]->cb.lost = note_why;
	blamed = 0;
	simdev_outage(t->dev[0], clock_now_ns(t->clk) + SC_S, SIMDEV_OUTAGE_ERROR);
	task = sc_task(t, 0, write_task, &w);
	clock_sleep_ns(t->clk, SC_S / 5);
	assert_false(w.ended);
	assert_int_equal(txn_begin(t->v[0]->txns, 1, &h), 0);
	txn_abort_volume(h, "a test says so");
	txn_end(h);
	sc_join(t, task);
	assert_int_equal(w.rc, -EIO);
	assert_int_equal(blamed, 0);
	sc_kill(t, 0);
	sc_up(t, 0); /* replays */
}

/* Nobody has asked the device to the end what becomes of the write. */
static void a_write_that_is_not_waited_for_any_more_is_not_why_the_volume_failed(void **s)
{
	(void)s;
	sc_run(first_reason_body, NULL);
}

/* ---- what was not sent ------------------------------------------------------------------------
 */

static void unsent_body(struct simcluster *t)
{
	struct simdev_fault unsent = {
	    .kind = SIMDEV_FAIL, .ops = SIMDEV_WRITE, .count = 3, .error = -ECANCELED};
	uint8_t *buf = dev_buf_alloc(8192), got[8192];
	struct nodeid id;

	sc_up(t, 0);
	id = sc_mkfile(t, 0, sc_root_id(t, 0), "f");
	simdev_set_drain(t->medium, false);
	memset(buf, 'u', 8192);
	for (unsigned i = 0; i < 2; i++) { /* data, and then the log */
		simdev_inject(t->dev[0], &unsent);
		if (i == 0)
			sc_write(t, 0, id, 0, buf, 8192);
		SC_OK(t, vol_fsync(t->v[0], &sc_root, id, false));
	}
	assert_false(atomic_load(&t->v[0]->lost));
	assert_false(txn_failed(t->v[0]->txns));
	assert_int_equal(sc_read(t, 0, id, 0, got, 8192), 8192);
	assert_memory_equal(got, buf, 8192);
	free(buf);
}

/* Its deadline was over before it could be sent: nothing of it can land later. */
static void what_was_not_sent_in_time_is_sent_again_and_needs_no_drain(void **s)
{
	(void)s;
	sc_run(unsent_body, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_volume_that_failed_gives_no_lock_away),
	    cmocka_unit_test(a_replay_whose_write_may_still_land_is_left_to_others),
	    cmocka_unit_test(a_replay_that_cannot_read_is_tried_again),
	    cmocka_unit_test(who_waits_for_the_device_hears_that_the_volume_has_failed),
	    cmocka_unit_test(a_write_that_is_not_waited_for_any_more_is_not_why_the_volume_failed),
	    cmocka_unit_test(what_was_not_sent_in_time_is_sent_again_and_needs_no_drain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
