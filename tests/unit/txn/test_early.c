/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Payloads that are read before anybody asks for them, and when the lock over them comes back. */
#include "world.h"

#include <errno.h>

#define INODE LUNFS_BLK_INODE
#define BTREE LUNFS_BLK_BTREE
#define AHEAD 16u
#define MANY 40u
#define SLOW_NS 5000000ull
#define DEADLINE_MS 1000u

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
	uint64_t addr[AHEAD], was, began;
	struct node n;
	struct lock *l = plant(w, &n, addr, AHEAD);

	simdev_set_latency(w->medium, SLOW_NS, SLOW_NS);
	was = reads(w);
	began = clock_now_ns(w->clk);
	mblk_read_ahead(n.t, l, addr, AHEAD);
	assert_in_range(clock_now_ns(w->clk) - began, SLOW_NS, 2 * SLOW_NS);
	assert_int_equal(reads(w) - was, AHEAD);
	mblk_read_ahead(n.t, l, addr, AHEAD);
	for (unsigned k = 0; k < AHEAD; k++)
		assert_int_equal(node_value(&n, l, addr[k], BTREE), 101 + k);
	assert_int_equal(reads(w) - was, AHEAD);
	assert_int_equal(txn_flush_guard(n.t, l->addr, LOCK_NONE), 0); /* then they are gone */
	mblk_read_ahead(n.t, l, addr, 4);
	assert_int_equal(reads(w) - was, AHEAD + 4);
	mblk_read_ahead(n.t, l, addr + 3, 5); /* the first of them is here */
	assert_int_equal(reads(w) - was, AHEAD + 4);
	mblk_read_ahead(n.t, l, addr + 4, 4);
	assert_int_equal(reads(w) - was, AHEAD + 8);
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

/* One thread got the lock, and its payload with it; another one changed that before the first ran
 * on. */
