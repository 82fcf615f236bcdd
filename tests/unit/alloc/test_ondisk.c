// SPDX-License-Identifier: GPL-2.0-or-later
/* Group and chunk headers on disk: what is good decodes, what is hostile does not. */
#include "fixture.h"

#include "base/bitmap.h"

#include <string.h>

static const struct fix_shape small = {512, 4096, 4, 1};

static struct lunfs_group_pl header;
static uint8_t bitmaps[LUNFS_PAYLOAD_BYTES];
static struct lunfs_chunk_pl chunk;

static void fresh_group_decodes(struct fix *f)
{
	struct group_info gi;

	f->check = false;
	group_format(&f->geo, 2, &header, bitmaps);
	assert_int_equal(group_decode(&f->geo, &header, 2, &gi), 0);
	assert_int_equal(gi.nblks, 4096);
	assert_int_equal(gi.free_blks, 4096 - geo_group_meta_blks(&f->geo));
	assert_int_equal(gi.chunks, 0);
	assert_int_equal(
	    blk_check(&f->geo, bitmaps, LUNFS_BLK_BITMAP, geo_group_bitmap(&f->geo, 2, 0)), 0);
}

static void assert_group_bad(struct fix *f, uint64_t group)
{
	struct group_info gi;

	blk_seal(&header);
	memset(&gi, 0x5a, sizeof(gi));
	assert_int_not_equal(group_decode(&f->geo, &header, group, &gi), 0);
	assert_int_equal(gi.nblks, 0x5a5a5a5a);
	group_format(&f->geo, 2, &header, bitmaps);
}

static void hostile_groups_do_not_decode(struct fix *f)
{
	f->check = false;
	group_format(&f->geo, 2, &header, bitmaps);
	assert_group_bad(f, 1);
	assert_group_bad(f, 4);
	header.group = le64_make(1);
	assert_group_bad(f, 2);
	header.free_blks = le32_make(4096);
	assert_group_bad(f, 2);
	header.nblks = le32_make(4095);
	assert_group_bad(f, 2);
	header.chunks = le32_make(1);
	assert_group_bad(f, 2);
	header.reserved[7] = 1;
	assert_group_bad(f, 2);
	header.hdr.guard = le64_make(geo_group_header(&f->geo, 1));
	assert_group_bad(f, 2);
	header.chunk[0] = le16_make(1); /* inside the group's own metadata */
	header.chunks = le32_make(1);
	assert_group_bad(f, 2);
	header.chunk[3] = le16_make(257);
	header.chunks = le32_make(1);
	assert_group_bad(f, 2);
	header.chunk[16] = le16_make(100); /* window 16 would be in the next group */
	header.chunks = le32_make(1);
	assert_group_bad(f, 2);
}

static uint64_t make_chunk(struct fix *f)
{
	uint64_t first = geo_group_blk(&f->geo, 1) + 256, addr = first + 5;

	memset(&chunk, 0, sizeof(chunk));
	blk_init(&f->geo, &chunk, LUNFS_BLK_CHUNK, addr, 1, addr, 0);
	chunk.group = le64_make(1);
	chunk.first_blk = le64_make(first);
	chunk.cells = le32_make(20);
	chunk.free_cells = le32_make(18);
	for (unsigned i = 0; i < 20; i++)
		bit_set(chunk.valid, 5 + i);
	bit_set(chunk.used, 5);
	bit_set(chunk.used, 11);
	blk_seal(&chunk);
	return addr;
}

static void good_chunk_decodes(struct fix *f)
{
	uint64_t addr = make_chunk(f);
	struct chunk_info ci;

	f->check = false;
	assert_int_equal(chunk_decode(&f->geo, &chunk, addr, &ci), 0);
	assert_int_equal(ci.group, 1);
	assert_int_equal(ci.first_blk, addr - 5);
	assert_int_equal(ci.cells, 20);
	assert_int_equal(ci.free_cells, 18);
}

static void assert_chunk_bad(struct fix *f, uint64_t addr)
{
	struct chunk_info ci;

	blk_seal(&chunk);
	memset(&ci, 0x5a, sizeof(ci));
	assert_int_not_equal(chunk_decode(&f->geo, &chunk, addr, &ci), 0);
	assert_int_equal(ci.cells, 0x5a5a5a5a);
	make_chunk(f);
}

static void hostile_chunks_do_not_decode(struct fix *f)
{
	uint64_t addr = make_chunk(f);

	f->check = false;
	assert_chunk_bad(f, addr + 1);
	assert_chunk_bad(f, 3);
	assert_chunk_bad(f, UINT64_MAX);
	bit_set(chunk.used, 40); /* not a cell */
	assert_chunk_bad(f, addr);
	bit_clear(chunk.used, 5); /* the header itself */
	chunk.free_cells = le32_make(19);
	assert_chunk_bad(f, addr);
	chunk.free_cells = le32_make(17);
	assert_chunk_bad(f, addr);
	chunk.cells = le32_make(19);
	assert_chunk_bad(f, addr);
	chunk.first_blk = le64_make(addr);
	assert_chunk_bad(f, addr);
	chunk.group = le64_make(2);
	assert_chunk_bad(f, addr);
	chunk.reserved1[100] = 1;
	assert_chunk_bad(f, addr);
}

#define RUN(name)                                                                                  \
	static void test_##name(void **state)                                                      \
	{                                                                                          \
		(void)state;                                                                       \
		fix_run(name, &small);                                                             \
	}
RUN(fresh_group_decodes)
RUN(hostile_groups_do_not_decode)
RUN(good_chunk_decodes)
RUN(hostile_chunks_do_not_decode)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_fresh_group_decodes),
	    cmocka_unit_test(test_hostile_groups_do_not_decode),
	    cmocka_unit_test(test_good_chunk_decodes),
	    cmocka_unit_test(test_hostile_chunks_do_not_decode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
