/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extents against an array of mapped blocks. */
#include "fake.h"

#include "node/node_impl.h"

#include <errno.h>
#include <string.h>

#define SPAN 6000u /* blocks of the file that the random test plays with */

struct model {
	uint64_t blk[SPAN];
	bool unwritten[SPAN];
};

/* What changes of these blocks need, or sometimes what any need. */
static struct node_txn begin_at(struct fake *f, uint64_t lblk, uint64_t len, unsigned changes)
{
	struct node_need need;

	if (f->hostile || fake_random(f) % 4 == 0)
		return fake_begin(f, FORK_DATA, changes);
	assert_int_equal(ext_need(&f->ne, &f->i, lblk, len, changes, &need), 0);
	return fake_begin_with(f, need.cells, need.credits);
}

static void map_into(struct fake *f, uint64_t lblk, uint64_t blk, uint32_t len, uint32_t flags)
{
	struct ext e = {.lblk = lblk, .blk = blk, .len = len, .flags = flags};
	struct node_txn nt = begin_at(f, lblk, len, 1);

	assert_int_equal(ext_insert(&f->ne, &nt, &f->i, &e), 0);
	fake_end(f);
}

static void unmap(struct fake *f, uint64_t lblk, uint64_t len)
{
	struct node_txn nt;
	struct ext e;

	assert_int_equal(ext_map(&f->ne, &f->i, lblk, &e), 0);
	assert_true(e.blk && e.len >= len);
	f->with_frees = true;
	ext_remove_prepare(&f->ne, &f->i, lblk, len, &f->frees);
	nt = fake_begin(f, FORK_DATA, 2);
	assert_int_equal(ext_remove(&f->ne, &nt, &f->i, lblk, len), 0);
	fake_end(f);
	fake_blocks_free(f, e.blk, (uint32_t)len);
}

static void set_written(struct fake *f, uint64_t lblk, uint64_t len, bool written)
{
	struct node_txn nt = begin_at(f, lblk, len, 3);

	assert_int_equal(ext_set_written(&f->ne, &nt, &f->i, lblk, len, written), 0);
	fake_end(f);
}

static void check_map(struct fake *f, const struct model *m)
{
	struct ext e;

	for (uint64_t at = 0; at < SPAN; at += e.len) {
		assert_int_equal(ext_map(&f->ne, &f->i, at, &e), 0);
		assert_int_equal(e.lblk, at);
		assert_true(e.len > 0);
		for (uint64_t k = 0; k < e.len && at + k < SPAN; k++) {
			assert_int_equal(m->blk[at + k], e.blk ? e.blk + k : 0);
			if (e.blk)
				assert_int_equal(m->unwritten[at + k],
						 !!(e.flags & LUNFS_EXT_UNWRITTEN));
		}
		if (e.blk == 0 && at + e.len >= SPAN)
			break;
	}
}

static void do_map(struct fake *f, struct model *m, uint64_t at, uint64_t hole)
{
	uint32_t len = 1 + (uint32_t)(fake_random(f) % 12), flags = fake_random(f) % 2;
	uint64_t blk;

	if (len > hole)
		len = (uint32_t)hole;
	if (len > SPAN - at)
		len = (uint32_t)(SPAN - at);
	blk = fake_blocks(f, len);
	map_into(f, at, blk, len, flags);
	for (uint32_t k = 0; k < len; k++) {
		m->blk[at + k] = blk + k;
		m->unwritten[at + k] = flags;
	}
}

static void do_change(struct fake *f, struct model *m, const struct ext *e)
{
	uint64_t len = 1 + fake_random(f) % e->len;
	bool written = fake_random(f) % 2;

	if (fake_random(f) % 3 == 0) {
		unmap(f, e->lblk, len);
		memset(&m->blk[e->lblk], 0, len * sizeof(m->blk[0]));
		return;
	}
	set_written(f, e->lblk, len, written);
	for (uint64_t k = 0; k < len; k++)
		m->unwritten[e->lblk + k] = !written;
}

