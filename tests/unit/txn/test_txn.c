/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cache, commit, checkpoint, log space, failure. */
#include "world.h"

#include <errno.h>

#define INODE LUNFS_BLK_INODE
#define BTREE LUNFS_BLK_BTREE

static void flush_counts(struct world *w, uint64_t *writes, uint64_t *flushes)
{
	struct simdev_counts c;

	simdev_counts(w->medium, &c);
	*writes = c.writes;
	*flushes = c.flushes;
}

TEST(a_change_is_in_the_log_when_durable_and_in_place_after_the_guard_was_flushed)
{
	struct node n;
	struct lock *l;
	uint64_t a = world_cell(w, 0);

	world_plant(w, a, a, INODE, 5, 1);
	node_up(w, &n, 0);
	l = node_lock(&n, 0, a);
	assert_int_equal(txn_wait_durable(n.t, node_set(&n, l, a, INODE, 2)), 0);
	assert_int_equal(world_value(w, a), 1);
	assert_int_equal(txn_flush_guard(n.t, a, LOCK_EX), 0);
	assert_int_equal(world_value(w, a), 2);
	assert_int_equal(world_version(w, a), 6);
	assert_int_equal(txn_guard_version(n.t, a), 6);
	assert_int_equal(simdev_unflushed(w->medium), 0);
	node_down(&n);
}

TEST(flushing_a_guard_to_none_drops_its_blocks_and_remembers_its_version)
{
	struct node n;
	struct lock *l;
	uint64_t a = world_cell(w, 0), b = world_cell(w, 1);

	world_plant(w, a, a, INODE, 5, 1);
	world_plant(w, b, a, BTREE, 9, 1);
	node_up(w, &n, 0);
	l = node_lock(&n, 0, a);
	node_set(&n, l, a, INODE, 2);
	node_set(&n, l, b, BTREE, 3);
	assert_int_equal(txn_flush_guard(n.t, a, LOCK_NONE), 0);
	assert_int_equal(HASH_COUNT(n.t->blks), 0);
	assert_int_equal(HASH_COUNT(n.t->guards), 0);
	assert_int_equal(txn_guard_version(n.t, a), 6);
	assert_int_equal(world_value(w, b), 3);
	/* Somebody else rewrote it: the next possession must read it anew. */
	world_plant(w, a, a, INODE, 8, 77);
	l = node_lock(&n, 0, a);
	assert_int_equal(node_value(&n, l, a, INODE), 77);
	assert_int_equal(txn_flush_guard(n.t, a, LOCK_NONE), 0);
	assert_int_equal(txn_guard_version(n.t, a), 8);
	/* A possession that never looked at the payload knows no version of it. */
	assert_int_equal(txn_flush_guard(n.t, a, LOCK_NONE), 0);
	assert_int_equal(txn_guard_version(n.t, a), 0);
	node_down(&n);
}

TEST(versions_go_above_the_one_in_the_lock_sector)
{
	struct node n;
	struct lock *l;
	uint64_t a = world_cell(w, 0);
	struct txn_handle *h;
	struct mblk *m;

	world_plant(w, a, a, INODE, 50, 1);
	node_up(w, &n, 0);
	l = node_lock(&n, 0, a);
	l->recorded = 40;
	node_set(&n, l, a, INODE, 2);
	assert_int_equal(txn_flush_guard(n.t, a, LOCK_NONE), 0);
	assert_int_equal(world_version(w, a), 51);
	l->recorded = 60;
	assert_int_equal(txn_begin(n.t, 1, &h), 0);
	m = mblk_new(h, l, a, INODE, 51, 7);
	payload_set(m->data, 3);
	mblk_put(n.t, m);
	txn_end(h);
	assert_int_equal(txn_flush_guard(n.t, a, LOCK_NONE), 0);
	assert_int_equal(world_version(w, a), 61);
	node_down(&n);
}

