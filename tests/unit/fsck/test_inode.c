/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fields of inodes: what the rest of the volume tells is set by it, what decodes is kept. */
#include "unit.h"

#define ONLY(file) (1u << (file))

/* One inode changed by @change: repaired under @code without anything lost but @except. */
struct field {
	enum fu_file file;
	void (*change)(struct lunfs_inode_pl *pl);
	enum problem_code code;
	unsigned except;
	bool torn; /* the checksum is left as it was */
};

static const struct field *field;

static void field_body(struct fu *u)
{
	struct lunfs_inode_pl pl;

	fu_get_inode(u, field->file, &pl);
	field->change(&pl);
	if (field->torn)
		fu_put_raw(u, u->id[field->file].ino, &pl);
	else
		fu_put(u, u->id[field->file].ino, &pl);
	fu_cycle(u, field->code, field->except);
}

static void run(const struct field *f)
{
	static unsigned n;

	field = f;
	fu_run(field_body, n++ % 4 ? 512 : 4096);
}

#define FIELD_TEST(name, file_, code_, except_, torn_, statement)                                  \
	static void name##_change(struct lunfs_inode_pl *pl)                                       \
	{                                                                                          \
		statement;                                                                         \
	}                                                                                          \
	static void name(void **s)                                                                 \
	{                                                                                          \
		const struct field f = {file_, name##_change, PROBLEM_##code_, except_, torn_};    \
                                                                                                   \
		(void)s;                                                                           \
		run(&f);                                                                           \
	}

FIELD_TEST(wrong_link_count_is_corrected, FU_PLAIN, NLINK, 0, false, pl->nlink = le32_make(7))
FIELD_TEST(wrong_link_count_of_a_directory_is_corrected, FU_DIR, NLINK, 0, false,
	   pl->nlink = le32_make(0))
FIELD_TEST(link_count_out_of_range_is_corrected, FU_PLAIN, INODE_FIELD, 0, false,
	   pl->nlink = le32_make(0xffffffffu))
FIELD_TEST(wrong_block_count_is_corrected, FU_FRAGGED, BLOCK_COUNT, 0, false,
	   pl->blks = le64_make(3))
FIELD_TEST(block_count_out_of_range_is_corrected, FU_FRAGGED, INODE_FIELD, 0, false,
	   pl->blks = le64_make(1ull << 60))
FIELD_TEST(wrong_number_of_entries_is_corrected, FU_MANY_DIR, DIR_SIZE, 0, false,
	   pl->size = le64_make(4))
FIELD_TEST(wrong_parent_is_corrected, FU_SUB, DIR_PARENT, 0, false, pl->parent = pl->hdr.addr)
FIELD_TEST(parent_that_is_no_cell_is_corrected, FU_SUB, INODE_FIELD, 0, false,
	   pl->parent = le64_make(3))
FIELD_TEST(parent_of_a_file_is_corrected, FU_PLAIN, INODE_FIELD, 0, false,
	   pl->parent = pl->hdr.addr)
FIELD_TEST(unknown_mode_bits_go, FU_PLAIN, INODE_FIELD, 0, false,
	   pl->mode = le32_make(le32_get(pl->mode) | 0x80000000u))
FIELD_TEST(file_without_a_type_is_a_file_again, FU_PLAIN, INODE_FIELD, 0, false,
	   pl->mode = le32_make(le32_get(pl->mode) & 07777u))
FIELD_TEST(directory_without_a_type_is_a_directory_again, FU_DIR, INODE_FIELD, 0, false,
	   pl->mode = le32_make(le32_get(pl->mode) & 07777u))
FIELD_TEST(root_that_is_a_file_is_a_directory_again, FU_ROOT, INODE_FIELD, 0, false,
	   pl->mode = le32_make(0))
FIELD_TEST(times_out_of_range_are_corrected, FU_PLAIN, INODE_FIELD, 0, false,
	   pl->mtime_ns = le32_make(2000000000u))
FIELD_TEST(reserved_bytes_are_zeroed, FU_PLAIN, INODE_FIELD, 0, false, pl->reserved[5] = 1)
FIELD_TEST(device_number_of_a_file_goes, FU_PLAIN, INODE_FIELD, 0, false,
	   pl->rdev_major = le32_make(8))
FIELD_TEST(unknown_flags_go, FU_PLAIN, INODE_FIELD, 0, false, pl->flags = le32_make(0x80))
FIELD_TEST(file_is_no_list_of_orphans, FU_DIR, INODE_FIELD, 0, false,
	   pl->flags = le32_make(LUNFS_INODE_ORPHAN_DIR))
FIELD_TEST(orphan_slot_without_the_flag_goes, FU_PLAIN, INODE_FIELD, 0, false,
	   pl->orphan_slot = le16_make(2))
FIELD_TEST(size_out_of_range_is_where_the_extents_end, FU_FRAGGED, INODE_FIELD, 0, false,
	   pl->size = le64_make(~0ull))
FIELD_TEST(size_beyond_what_is_held_in_place_is_cut, FU_SMALL, INLINE_SIZE, 0, false,
	   pl->size = le64_make(100000))
FIELD_TEST(bytes_behind_the_end_are_zeroed, FU_SMALL, INLINE_TAIL, 0, false,
	   pl->data_fork[2000] = 1)
FIELD_TEST(data_of_a_fifo_goes, FU_FIFO, SPECIAL, 0, false, pl->data_format = LUNFS_FORK_INLINE)
FIELD_TEST(size_of_a_fifo_goes, FU_FIFO, SPECIAL, 0, false, pl->size = le64_make(5))
FIELD_TEST(format_of_a_tree_is_found_again, FU_FRAGGED, INODE_FIELD, 0, false, pl->data_format = 7)
FIELD_TEST(format_of_a_directory_is_found_again, FU_MANY_DIR, INODE_FIELD, 0, false,
	   pl->data_format = LUNFS_FORK_INLINE)
FIELD_TEST(format_of_attributes_is_found_again, FU_ATTRS_FILE, INODE_FIELD, 0, false,
	   pl->xattr_format = 9)
FIELD_TEST(size_of_a_short_link_is_found_again, FU_SHORT_LINK, INODE_FIELD, 0, false,
	   pl->size = le64_make(0))
FIELD_TEST(size_of_a_long_link_is_found_again, FU_LONG_LINK, INODE_FIELD, 0, false,
	   pl->size = le64_make(3000))
FIELD_TEST(size_out_of_range_of_a_long_link_is_found_again, FU_LONG_LINK, INODE_FIELD, 0, false,
	   pl->size = le64_make(1ull << 40))
FIELD_TEST(link_whose_target_is_broken_is_cleared, FU_SHORT_LINK, SYMLINK, ONLY(FU_SHORT_LINK),
	   false, pl->data_fork[3] = 0)
FIELD_TEST(wrong_checksum_alone_is_corrected, FU_DIR, CHECKSUM, 0, true, pl->hdr.crc = le32_make(1))
FIELD_TEST(flipped_bit_in_the_owner_is_kept, FU_DIR, CHECKSUM, 0, true, pl->uid = le32_make(4))
FIELD_TEST(torn_field_is_corrected_with_the_checksum, FU_DIR, INODE_FIELD, 0, true,
	   pl->atime_ns = le32_make(0xffffffffu))
FIELD_TEST(inode_of_another_guard_is_corrected, FU_PLAIN, INODE_FIELD, 0, false,
	   pl->hdr.guard = le64_make(77))
FIELD_TEST(inode_of_rubbish_is_cleared, FU_PLAIN, INODE, ONLY(FU_PLAIN), true,
	   memset((uint8_t *)pl + 0x40, 0xa5, 3000))
FIELD_TEST(cell_of_rubbish_is_freed, FU_PLAIN, CELL, ONLY(FU_PLAIN), true,
	   memset(pl, 0xa5, sizeof(*pl)))

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(wrong_link_count_is_corrected),
	    cmocka_unit_test(wrong_link_count_of_a_directory_is_corrected),
	    cmocka_unit_test(link_count_out_of_range_is_corrected),
	    cmocka_unit_test(wrong_block_count_is_corrected),
	    cmocka_unit_test(block_count_out_of_range_is_corrected),
	    cmocka_unit_test(wrong_number_of_entries_is_corrected),
	    cmocka_unit_test(wrong_parent_is_corrected),
	    cmocka_unit_test(parent_that_is_no_cell_is_corrected),
	    cmocka_unit_test(parent_of_a_file_is_corrected),
	    cmocka_unit_test(unknown_mode_bits_go),
	    cmocka_unit_test(file_without_a_type_is_a_file_again),
	    cmocka_unit_test(directory_without_a_type_is_a_directory_again),
	    cmocka_unit_test(root_that_is_a_file_is_a_directory_again),
	    cmocka_unit_test(times_out_of_range_are_corrected),
	    cmocka_unit_test(reserved_bytes_are_zeroed),
	    cmocka_unit_test(device_number_of_a_file_goes),
	    cmocka_unit_test(unknown_flags_go),
	    cmocka_unit_test(file_is_no_list_of_orphans),
	    cmocka_unit_test(orphan_slot_without_the_flag_goes),
	    cmocka_unit_test(size_out_of_range_is_where_the_extents_end),
	    cmocka_unit_test(size_beyond_what_is_held_in_place_is_cut),
	    cmocka_unit_test(bytes_behind_the_end_are_zeroed),
	    cmocka_unit_test(data_of_a_fifo_goes),
	    cmocka_unit_test(size_of_a_fifo_goes),
	    cmocka_unit_test(format_of_a_tree_is_found_again),
	    cmocka_unit_test(format_of_a_directory_is_found_again),
	    cmocka_unit_test(format_of_attributes_is_found_again),
	    cmocka_unit_test(size_of_a_short_link_is_found_again),
	    cmocka_unit_test(size_of_a_long_link_is_found_again),
	    cmocka_unit_test(size_out_of_range_of_a_long_link_is_found_again),
	    cmocka_unit_test(link_whose_target_is_broken_is_cleared),
	    cmocka_unit_test(wrong_checksum_alone_is_corrected),
	    cmocka_unit_test(flipped_bit_in_the_owner_is_kept),
	    cmocka_unit_test(torn_field_is_corrected_with_the_checksum),
	    cmocka_unit_test(inode_of_another_guard_is_corrected),
	    cmocka_unit_test(inode_of_rubbish_is_cleared),
	    cmocka_unit_test(cell_of_rubbish_is_freed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
