/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names against inodes: lost ones, circles, second names, orphans and their lists, the root. */
#include "unit.h"
#include <stdio.h>

#define ONLY(file) (1u << (file))

/* Take @name out of the directory's root leaf. */
static void drop_name(struct fu *u, enum fu_file dir, const char *name)
{
	struct lunfs_bt_head *h;
	struct lunfs_inode_pl pl;
	uint8_t *area = pl.data_fork;
	unsigned i, n;

	fu_get_inode(u, dir, &pl);
	SC_CHECK(u->t, fu_dirent(area, name, &i), "no entry %s", name);
	h = fu_head(area);
	n = le16_get(h->items);
	h->dead = le16_make((uint16_t)(le16_get(h->dead) + le16_get(fu_slot(area, i)->len)));
	memmove(fu_slot(area, i), fu_slot(area, i + 1), (n - i - 1) * sizeof(*fu_slot(area, 0)));
	h->items = le16_make((uint16_t)(n - 1));
	pl.size = le64_make(n - 1);
	fu_put(u, u->id[dir].ino, &pl);
}

/* Let the entry of @name in @dir name another inode. */
static void point(struct fu *u, enum fu_file dir, const char *name, struct nodeid to, uint8_t type)
{
	struct lunfs_inode_pl pl;
	struct lunfs_dirent *de;

	fu_get_inode(u, dir, &pl);
	de = fu_dirent(pl.data_fork, name, NULL);
	SC_CHECK(u->t, de, "no entry %s", name);
	de->ino = le64_make(to.ino);
	de->generation = le64_make(to.generation);
	de->type = type;
	fu_put(u, u->id[dir].ino, &pl);
}

static void expect_in_lost_found(struct fu *u, struct nodeid id)
{
	char path[64];

	snprintf(path, sizeof(path), "lost+found/#%llu", (unsigned long long)id.ino);
	assert_true(fu_at(u, path).ino == id.ino);
}

/* ---- lost ------------------------------------------------------------------------------------ */

static void lost_file_body(struct fu *u)
{
	drop_name(u, FU_ROOT, "plain");
	fu_repair(u, PROBLEM_LOST_INODE);
	assert_int_equal(u->found, 1); /* what follows of the repair is no problem */
	sc_up(u->t, 0);
	expect_in_lost_found(u, u->id[FU_PLAIN]);
	assert_int_equal(sc_stat(u->t, 0, fu_at(u, "lost+found")).st_mode, S_IFDIR | 0700);
	sc_down(u->t, 0);
	fu_verify(u, ONLY(FU_PLAIN));
}

static void file_without_a_name_goes_to_lost_found(void **s)
{
	(void)s;
	fu_run(lost_file_body, 512);
	fu_run(lost_file_body, 4096);
}

static void lost_tree_body(struct fu *u)
{
	drop_name(u, FU_ROOT, "d");
	fu_repair(u, PROBLEM_LOST_DIR);
	assert_int_equal(u->found, 2); /* the link count of the root is the other */
	sc_up(u->t, 0);
	expect_in_lost_found(u, u->id[FU_DIR]);
	assert_true(fu_at(u, "many").ino == u->id[FU_MANY_DIR].ino);
	sc_down(u->t, 0);
	fu_verify(u, ONLY(FU_DIR) | ONLY(FU_SUB) | ONLY(FU_DEEP) | ONLY(FU_HARD));
}

static void tree_without_a_name_goes_to_lost_found_as_a_whole(void **s)
{
	(void)s;
	fu_run(lost_tree_body, 512);
}

static void twice_body(struct fu *u)
{
	drop_name(u, FU_ROOT, "plain");
	fu_repair(u, PROBLEM_LOST_INODE);
	drop_name(u, FU_ROOT, "other");
	fu_repair(u, PROBLEM_LOST_INODE);
	sc_up(u->t, 0);
	expect_in_lost_found(u, u->id[FU_PLAIN]);
	expect_in_lost_found(u, u->id[FU_OTHER]);
	sc_down(u->t, 0);
}

