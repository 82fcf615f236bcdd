/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The same code on real threads, for the thread sanitizer and for races that fibers do not have. */
#include "world.h"

#define WRITERS 6
#define ROUNDS 300

struct writer {
	struct node *n;
	struct lock *l;
	uint64_t ino, node[2];
	uint64_t version;
	uint32_t value;
	unsigned heard;
	atomic_uint *stop;
	struct task *task;
};

static void on_commit(void *arg, bool ok)
{
	struct writer *wr = arg;

	assert_true(ok);
	wr->heard++;
}

static void change(struct writer *wr, unsigned i)
{
	struct txn_handle *h;
	struct mblk *m;
	uint64_t tid;

	assert_int_equal(txn_begin(wr->n->t, 3, &h), 0);
	m = mblk_new(h, wr->l, wr->node[i % 2], LUNFS_BLK_BTREE, wr->version, 0);
	payload_set(m->data, i);
	mblk_put(wr->n->t, m);
	if (i > 0) {
		assert_int_equal(
		    mblk_get(wr->n->t, wr->l, wr->node[(i + 1) % 2], LUNFS_BLK_BTREE, &m), 0);
		assert_int_equal(payload_get(m->data), i - 1);
		wr->version = mblk_forget(h, m);
	}
	assert_int_equal(mblk_get(wr->n->t, wr->l, wr->ino, LUNFS_BLK_INODE, &m), 0);
	mblk_dirty(h, m);
	payload_set(m->data, i);
	mblk_put(wr->n->t, m);
	txn_on_commit(h, on_commit, wr);
	tid = txn_end(h);
	wr->value = i;
	if (i % 3 == 0)
		assert_int_equal(txn_wait_durable(wr->n->t, tid), 0);
	if (i % 7 == 0)
		assert_int_equal(txn_flush_guard(wr->n->t, wr->ino, LOCK_NONE), 0);
}

static void writer_main(void *arg)
{
	struct writer *wr = arg;

	for (unsigned i = 0; i < ROUNDS; i++)
		change(wr, i);
}

static void sync_main(void *arg)
{
	struct writer *wr = arg;

	while (!atomic_load(wr->stop)) {
		assert_int_equal(txn_commit_all(wr->n->t), 0);
		assert_true(txns_alive(wr->n->t));
		txn_guard_version(wr->n->t, world_cell(wr->n->w, 0));
		clock_sleep_ns(wr->n->w->clk, 1000000);
	}
}

static void start(struct world *w, struct writer *wr, void (*fn)(void *))
{
	assert_int_equal(w->clk->ops->task_start(w->clk, "writer", fn, wr, &wr->task), 0);
}

static void body(struct world *w)
{
	struct node n;
	struct writer wr[WRITERS + 1];
	atomic_uint stop = 0;

	memset(wr, 0, sizeof(wr));
	node_up(w, &n, 0);
	for (unsigned i = 0; i <= WRITERS; i++) {
		wr[i].n = &n;
		wr[i].stop = &stop;
		wr[i].ino = world_cell(w, 3 * i);
		wr[i].node[0] = world_cell(w, 3 * i + 1);
		wr[i].node[1] = world_cell(w, 3 * i + 2);
		world_plant(w, wr[i].ino, wr[i].ino, LUNFS_BLK_INODE, 1, 0);
		wr[i].l = node_lock(&n, i, wr[i].ino);
	}
	for (unsigned i = 0; i < WRITERS; i++)
		start(w, &wr[i], writer_main);
	start(w, &wr[WRITERS], sync_main);
	for (unsigned i = 0; i < WRITERS; i++)
		w->clk->ops->task_join(w->clk, wr[i].task);
	atomic_store(&stop, 1);
	w->clk->ops->task_join(w->clk, wr[WRITERS].task);
	node_down(&n);
	for (unsigned i = 0; i < WRITERS; i++) {
		assert_int_equal(wr[i].heard, ROUNDS);
		assert_int_equal(world_value(w, wr[i].ino), ROUNDS - 1);
		assert_int_equal(world_value(w, wr[i].node[(ROUNDS - 1) % 2]), ROUNDS - 1);
	}
}

static void threads_that_change_commit_and_give_up_guards_lose_nothing(void **state)
{
	(void)state;
	world_run_threads(body, 33);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    UNIT(threads_that_change_commit_and_give_up_guards_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