TEST(a_payload_older_than_recorded_or_damaged_or_of_another_role_is_not_given_out)
{
	struct node n;
	struct lock *l;
	uint64_t a = world_cell(w, 0), b = world_cell(w, 1);
	struct mblk *m = NULL;

	world_plant(w, a, a, INODE, 5, 1);
	world_plant(w, b, b, INODE, 5, 1);
	node_up(w, &n, 0);
	l = node_lock(&n, 0, a);
	l->recorded = 6;
	assert_int_equal(mblk_get(n.t, l, a, INODE, &m), -EUCLEAN);
	l->recorded = 5;
	assert_int_equal(mblk_get(n.t, l, a, BTREE, &m), -ESTALE);
	assert_int_equal(mblk_get(n.t, l, b, INODE, &m), -EUCLEAN); /* not ours to use */
	assert_int_equal(mblk_get(n.t, l, 3, INODE, &m), -EUCLEAN); /* no cell at all */
	simdev_peek(w->medium, geo_payload_off(&w->geo, a), 512, w->buf);
	w->buf[100] ^= 1;
	simdev_poke(w->medium, geo_payload_off(&w->geo, a), 512, w->buf);
	assert_int_equal(mblk_get(n.t, l, a, INODE, &m), -EUCLEAN);
	assert_null(m);
	node_down(&n);
}

TEST(a_payload_the_lock_layer_read_is_used_without_another_read_and_checked)
{
	struct node n;
	struct lock *l;
	uint64_t a = world_cell(w, 0);
	struct simdev_counts c;
	uint64_t reads;
	uint8_t payload[LUNFS_PAYLOAD_BYTES];

	world_plant(w, a, a, INODE, 5, 9);
	node_up(w, &n, 0);
	l = node_lock(&n, 0, a);
	assert_true(world_place(w, a, payload));
	txn_loaded(n.t, l, payload);
	simdev_counts(w->medium, &c);
	reads = c.reads;
	assert_int_equal(node_value(&n, l, a, INODE), 9);
	simdev_counts(w->medium, &c);
	assert_int_equal(c.reads, reads);
	assert_int_equal(txn_flush_guard(n.t, a, LOCK_NONE), 0);
	payload[200] ^= 1; /* what it handed over was torn: the disk is asked */
	txn_loaded(n.t, l, payload);
	assert_int_equal(txn_guard_version(n.t, a), 0);
	assert_int_equal(node_value(&n, l, a, INODE), 9);
	simdev_counts(w->medium, &c);
	assert_int_equal(c.reads, reads + 1);
	node_down(&n);
}

TEST(checkpoint_writes_the_committed_copy_not_the_live_buffer)
{
	struct node n;
	struct lock *l;
	uint64_t a = world_cell(w, 0);
	struct txn_handle *h;
	struct mblk *m;

	world_plant(w, a, a, INODE, 5, 1);
	node_up(w, &n, 0);
	l = node_lock(&n, 0, a);
	txn_wait_durable(n.t, node_set(&n, l, a, INODE, 2));
	assert_int_equal(txn_begin(n.t, 1, &h), 0);
	assert_int_equal(mblk_get(n.t, l, a, INODE, &m), 0);
	mblk_dirty(h, m);
	payload_set(m->data, 3); /* a running transaction: not for the disk yet */
	assert_int_equal(checkpoint_all(n.t), 0);
	assert_int_equal(world_value(w, a), 2);
	mblk_put(n.t, m);
	txn_end(h);
	node_down(&n);
	assert_int_equal(world_value(w, a), 3);
}

TEST(waiting_with_nothing_dirty_costs_one_flush_and_no_write)
{
	struct node n;
	uint64_t writes, flushes, writes2, flushes2;

	node_up(w, &n, 0);
	flush_counts(w, &writes, &flushes);
	assert_int_equal(txn_commit_all(n.t), 0);
	flush_counts(w, &writes2, &flushes2);
	assert_int_equal(writes2, writes);
	assert_int_equal(flushes2, flushes + 1);
	node_down(&n);
}

static struct lock *with_one(struct world *w, struct node *n)
{
	uint64_t a = world_cell(w, 0);

	world_plant(w, a, a, INODE, 5, 1);
	node_up(w, n, 0);
	return node_lock(n, 0, a);
}

