/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Repairs that want room where there is none, and those that -p must not make. */
#include "unit.h"
#include <linux/falloc.h>
#include <stdio.h>

#define ONLY(file) (1u << (file))
#define SHARED 240u /* blocks, more than the allocator keeps back */

/*
 * Not a block is free any more, nor a cell of any use. "late", with one extent, stands behind
 * "filler", which has all the others.
 */
static void fill_up(struct fu *u)
{
	static uint8_t data[2 * LUNFS_BLOCK_BYTES];
	uint64_t len = 1ull << 20;
	struct nodeid id, late;
	size_t done;

	sc_up(u->t, 0);
	id = sc_mkfile(u->t, 0, sc_root_id(u->t, 0), "filler");
	late = sc_mkfile(u->t, 0, sc_root_id(u->t, 0), "late");
	assert_true(late.ino > id.ino);
	memset(data, 'l', sizeof(data));
	SC_OK(u->t, vol_write(u->t->v[0], &sc_root, late, 0, sizeof(data), data, 0, &done, NULL));
	for (uint64_t at = 0; len >= LUNFS_BLOCK_BYTES;) {
		if (vol_fallocate(u->t->v[0], &sc_root, id, 0, at, len) == 0)
			at += len;
		else
			len /= 2;
	}
	sc_down(u->t, 0);
}

static uint64_t ino_of(struct fu *u, const char *name)
{
	uint64_t ino;

	sc_up(u->t, 0);
	ino = fu_at(u, name).ino;
	sc_down(u->t, 0);
	return ino;
}

/* Where so many of its blocks stand in a row. */
static uint64_t filler(struct fu *u, uint32_t blks)
{
	struct lunfs_inode_pl pl;

	fu_get(u, ino_of(u, "filler"), &pl);
	for (unsigned i = 0; i < le16_get(fu_head(pl.data_fork)->items); i++)
		if (le32_get(fu_extent(pl.data_fork, i)->len) >= blks)
			return le64_get(fu_extent(pl.data_fork, i)->blk);
	fail();
	return 0;
}

static void share(struct fu *u)
{
	struct lunfs_inode_pl a, b;

	fu_get_inode(u, FU_PLAIN, &a);
	fu_get_inode(u, FU_OTHER, &b);
	fu_extent(b.data_fork, 0)->blk = fu_extent(a.data_fork, 0)->blk;
	fu_put(u, u->id[FU_OTHER].ino, &b);
}

/* The blocks that the second file had leak: they are not free before the second round. */
static void full_body(struct fu *u)
{
	struct lunfs_inode_pl pl;
	uint64_t late;

	fill_up(u);
	late = ino_of(u, "late");
	fu_get(u, late, &pl);
	fu_extent(pl.data_fork, 0)->blk = le64_make(filler(u, SHARED));
	fu_extent(pl.data_fork, 0)->len = le32_make(SHARED);
	fu_put(u, late, &pl);
	fu_fsck(u, MODE_YES);
	assert_int_equal(u->rc, 0);
	assert_int_equal(u->left, 0);
	assert_true(u->count[PROBLEM_DOUBLE_LOST] > 0);
	fu_fsck(u, MODE_CHECK);
	assert_int_equal(u->total, 0);
	fu_verify(u, 0);
}

static void full_volume_gets_a_hole_instead_of_a_copy(void **s)
{
	(void)s;
	fu_run(full_body, 512);
}

/* All blocks of a group whose bitmap is lost count as used, in the first round. */
static void bitmaps_body(struct fu *u)
{
	struct lunfs_anchor_pl mark;
	uint8_t noise[LUNFS_PAYLOAD_BYTES];

	share(u);
	memset(noise, 0xee, sizeof(noise));
	fu_get(u, geo_anchor_cell(LUNFS_ANCHOR_WATERMARK), &mark);
	for (uint64_t g = 0; g < le64_get(mark.value); g++)
		fu_put_raw(u, geo_group_bitmap(&u->t->geo, g, 0), noise);
	fu_fsck(u, MODE_YES);
	assert_true(u->rc == 0 && u->left == 0);
	assert_int_equal(u->count[PROBLEM_DOUBLE_LOST], 0);
	assert_true(u->count[PROBLEM_DOUBLE] > 0 && u->count[PROBLEM_BITMAP] > 0);
	fu_verify(u, ONLY(FU_OTHER));
}

static void lost_bitmaps_make_no_full_volume(void **s)
{
	(void)s;
	fu_run(bitmaps_body, 512);
}

static void lost_body(struct fu *u)
{
	struct lunfs_inode_pl pl;

	fill_up(u);
	fu_get_inode(u, FU_ROOT, &pl);
	fu_dirent(pl.data_fork, "plain", NULL)->generation = le64_make(9);
	fu_put(u, u->id[FU_ROOT].ino, &pl);
	fu_fsck(u, MODE_YES);
	assert_int_equal(u->rc, 0); /* with or without room for lost+found */
	fu_verify(u, ONLY(FU_PLAIN));
}

static void full_volume_is_repaired_as_far_as_it_goes(void **s)
{
	(void)s;
	fu_run(lost_body, 512);
}

/* ---- -p -------------------------------------------------------------------------------------- */

static void safe_body(struct fu *u)
{
	struct lunfs_inode_pl pl;

	fu_get_inode(u, FU_PLAIN, &pl);
	pl.nlink = le32_make(5);
	fu_put(u, u->id[FU_PLAIN].ino, &pl);
	fu_fsck(u, MODE_PREEN);
	assert_true(u->rc == 0 && u->left == 0 && u->count[PROBLEM_NLINK] == 1);
	fu_verify(u, 0);
}

static void preening_corrects_counts(void **s)
{
	(void)s;
	fu_run(safe_body, 512);
}

static void unsafe_body(struct fu *u)
{
	struct lunfs_inode_pl pl, after;

	share(u);
	fu_get_inode(u, FU_PLAIN, &pl);
	pl.nlink = le32_make(5);
	fu_put(u, u->id[FU_PLAIN].ino, &pl);
	fu_fsck(u, MODE_PREEN);
	assert_int_equal(u->rc, 0);
	assert_true(u->count[PROBLEM_DOUBLE] > 0 && u->left > 0);
	fu_get_inode(u, FU_PLAIN, &after);
	assert_memory_equal(&pl, &after, sizeof(pl));
}

static void preening_stops_before_a_judgement(void **s)
{
	(void)s;
	fu_run(unsafe_body, 512);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(full_volume_gets_a_hole_instead_of_a_copy),
	    cmocka_unit_test(lost_bitmaps_make_no_full_volume),
	    cmocka_unit_test(full_volume_is_repaired_as_far_as_it_goes),
	    cmocka_unit_test(preening_corrects_counts),
	    cmocka_unit_test(preening_stops_before_a_judgement),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