static void every_block_is_where_it_was_put(void **state)
{
	enum { STEPS = 60000 };
	struct fake *f = fake_new(S_IFREG | 0644);
	static struct model m;

	(void)state;
	memset(&m, 0, sizeof(m));
	f->busy_permil = 50;
	for (unsigned step = 0; step < STEPS; step++) {
		uint64_t at = fake_random(f) % SPAN;
		bool fill = step / 15000 % 2 == 0;
		struct ext e;

		assert_int_equal(ext_map(&f->ne, &f->i, at, &e), 0);
		assert_int_equal(e.blk, m.blk[at]);
		if (!e.blk && (fill || fake_random(f) % 8 == 0))
			do_map(f, &m, at, e.len);
		else if (e.blk && (!fill || fake_random(f) % 3 == 0))
			do_change(f, &m, &e);
		if (step % 1500 == 0) {
			check_map(f, &m);
			fake_walk(f);
		}
	}
	check_map(f, &m);
	fake_free(f);
}

static void scattered_appends_fill_their_leaves(void **state)
{
	enum { EXTENTS = 60000 };
	struct fake *f = fake_new(S_IFREG | 0644);
	struct walk w;

	(void)state;
	for (unsigned k = 0; k < EXTENTS; k++) {
		uint64_t blk = fake_blocks(f, 1);

		fake_blocks(f, 1); /* somebody else's: the next one does not follow */
		f->data_blks--;
		map_into(f, k, blk, 1, 0);
	}
	w = fake_walk(f);
	assert_int_equal(w.items[FORK_DATA], EXTENTS);
	assert_true(w.leaves <= EXTENTS / 125 + 2);
	assert_int_equal(w.depth[FORK_DATA], 3);
	fake_free(f);
}

static void sequential_blocks_are_one_extent(void **state)
{
	struct fake *f = fake_new(S_IFREG | 0644);
	uint64_t blk = fake_blocks(f, 1000);
	struct ext e;

	(void)state;
	for (unsigned k = 0; k < 1000; k += 2)
		map_into(f, k, blk + k, 1, 0);
	f->data_blks -= 500; /* not mapped yet */
	assert_int_equal(fake_walk(f).items[FORK_DATA], 500);
	f->data_blks += 500;
	for (unsigned k = 1; k < 1000; k += 2)
		map_into(f, k, blk + k, 1, 0);
	/* Only where two leaves meet does an extent end. */
	assert_true(fake_walk(f).items[FORK_DATA] <= 10);
	assert_int_equal(ext_map(&f->ne, &f->i, 0, &e), 0);
	assert_int_equal(e.blk, blk);
	fake_free(f);
}

static void preallocated_space_written_in_order_is_one_extent_again(void **state)
{
	struct fake *f = fake_new(S_IFREG | 0644);
	uint64_t blk = fake_blocks(f, 4096);
	struct ext e;

	(void)state;
	map_into(f, 10, blk, 4096, LUNFS_EXT_UNWRITTEN);
	for (unsigned k = 0; k < 4096; k += 16) {
		set_written(f, 10 + k, 16, true);
		assert_true(fake_walk(f).items[FORK_DATA] <= 2);
	}
	assert_int_equal(ext_map(&f->ne, &f->i, 10, &e), 0);
	assert_int_equal(e.len, 4096);
	assert_int_equal(e.flags, 0);
	for (unsigned k = 4096; k; k -= 16)
		set_written(f, 10 + k - 16, 16, false);
	assert_int_equal(fake_walk(f).items[FORK_DATA], 1);
	fake_free(f);
}

/* The extent at @blk bears a flag that there is not. */
static void spoil_extent(struct fake *f, uint64_t blk)
{
	const le64 key = le64_make(blk);
	const uint8_t *p = fake_payload(f, 0), *at = memmem(p, LUNFS_PAYLOAD_BYTES, &key, 8);

	assert_non_null(at);
	f->hostile = true;
	fake_damage(f, 0, (size_t)(at - p) + offsetof(struct lunfs_extent, flags) + 3, 0x80);
	assert_int_equal(fake_reload(f), 0);
}

static void an_extent_is_changed_beside_one_that_is_damaged(void **state)
{
	(void)state;
	for (unsigned behind = 0; behind < 2; behind++) {
		struct fake *f = fake_new(S_IFREG | 0644);
		uint64_t blk = fake_blocks(f, 30), at = behind ? 15 : 10;
		struct ext e;

		map_into(f, 10, blk + 10, 10, LUNFS_EXT_UNWRITTEN);
		map_into(f, behind ? 20 : 0, blk + (behind ? 20 : 0), 10, 0);
		spoil_extent(f, blk + (behind ? 20 : 0));
		set_written(f, at, 5, true);
		assert_int_equal(ext_map(&f->ne, &f->i, at, &e), 0);
		assert_true(e.blk == blk + at && e.len == 5 && e.flags == 0);
		assert_int_equal(ext_map(&f->ne, &f->i, behind ? 20 : 9, &e), -EUCLEAN);
		fake_free(f);
	}
}