TEST(a_commit_costs_one_log_write_and_one_flush_or_two_if_something_was_written_before)
{
	static const struct {
		bool written, unproven; /* data; a lock */
		unsigned flushes;
	} cases[] = {{true, false, 2},	{false, false, 1}, {false, true, 2},
		     {false, false, 1}, {true, true, 2},   {false, false, 1}};
	struct node n;
	struct lock *l = with_one(w, &n);
	uint64_t a = l->addr, writes, flushes, writes2, flushes2;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		n.host.written += cases[i].written;
		w->locks.unproven += cases[i].unproven;
		flush_counts(w, &writes, &flushes);
		assert_int_equal(txn_wait_durable(n.t, node_set(&n, l, a, INODE, i + 2)), 0);
		flush_counts(w, &writes2, &flushes2);
		assert_int_equal(writes2, writes + 1);
		assert_int_equal(flushes2, flushes + cases[i].flushes);
	}
	node_down(&n);
}

static void count_flushes(void *ctx, struct dev *d, const struct simdev_cmd *c,
			  struct simdev_fault *out)
{
	uint64_t *what = ctx;

	(void)d;
	(void)out;
	if (c->op == SIMDEV_FLUSH)
		++*what;
}

static void count_during_flush(struct world *w, struct node *n, struct lock *l, uint64_t *what)
{
	uint64_t writes, flushes, flushes2;

	simdev_set_hook(w->medium, count_flushes, what);
	assert_int_equal(txn_commit_all(n->t), 0);
	simdev_set_hook(w->medium, NULL, NULL);
	for (unsigned i = 2; i > 0; i--) {
		flush_counts(w, &writes, &flushes);
		assert_int_equal(txn_wait_durable(n->t, node_set(n, l, l->addr, INODE, i)), 0);
		flush_counts(w, &writes, &flushes2);
		assert_int_equal(flushes2, flushes + i);
	}
}

TEST(what_comes_while_the_device_flushes_is_flushed_before_it_is_relied_on)
{
	struct node n;
	struct lock *l = with_one(w, &n);

	count_during_flush(w, &n, l, &w->locks.unproven);
	count_during_flush(w, &n, l, &n.host.written);
	node_down(&n);
}

struct writer {
	struct node *n;
	struct lock *l;
	uint64_t addr;
	unsigned rounds;
	struct task *task;
};

static void writer_main(void *arg)
{
	struct writer *wr = arg;

	for (unsigned i = 1; i <= wr->rounds; i++) {
		uint64_t tid = node_set(wr->n, wr->l, wr->addr, INODE, i);

		assert_int_equal(txn_wait_durable(wr->n->t, tid), 0);
	}
}

static void writers_run(struct world *w, struct node *n, struct writer *wr, unsigned count,
			unsigned rounds)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t a = world_cell(w, i);

		world_plant(w, a, a, INODE, 1, 0);
		wr[i] =
		    (struct writer){.n = n, .l = node_lock(n, i, a), .addr = a, .rounds = rounds};
	}
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(
		    w->clk->ops->task_start(w->clk, "writer", writer_main, &wr[i], &wr[i].task), 0);
	for (unsigned i = 0; i < count; i++)
		w->clk->ops->task_join(w->clk, wr[i].task);
}

TEST(writers_that_wait_at_the_same_time_share_commits_and_flushes)
{
	struct node n;
	struct writer wr[12];
	uint64_t writes, flushes, writes2, flushes2;

	node_up(w, &n, 0);
	flush_counts(w, &writes, &flushes);
	writers_run(w, &n, wr, 12, 10);
	flush_counts(w, &writes2, &flushes2);
	assert_true(atomic_load(&n.t->stats.commits) < 60); /* 120 waits */
	assert_true(flushes2 - flushes < 180);
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(node_value(&n, wr[i].l, wr[i].addr, INODE), 10);
	node_down(&n);
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(world_value(w, wr[i].addr), 10);
}

TEST(a_log_many_times_too_small_for_the_work_goes_round_and_round)
{
	struct node n;
	struct writer wr[8];

	w->geo.journal_blks = 17;
	node_up(w, &n, 0);
	writers_run(w, &n, wr, 8, 40);
	assert_true(n.t->next_seq > 20);
	assert_true(atomic_load(&n.t->stats.log_blocks) > 16 * 4);
	assert_false(txn_failed(n.t));
	node_down(&n);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(world_value(w, wr[i].addr), 40);
}

static void many_blocks(struct node *n, struct lock *l, unsigned count, uint32_t value)
{
	struct txn_handle *h;

	assert_int_equal(txn_begin(n->t, count, &h), 0);
	for (unsigned i = 0; i < count; i++) {
		struct mblk *m = mblk_new(h, l, world_cell(n->w, 1 + i), BTREE, 0, 0);

		payload_set(m->data, value);
		mblk_put(n->t, m);
	}
	txn_end(h);
}

