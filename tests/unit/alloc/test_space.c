// SPDX-License-Identifier: GPL-2.0-or-later
/* One host: what it is handed out, when, and what that costs. */
#include "fixture.h"

#include "base/bitmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct fix_shape small = {512, 4096, 4, 1};
static const struct fix_shape small_4k = {4096, 4096, 4, 2};
static const struct fix_shape full_size = {512, 262144, 3, 3};
static const struct fix_shape vast = {512, 262144, 65536, 4}; /* 64 TiB */

static void ten_thousand_cells_cost_few_ats(struct fix *f)
{
	struct box *b = &f->box[0];
	uint64_t before;
	struct cell c;

	fix_up(f, 0);
	before = fix_ats(b);
	for (unsigned i = 0; i < 10000; i++) {
		assert_int_equal(fix_cell_alloc(b, ALLOC_NEED_LOCK, &c), 0);
		assert_int_equal(lock_held(b->ls, c.addr), LOCK_EX);
		assert_true(c.born);
		assert_int_equal(c.version, 0);
	}
	/* Beats come on top; this clock lets few pass. */
	assert_in_range(fix_ats(b) - before, 1, 60);
}

static void runs_are_as_long_as_asked_for(struct fix *f)
{
	struct box *b = &f->box[0];
	uint64_t blk, hole, at;
	uint32_t len;

	fix_up(f, 0);
	assert_int_equal(fix_blk_alloc(b, 10, 0, 0, &blk, &len), 0);
	assert_int_equal(len, 10);
	at = blk;
	assert_int_equal(fix_blk_alloc(b, 10, blk + len, 0, &blk, &len), 0);
	assert_int_equal(blk, at + 10); /* goes on where it was asked to */
	hole = blk;
	assert_int_equal(fix_blk_alloc(b, 10, blk + len, 0, &blk, &len), 0);
	assert_int_equal(fix_blk_free(b, hole, 10), 0);
	fix_commit(b);
	clock_sleep_ns(f->clk, 10000000);
	/* A hole of 10 at the goal is not what 20000 blocks want. */
	assert_int_equal(fix_blk_alloc(b, 20000, hole, 0, &blk, &len), 0);
	assert_int_equal(len, 20000);
	assert_int_equal(fix_blk_alloc(b, 10, hole, 0, &blk, &len), 0);
	assert_int_equal(blk, hole);
	assert_int_equal(len, 10);
}

static void freed_blocks_wait_for_their_commit(struct fix *f)
{
	struct box *b = &f->box[0];
	uint64_t first, blk;
	struct blk_res res;
	uint32_t len;

	fix_up(f, 0);
	assert_int_equal(fix_blk_alloc(b, 100, 0, 0, &first, &len), 0);
	assert_int_equal(fix_blk_free(b, first, 100), 0);
	assert_int_equal(blk_reserve(b->a, 100, first, 0, &res), 0);
	assert_true(res.blk >= first + 100 || res.blk + res.len <= first);
	blk_unreserve(b->a, &res);
	fix_commit(b);
	clock_sleep_ns(f->clk, 10000000);
	assert_int_equal(fix_blk_alloc(b, 100, first, 0, &blk, &len), 0);
	assert_int_equal(blk, first);
}

static void freed_cells_wait_for_their_commit_and_rise_in_version(struct fix *f)
{
	struct box *b = &f->box[0];
	struct cell c, again;
	struct free_res r;
	struct txn_handle *h;

	fix_up(f, 0);
	assert_int_equal(fix_cell_alloc(b, ALLOC_NEED_LOCK, &c), 0);
	free_res_init(&r);
	assert_int_equal(cell_free_prepare(b->a, &r, c.addr), 0);
	assert_int_equal(txn_begin(b->txns, CELL_FREE_CREDITS, &h), 0);
	cell_free(h, b->a, &r, c.addr);
	cell_free_version(b->a, &r, c.addr, 7000);
	txn_end(h);
	free_res_end(b->a, &r);
	for (unsigned i = 0; i < 254; i++) { /* all others of the chunk */
		struct cell other;

		assert_int_equal(fix_cell_alloc(b, 0, &other), 0);
		assert_int_not_equal(other.addr, c.addr);
	}
	fix_commit(b);
	clock_sleep_ns(f->clk, 10000000);
	f->check = false; /* the oracle did not see this free */
	for (unsigned i = 0; i < 600; i++) {
		struct cell_res res;

		assert_int_equal(cell_reserve(b->a, 1, 0, 0, &res), 0);
		again = res.cell[0];
		assert_int_equal(txn_begin(b->txns, CELL_TAKE_CREDITS, &h), 0);
		cell_take(h, b->a, &res);
		txn_end(h);
		if (again.addr == c.addr)
			break;
	}
	assert_int_equal(again.addr, c.addr);
	assert_true(again.version >= 7000);
}