static void lost_found_is_used_again(void **s)
{
	(void)s;
	fu_run(twice_body, 512);
}

static void cycle_body(struct fu *u)
{
	struct lunfs_inode_pl pl;

	/* A file is where d was, and d stands in its own subdirectory. */
	point(u, FU_ROOT, "d", u->id[FU_PLAIN], 8);
	point(u, FU_SUB, "deep", u->id[FU_DIR], 4);
	fu_get_inode(u, FU_DIR, &pl);
	pl.parent = le64_make(u->id[FU_SUB].ino);
	fu_put(u, u->id[FU_DIR].ino, &pl);
	fu_repair(u, PROBLEM_DIR_CYCLE);
	sc_up(u->t, 0);
	expect_in_lost_found(u, u->id[FU_DIR]);
	sc_down(u->t, 0);
	fu_verify(u, ONLY(FU_DIR) | ONLY(FU_SUB) | ONLY(FU_DEEP) | ONLY(FU_HARD));
}

static void directory_inside_itself_goes_to_lost_found(void **s)
{
	(void)s;
	fu_run(cycle_body, 512);
}

static void second_name_body(struct fu *u)
{
	point(u, FU_ROOT, "plain", u->id[FU_SUB], 4);
	fu_repair(u, PROBLEM_DIR_LINKS);
	sc_up(u->t, 0);
	assert_false(fu_exists(u, "plain"));
	expect_in_lost_found(u, u->id[FU_PLAIN]);
	sc_down(u->t, 0);
	fu_verify(u, ONLY(FU_PLAIN));
}

static void directory_keeps_the_name_that_its_parent_has(void **s)
{
	(void)s;
	fu_run(second_name_body, 512);
}

/* ---- the root -------------------------------------------------------------------------------- */

static void root_body(struct fu *u)
{
	uint8_t rubbish[LUNFS_PAYLOAD_BYTES];
	char path[64];

	memset(rubbish, 0x77, sizeof(rubbish));
	fu_put_raw(u, u->id[FU_ROOT].ino, rubbish);
	fu_repair(u, PROBLEM_ROOT);
	sc_up(u->t, 0);
	for (int i = 0; i < FU_FILES; i++)
		if (i != FU_ROOT && i != FU_SUB && i != FU_DEEP && i != FU_HARD)
			expect_in_lost_found(u, u->id[i]);
	snprintf(path, sizeof(path), "lost+found/#%llu/sub/deep",
		 (unsigned long long)u->id[FU_DIR].ino);
	assert_true(fu_at(u, path).ino == u->id[FU_DEEP].ino);
	sc_down(u->t, 0);
}

static void what_stood_in_a_lost_root_is_in_lost_found(void **s)
{
	(void)s;
	fu_run(root_body, 512);
	fu_run(root_body, 4096);
}

static void chunk_body(struct fu *u)
{
	uint8_t rubbish[LUNFS_PAYLOAD_BYTES];
	uint64_t header = geo_group_blk(&u->t->geo, 0) + geo_group_meta_blks(&u->t->geo);

	memset(rubbish, 0x77, sizeof(rubbish));
	fu_put_raw(u, header, rubbish);
	fu_cycle(u, PROBLEM_CHUNK, 0);
}

static void inodes_of_a_chunk_without_a_map_are_kept(void **s)
{
	(void)s;
	fu_run(chunk_body, 512);
}

/* The map of the chunk and the root with it: nothing tells what was deleted, so nothing is. */
static void chunk_and_root_body(struct fu *u)
{
	uint8_t rubbish[LUNFS_PAYLOAD_BYTES];
	uint64_t header = geo_group_blk(&u->t->geo, 0) + geo_group_meta_blks(&u->t->geo);

	memset(rubbish, 0x77, sizeof(rubbish));
	fu_put_raw(u, header, rubbish);
	fu_put_raw(u, u->id[FU_ROOT].ino, rubbish);
	fu_repair(u, PROBLEM_CHUNK);
	sc_up(u->t, 0);
	for (int i = 0; i < FU_FILES; i++)
		if (i != FU_ROOT && i != FU_SUB && i != FU_DEEP && i != FU_HARD)
			expect_in_lost_found(u, u->id[i]);
	sc_down(u->t, 0);
}