TEST(a_handle_larger_than_the_usual_transaction_gets_one_of_its_own)
{
	struct node n;
	struct writer wr[4];
	struct txn_handle *h;
	struct lock *l;
	uint64_t g = world_cell(w, 200);

	node_up(w, &n, 0);
	l = node_lock(&n, 8, g);
	writers_run(w, &n, wr, 4, 3);
	many_blocks(&n, l, 40, 5);
	many_blocks(&n, l, 40, 6);
	assert_int_equal(txn_begin(n.t, 100, &h), -E2BIG);
	assert_int_equal(txn_flush_guard(n.t, g, LOCK_NONE), 0);
	assert_int_equal(world_value(w, world_cell(w, 40)), 6);
	node_down(&n);
}

TEST(an_old_change_is_committed_without_being_asked_for)
{
	struct node n;
	struct lock *l;
	uint64_t a = world_cell(w, 0);

	world_plant(w, a, a, INODE, 5, 1);
	node_up(w, &n, 0);
	l = node_lock(&n, 0, a);
	node_set(&n, l, a, INODE, 2);
	clock_sleep_ns(w->clk, COMMIT_AGE_NS + 1000000000ull);
	assert_int_equal(atomic_load(&n.t->stats.commits), 1);
	clock_sleep_ns(w->clk, CKPT_AGE_NS + 1000000000ull);
	assert_int_equal(world_value(w, a), 2);
	node_down(&n);
}

struct heard {
	unsigned ok, failed;
};

static void on_commit(void *arg, bool ok)
{
	struct heard *hd = arg;

	if (ok)
		hd->ok++;
	else
		hd->failed++;
}

TEST(call_backs_hear_of_the_commit_before_the_waiter_goes_on)
{
	struct node n;
	struct heard hd = {0};
	struct txn_handle *h;
	uint64_t tid;

	node_up(w, &n, 0);
	assert_int_equal(txn_begin(n.t, 0, &h), 0);
	txn_on_commit(h, on_commit, &hd);
	tid = txn_end(h);
	assert_int_equal(hd.ok, 0);
	assert_int_equal(txn_wait_durable(n.t, tid), 0);
	assert_int_equal(hd.ok, 1);
	node_down(&n);
}

struct meanwhile { /* a call-back during which all is checkpointed that can be */
	struct txns *t;
	void *other[8];
	unsigned calls;
};

static void checkpointed_meanwhile(void *arg, bool ok)
{
	struct meanwhile *s = arg;

	assert_true(ok);
	assert_int_equal(checkpoint_all(s->t), 0);
	assert_int_equal(tail_write(s->t), 0);
	for (unsigned i = 0; i < 8; i++) { /* what was freed serves others by now */
		s->other[i] = malloc(sizeof(struct txn));
		memset(s->other[i], 0xff, sizeof(struct txn));
	}
	s->calls++;
}

TEST(a_transaction_whose_images_are_in_place_before_its_call_backs_have_run_is_still_there)
{
	struct node n;
	struct lock *l = with_one(w, &n);
	struct meanwhile s = {.t = n.t};
	struct txn_handle *h;
	uint64_t tid;

	node_set(&n, l, l->addr, INODE, 2);
	assert_int_equal(txn_begin(n.t, 0, &h), 0);
	txn_on_commit(h, checkpointed_meanwhile, &s);
	tid = txn_end(h);
	assert_int_equal(txn_wait_durable(n.t, tid), 0);
	assert_int_equal(s.calls, 1);
	assert_int_equal(n.t->durable_tid, tid);
	assert_int_equal(world_value(w, l->addr), 2);
	/* Nor is what comes next taken for durable. */
	tid = node_set(&n, l, l->addr, INODE, 3);
	assert_true(n.t->durable_tid < tid);
	assert_int_equal(txn_wait_durable(n.t, tid), 0);
	for (unsigned i = 0; i < 8; i++)
		free(s.other[i]);
	node_down(&n);
	assert_int_equal(world_value(w, l->addr), 3);
}