/* An inode in @c: made, in place, and removed by a transaction that is durable. */
static void inode_comes_and_goes(struct box *b, const struct cell *c)
{
	struct txn_handle *h;
	struct free_res r;
	struct mblk *m;
	struct lock *l;

	assert_int_equal(lock_pin(b->ls, c->addr, LOCK_EX, LOCAL_EXCL, 0, NULL, &l), 0);
	assert_int_equal(txn_begin(b->txns, 1, &h), 0);
	m = mblk_new(h, l, c->addr, LUNFS_BLK_INODE, c->version, 1);
	txn_end(h);
	assert_int_equal(txn_commit_all(b->txns), 0);
	assert_int_equal(txn_flush_guard(b->txns, c->addr, LOCK_EX), 0);
	free_res_init(&r);
	assert_int_equal(cell_free_prepare(b->a, &r, c->addr), 0);
	assert_int_equal(txn_begin(b->txns, CELL_FREE_CREDITS + 1, &h), 0);
	cell_free(h, b->a, &r, c->addr);
	cell_free_version(b->a, &r, c->addr, mblk_forget(h, m));
	txn_end(h);
	free_res_end(b->a, &r);
	lock_unpin(b->ls, l, LOCAL_EXCL);
	fix_commit(b);
}

/* Of all cells that are free in the chunk of @addr: is it one? */
static bool is_on_offer(struct box *b, uint64_t addr, unsigned flags)
{
	struct cell_res res;
	bool found = false;

	assert_int_equal(cell_reserve(b->a, 64, addr, flags, &res), 0);
	for (unsigned i = 0; i < res.n; i++)
		found |= res.cell[i].addr == addr;
	cell_unreserve(b->a, &res);
	return found;
}

/*
 * Its own lock finds an inode in place until the FREE image is there. An image under another guard
 * would end that one.
 */
static void cell_of_a_removed_inode_waits_for_its_place(struct fix *f)
{
	struct box *b = &f->box[0];
	struct cell c, last;

	fix_up(f, 0);
	f->check = false; /* the oracle did not see this free */
	assert_int_equal(fix_cell_alloc(b, ALLOC_NEED_LOCK, &c), 0);
	for (unsigned i = 0; i < 200; i++) /* few of the chunk are left */
		assert_int_equal(fix_cell_alloc(b, ALLOC_NEED_LOCK, &last), 0);
	inode_comes_and_goes(b, &c);
	assert_true(txn_tomb_pending(b->txns, c.addr));
	assert_false(is_on_offer(b, c.addr, 0));
	assert_true(is_on_offer(b, c.addr, ALLOC_NEED_LOCK));
	assert_int_equal(txn_settle_tombs(b->txns), 0);
	assert_false(txn_tomb_pending(b->txns, c.addr));
	assert_true(is_on_offer(b, c.addr, 0));
}

