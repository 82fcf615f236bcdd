/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Payloads that are read before anybody asks for them. */
#include "world.h"

#include <errno.h>

#define INODE LUNFS_BLK_INODE
#define BTREE LUNFS_BLK_BTREE
#define SLOW_NS 5000000ull

static uint64_t reads(struct world *w)
{
	struct simdev_counts c;

	simdev_counts(w->medium, &c);
	return c.reads;
}

/* Cells 1 to @n belong to cell 0's lock and hold 101, 102 ... */
static struct lock *plant(struct world *w, struct node *n, uint64_t *addr, unsigned cells)
{
	world_plant(w, world_cell(w, 0), world_cell(w, 0), INODE, 5, 100);
	for (unsigned k = 0; k < cells; k++) {
		addr[k] = world_cell(w, 1 + k);
		world_plant(w, addr[k], world_cell(w, 0), BTREE, 5, 101 + k);
	}
	node_up(w, n, 0);
	return node_lock(n, 0, world_cell(w, 0));
}

TEST(what_is_read_ahead_takes_the_time_of_one_read_and_is_used_without_another)
{
	uint64_t addr[MBLK_AHEAD_MAX], was, began;
	struct node n;
	struct lock *l = plant(w, &n, addr, MBLK_AHEAD_MAX);

	simdev_set_latency(w->medium, SLOW_NS, SLOW_NS);
	was = reads(w);
	began = clock_now_ns(w->clk);
	mblk_read_ahead(n.t, l, addr, MBLK_AHEAD_MAX);
	assert_in_range(clock_now_ns(w->clk) - began, SLOW_NS, 2 * SLOW_NS);
	assert_int_equal(reads(w) - was, MBLK_AHEAD_MAX);
	mblk_read_ahead(n.t, l, addr, MBLK_AHEAD_MAX);
	for (unsigned k = 0; k < MBLK_AHEAD_MAX; k++)
		assert_int_equal(node_value(&n, l, addr[k], BTREE), 101 + k);
	assert_int_equal(reads(w) - was, MBLK_AHEAD_MAX);
	assert_int_equal(txn_flush_guard(n.t, l->addr, LOCK_NONE), 0); /* then they are gone */
	assert_int_equal(node_value(&n, l, addr[3], BTREE), 104);
	assert_int_equal(reads(w) - was, MBLK_AHEAD_MAX + 1);
	mblk_read_ahead(n.t, l, addr, 8); /* but that one */
	assert_int_equal(reads(w) - was, MBLK_AHEAD_MAX + 8);
	simdev_set_latency(w->medium, 0, 0);
	node_down(&n);
}

TEST(what_is_read_ahead_is_judged_when_it_is_wanted)
{
	uint64_t addr[8];
	struct node n;
	struct lock *l = plant(w, &n, addr, 4);
	struct mblk *m;

	addr[4] = world_cell(w, 9);
	world_plant(w, addr[4], world_cell(w, 9), BTREE, 5, 1); /* of another lock */
	addr[5] = 3;						/* no cell */
	addr[6] = addr[0];
	addr[7] = world_cell(w, 10); /* nothing there */
	simdev_peek(w->medium, geo_payload_off(&w->geo, addr[2]), 512, w->buf);
	w->buf[100] ^= 1;
	simdev_poke(w->medium, geo_payload_off(&w->geo, addr[2]), 512, w->buf);
	mblk_read_ahead(n.t, l, addr, 8);
	assert_int_equal(node_value(&n, l, addr[0], BTREE), 101);
	assert_int_equal(node_value(&n, l, addr[1], BTREE), 102);
	assert_int_equal(mblk_get(n.t, l, addr[2], BTREE, &m), -EUCLEAN);
	assert_int_equal(node_value(&n, l, addr[3], BTREE), 104);
	assert_int_equal(mblk_get(n.t, l, addr[3], INODE, &m), -EUCLEAN);
	for (unsigned k = 4; k < 6; k++)
		assert_int_equal(mblk_get(n.t, l, addr[k], BTREE, &m), -EUCLEAN);
	assert_int_equal(mblk_get(n.t, l, addr[7], BTREE, &m), -EUCLEAN);
	node_down(&n);
}

TEST(what_was_changed_here_is_not_read_over)
{
	uint64_t addr[4];
	struct node n;
	struct lock *l = plant(w, &n, addr, 4);
	uint64_t tid = node_set(&n, l, addr[1], BTREE, 7);

	mblk_read_ahead(n.t, l, addr, 4);
	assert_int_equal(node_value(&n, l, addr[1], BTREE), 7);
	assert_int_equal(txn_wait_durable(n.t, tid), 0);
	assert_int_equal(txn_flush_guard(n.t, l->addr, LOCK_SH), 0);
	mblk_read_ahead(n.t, l, addr, 4);
	assert_int_equal(node_value(&n, l, addr[1], BTREE), 7);
	assert_int_equal(txn_flush_guard(n.t, l->addr, LOCK_NONE), 0);
	mblk_read_ahead(n.t, l, addr, 4);
	assert_int_equal(node_value(&n, l, addr[1], BTREE), 7);
	assert_int_equal(node_value(&n, l, addr[2], BTREE), 103);
	node_down(&n);
}

TEST(what_cannot_be_read_is_left_to_who_wants_it)
{
	uint64_t addr[4], was;
	struct node n;
	struct lock *l = plant(w, &n, addr, 4);

	simdev_inject(n.env.dev,
		      &(struct simdev_fault){.kind = SIMDEV_FAIL, .ops = SIMDEV_READ, .count = 4});
	mblk_read_ahead(n.t, l, addr, 4);
	was = reads(w);
	for (unsigned k = 0; k < 4; k++)
		assert_int_equal(node_value(&n, l, addr[k], BTREE), 101 + k);
	assert_int_equal(reads(w) - was, 4);
	node_down(&n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    UNIT(what_is_read_ahead_takes_the_time_of_one_read_and_is_used_without_another),
	    UNIT(what_is_read_ahead_is_judged_when_it_is_wanted),
	    UNIT(what_was_changed_here_is_not_read_over),
	    UNIT(what_cannot_be_read_is_left_to_who_wants_it),
	};

	return cmocka_run_group_tests_name("txn-early", tests, NULL, NULL);
}