TEST(an_aborted_volume_commits_nothing_and_tells_everybody)
{
	struct node n, r;
	struct heard hd = {0};
	struct lock *l;
	struct txn_handle *h, *h2;
	struct mblk *m;
	uint64_t a = world_cell(w, 0), tid;

	world_plant(w, a, a, INODE, 5, 1);
	node_up(w, &n, 0);
	l = node_lock(&n, 0, a);
	assert_int_equal(txn_begin(n.t, 1, &h), 0);
	txn_on_commit(h, on_commit, &hd);
	assert_int_equal(mblk_get(n.t, l, a, INODE, &m), 0);
	mblk_dirty(h, m);
	payload_set(m->data, 2);
	mblk_put(n.t, m);
	txn_abort_volume(h, "the test wants it");
	tid = txn_end(h);
	assert_int_equal(txn_wait_durable(n.t, tid), -EIO);
	assert_int_equal(txn_begin(n.t, 1, &h2), -EIO);
	assert_int_equal(txn_flush_guard(n.t, a, LOCK_NONE), -EIO);
	assert_true(txn_failed(n.t));
	assert_false(txns_alive(n.t));
	clock_sleep_ns(w->clk, 1000000000ull);
	assert_int_equal(hd.failed, 1);
	node_crash(&n);
	assert_int_equal(world_value(w, a), 1);
	node_attach(w, &r, 1);
	assert_int_equal(node_replay(&r, &n), 0);
	assert_int_equal(world_value(w, a), 1);
	node_crash(&r);
}

TEST(a_failed_log_write_stops_the_volume)
{
	struct node n;
	struct heard hd = {0};
	struct lock *l;
	struct txn_handle *h;
	uint64_t a = world_cell(w, 0);

	world_plant(w, a, a, INODE, 5, 1);
	node_up(w, &n, 0);
	l = node_lock(&n, 0, a);
	simdev_inject(n.env.dev, &(struct simdev_fault){.kind = SIMDEV_FAIL, .ops = SIMDEV_WRITE});
	node_set(&n, l, a, INODE, 2);
	assert_int_equal(txn_begin(n.t, 0, &h), 0);
	txn_on_commit(h, on_commit, &hd);
	assert_int_equal(txn_wait_durable(n.t, txn_end(h)), -EIO);
	assert_int_equal(txn_begin(n.t, 1, &h), -EIO);
	assert_int_equal(txns_stop(n.t), -EIO);
	assert_int_equal(hd.failed, 1);
	node_crash(&n);
	assert_int_equal(world_value(w, a), 1);
}

TEST(a_flush_that_fails_is_never_acknowledged)
{
	for (unsigned nth = 1; nth <= 2; nth++) {
		struct node n;
		struct lock *l = with_one(w, &n);
		uint64_t tid = node_set(&n, l, l->addr, INODE, 2);

		n.host.written += nth == 2; /* then there is one before the log, too */
		simdev_inject(n.env.dev, &(struct simdev_fault){
					     .kind = SIMDEV_FAIL, .ops = SIMDEV_FLUSH, .nth = nth});
		assert_int_equal(txn_wait_durable(n.t, tid), -EIO);
		assert_true(txn_failed(n.t));
		node_crash(&n);
	}
}

TEST(a_write_of_unknown_fate_is_sent_again_only_when_the_device_was_drained)
{
	for (int can = 0; can < 2; can++) {
		struct node n;
		struct lock *l;
		uint64_t a = world_cell(w, 0);

		world_plant(w, a, a, INODE, 5, 1);
		simdev_set_drain(w->medium, can);
		node_up(w, &n, 0);
		l = node_lock(&n, 0, a);
		simdev_inject(n.env.dev, &(struct simdev_fault){.kind = SIMDEV_LOST_REPLY,
								.ops = SIMDEV_WRITE});
		assert_int_equal(txn_wait_durable(n.t, node_set(&n, l, a, INODE, 2)),
				 can ? 0 : -EIO);
		assert_int_equal(txn_failed(n.t), !can);
		node_crash(&n);
	}
	simdev_set_drain(w->medium, true);
}