/* A thread that came upon a new chunk while its maker still entered it has its cells. */
static void chunk_that_others_came_upon_is_entered_as_it_is(struct fix *f)
{
	struct box *b = &f->box[0];
	struct chunk_info ci;
	struct cell_res res;
	struct chunk *ch;
	struct cell used;
	struct mblk *m;
	struct lock *l;
	unsigned first;

	fix_up(f, 0);
	assert_int_equal(fix_cell_alloc(b, 0, &used), 0);
	assert_int_equal(cell_reserve(b->a, 1, 0, 0, &res), 0);
	ch = res.chunk[0];
	assert_int_equal(lock_pin(b->ls, ch->o.addr, LOCK_EX, LOCAL_SHARED, 0, NULL, &l), 0);
	assert_int_equal(mblk_get(b->txns, l, ch->o.addr, LUNFS_BLK_CHUNK, &m), 0);
	assert_int_equal(chunk_parse(&f->geo, m->data, ch->o.addr, &ci), 0);
	memset(ch->fresh, 0, sizeof(ch->fresh));
	assert_ptr_equal(aobj_adopt_chunk(b->a, l, m, &ci), ch);
	first = (unsigned)((res.cell[0].addr - ch->first_blk) / f->geo.cell_blks);
	assert_false(
	    bit_get(ch->fresh, (unsigned)((used.addr - ch->first_blk) / f->geo.cell_blks)));
	assert_false(bit_get(ch->fresh, first));
	assert_true(bit_get(ch->fresh, first + 1));
	aobj_unpin(&ch->o);
	cell_unreserve(b->a, &res);
}

static void what_was_not_taken_is_free_again(struct fix *f)
{
	struct box *b = &f->box[0];
	struct cell_res res;
	struct blk_res blks;
	struct space s, after;
	struct txn_handle *h;
	uint64_t addr;

	fix_up(f, 0);
	f->check = false; /* takes behind the oracle's back */
	assert_int_equal(cell_reserve(b->a, 64, 0, 0, &res), 0);
	addr = res.cell[1].addr;
	assert_int_equal(alloc_statfs(b->a, &s), 0);
	assert_int_equal(txn_begin(b->txns, CELL_TAKE_CREDITS + BLK_TAKE_CREDITS, &h), 0);
	cell_take(h, b->a, &res);
	txn_end(h);
	cell_unreserve(b->a, &res);
	cell_unreserve(b->a, &res); /* harmless */
	assert_int_equal(cell_reserve(b->a, 64, 0, 0, &res), 0);
	cell_unreserve(b->a, &res);
	assert_int_equal(blk_reserve(b->a, 500, 0, 0, &blks), 0);
	addr = blks.blk;
	assert_int_equal(txn_begin(b->txns, BLK_TAKE_CREDITS, &h), 0);
	blk_take(h, b->a, &blks, 20);
	txn_end(h);
	blk_unreserve(b->a, &blks); /* nothing is left of it */
	assert_int_equal(blk_reserve(b->a, 480, addr + 20, 0, &blks), 0);
	assert_int_equal(blks.blk, addr + 20);
	assert_int_equal(blks.len, 480);
	blk_unreserve(b->a, &blks);
	assert_int_equal(alloc_statfs(b->a, &after), 0);
	assert_int_equal(after.free_blks, s.free_blks - 20);
}

static void full_volume_keeps_something_for_deleting(struct fix *f)
{
	struct box *b = &f->box[0];
	static uint64_t run[4096];
	static uint32_t len[4096];
	struct space s;
	struct cell c;
	unsigned n = 0;
	int rc;

	fix_up(f, 0);
	assert_int_equal(fix_cell_alloc(b, ALLOC_NEED_LOCK, &c), 0);
	while ((rc = fix_blk_alloc(b, 97, 0, 0, &run[n], &len[n])) == 0)
		assert_in_range(++n, 1, 4095);
	assert_int_equal(rc, -ENOSPC);
	assert_int_equal(alloc_statfs(b->a, &s), 0);
	assert_int_equal(s.avail_blks, 0);
	assert_true(s.free_blks > 0);
	while ((rc = fix_cell_alloc(b, 0, &c)) == 0)
		;
	assert_int_equal(rc, -ENOSPC);
	for (unsigned i = 0; i < RESERVE_CELLS; i++)
		assert_int_equal(fix_cell_alloc(b, ALLOC_RESERVE_OK, &c), 0);
	assert_int_equal(fix_blk_free(b, run[n / 2], len[n / 2]), 0);
	/* Not durable yet: the allocator commits before it says that the volume is full. */
	assert_int_equal(fix_blk_alloc(b, 97, 0, 0, &run[n], &len[n]), 0);
	assert_int_equal(fix_watermark(f) <= f->geo.groups, 1);
}

