/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sectors that cannot be read until they are written again: told, worked round, made good. */
#include "unit.h"

#define CELLS_MAX 4096u
#define FIXED_BYTES 4096u
#ifdef __SANITIZE_ADDRESS__
#define EVERY 8u /* place: large buffers are slow to come by */
#else
#define EVERY 1u
#endif
#define ONLY(file) (1u << (file))

static void rot_cell(struct fu *u, uint64_t cell)
{
	simdev_rot(u->t->medium, geo_blk_off(cell), geo_cell_bytes(&u->t->geo));
}

static void inode_body(struct fu *u)
{
	rot_cell(u, u->id[FU_OTHER].ino);
	fu_cycle(u, PROBLEM_READ, ONLY(FU_OTHER));
}

static void file_whose_inode_cannot_be_read_is_all_that_goes(void **s)
{
	(void)s;
	fu_run(inode_body, 512);
	fu_run(inode_body, 4096);
}

/* Half of the names are in it: their inodes are found again, for they have other names. */
static void node_body(struct fu *u)
{
	rot_cell(u, fu_child(u, FU_MANY_DIR, 0));
	fu_cycle(u, PROBLEM_READ, ONLY(FU_MANY_DIR));
}

static void directory_keeps_the_names_that_can_be_read(void **s)
{
	(void)s;
	fu_run(node_body, 512);
}

#define SHARED 10u /* blocks of /plain and of /other */

static void hole_body(struct fu *u)
{
	static const bool bad[SHARED] = {[3] = true, [4] = true, [7] = true};
	uint8_t x[LUNFS_BLOCK_BYTES], y[LUNFS_BLOCK_BYTES], none[LUNFS_BLOCK_BYTES] = {0};
	struct lunfs_inode_pl a, b;
	uint64_t blk;

	fu_get_inode(u, FU_PLAIN, &a);
	fu_get_inode(u, FU_OTHER, &b);
	blk = le64_get(fu_extent(a.data_fork, 0)->blk);
	fu_extent(b.data_fork, 0)->blk = le64_make(blk);
	fu_put(u, u->id[FU_OTHER].ino, &b);
	for (unsigned i = 0; i < SHARED; i++)
		if (bad[i])
			simdev_rot(u->t->medium, geo_blk_off(blk + i), LUNFS_BLOCK_BYTES);
	fu_fsck(u, MODE_YES);
	assert_true(u->rc == 0 && u->left == 0 && u->count[PROBLEM_DOUBLE_LOST] > 0);
	fu_fsck(u, MODE_CHECK);
	assert_true(u->rc == 0 && u->total == 0);
	sc_up(u->t, 0);
	for (unsigned i = 0; i + 1 < SHARED; i++) {
		uint64_t off = i * sizeof(x);

		memset(y, 1, sizeof(y));
		assert_int_equal(sc_read(u->t, 0, fu_at(u, "other"), off, y, sizeof(y)), sizeof(y));
		if (!bad[i])
			sc_read(u->t, 0, fu_at(u, "plain"), off, x, sizeof(x));
		assert_memory_equal(y, bad[i] ? none : x, sizeof(y));
	}
	sc_down(u->t, 0);
}

static void copy_has_holes_just_where_blocks_cannot_be_read(void **s)
{
	(void)s;
	fu_run(hole_body, 512);
	fu_run(hole_body, 4096);
}

/* ---- one place after another ----------------------------------------------------------------- */

static unsigned places;

static void heal(struct fu *u, uint64_t off, uint64_t len)
{
	places++;
	simdev_rot(u->t->medium, off, len);
	fu_fsck(u, MODE_CHECK);
	fu_fsck(u, MODE_YES);
	SC_CHECK(u->t, u->rc == 0 && !u->why[0], "with offset %llu unreadable: %s %s",
		 (unsigned long long)off, strerror(-u->rc), u->why);
	SC_CHECK(u->t, u->left == 0, "with offset %llu unreadable %llu problems are left",
		 (unsigned long long)off, (unsigned long long)u->left);
	fu_fsck(u, MODE_CHECK);
	SC_CHECK(u->t, u->rc == 0 && u->total == 0,
		 "offset %llu was unreadable: the second run finds %llu problems",
		 (unsigned long long)off, (unsigned long long)u->total);
	sc_up(u->t, 0);
	sc_down(u->t, 0);
	fu_restore(u);
}

/* Superblock, claim, anchors, host table, request board, journals. */
static void fixed_body(struct fu *u)
{
	const struct geo *g = &u->t->geo;

	for (uint64_t off = LUNFS_SB_OFF; off < geo_blk_off(g->journal_blk[0]);
	     off += (uint64_t)EVERY * FIXED_BYTES)
		heal(u, off, FIXED_BYTES);
	for (unsigned i = 0; i < g->journals; i++)
		heal(u, geo_blk_off(g->journal_blk[i]), FIXED_BYTES);
}

static void places_that_are_fixed_are_made_good(void **s)
{
	(void)s;
	fu_run(fixed_body, 512);
}

/* Lock and payload of an anchor stand in sectors of their own: either may be lost alone. */
static void anchors_body(struct fu *u)
{
	for (int a = 0; a < LUNFS_ANCHORS; a++)
		for (uint64_t i = 0; i < u->t->geo.cell_blks; i++)
			heal(u, geo_blk_off(geo_anchor_cell((enum lunfs_anchor)a) + i),
			     FIXED_BYTES);
}

static void anchors_are_made_good_on_4k_sectors(void **s)
{
	(void)s;
	fu_run(anchors_body, 4096);
}

static void cells_body(struct fu *u)
{
	const struct geo *g = &u->t->geo;
	uint64_t addr[CELLS_MAX];
	unsigned n = 0;

	for (uint64_t a = g->group0_blk; a < g->end_blk && n < CELLS_MAX; a += g->cell_blks) {
		uint8_t payload[LUNFS_PAYLOAD_BYTES];

		fu_get(u, a, payload);
		for (uint16_t type = LUNFS_BLK_GROUP; type <= LUNFS_BLK_BTREE; type++)
			if (!blk_check(g, payload, type, a))
				addr[n++] = a;
	}
	SC_CHECK(u->t, n > 30, "only %u cells are in use", n);
	for (unsigned i = 0; i < n; i += EVERY)
		heal(u, geo_blk_off(addr[i]), geo_cell_bytes(g));
}

static void cells_are_made_good(void **s)
{
	(void)s;
	fu_run(cells_body, 512);
}

static void cells_are_made_good_on_4k_sectors(void **s)
{
	(void)s;
	fu_run(cells_body, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(file_whose_inode_cannot_be_read_is_all_that_goes),
	    cmocka_unit_test(directory_keeps_the_names_that_can_be_read),
	    cmocka_unit_test(copy_has_holes_just_where_blocks_cannot_be_read),
	    cmocka_unit_test(places_that_are_fixed_are_made_good),
	    cmocka_unit_test(anchors_are_made_good_on_4k_sectors),
	    cmocka_unit_test(cells_are_made_good),
	    cmocka_unit_test(cells_are_made_good_on_4k_sectors),
	};

	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	print_message("%u places\n", places);
	return failed;
}