TEST(a_lost_host_writes_nothing_and_a_lapsed_lease_is_waited_for)
{
	struct node n;
	struct lock *l;
	struct txn_handle *h;
	uint64_t a = world_cell(w, 0), writes, flushes, writes2;

	world_plant(w, a, a, INODE, 5, 1);
	node_up(w, &n, 0);
	l = node_lock(&n, 0, a);
	n.host.lease_gone = true;
	assert_int_equal(txn_commit_all(n.t), 0);
	assert_false(n.host.lease_gone);
	node_set(&n, l, a, INODE, 2);
	n.host.lost = true;
	flush_counts(w, &writes, &flushes);
	assert_int_equal(txn_commit_all(n.t), -EIO);
	assert_int_equal(txn_begin(n.t, 1, &h), -EIO);
	flush_counts(w, &writes2, &flushes);
	assert_int_equal(writes, writes2);
	node_crash(&n);
}

TEST(a_host_without_journal_may_read_but_not_begin)
{
	struct node n;
	struct txn_handle *h;
	struct lock *l;
	uint64_t a = world_cell(w, 0);

	world_plant(w, a, a, INODE, 5, 4);
	node_attach(w, &n, WORLD_SLOTS);
	assert_int_equal(txn_begin(n.t, 1, &h), -EROFS);
	assert_int_equal(txns_start(n.t), 0);
	assert_int_equal(txn_begin(n.t, 1, &h), -EROFS);
	l = node_lock(&n, 0, a);
	assert_int_equal(node_value(&n, l, a, INODE), 4);
	assert_int_equal(txn_flush_guard(n.t, a, LOCK_NONE), 0);
	assert_int_equal(txn_commit_all(n.t), 0);
	node_down(&n);
}

TEST(a_forgotten_block_is_not_checkpointed_over_the_cells_new_role)
{
	struct node n;
	struct lock *la, *lb;
	struct txn_handle *h;
	struct mblk *m;
	uint64_t a = world_cell(w, 0), b = world_cell(w, 1), c = world_cell(w, 2), v;

	world_plant(w, a, a, INODE, 5, 1);
	world_plant(w, b, b, INODE, 5, 1);
	world_plant(w, c, a, BTREE, 5, 1);
	node_up(w, &n, 0);
	la = node_lock(&n, 0, a);
	lb = node_lock(&n, 1, b);
	txn_wait_durable(n.t, node_set(&n, la, c, BTREE, 2)); /* waits for its checkpoint */
	assert_int_equal(mblk_get(n.t, la, c, BTREE, &m), 0);
	assert_int_equal(txn_begin(n.t, 1, &h), 0);
	v = mblk_forget(h, m);
	assert_true(v > 6);
	txn_wait_durable(n.t, txn_end(h));
	assert_int_equal(mblk_get(n.t, la, c, BTREE, &m),
			 0); /* as it stands on disk: not asked for */
	mblk_put(n.t, m);
	assert_int_equal(txn_begin(n.t, 1, &h), 0);
	m = mblk_new(h, lb, c, BTREE, v, 0);
	payload_set(m->data, 3);
	mblk_put(n.t, m);
	txn_end(h);
	assert_int_equal(txn_flush_guard(n.t, a, LOCK_NONE), 0);
	assert_int_equal(world_value(w, c), 1);
	assert_int_equal(txn_flush_guard(n.t, b, LOCK_NONE), 0);
	assert_int_equal(world_value(w, c), 3);
	assert_true(world_version(w, c) > v);
	node_down(&n);
	assert_int_equal(world_value(w, c), 3);
}

struct slow { /* holds the first write to one place back */
	struct world *w;
	uint64_t off_bytes;
	bool begun, ended;
	struct txns *t;
	struct task *task;
};

static void slow_write(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
		       struct simdev_fault *out)
{
	struct slow *s = ctx;

	(void)d;
	(void)out;
	if (cmd->op != SIMDEV_WRITE || cmd->off_bytes != s->off_bytes || s->begun)
		return;
	s->begun = true;
	clock_sleep_ns(s->w->clk, 500000000ull);
	s->ended = true;
}

static void slow_main(void *arg)
{
	struct slow *s = arg;

	assert_int_equal(checkpoint_all(s->t), 0);
}