static void hostile_frees_are_refused(struct fix *f)
{
	const struct geo *g = &f->geo;
	struct box *b = &f->box[0];
	struct free_res r;
	struct cell c, d;
	uint64_t blk;
	uint32_t len;

	fix_up(f, 0);
	assert_int_equal(fix_cell_alloc(b, ALLOC_NEED_LOCK, &c), 0);
	assert_int_equal(fix_cell_alloc(b, ALLOC_NEED_LOCK, &d), 0);
	assert_int_equal(fix_blk_alloc(b, 10, 0, 0, &blk, &len), 0);
	free_res_init(&r);
	assert_int_equal(cell_free_prepare(b->a, &r, 5), -EUCLEAN);
	assert_int_equal(cell_free_prepare(b->a, &r, UINT64_MAX), -EUCLEAN);
	assert_int_equal(cell_free_prepare(b->a, &r, geo_group_header(g, 0)), -EUCLEAN);
	assert_int_equal(cell_free_prepare(b->a, &r, blk), -EUCLEAN);
	assert_int_equal(cell_free_prepare(b->a, &r, d.addr + 8ull * g->cell_blks), -EUCLEAN);
	assert_int_equal(blk_free_prepare(b->a, &r, blk, 11), -EUCLEAN);
	assert_int_equal(blk_free_prepare(b->a, &r, blk, UINT32_MAX), -EUCLEAN);
	assert_int_equal(blk_free_prepare(b->a, &r, 0, 1), -EUCLEAN);
	assert_int_equal(blk_free_prepare(b->a, &r, blk, 0), -EUCLEAN);
	assert_int_equal(blk_free_prepare(b->a, &r, blk, 10), 0);
	assert_int_equal(cell_free_prepare(b->a, &r, c.addr), 0);
	free_res_end(b->a, &r);
}

static void vast_fresh_volume_counts_itself_at_once(struct fix *f)
{
	struct simdev_counts before, after;
	struct box *b = &f->box[0];
	struct space s;

	f->check = false;
	fix_up(f, 0);
	simdev_counts(f->medium, &before);
	assert_int_equal(alloc_statfs(b->a, &s), 0);
	simdev_counts(f->medium, &after);
	assert_true(s.total_blks > 65536ull * 262000);
	assert_int_equal(s.free_blks, s.total_blks);
	assert_in_range(after.reads - before.reads, 0, 20);
}

static void short_mounts_do_not_convert_a_chunk_each(struct fix *f)
{
	struct group_info gi;
	struct cell c;

	for (unsigned i = 0; i < 8; i++) {
		fix_up(f, 0);
		for (unsigned k = 0; k < 10; k++)
			assert_int_equal(fix_cell_alloc(&f->box[0], ALLOC_NEED_LOCK, &c), 0);
		fix_down(f, 0);
	}
	fix_group(f, 0, &gi);
	assert_int_equal(gi.chunks, 1);
}

static void reserving_again_what_was_not_taken_reads_nothing(struct fix *f)
{
	struct simdev_counts before, after;
	struct box *b = &f->box[0];
	struct cell_res res;
	struct cell c;

	fix_up(f, 0);
	assert_int_equal(fix_cell_alloc(b, ALLOC_NEED_LOCK, &c), 0);
	fix_down(f, 0);
	fix_up(f, 0); /* what its chunk has free was not born in this incarnation */
	for (unsigned i = 0; i < 50; i++) {
		if (i == 1)
			simdev_counts(f->medium, &before);
		assert_int_equal(cell_reserve(b->a, 3, 0, 0, &res), 0);
		cell_unreserve(b->a, &res);
	}
	simdev_counts(f->medium, &after);
	assert_in_range(after.reads - before.reads, 0, 10); /* of other things */
}

static void damaged_header_stops_one_group_only(struct fix *f)
{
	uint8_t zero[4096] = {0};
	struct box *b = &f->box[0];
	uint64_t blk;
	uint32_t len;

	f->check = false;
	simdev_poke(f->medium, geo_payload_off(&f->geo, geo_group_bitmap(&f->geo, 0, 0)),
		    LUNFS_PAYLOAD_BYTES, zero);
	fix_up(f, 0);
	assert_int_equal(fix_blk_alloc(b, 10, 0, 0, &blk, &len), 0);
	assert_int_equal(geo_group_of(&f->geo, blk), 1);
}