TEST(what_came_with_the_lock_is_not_put_over_a_change)
{
	uint8_t payload[LUNFS_PAYLOAD_BYTES];
	uint64_t a = world_cell(w, 0);
	struct node n;
	struct lock *l;

	world_plant(w, a, a, INODE, 5, 1);
	node_up(w, &n, 0);
	l = node_lock(&n, 0, a);
	assert_true(world_place(w, a, payload));
	assert_int_equal(txn_wait_durable(n.t, node_set(&n, l, a, INODE, 2)), 0);
	assert_int_equal(txn_flush_guard(n.t, a, LOCK_EX), 0); /* it is in its place */
	txn_loaded(n.t, l, payload);
	assert_int_equal(node_value(&n, l, a, INODE), 2);
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

TEST(what_the_device_does_not_serve_holds_nobody_up_who_does_not_want_it)
{
	uint64_t addr[4], began;
	struct node n;
	struct lock *l = plant(w, &n, addr, 4);
	struct simdev_fault lost = {.kind = SIMDEV_LOST_COMMAND, .ops = SIMDEV_READ, .count = 1000};

	lost.off_bytes = geo_payload_off(&w->geo, addr[2]);
	lost.len_bytes = 512;
	dev_set_deadline(n.env.dev, DEADLINE_MS);
	simdev_inject(n.env.dev, &lost);
	began = clock_now_ns(w->clk);
	mblk_read_ahead(n.t, l, addr, 4);
	assert_in_range(clock_now_ns(w->clk) - began, 0, 2000000ull * DEADLINE_MS); /* sent once */
	for (unsigned k = 0; k < 4; k++)
		if (k != 2)
			assert_int_equal(node_value(&n, l, addr[k], BTREE), 101 + k);
	simdev_inject_clear(n.env.dev);
	assert_int_equal(node_value(&n, l, addr[2], BTREE), 103);
	node_down(&n);
}

TEST(a_header_that_nobody_checked_says_nothing_about_a_cell_in_its_next_role)
{
	uint64_t addr[2], off;
	struct txn_handle *h;
	struct node n;
	struct lock *l = plant(w, &n, addr, 2);
	struct lunfs_blk_hdr *hdr = (struct lunfs_blk_hdr *)w->buf;

	off = geo_payload_off(&w->geo, addr[0]);
	simdev_peek(w->medium, off, 512, w->buf);
	hdr->version = le64_make(UINT64_MAX);
	simdev_poke(w->medium, off, 512, w->buf); /* its sum is wrong now */
	mblk_read_ahead(n.t, l, addr, 2);
	assert_int_equal(txn_begin(n.t, 4, &h), 0);
	mblk_put(n.t, mblk_new(h, l, addr[0], BTREE, 20, 0));
	txn_end(h);
	assert_int_equal(txn_flush_guard(n.t, l->addr, LOCK_NONE), 0);
	assert_in_range(world_version(w, addr[0]), 20, 21);
	node_down(&n);
}

/* ---- when a lock comes back ------------------------------------------------------------------ */

static void goes(struct node *n, struct lock *l)
{
	assert_int_equal(txn_flush_guard(n->t, l->addr, LOCK_NONE), 0);
}

TEST(what_was_used_when_a_lock_went_is_read_together_when_it_has_come_back)
{
	uint64_t addr[AHEAD], was, began;
	struct node n;
	struct lock *l = plant(w, &n, addr, AHEAD);

	for (unsigned k = 0; k < 8; k++)
		assert_int_equal(node_value(&n, l, addr[k], BTREE), 101 + k);
	node_set(&n, l, addr[5], BTREE, 7);
	goes(&n, l);
	simdev_set_latency(w->medium, SLOW_NS, SLOW_NS);
	was = reads(w);
	began = clock_now_ns(w->clk);
	assert_int_equal(node_value(&n, l, addr[9], BTREE), 110); /* not one of them */
	assert_in_range(clock_now_ns(w->clk) - began, SLOW_NS, 2 * SLOW_NS);
	for (unsigned k = 0; k < 8; k++)
		assert_int_equal(node_value(&n, l, addr[k], BTREE), k == 5 ? 7 : 101 + k);
	assert_int_equal(reads(w) - was, 9);
	assert_int_equal(atomic_load(&txns_stats(n.t)->cache_refilled), 8);
	assert_int_equal(node_value(&n, l, addr[10], BTREE), 111); /* once */
	assert_int_equal(reads(w) - was, 10);
	simdev_set_latency(w->medium, 0, 0);
	node_down(&n);
}

static void use(struct node *n, struct lock *l, const uint64_t *addr, unsigned from, unsigned to)
{
	for (unsigned k = from; k < to; k++)
		assert_int_equal(node_value(n, l, addr[k], BTREE), 101 + k);
}

/* What comes with the last of them when the lock comes back. */
static unsigned comes_back(struct world *w, struct node *n, struct lock *l, const uint64_t *addr)
{
	uint64_t was = reads(w);

	goes(n, l);
	use(n, l, addr, MANY - 1, MANY);
	return (unsigned)(reads(w) - was);
}

TEST(as_much_is_read_when_a_lock_comes_back_as_was_of_use_before)
{
	static const unsigned less[] = {32, 16, 8, 4, 2, 2};
	uint64_t addr[MANY], was;
	struct node n;
	struct lock *l = plant(w, &n, addr, MANY);

	simdev_set_latency(w->medium, SLOW_NS, SLOW_NS);
	use(&n, l, addr, 0, MANY);
	assert_int_equal(comes_back(w, &n, l, addr), 16); /* those that were used last */
	was = reads(w);
	use(&n, l, addr, MANY - 16, MANY);
	assert_int_equal(reads(w), was);
	use(&n, l, addr, 0, MANY - 16);
	use(&n, l, addr, MANY - 1, MANY);
	assert_int_equal(comes_back(w, &n, l, addr), 32); /* there was no room for more */
	use(&n, l, addr, MANY - 10, MANY);		  /* but not all, this time */
	use(&n, l, addr, 0, 5);
	assert_int_equal(comes_back(w, &n, l, addr), 34); /* others are kept in mind, too */
	for (unsigned i = 0; i < sizeof(less) / sizeof(less[0]); i++)
		assert_int_equal(comes_back(w, &n, l, addr), less[i]);
	simdev_set_latency(w->medium, 0, 0);
	node_down(&n);
}

struct turns { /* a device that does one command at a time */
	struct world *w;
	uint64_t free_ns;
};

static void one_at_a_time(void *ctx, struct dev *d, const struct simdev_cmd *c,
			  struct simdev_fault *out)
{
	struct turns *t = ctx;
	uint64_t now = clock_now_ns(t->w->clk);

	(void)d;
	if (c->op != SIMDEV_READ)
		return;
	t->free_ns = (t->free_ns > now ? t->free_ns : now) + SLOW_NS;
	*out = (struct simdev_fault){.kind = SIMDEV_DELAY, .delay_ns = t->free_ns - now};
}

TEST(less_is_read_when_a_lock_comes_back_where_that_takes_longer_than_it_saves)
{
	struct turns slow = {.w = w};
	uint64_t addr[MANY];
	struct node n;
	struct lock *l = plant(w, &n, addr, MANY);

	simdev_set_hook(w->medium, one_at_a_time, &slow);
	use(&n, l, addr, 0, 16);
	assert_int_equal(comes_back(w, &n, l, addr), 17);
	use(&n, l, addr, 0, 4); /* 4 of 16 */
	assert_int_equal(comes_back(w, &n, l, addr), 8);
	simdev_set_hook(w->medium, NULL, NULL);
	node_down(&n);
}

TEST(a_lock_that_was_away_and_not_used_is_remembered)
{
	uint64_t addr[AHEAD], was;
	struct node n;
	struct lock *l = plant(w, &n, addr, AHEAD);

	for (unsigned k = 0; k < 4; k++)
		node_value(&n, l, addr[k], BTREE);
	goes(&n, l);
	node_value(&n, l, l->addr, INODE);
	goes(&n, l);
	was = reads(w);
	for (unsigned k = 0; k < 4; k++)
		assert_int_equal(node_value(&n, l, addr[k], BTREE), 101 + k);
	assert_int_equal(reads(w) - was, 4);
	assert_int_equal(atomic_load(&txns_stats(n.t)->cache_refilled), 3);
	node_down(&n);
}

TEST(what_serves_as_something_else_when_a_lock_comes_back_is_not_taken_for_what_it_was)
{
	uint64_t addr[4], was;
	struct node n;
	struct lock *l = plant(w, &n, addr, 4), *other;

	for (unsigned k = 0; k < 4; k++)
		node_value(&n, l, addr[k], BTREE);
	goes(&n, l);
	world_plant(w, addr[1], addr[1], INODE, 9, 77);	 /* another host's */
	world_plant(w, addr[2], l->addr, BTREE, 9, 203); /* changed by another host */
	assert_int_equal(node_value(&n, l, addr[0], BTREE), 101);
	was = reads(w);
	assert_int_equal(node_value(&n, l, addr[2], BTREE), 203);
	assert_int_equal(reads(w) - was, 0);
	other = node_lock(&n, 1, addr[1]);
	assert_int_equal(node_value(&n, other, addr[1], INODE), 77);
	node_down(&n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    UNIT(what_is_read_ahead_takes_the_time_of_one_read_and_is_used_without_another),
	    UNIT(what_is_read_ahead_is_judged_when_it_is_wanted),
	    UNIT(what_was_changed_here_is_not_read_over),
	    UNIT(what_came_with_the_lock_is_not_put_over_a_change),
	    UNIT(what_cannot_be_read_is_left_to_who_wants_it),
	    UNIT(what_the_device_does_not_serve_holds_nobody_up_who_does_not_want_it),
	    UNIT(a_header_that_nobody_checked_says_nothing_about_a_cell_in_its_next_role),
	    UNIT(what_was_used_when_a_lock_went_is_read_together_when_it_has_come_back),
	    UNIT(as_much_is_read_when_a_lock_comes_back_as_was_of_use_before),
	    UNIT(less_is_read_when_a_lock_comes_back_where_that_takes_longer_than_it_saves),
	    UNIT(a_lock_that_was_away_and_not_used_is_remembered),
	    UNIT(what_serves_as_something_else_when_a_lock_comes_back_is_not_taken_for_what_it_was),
	};

	return cmocka_run_group_tests_name("txn-early", tests, NULL, NULL);
}