TEST(a_guard_does_not_leave_while_an_old_image_of_a_forgotten_block_is_being_written)
{
	struct node n;
	struct lock *l;
	struct txn_handle *h;
	struct mblk *m;
	uint64_t a = world_cell(w, 0), c = world_cell(w, 2);
	struct slow s = {.w = w, .off_bytes = geo_payload_off(&w->geo, c)};

	world_plant(w, c, a, BTREE, 5, 1);
	node_up(w, &n, 0);
	l = node_lock(&n, 0, a);
	txn_wait_durable(n.t, node_set(&n, l, c, BTREE, 2));
	s.t = n.t;
	simdev_set_hook(w->medium, slow_write, &s);
	assert_int_equal(w->clk->ops->task_start(w->clk, "slow", slow_main, &s, &s.task), 0);
	while (!s.begun)
		clock_sleep_ns(w->clk, 1000000);
	assert_int_equal(mblk_get(n.t, l, c, BTREE, &m), 0);
	assert_int_equal(txn_begin(n.t, 1, &h), 0);
	mblk_forget(h, m);
	assert_int_equal(txn_wait_durable(n.t, txn_end(h)), 0);
	assert_false(s.ended);
	assert_int_equal(txn_flush_guard(n.t, a, LOCK_NONE), 0);
	assert_true(s.ended);
	w->clk->ops->task_join(w->clk, s.task);
	simdev_set_hook(w->medium, NULL, NULL);
	node_down(&n);
}

TEST(new_and_forgotten_in_one_transaction_leaves_nothing_and_reuse_in_it_leaves_the_last)
{
	struct node n;
	struct lock *la, *lb;
	struct txn_handle *h;
	struct mblk *m;
	uint64_t a = world_cell(w, 0), b = world_cell(w, 1), c = world_cell(w, 2), v;

	node_up(w, &n, 0);
	la = node_lock(&n, 0, a);
	lb = node_lock(&n, 1, b);
	assert_int_equal(txn_begin(n.t, 2, &h), 0);
	m = mblk_new(h, la, c, BTREE, 0, 0);
	v = mblk_forget(h, m);
	txn_end(h);
	assert_int_equal(txn_flush_guard(n.t, a, LOCK_NONE), 0);
	assert_false(world_place(w, c, w->buf));
	assert_int_equal(txn_begin(n.t, 2, &h), 0);
	m = mblk_new(h, la, c, BTREE, v, 0);
	v = mblk_forget(h, m);
	m = mblk_new(h, lb, c, BTREE, v, 0);
	payload_set(m->data, 4);
	mblk_put(n.t, m);
	txn_end(h);
	assert_int_equal(txn_flush_guard(n.t, a, LOCK_NONE), 0);
	assert_int_equal(txn_flush_guard(n.t, b, LOCK_NONE), 0);
	assert_int_equal(world_value(w, c), 4);
	assert_int_equal(HASH_COUNT(n.t->blks), 0);
	assert_int_equal(HASH_COUNT(n.t->guards), 0);
	node_down(&n);
}

TEST(a_freed_inode_says_so_on_disk_before_any_guard_leaves_and_old_handles_are_stale)
{
	struct node n;
	struct lock *li, *lc;
	struct txn_handle *h;
	struct mblk *m;
	uint64_t ino = world_cell(w, 0), chunk = world_cell(w, 1);

	world_plant(w, ino, ino, INODE, 5, 1);
	world_plant(w, chunk, chunk, LUNFS_BLK_CHUNK, 5, 1);
	node_up(w, &n, 0);
	li = node_lock(&n, 0, ino);
	lc = node_lock(&n, 1, chunk);
	assert_int_equal(mblk_get(n.t, li, ino, INODE, &m), 0);
	assert_int_equal(txn_begin(n.t, 1, &h), 0);
	mblk_forget(h, m);
	txn_end(h);
	assert_int_equal(mblk_get(n.t, li, ino, INODE, &m), -ESTALE);
	node_set(&n, lc, chunk, LUNFS_BLK_CHUNK, 2); /* its bit, in a later transaction */
	assert_int_equal(txn_flush_guard(n.t, chunk, LOCK_NONE), 0);
	assert_true(world_place(w, ino, w->buf));
	assert_int_equal(le16_get(((struct lunfs_blk_hdr *)w->buf)->type), LUNFS_BLK_FREE);
	assert_int_equal(world_version(w, ino), 6);
	assert_int_equal(txn_flush_guard(n.t, ino, LOCK_NONE), 0);
	assert_int_equal(mblk_get(n.t, li, ino, INODE, &m), -ESTALE);
	node_down(&n);
}