static void failed_device_gives_eio_not_a_hang(struct fix *f)
{
	struct simdev_fault fault = {.kind = SIMDEV_FAIL,
				     .ops = SIMDEV_WRITE,
				     .count = 1000000,
				     .off_bytes = geo_blk_off(f->geo.group0_blk),
				     .len_bytes = geo_blk_off(f->geo.group_blks)};
	struct box *b = &f->box[0];
	struct cell_res res;

	fix_up(f, 0);
	simdev_inject(b->dev, &fault);
	assert_int_equal(cell_reserve(b->a, 1, 0, 0, &res), -EIO);
	simdev_inject_clear(b->dev);
}

#define RUN(name, shape)                                                                           \
	static void test_##name##_on_##shape(void **state)                                         \
	{                                                                                          \
		(void)state;                                                                       \
		fix_run(name, &shape);                                                             \
	}
RUN(ten_thousand_cells_cost_few_ats, full_size)
RUN(runs_are_as_long_as_asked_for, full_size)
RUN(freed_blocks_wait_for_their_commit, small)
RUN(freed_cells_wait_for_their_commit_and_rise_in_version, small)
RUN(cell_of_a_removed_inode_waits_for_its_place, small)
RUN(cell_of_a_removed_inode_waits_for_its_place, small_4k)
RUN(chunk_that_others_came_upon_is_entered_as_it_is, small)
RUN(chunk_that_others_came_upon_is_entered_as_it_is, small_4k)
RUN(what_was_not_taken_is_free_again, small)
RUN(what_was_not_taken_is_free_again, small_4k)
RUN(full_volume_keeps_something_for_deleting, small)
RUN(full_volume_keeps_something_for_deleting, small_4k)
RUN(hostile_frees_are_refused, small)
RUN(hostile_frees_are_refused, small_4k)
RUN(vast_fresh_volume_counts_itself_at_once, vast)
RUN(short_mounts_do_not_convert_a_chunk_each, small)
RUN(reserving_again_what_was_not_taken_reads_nothing, small)
RUN(damaged_header_stops_one_group_only, small)
RUN(failed_device_gives_eio_not_a_hang, small)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_ten_thousand_cells_cost_few_ats_on_full_size),
	    cmocka_unit_test(test_runs_are_as_long_as_asked_for_on_full_size),
	    cmocka_unit_test(test_freed_blocks_wait_for_their_commit_on_small),
	    cmocka_unit_test(test_freed_cells_wait_for_their_commit_and_rise_in_version_on_small),
	    cmocka_unit_test(test_cell_of_a_removed_inode_waits_for_its_place_on_small),
	    cmocka_unit_test(test_cell_of_a_removed_inode_waits_for_its_place_on_small_4k),
	    cmocka_unit_test(test_chunk_that_others_came_upon_is_entered_as_it_is_on_small),
	    cmocka_unit_test(test_chunk_that_others_came_upon_is_entered_as_it_is_on_small_4k),
	    cmocka_unit_test(test_what_was_not_taken_is_free_again_on_small),
	    cmocka_unit_test(test_what_was_not_taken_is_free_again_on_small_4k),
	    cmocka_unit_test(test_full_volume_keeps_something_for_deleting_on_small),
	    cmocka_unit_test(test_full_volume_keeps_something_for_deleting_on_small_4k),
	    cmocka_unit_test(test_hostile_frees_are_refused_on_small),
	    cmocka_unit_test(test_hostile_frees_are_refused_on_small_4k),
	    cmocka_unit_test(test_vast_fresh_volume_counts_itself_at_once_on_vast),
	    cmocka_unit_test(test_short_mounts_do_not_convert_a_chunk_each_on_small),
	    cmocka_unit_test(test_reserving_again_what_was_not_taken_reads_nothing_on_small),
	    cmocka_unit_test(test_damaged_header_stops_one_group_only_on_small),
	    cmocka_unit_test(test_failed_device_gives_eio_not_a_hang_on_small),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