static void nothing_is_dropped_when_map_and_root_are_lost(void **s)
{
	(void)s;
	fu_run(chunk_and_root_body, 512);
}

/* Group and chunk header together, as by a bad spot on the device: the inodes behind them tell. */
static void headers_body(struct fu *u)
{
	uint8_t rubbish[LUNFS_PAYLOAD_BYTES];
	uint64_t header = geo_group_blk(&u->t->geo, 0) + geo_group_meta_blks(&u->t->geo);

	memset(rubbish, 0x77, sizeof(rubbish));
	fu_put_raw(u, geo_group_header(&u->t->geo, 0), rubbish);
	fu_put_raw(u, geo_group_bitmap(&u->t->geo, 0, 0), rubbish);
	fu_put_raw(u, header, rubbish);
	fu_cycle(u, PROBLEM_GROUP, 0);
}

static void chunk_without_any_header_is_found_by_its_inodes(void **s)
{
	(void)s;
	fu_run(headers_body, 512);
	fu_run(headers_body, 4096);
}

/* ---- orphans --------------------------------------------------------------------------------- */

static uint64_t list_of(struct fu *u)
{
	struct lunfs_inode_pl pl;

	fu_get(u, u->orphan.ino, &pl);
	assert_int_equal(le32_get(pl.flags), LUNFS_INODE_ORPHAN);
	return u->t->geo.orphan_ino[le16_get(pl.orphan_slot)];
}

/* A mount gives it up. */
static void orphan_goes(struct fu *u)
{
	sc_up(u->t, 0);
	sc_settle(u->t, 0);
	sc_down(u->t, 0);
	fu_fsck(u, MODE_CHECK);
	assert_int_equal(u->total, 0);
	assert_int_equal(u->orphans, 0);
}

static void list_lost_body(struct fu *u)
{
	uint8_t rubbish[LUNFS_PAYLOAD_BYTES];

	memset(rubbish, 0x77, sizeof(rubbish));
	fu_put_raw(u, list_of(u), rubbish);
	fu_repair(u, PROBLEM_ORPHAN_DIR);
	assert_true(u->found <= 3); /* the cell, the list, the orphan */
	orphan_goes(u);
	fu_verify(u, 0);
}

static void lost_list_of_orphans_is_made_anew(void **s)
{
	(void)s;
	fu_run(list_lost_body, 512);
	fu_run(list_lost_body, 4096);
}

static void not_listed_body(struct fu *u)
{
	struct lunfs_inode_pl pl;
	uint64_t list = list_of(u);

	fu_get(u, list, &pl);
	pl.data_format = LUNFS_FORK_EMPTY;
	memset(pl.data_fork, 0, sizeof(pl.data_fork));
	pl.size = le64_make(0);
	fu_put(u, list, &pl);
	fu_repair(u, PROBLEM_ORPHAN);
	orphan_goes(u);
	fu_verify(u, 0);
}

static void orphan_that_no_list_names_is_put_on_one(void **s)
{
	(void)s;
	fu_run(not_listed_body, 512);
}

static void change_orphan(struct fu *u, uint32_t flags, uint16_t slot, uint32_t nlink)
{
	struct lunfs_inode_pl pl;

	fu_get(u, u->orphan.ino, &pl);
	pl.flags = le32_make(flags);
	pl.orphan_slot = le16_make(slot);
	pl.nlink = le32_make(nlink);
	fu_put(u, u->orphan.ino, &pl);
}

static void other_slot_body(struct fu *u)
{
	struct lunfs_inode_pl pl;

	fu_get(u, u->orphan.ino, &pl);
	change_orphan(u, LUNFS_INODE_ORPHAN, le16_get(pl.orphan_slot) ? 0 : 1, 0);
	fu_repair(u, PROBLEM_ORPHAN);
	orphan_goes(u);
}

static void orphan_says_the_list_it_stands_in(void **s)
{
	(void)s;
	fu_run(other_slot_body, 512);
}