TEST(a_cell_handed_out_twice_stops_the_volume_without_a_crash)
{
	struct node n;
	struct lock *la, *lb;
	struct txn_handle *h;
	struct mblk *m, *m2;
	uint64_t a = world_cell(w, 0), b = world_cell(w, 1);

	world_plant(w, a, a, INODE, 5, 1);
	node_up(w, &n, 0);
	la = node_lock(&n, 0, a);
	lb = node_lock(&n, 1, b);
	assert_int_equal(mblk_get(n.t, la, a, INODE, &m), 0);
	assert_int_equal(txn_begin(n.t, 1, &h), 0);
	m2 = mblk_new(h, lb, a, BTREE, 9, 0);
	payload_set(m2->data, 2);
	mblk_dirty(h, m2);
	mblk_put(n.t, m2);
	assert_int_equal(payload_get(m->data), 1);
	mblk_put(n.t, m);
	txn_end(h);
	assert_true(txn_failed(n.t));
	node_crash(&n);
	assert_int_equal(world_value(w, a), 1);
}

TEST(a_clean_stop_leaves_nothing_to_replay)
{
	struct node n, r;
	struct lock *l;
	uint64_t a = world_cell(w, 0);

	world_plant(w, a, a, INODE, 5, 1);
	node_up(w, &n, 0);
	l = node_lock(&n, 0, a);
	node_set(&n, l, a, INODE, 2);
	node_down(&n);
	assert_int_equal(simdev_unflushed(w->medium), 0);
	assert_int_equal(world_value(w, a), 2);
	node_attach(w, &r, 1);
	w->locks.renewals = 0;
	assert_int_equal(node_replay(&r, &n), 0);
	assert_int_equal(w->locks.renewals, 0);
	node_crash(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    UNIT(a_change_is_in_the_log_when_durable_and_in_place_after_the_guard_was_flushed),
	    UNIT(flushing_a_guard_to_none_drops_its_blocks_and_remembers_its_version),
	    UNIT(versions_go_above_the_one_in_the_lock_sector),
	    UNIT(a_payload_older_than_recorded_or_damaged_or_of_another_role_is_not_given_out),
	    UNIT(a_payload_the_lock_layer_read_is_used_without_another_read_and_checked),
	    UNIT(checkpoint_writes_the_committed_copy_not_the_live_buffer),
	    UNIT(waiting_with_nothing_dirty_costs_one_flush_and_no_write),
	    UNIT(a_commit_costs_one_log_write_and_one_flush_or_two_if_something_was_written_before),
	    UNIT(what_comes_while_the_device_flushes_is_flushed_before_it_is_relied_on),
	    UNIT(writers_that_wait_at_the_same_time_share_commits_and_flushes),
	    UNIT(a_log_many_times_too_small_for_the_work_goes_round_and_round),
	    UNIT(a_handle_larger_than_the_usual_transaction_gets_one_of_its_own),
	    UNIT(an_old_change_is_committed_without_being_asked_for),
	    UNIT(call_backs_hear_of_the_commit_before_the_waiter_goes_on),
	    UNIT(
		a_transaction_whose_images_are_in_place_before_its_call_backs_have_run_is_still_there),
	    UNIT(an_aborted_volume_commits_nothing_and_tells_everybody),
	    UNIT(a_failed_log_write_stops_the_volume),
	    UNIT(a_flush_that_fails_is_never_acknowledged),
	    UNIT(a_write_of_unknown_fate_is_sent_again_only_when_the_device_was_drained),
	    UNIT(a_lost_host_writes_nothing_and_a_lapsed_lease_is_waited_for),
	    UNIT(a_host_without_journal_may_read_but_not_begin),
	    UNIT(a_forgotten_block_is_not_checkpointed_over_the_cells_new_role),
	    UNIT(a_guard_does_not_leave_while_an_old_image_of_a_forgotten_block_is_being_written),
	    UNIT(
		new_and_forgotten_in_one_transaction_leaves_nothing_and_reuse_in_it_leaves_the_last),
	    UNIT(a_freed_inode_says_so_on_disk_before_any_guard_leaves_and_old_handles_are_stale),
	    UNIT(a_cell_handed_out_twice_stops_the_volume_without_a_crash),
	    UNIT(a_clean_stop_leaves_nothing_to_replay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
