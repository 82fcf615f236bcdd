/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Trees of directories, extents and attributes: built anew from what is good. */
#include "base/bitmap.h"
#include "base/siphash.h"
#include "fsck/trees.h"
#include "unit.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#define ONLY(file) (1u << (file))

static unsigned found_max; /* 0: any number */

static void (*damage)(struct fu *u);
static enum problem_code code;
static unsigned except;

static void cycle_body(struct fu *u)
{
	damage(u);
	fu_cycle(u, code, except);
	if (found_max)
		SC_CHECK(u->t, u->found <= found_max, "%llu problems are told",
			 (unsigned long long)u->found);
	found_max = 0;
}

#define TREE_TEST(name, code_, except_)                                                            \
	static void name##_damage(struct fu *u);                                                   \
	static void name(void **s)                                                                 \
	{                                                                                          \
		(void)s;                                                                           \
		damage = name##_damage;                                                            \
		code = PROBLEM_##code_;                                                            \
		except = except_;                                                                  \
		fu_run(cycle_body, sizeof(#name) % 4 ? 512 : 4096);                                \
	}                                                                                          \
	static void name##_damage(struct fu *u)

/* ---- nodes ----------------------------------------------------------------------------------- */

TREE_TEST(leaf_with_a_wrong_checksum_is_kept, CHECKSUM, 0)
{
	uint64_t cell = fu_child(u, FU_MANY_DIR, 2);
	struct lunfs_bt_pl node;

	fu_get(u, cell, &node);
	node.hdr.crc = le32_make(1);
	fu_put_raw(u, cell, &node);
}

TREE_TEST(leaves_of_a_lost_root_are_found_again, TREE, 0)
{
	struct lunfs_inode_pl pl;

	found_max = 1; /* what follows of the repair is no problem */
	fu_get_inode(u, FU_MANY_DIR, &pl);
	fu_head(pl.data_fork)->items = le16_make(0);
	fu_put(u, u->id[FU_MANY_DIR].ino, &pl);
}

TREE_TEST(extents_of_a_lost_root_are_found_again, TREE, 0)
{
	struct lunfs_inode_pl pl;

	found_max = 1;
	fu_get_inode(u, FU_FRAGGED, &pl);
	fu_head(pl.data_fork)->level = le16_make(9);
	fu_put(u, u->id[FU_FRAGGED].ino, &pl);
}

TREE_TEST(attributes_of_a_lost_root_are_found_again, TREE, 0)
{
	struct lunfs_inode_pl pl;

	fu_get_inode(u, FU_ATTRS_FILE, &pl);
	memset(pl.xattr_fork, 0xee, sizeof(pl.xattr_fork));
	fu_put(u, u->id[FU_ATTRS_FILE].ino, &pl);
}

TREE_TEST(child_that_is_named_twice_is_read_once, TREE_NODE, 0)
{
	struct lunfs_bt_inner_slot *slot;
	struct lunfs_inode_pl pl;

	fu_get_inode(u, FU_FRAGGED, &pl);
	slot = (void *)(pl.data_fork + sizeof(struct lunfs_bt_head));
	slot[1].child = slot[0].child;
	fu_put(u, u->id[FU_FRAGGED].ino, &pl);
}

TREE_TEST(child_of_another_inode_is_not_taken, TREE_NODE, 0)
{
	struct lunfs_bt_inner_slot *slot;
	struct lunfs_inode_pl pl;

	fu_get_inode(u, FU_FRAGGED, &pl);
	slot = (void *)(pl.data_fork + sizeof(struct lunfs_bt_head));
	slot[2].child = le64_make(fu_child(u, FU_MANY_DIR, 1));
	fu_put(u, u->id[FU_FRAGGED].ino, &pl);
}

TREE_TEST(child_beyond_the_volume_is_not_read, TREE_NODE, 0)
{
	struct lunfs_bt_inner_slot *slot;
	struct lunfs_inode_pl pl;

	fu_get_inode(u, FU_MANY_DIR, &pl);
	slot = (void *)(pl.data_fork + sizeof(struct lunfs_bt_head));
	slot[0].child = le64_make(1ull << 50);
	fu_put(u, u->id[FU_MANY_DIR].ino, &pl);
}

TREE_TEST(tree_that_is_its_own_child_ends, TREE, 0)
{
	uint64_t cell = fu_child(u, FU_FRAGGED, 0);
	struct lunfs_bt_inner_slot *slot;
	struct lunfs_inode_pl pl;

	fu_get_inode(u, FU_FRAGGED, &pl);
	fu_head(pl.data_fork)->level = le16_make(2);
	slot = (void *)(pl.data_fork + sizeof(struct lunfs_bt_head));
	slot[0].child = le64_make(cell);
	fu_put(u, u->id[FU_FRAGGED].ino, &pl);
}

TREE_TEST(keys_out_of_order_are_sorted, TREE_ORDER, 0)
{
	uint64_t cell = fu_child(u, FU_MANY_DIR, 1);
	struct lunfs_bt_leaf_slot swap;
	struct lunfs_bt_pl node;

	fu_get(u, cell, &node);
	swap = *fu_slot(node.area, 3);
	*fu_slot(node.area, 3) = *fu_slot(node.area, 4);
	*fu_slot(node.area, 4) = swap;
	fu_put(u, cell, &node);
}

TREE_TEST(children_out_of_order_are_sorted, TREE_ORDER, 0)
{
	struct lunfs_bt_inner_slot *slot, swap;
	struct lunfs_inode_pl pl;

	fu_get_inode(u, FU_FRAGGED, &pl);
	slot = (void *)(pl.data_fork + sizeof(struct lunfs_bt_head));
	swap = slot[1];
	slot[1] = slot[2];
	slot[2] = swap;
	fu_put(u, u->id[FU_FRAGGED].ino, &pl);
}

TREE_TEST(dead_bytes_that_do_not_add_up_are_corrected, TREE, 0)
{
	uint64_t cell = fu_child(u, FU_FRAGGED, 1);
	struct lunfs_bt_pl node;

	fu_get(u, cell, &node);
	fu_head(node.area)->dead = le16_make(3);
	fu_put(u, cell, &node);
}

/* The second name takes the body of the first: it is lost, and the first is not there twice. */
TREE_TEST(bodies_that_overlap_are_noticed, TREE, ONLY(FU_MANY_DIR))
{
	uint64_t cell = fu_child(u, FU_MANY_DIR, 1);
	struct lunfs_bt_pl node;

	fu_get(u, cell, &node);
	fu_slot(node.area, 1)->off = fu_slot(node.area, 0)->off;
	fu_put(u, cell, &node);
}

/* ---- directories ----------------------------------------------------------------------------- */

TREE_TEST(names_under_another_hash_key_are_put_in_place, DIRENT_HASH, 0)
{
	uint8_t sb[LUNFS_BLOCK_BYTES];
	struct geo g = u->t->geo;

	memset(g.hash_key, 0x99, sizeof(g.hash_key));
	g.sb_seq++;
	sb_encode(&g, sb);
	simdev_poke(u->t->medium, LUNFS_SB_OFF, sizeof(sb), sb);
	simdev_poke(u->t->medium, sb_tail_off(g.dev_blks * LUNFS_BLOCK_BYTES), sizeof(sb), sb);
}

TREE_TEST(one_name_under_a_wrong_hash_is_put_in_place, DIRENT_HASH, 0)
{
	uint64_t cell = fu_child(u, FU_MANY_DIR, 0);
	struct lunfs_bt_pl node;

	fu_get(u, cell, &node);
	fu_slot(node.area, 0)->key = le64_make(le64_get(fu_slot(node.area, 1)->key) - 1);
	fu_put(u, cell, &node);
}

/* The entry of @name in the root, whose tree is one leaf. */
static void edit_root(struct fu *u, const char *name, void (*edit)(struct lunfs_dirent *de))
{
	struct lunfs_inode_pl pl;
	struct lunfs_dirent *de;

	fu_get_inode(u, FU_ROOT, &pl);
	de = fu_dirent(pl.data_fork, name, NULL);
	SC_CHECK(u->t, de, "the root has no %s", name);
	edit(de);
	fu_put(u, u->id[FU_ROOT].ino, &pl);
}

static void wrong_type(struct lunfs_dirent *de)
{
	de->type = 4;
}

TREE_TEST(wrong_type_is_corrected, DIRENT_TYPE, 0)
{
	edit_root(u, "plain", wrong_type);
}

static void wrong_generation(struct lunfs_dirent *de)
{
	de->generation = le64_make(le64_get(de->generation) + 1);
}

TREE_TEST(name_of_another_generation_goes_and_the_file_is_in_lost_found, DIRENT_TARGET,
	  ONLY(FU_PLAIN))
{
	edit_root(u, "plain", wrong_generation);
}

static void slash(struct lunfs_dirent *de)
{
	de->name[1] = '/';
}

TREE_TEST(name_with_a_slash_goes, DIRENT, ONLY(FU_PLAIN))
{
	edit_root(u, "plain", slash);
}

static void dot(struct lunfs_dirent *de)
{
	de->name_len = 1;
	de->name[0] = '.';
}

TREE_TEST(dot_is_no_name, DIRENT, ONLY(FU_PLAIN))
{
	edit_root(u, "plain", dot);
}

/* "small" is called as "other" too: both stay, one under another name. */
static void twice_body(struct fu *u)
{
	uint8_t body[64], *area;
	struct lunfs_inode_pl pl;
	struct lunfs_dirent *de;
	unsigned other, small;
	uint64_t key;

	fu_get_inode(u, FU_ROOT, &pl);
	area = pl.data_fork;
	de = fu_dirent(area, "small", &small);
	fu_dirent(area, "other", &other);
	memcpy(de->name, "other", 5); /* the same length */
	key = le64_get(fu_slot(area, other)->key) + 1;
	/* Behind the other one in the order of keys. */
	struct lunfs_bt_leaf_slot moved = *fu_slot(area, small);

	moved.key = le64_make(key);
	if (small < other) {
		memmove(fu_slot(area, small), fu_slot(area, small + 1),
			(other - small) * sizeof(moved));
		*fu_slot(area, other) = moved;
	} else {
		memmove(fu_slot(area, other + 2), fu_slot(area, other + 1),
			(small - other - 1) * sizeof(moved));
		*fu_slot(area, other + 1) = moved;
	}
	(void)body;
	fu_put(u, u->id[FU_ROOT].ino, &pl);
	fu_repair(u, PROBLEM_DIRENT_TWICE);
	sc_up(u->t, 0);
	assert_true(fu_at(u, "other").ino == u->id[FU_OTHER].ino);
	assert_true(fu_at(u, "other.dup1").ino == u->id[FU_SMALL].ino);
	sc_down(u->t, 0);
	fu_verify(u, ONLY(FU_SMALL));
}

static void second_of_two_equal_names_is_renamed(void **s)
{
	(void)s;
	fu_run(twice_body, 512);
}

/* ---- extents --------------------------------------------------------------------------------- */

TREE_TEST(extent_out_of_range_becomes_a_hole, EXTENT, ONLY(FU_FRAGGED))
{
	uint64_t cell = fu_child(u, FU_FRAGGED, 1);
	struct lunfs_bt_pl node;

	fu_get(u, cell, &node);
	fu_extent(node.area, 0)->blk = le64_make(3);
	fu_put(u, cell, &node);
}

TREE_TEST(extent_with_unknown_flags_becomes_a_hole, EXTENT, ONLY(FU_FRAGGED))
{
	uint64_t cell = fu_child(u, FU_FRAGGED, 1);
	struct lunfs_bt_pl node;

	fu_get(u, cell, &node);
	fu_extent(node.area, 2)->flags = le32_make(0x40);
	fu_put(u, cell, &node);
}

TREE_TEST(empty_extent_goes, EXTENT, ONLY(FU_FRAGGED))
{
	uint64_t cell = fu_child(u, FU_FRAGGED, 0);
	struct lunfs_bt_pl node;

	fu_get(u, cell, &node);
	fu_extent(node.area, 2)->len = le32_make(0);
	fu_put(u, cell, &node);
}

/* The first extent of /frag reaches over the next two: what they hold stays theirs or is shared. */
TREE_TEST(overlapping_extents_are_cut, EXTENT_OVERLAP, ONLY(FU_FRAGGED))
{
	uint64_t cell = fu_child(u, FU_FRAGGED, 0);
	struct lunfs_bt_pl node;

	fu_get(u, cell, &node);
	fu_extent(node.area, 0)->len = le32_make(4);
	fu_put(u, cell, &node);
}

TREE_TEST(file_gets_a_copy_of_blocks_that_are_another_files, DOUBLE, ONLY(FU_OTHER))
{
	struct lunfs_inode_pl a, b;

	fu_get_inode(u, FU_PLAIN, &a);
	fu_get_inode(u, FU_OTHER, &b);
	fu_extent(b.data_fork, 0)->blk = fu_extent(a.data_fork, 0)->blk;
	fu_put(u, u->id[FU_OTHER].ino, &b);
}

/* Blocks that two files claim are both files' afterwards, and may be written apart. */
static void apart_body(struct fu *u)
{
	struct lunfs_inode_pl a, b;
	uint8_t *x = malloc(40000), *y = malloc(40000);

	fu_get_inode(u, FU_PLAIN, &a);
	fu_get_inode(u, FU_OTHER, &b);
	fu_extent(b.data_fork, 0)->blk = fu_extent(a.data_fork, 0)->blk;
	fu_put(u, u->id[FU_OTHER].ino, &b);
	fu_repair(u, PROBLEM_DOUBLE);
	assert_int_equal(u->found, 2); /* and the blocks that are nobody's now */
	sc_up(u->t, 0);
	assert_int_equal(sc_read(u->t, 0, fu_at(u, "plain"), 0, x, 40000), 40000);
	assert_int_equal(sc_read(u->t, 0, fu_at(u, "other"), 0, y, 40000), 40000);
	assert_memory_equal(x, y, 40000);
	memset(y, 1, 40000);
	sc_write(u->t, 0, fu_at(u, "other"), 0, y, 40000);
	sc_down(u->t, 0);
	fu_verify(u, ONLY(FU_OTHER));
	free(x);
	free(y);
}

static void copies_of_shared_blocks_are_equal_and_apart(void **s)
{
	(void)s;
	fu_run(apart_body, 512);
}

TREE_TEST(file_gets_a_copy_of_blocks_that_are_cells, DOUBLE, ONLY(FU_OTHER))
{
	struct lunfs_inode_pl b;

	fu_get_inode(u, FU_OTHER, &b);
	fu_extent(b.data_fork, 0)->blk = le64_make(u->id[FU_DIR].ino);
	fu_extent(b.data_fork, 0)->len = le32_make(2);
	fu_put(u, u->id[FU_OTHER].ino, &b);
}

static uint64_t free_cell(struct fu *u)
{
	const struct geo *g = &u->t->geo;
	struct lunfs_group_pl group;
	struct lunfs_chunk_pl chunk;
	unsigned n = LUNFS_CHUNK_CELLS;

	fu_get(u, geo_group_header(g, 0), &group);
	fu_get(u, geo_group_blk(g, 0) + (uint64_t)(le16_get(group.chunk[0]) - 1u) * g->cell_blks,
	       &chunk);
	while (n-- > 0)
		if (bit_get(chunk.valid, n) && !bit_get(chunk.used, n))
			return le64_get(chunk.first_blk) + (uint64_t)n * g->cell_blks;
	SC_CHECK(u->t, false, "no cell is free");
	return 0;
}

/* A file's data stands where a cell is said to be: no lock record of a repair gets into the file.
 */
TREE_TEST(file_keeps_what_stands_in_a_cell, DOUBLE, 0)
{
	uint64_t leaf = fu_child(u, FU_FRAGGED, 0), cell = free_cell(u);
	struct lunfs_extent *e;
	struct lunfs_bt_pl node;
	uint8_t data[LUNFS_BLOCK_BYTES];

	fu_get(u, leaf, &node);
	e = fu_extent(node.area, 0);
	simdev_peek(u->t->medium, geo_blk_off(le64_get(e->blk)), sizeof(data), data);
	simdev_poke(u->t->medium, geo_blk_off(cell), sizeof(data), data);
	e->blk = le64_make(cell);
	fu_put(u, leaf, &node);
}

/* ---- long links, attributes ------------------------------------------------------------------ */

TREE_TEST(link_that_lost_a_part_is_cleared, SYMLINK, ONLY(FU_LONG_LINK))
{
	struct lunfs_inode_pl pl;
	struct lunfs_bt_head *h;

	fu_get_inode(u, FU_LONG_LINK, &pl);
	h = fu_head(pl.data_fork);
	if (le16_get(h->level)) { /* its first leaf */
		uint64_t cell = fu_child(u, FU_LONG_LINK, 0);
		struct lunfs_bt_pl node;

		fu_get(u, cell, &node);
		fu_slot(node.area, 0)->len = le16_make(le16_get(fu_slot(node.area, 0)->len) - 1);
		fu_head(node.area)->dead = le16_make(le16_get(fu_head(node.area)->dead) + 1);
		fu_put(u, cell, &node);
	}
}

static struct lunfs_xattr *first_attr(struct fu *u, enum fu_file file, uint64_t *cell, uint8_t *pl,
				      unsigned *i)
{
	struct lunfs_inode_pl *ino = (void *)pl;
	uint8_t *area = ino->xattr_fork;

	*cell = u->id[file].ino;
	fu_get(u, *cell, pl);
	if (le16_get(fu_head(area)->level)) {
		const struct lunfs_bt_inner_slot *s = (void *)(area + sizeof(struct lunfs_bt_head));

		*cell = le64_get(s[0].child);
		fu_get(u, *cell, pl);
		area = ((struct lunfs_bt_pl *)pl)->area;
	}
	for (*i = 0; le64_get(fu_slot(area, *i)->key) & 0xff;)
		(*i)++;
	return (struct lunfs_xattr *)(area + le16_get(fu_slot(area, *i)->off));
}

TREE_TEST(attribute_of_an_unknown_namespace_goes, XATTR, ONLY(FU_ATTRS_FILE))
{
	uint8_t pl[LUNFS_PAYLOAD_BYTES];
	uint64_t cell;
	unsigned i;

	first_attr(u, FU_ATTRS_FILE, &cell, pl, &i)->ns = 9;
	fu_put(u, cell, pl);
}

TREE_TEST(attribute_that_is_not_whole_goes, XATTR, ONLY(FU_ATTRS_FILE))
{
	uint8_t pl[LUNFS_PAYLOAD_BYTES];
	uint64_t cell;
	unsigned i;

	first_attr(u, FU_ATTRS_FILE, &cell, pl, &i)->value_len = le32_make(60000);
	fu_put(u, cell, pl);
}

TREE_TEST(attribute_under_a_wrong_hash_is_put_in_place, XATTR_HASH, 0)
{
	uint8_t pl[LUNFS_PAYLOAD_BYTES];
	struct lunfs_bt_leaf_slot *slot;
	uint64_t cell;
	unsigned i;

	first_attr(u, FU_ACL_FILE, &cell, pl, &i);
	slot = fu_slot(((struct lunfs_inode_pl *)pl)->xattr_fork, i);
	slot->key = le64_make(le64_get(slot->key) + 0x10000);
	fu_put(u, cell, pl);
}

TREE_TEST(access_control_list_that_makes_no_sense_goes, ACL, ONLY(FU_ACL_FILE))
{
	uint8_t pl[LUNFS_PAYLOAD_BYTES];
	struct lunfs_xattr *x;
	uint64_t cell;
	unsigned i;

	x = first_attr(u, FU_ACL_FILE, &cell, pl, &i);
	x->data[x->name_len] = 3; /* its version */
	fu_put(u, cell, pl);
}

/* ---- cells that are in use and marked as free ------------------------------------------------ */

/* As in a chunk's header whose last write was lost. */
static void unmark(struct fu *u, uint64_t cell)
{
	const struct geo *g = &u->t->geo;
	uint64_t group = geo_group_of(g, cell), first = geo_group_blk(g, group);
	uint32_t blks = LUNFS_CHUNK_CELLS * g->cell_blks;
	uint64_t w = (cell - first) / blks, header;
	struct lunfs_group_pl gr;
	struct lunfs_chunk_pl ch;
	unsigned n;

	first += w * blks;
	fu_get(u, geo_group_header(g, group), &gr);
	header = first + (le16_get(gr.chunk[w]) - 1u) * g->cell_blks;
	fu_get(u, header, &ch);
	n = (unsigned)((cell - first) / g->cell_blks);
	assert_true(bit_get(ch.used, n));
	bit_clear(ch.used, n);
	ch.free_cells = le32_make(le32_get(ch.free_cells) + 1);
	fu_put(u, header, &ch);
}

TREE_TEST(files_whose_cells_are_marked_free_are_kept, CHUNK, 0)
{
	unmark(u, u->id[FU_PLAIN].ino);
	unmark(u, u->id[FU_LONG_LINK].ino);
}

TREE_TEST(directories_whose_cells_are_marked_free_are_kept, CHUNK, 0)
{
	unmark(u, u->id[FU_DIR].ino);
	unmark(u, u->id[FU_SUB].ino);
	unmark(u, u->id[FU_DEEP].ino);
}

TREE_TEST(nodes_whose_cells_are_marked_free_are_kept, CHUNK, 0)
{
	unmark(u, fu_child(u, FU_MANY_DIR, 0));
	unmark(u, fu_child(u, FU_FRAGGED, 1));
}

TREE_TEST(root_whose_cell_is_marked_free_is_kept, CHUNK, 0)
{
	unmark(u, u->t->geo.root_ino);
	unmark(u, u->t->geo.orphan_ino[0]);
}

/* ---- what is made to take long --------------------------------------------------------------- */

#define EQUAL 20000u /* in leaves that their tree had lost */

static void equal_names_without_number_come_to_an_end(void **s)
{
	struct fsck_inode table[] = {{.ino = 100, .mode = S_IFDIR},
				     {.ino = 101, .generation = 1, .mode = S_IFREG},
				     {.ino = 102, .generation = 1, .mode = S_IFREG}};
	struct fsck f = {.inode = table, .inodes = 3};
	uint8_t body[sizeof(struct lunfs_dirent) + 1] = {0};
	struct lunfs_dirent *de = (void *)body;
	struct items l = {0};

	(void)s;
	de->generation = le64_make(1);
	de->type = DT_REG;
	de->name_len = 1;
	de->name[0] = 'a';
	for (unsigned i = 0; i < EQUAL; i++) {
		de->ino = le64_make(101 + i % 2);
		items_add(&l, (uint64_t)(i + 1) << 7, body, sizeof(body), true);
	}
	dirents_fix(&f, &table[0], &l, NULL, 0);
	assert_true(l.n > 1000 && l.n < EQUAL);
	items_free(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(leaf_with_a_wrong_checksum_is_kept),
	    cmocka_unit_test(leaves_of_a_lost_root_are_found_again),
	    cmocka_unit_test(extents_of_a_lost_root_are_found_again),
	    cmocka_unit_test(attributes_of_a_lost_root_are_found_again),
	    cmocka_unit_test(child_that_is_named_twice_is_read_once),
	    cmocka_unit_test(child_of_another_inode_is_not_taken),
	    cmocka_unit_test(child_beyond_the_volume_is_not_read),
	    cmocka_unit_test(tree_that_is_its_own_child_ends),
	    cmocka_unit_test(keys_out_of_order_are_sorted),
	    cmocka_unit_test(children_out_of_order_are_sorted),
	    cmocka_unit_test(dead_bytes_that_do_not_add_up_are_corrected),
	    cmocka_unit_test(bodies_that_overlap_are_noticed),
	    cmocka_unit_test(names_under_another_hash_key_are_put_in_place),
	    cmocka_unit_test(one_name_under_a_wrong_hash_is_put_in_place),
	    cmocka_unit_test(wrong_type_is_corrected),
	    cmocka_unit_test(name_of_another_generation_goes_and_the_file_is_in_lost_found),
	    cmocka_unit_test(name_with_a_slash_goes),
	    cmocka_unit_test(dot_is_no_name),
	    cmocka_unit_test(second_of_two_equal_names_is_renamed),
	    cmocka_unit_test(extent_out_of_range_becomes_a_hole),
	    cmocka_unit_test(extent_with_unknown_flags_becomes_a_hole),
	    cmocka_unit_test(empty_extent_goes),
	    cmocka_unit_test(overlapping_extents_are_cut),
	    cmocka_unit_test(file_gets_a_copy_of_blocks_that_are_another_files),
	    cmocka_unit_test(copies_of_shared_blocks_are_equal_and_apart),
	    cmocka_unit_test(file_gets_a_copy_of_blocks_that_are_cells),
	    cmocka_unit_test(file_keeps_what_stands_in_a_cell),
	    cmocka_unit_test(link_that_lost_a_part_is_cleared),
	    cmocka_unit_test(attribute_of_an_unknown_namespace_goes),
	    cmocka_unit_test(attribute_that_is_not_whole_goes),
	    cmocka_unit_test(attribute_under_a_wrong_hash_is_put_in_place),
	    cmocka_unit_test(access_control_list_that_makes_no_sense_goes),
	    cmocka_unit_test(files_whose_cells_are_marked_free_are_kept),
	    cmocka_unit_test(directories_whose_cells_are_marked_free_are_kept),
	    cmocka_unit_test(nodes_whose_cells_are_marked_free_are_kept),
	    cmocka_unit_test(root_whose_cell_is_marked_free_is_kept),
	    cmocka_unit_test(equal_names_without_number_come_to_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