static void no_flag_body(struct fu *u)
{
	change_orphan(u, 0, 0, 0);
	fu_repair(u, PROBLEM_ORPHAN);
	orphan_goes(u);
}

static void listed_inode_without_links_is_an_orphan(void **s)
{
	(void)s;
	fu_run(no_flag_body, 512);
}

static void still_linked_body(struct fu *u)
{
	change_orphan(u, 0, 0, 1);
	fu_repair(u, PROBLEM_ORPHAN_ENTRY);
	sc_up(u->t, 0);
	expect_in_lost_found(u, u->orphan);
	sc_down(u->t, 0);
	fu_verify(u, 0);
}

static void listed_inode_with_links_is_kept(void **s)
{
	(void)s;
	fu_run(still_linked_body, 512);
}

static void marked_body(struct fu *u)
{
	struct lunfs_inode_pl pl;

	fu_get_inode(u, FU_PLAIN, &pl);
	pl.flags = le32_make(LUNFS_INODE_ORPHAN);
	pl.nlink = le32_make(0);
	fu_put(u, u->id[FU_PLAIN].ino, &pl);
	fu_cycle(u, PROBLEM_ORPHAN_USED, 0);
}

static void file_with_a_name_is_not_deleted(void **s)
{
	(void)s;
	fu_run(marked_body, 512);
}

static void marked_dir_body(struct fu *u)
{
	struct lunfs_inode_pl pl;

	drop_name(u, FU_ROOT, "d");
	fu_get_inode(u, FU_DIR, &pl);
	pl.flags = le32_make(LUNFS_INODE_ORPHAN);
	pl.nlink = le32_make(0);
	fu_put(u, u->id[FU_DIR].ino, &pl);
	fu_repair(u, PROBLEM_ORPHAN_USED);
	sc_up(u->t, 0);
	expect_in_lost_found(u, u->id[FU_DIR]);
	sc_down(u->t, 0);
}

static void directory_with_entries_is_not_deleted(void **s)
{
	(void)s;
	fu_run(marked_dir_body, 512);
}

static void list_names_file_body(struct fu *u)
{
	struct lunfs_inode_pl pl;
	struct lunfs_dirent *de;
	uint64_t list = list_of(u);

	fu_get(u, list, &pl);
	de = (void *)(pl.data_fork + le16_get(fu_slot(pl.data_fork, 0)->off));
	de->ino = le64_make(u->id[FU_PLAIN].ino);
	de->generation = le64_make(u->id[FU_PLAIN].generation);
	fu_put(u, list, &pl);
	fu_cycle(u, PROBLEM_ORPHAN_ENTRY, 0);
}

static void list_names_an_inode_under_its_number_only(void **s)
{
	(void)s;
	fu_run(list_names_file_body, 512);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(file_without_a_name_goes_to_lost_found),
	    cmocka_unit_test(tree_without_a_name_goes_to_lost_found_as_a_whole),
	    cmocka_unit_test(lost_found_is_used_again),
	    cmocka_unit_test(directory_inside_itself_goes_to_lost_found),
	    cmocka_unit_test(directory_keeps_the_name_that_its_parent_has),
	    cmocka_unit_test(what_stood_in_a_lost_root_is_in_lost_found),
	    cmocka_unit_test(inodes_of_a_chunk_without_a_map_are_kept),
	    cmocka_unit_test(nothing_is_dropped_when_map_and_root_are_lost),
	    cmocka_unit_test(chunk_without_any_header_is_found_by_its_inodes),
	    cmocka_unit_test(lost_list_of_orphans_is_made_anew),
	    cmocka_unit_test(orphan_that_no_list_names_is_put_on_one),
	    cmocka_unit_test(orphan_says_the_list_it_stands_in),
	    cmocka_unit_test(listed_inode_without_links_is_an_orphan),
	    cmocka_unit_test(listed_inode_with_links_is_kept),
	    cmocka_unit_test(file_with_a_name_is_not_deleted),
	    cmocka_unit_test(directory_with_entries_is_not_deleted),
	    cmocka_unit_test(list_names_an_inode_under_its_number_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