/* The first key that the second leaf may hold. */
static uint64_t second_leaf(struct fake *f, uint64_t *addr)
{
	struct bt bt = {.ne = &f->ne, .i = &f->i, .fork = FORK_DATA};
	struct bt_path p;
	uint64_t lo;

	assert_int_equal(bt_seek(&bt, 0, &p), 0);
	lo = bt_leaf(&p)->range.hi + 1;
	bt_put(&bt, &p);
	assert_int_equal(bt_seek(&bt, lo, &p), 0);
	*addr = bt_leaf(&p)->m->addr;
	bt_put(&bt, &p);
	return lo;
}

static void spoil_node(struct fake *f, uint64_t addr)
{
	for (unsigned n = 0; n < fake_payloads(f); n++) {
		const struct lunfs_blk_hdr *h = (const void *)fake_payload(f, n);

		if (le64_get(h->addr) == addr)
			fake_damage(f, n, offsetof(struct lunfs_bt_pl, area), 0xff);
	}
	f->hostile = true;
	assert_int_equal(fake_reload(f), 0);
}

/* An extent of a leaf reaches into the next one, which is damaged, and is to be cut there. */
static void what_a_change_would_find_damaged_it_finds_before_it_begins(void **state)
{
	enum { EXTENTS = 300, ROOM = 8 };
	struct fake *f = fake_new(S_IFREG | 0644);
	uint64_t blk = fake_blocks(f, EXTENTS * ROOM), next, lo;
	struct node_need need;
	struct ext e;

	(void)state;
	for (unsigned k = 0; k < EXTENTS; k++)
		map_into(f, 2ull * k, blk + (uint64_t)k * ROOM, 1, LUNFS_EXT_UNWRITTEN);
	lo = second_leaf(f, &next);
	assert_int_equal(lo % 2, 0);
	unmap(f, lo, 1);
	map_into(f, lo - 1, blk + (lo / 2 - 1) * ROOM + 1, 3, LUNFS_EXT_UNWRITTEN);
	assert_int_equal(ext_map(&f->ne, &f->i, lo - 2, &e), 0);
	assert_int_equal(e.len, 4);
	assert_int_equal(ext_need(&f->ne, &f->i, lo - 2, 2, 3, &need), 0);
	spoil_node(f, next);
	assert_int_equal(ext_need(&f->ne, &f->i, lo - 2, 2, 3, &need), -EUCLEAN);
	assert_int_equal(ext_remove_prepare(&f->ne, &f->i, lo - 2, 2, &f->frees), -EUCLEAN);
	/* Nothing of it goes there. */
	assert_int_equal(ext_need(&f->ne, &f->i, lo - 4, 1, 3, &need), 0);
	set_written(f, lo - 4, 1, true);
	fake_free(f);
}

static void a_mapped_block_is_not_mapped_again(void **state)
{
	struct fake *f = fake_new(S_IFREG | 0644);
	uint64_t blk = fake_blocks(f, 100);
	struct ext e = {.lblk = 45, .blk = blk + 50, .len = 10};
	struct node_txn nt;

	(void)state;
	map_into(f, 50, blk, 50, 0);
	nt = fake_begin(f, FORK_DATA, 1);
	assert_int_equal(ext_insert(&f->ne, &nt, &f->i, &e), -EUCLEAN);
	e.lblk = 99;
	assert_int_equal(ext_insert(&f->ne, &nt, &f->i, &e), -EUCLEAN);
	e.len = 5;
	e.lblk = 45;
	assert_int_equal(ext_insert(&f->ne, &nt, &f->i, &e), 0);
	fake_end(f);
	assert_int_equal(f->i.blks, 55);
	assert_int_equal(ext_map(&f->ne, &f->i, 0, &e), 0);
	assert_true(e.blk == 0 && e.len == 45);
	assert_int_equal(ext_map(&f->ne, &f->i, 100, &e), 0);
	assert_true(e.blk == 0 && e.len == UINT64_MAX - 100);
	fake_free(f);
}

