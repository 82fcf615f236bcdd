/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Beside hosts that live, and after answers that leave something. */
#include "unit.h"
#include <stdio.h>
#include <string.h>

static void live_body(struct fu *u)
{
	sc_up(u->t, 0);
	fu_fsck(u, MODE_YES);
	assert_int_equal(u->rc, -EBUSY);
	assert_non_null(strstr(u->why, "is mounted by host"));
	sc_down(u->t, 0);
	fu_fsck(u, MODE_YES);
	assert_true(u->rc == 0 && u->total == 0);
}

static void volume_that_a_host_has_mounted_is_not_repaired(void **s)
{
	(void)s;
	fu_run(live_body, 512);
	fu_run(live_body, 4096);
}

/* ---- somebody answers ------------------------------------------------------------------------ */

static void answers(struct fu *u, const char *text)
{
	FILE *in = stdin, *out = stdout;

	stdin = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
	stdout = fopen("/dev/null", "w");
	fu_fsck(u, MODE_ASK);
	fclose(stdin);
	fclose(stdout);
	stdin = in;
	stdout = out;
}

/* A link count and, of a group, a bitmap. */
static void damage(struct fu *u)
{
	struct lunfs_inode_pl pl;
	uint8_t bits[LUNFS_PAYLOAD_BYTES];

	fu_get(u, geo_group_bitmap(&u->t->geo, 0, 0), bits);
	bits[100] ^= 1;
	fu_put_raw(u, geo_group_bitmap(&u->t->geo, 0, 0), bits);
	fu_get_inode(u, FU_PLAIN, &pl);
	pl.nlink = le32_make(5);
	fu_put(u, u->id[FU_PLAIN].ino, &pl);
}

static void no_body(struct fu *u)
{
	damage(u);
	answers(u, "n\ny\n");
	assert_int_equal(u->rc, 0);
	assert_true(u->count[PROBLEM_BITMAP] == 1 && u->count[PROBLEM_NLINK] == 1);
	assert_int_equal(u->left, 1);
	sc_up(u->t, 0); /* it could be mounted before, so it can be now */
	sc_down(u->t, 0);
	fu_fsck(u, MODE_YES);
	assert_true(u->left == 0 && u->count[PROBLEM_NLINK] == 0);
	fu_verify(u, 0);
}

static void what_is_left_at_a_no_does_not_hold_up_the_rest(void **s)
{
	(void)s;
	fu_run(no_body, 512);
}

static void kept_body(struct fu *u)
{
	uint8_t lock[512];
	struct lunfs_inode_pl pl;

	fu_get_inode(u, FU_PLAIN, &pl);
	pl.nlink = le32_make(5);
	fu_put(u, u->id[FU_PLAIN].ino, &pl);
	fu_lose_replay(u, lock);
	answers(u, "n\ny\ny\ny\ny\ny\n");
	assert_true(u->rc == 0 && u->count[PROBLEM_HOST_NOT_FREE] == 1 && u->left > 0);
	fu_get_inode(u, FU_PLAIN, &pl);
	assert_int_equal(le32_get(pl.nlink), 5);
	simdev_poke(u->t->medium, geo_blk_off(u->id[FU_SMALL].ino), sizeof(lock), lock);
	sc_up(u->t, 0);
	sc_down(u->t, 0);
	fu_fsck(u, MODE_CHECK);
	assert_true(u->total == 1 && u->count[PROBLEM_NLINK] == 1);
}

static void nothing_is_repaired_under_a_journal_that_is_kept(void **s)
{
	(void)s;
	fu_run(kept_body, 512);
}

/* Its second leaf is in no tree any more; so are the blocks that stand there. */
static void lost_leaf_body(struct fu *u)
{
	struct lunfs_bt_inner_slot *s;
	struct lunfs_inode_pl pl;

	fu_get_inode(u, FU_FRAGGED, &pl);
	s = (void *)(pl.data_fork + sizeof(struct lunfs_bt_head));
	s[1].child = le64_make(0);
	fu_put(u, u->id[FU_FRAGGED].ino, &pl);
	answers(u, "n\na\n");
	assert_true(u->rc == 0 && u->count[PROBLEM_TREE_NODE] == 1 && u->left == 1);
	assert_true(u->count[PROBLEM_LOST_CELL] == 0 && u->count[PROBLEM_LEAK] == 0);
	fu_fsck(u, MODE_YES);
	assert_true(u->rc == 0 && u->left == 0);
	fu_verify(u, 0);
}

static void what_a_damaged_tree_has_lost_is_kept_while_it_is_left(void **s)
{
	(void)s;
	fu_run(lost_leaf_body, 512);
}

/* Of one leaf only the checksum is wrong, and in another a type: the first is left, the other not.
 */
static void leaf_body(struct fu *u)
{
	uint64_t bad = fu_child(u, FU_MANY_DIR, 0), other = fu_child(u, FU_MANY_DIR, 1);
	struct lunfs_bt_pl pl;
	struct lunfs_dirent *de;

	fu_get(u, bad, &pl);
	pl.hdr.crc = le32_make(le32_get(pl.hdr.crc) ^ 1);
	fu_put_raw(u, bad, &pl);
	fu_get(u, other, &pl);
	de = (void *)(pl.area + le16_get(fu_slot(pl.area, 0)->off));
	de->type = 12;
	fu_put(u, other, &pl);
	answers(u, "n\ny\ny\ny\ny\ny\ny\ny\ny\ny\n");
	assert_true(u->rc == 0 && u->count[PROBLEM_CHECKSUM] == 1);
	assert_true(u->count[PROBLEM_DIRENT_TYPE] > 0);
	fu_fsck(u, MODE_YES);
	assert_true(u->rc == 0 && u->left == 0);
	assert_int_equal(u->count[PROBLEM_LOST_INODE], 0);
	fu_verify(u, 0);
}

static void leaf_whose_checksum_is_left_keeps_its_names(void **s)
{
	(void)s;
	fu_run(leaf_body, 512);
}

static void end_body(struct fu *u)
{
	struct lunfs_inode_pl pl;

	damage(u);
	answers(u, "y\n");
	assert_int_equal(u->rc, 0);
	fu_get_inode(u, FU_PLAIN, &pl);
	assert_int_equal(le32_get(pl.nlink), 5);
	fu_fsck(u, MODE_CHECK);
	assert_true(u->count[PROBLEM_BITMAP] == 1 && u->count[PROBLEM_NLINK] == 1);
}

static void end_of_the_answers_changes_nothing(void **s)
{
	(void)s;
	fu_run(end_body, 512);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(volume_that_a_host_has_mounted_is_not_repaired),
	    cmocka_unit_test(what_is_left_at_a_no_does_not_hold_up_the_rest),
	    cmocka_unit_test(nothing_is_repaired_under_a_journal_that_is_kept),
	    cmocka_unit_test(what_a_damaged_tree_has_lost_is_kept_while_it_is_left),
	    cmocka_unit_test(leaf_whose_checksum_is_left_keeps_its_names),
	    cmocka_unit_test(end_of_the_answers_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