static void cut_off_six_at_a_time_a_file_keeps_no_empty_node(void **state)
{
	enum { EXTENTS = 3000 };
	struct fake *f = fake_new(S_IFREG | 0644);

	(void)state;
	for (unsigned k = 0; k < EXTENTS; k++)
		map_into(f, k * 3, fake_blocks(f, 2), 2, k % 2);
	for (unsigned k = 0; k < EXTENTS; k += 6) {
		struct ext e[6];
		struct node_txn nt;

		f->with_frees = true;
		for (unsigned j = 0; j < 6; j++) {
			assert_int_equal(ext_map(&f->ne, &f->i, (k + j) * 3, &e[j]), 0);
			assert_int_equal(ext_remove_prepare(&f->ne, &f->i, e[j].lblk, 2, &f->frees),
					 0);
		}
		nt = fake_begin(f, FORK_DATA, 12);
		for (unsigned j = 0; j < 6; j++) {
			fake_next_op(f);
			assert_int_equal(ext_remove(&f->ne, &nt, &f->i, e[j].lblk, 2), 0);
		}
		fake_end(f);
		for (unsigned j = 0; j < 6; j++)
			fake_blocks_free(f, e[j].blk, 2);
		assert_int_equal(fake_walk(f).empty_leaves, 0);
	}
	assert_int_equal(f->live_cells, 1);
	assert_int_equal(f->i.data_format, LUNFS_FORK_EMPTY);
	fake_free(f);
}

static void what_no_single_extent_covers_is_not_changed(void **state)
{
	struct fake *f = fake_new(S_IFREG | 0644);
	uint64_t blk = fake_blocks(f, 20);
	struct node_txn nt;

	(void)state;
	map_into(f, 50, blk, 10, 0);
	nt = fake_begin(f, FORK_DATA, 3);
	assert_int_equal(ext_remove(&f->ne, &nt, &f->i, 45, 3), -EINVAL);
	assert_int_equal(ext_remove(&f->ne, &nt, &f->i, 55, 6), -EINVAL);
	assert_int_equal(ext_remove(&f->ne, &nt, &f->i, 55, UINT64_MAX), -EINVAL);
	assert_int_equal(ext_set_written(&f->ne, &nt, &f->i, 60, 1, true), -EINVAL);
	fake_end(f);
	fake_free(f);
}

static void small_data_stands_in_the_inode(void **state)
{
	struct fake *f = fake_new(S_IFREG | 0644);
	uint8_t buf[LUNFS_DATA_FORK_BYTES];
	struct node_txn nt;
	struct ext e;

	(void)state;
	memset(buf, 0xaa, sizeof(buf));
	nt = fake_begin_with(f, 0, 1);
	f->i.size = sizeof(buf);
	inline_set(nt.h, &f->i, buf, sizeof(buf));
	fake_end(f);
	assert_memory_equal(inline_data(&f->i), buf, sizeof(buf));
	assert_int_equal(ext_map(&f->ne, &f->i, 0, &e), 0);
	assert_true(e.blk == 0 && e.len == UINT64_MAX);
	nt = fake_begin_with(f, 0, 1);
	f->i.size = 5;
	inline_set(nt.h, &f->i, inline_data(&f->i), 5);
	fake_end(f);
	assert_int_equal(inline_data(&f->i)[4], 0xaa);
	assert_int_equal(inline_data(&f->i)[5], 0);
	nt = fake_begin_with(f, 0, 1);
	fork_clear(nt.h, &f->i);
	fake_end(f);
	map_into(f, 0, fake_blocks(f, 3), 3, 0);
	fake_walk(f);
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_block_is_where_it_was_put),
	    cmocka_unit_test(scattered_appends_fill_their_leaves),
	    cmocka_unit_test(sequential_blocks_are_one_extent),
	    cmocka_unit_test(preallocated_space_written_in_order_is_one_extent_again),
	    cmocka_unit_test(an_extent_is_changed_beside_one_that_is_damaged),
	    cmocka_unit_test(what_a_change_would_find_damaged_it_finds_before_it_begins),
	    cmocka_unit_test(a_mapped_block_is_not_mapped_again),
	    cmocka_unit_test(cut_off_six_at_a_time_a_file_keeps_no_empty_node),
	    cmocka_unit_test(what_no_single_extent_covers_is_not_changed),
	    cmocka_unit_test(small_data_stands_in_the_inode),
	};

	return cmocka_run_group_tests_name("node-extent", tests, NULL, NULL);
}
