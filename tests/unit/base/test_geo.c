/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The superblock's gate and the address arithmetic behind it. */
#include "unit.h"

#include "base/crc.h"
#include "base/geo.h"

#include <errno.h>
#include <string.h>

/* 256 MiB, 512-byte sectors, 4 journals of 1 MiB, groups of 16 MiB, the last one short. */
static struct geo sample(void)
{
	struct geo g = {.sb_seq = 1,
			.dev_blks = 65536,
			.sector_bytes = 512,
			.cell_blks = 1,
			.payload_off = 512,
			.payload_io_bytes = 3584,
			.slots = 8,
			.journals = 4,
			.board_row_bytes = 8192,
			.journal_blks = 256,
			.group_blks = 4096,
			.group0_blk = 2048,
			.bitmap_cells = 1,
			.beat_ms = 3000,
			.deadline_ms = 8000,
			.lease_ms = 16000};

	memset(g.vol_id, 0x11, sizeof(g.vol_id));
	memset(g.uuid, 0x22, sizeof(g.uuid));
	strcpy(g.label, "sample");
	for (unsigned i = 0; i < 4; i++) {
		g.journal_blk[i] = 1024 + i * 256;
		g.orphan_ino[i] = g.group0_blk + 300 + i;
	}
	g.root_ino = g.group0_blk + 299;
	g.end_blk = 65520;
	g.groups = (g.end_blk - g.group0_blk + 4095) / 4096;
	return g;
}

static int decode(const struct geo *g, struct geo *out)
{
	uint8_t sb[4096];

	sb_encode(g, sb);
	return sb_decode(sb, out, NULL);
}

static void an_encoded_superblock_decodes_to_the_same_geometry(void **state)
{
	struct geo g = sample(), out;

	(void)state;
	memset(&out, 0, sizeof(out));
	assert_int_equal(decode(&g, &out), 0);
	assert_memory_equal(&g, &out, sizeof(g));
}

static void a_label_of_64_bytes_survives(void **state)
{
	struct geo g = sample(), out;

	(void)state;
	memset(g.label, 'x', 64);
	g.label[64] = '\0';
	assert_int_equal(decode(&g, &out), 0);
	assert_string_equal(out.label, g.label);
}

static void no_magic_is_no_lunfs_and_a_flipped_bit_is_damage(void **state)
{
	struct geo g = sample(), out, before;
	uint8_t sb[4096];

	(void)state;
	memset(&out, 0x5a, sizeof(out));
	before = out;
	sb_encode(&g, sb);
	sb[3] ^= 1;
	assert_int_equal(sb_decode(sb, &out, NULL), -EINVAL);
	sb[3] ^= 1;
	for (size_t i = 8; i < sizeof(sb); i += 13) {
		sb[i] ^= 0x10;
		assert_int_equal(sb_decode(sb, &out, NULL), -EUCLEAN);
		sb[i] ^= 0x10;
	}
	assert_memory_equal(&out, &before, sizeof(out));
	assert_int_equal(sb_decode(sb, &out, NULL), 0);
}

static void an_unknown_incompat_bit_is_refused_and_named(void **state)
{
	struct geo g = sample(), out;
	uint64_t bits = 0;
	uint8_t sb[4096];

	(void)state;
	g.incompat = 0x8004;
	sb_encode(&g, sb);
	assert_int_equal(sb_decode(sb, &out, &bits), -EPROTONOSUPPORT);
	assert_true(bits == 0x8004);
	g.incompat = 0;
	g.compat = 0x10;
	assert_int_equal(decode(&g, &out), 0);
}

static void a_newer_format_is_refused(void **state)
{
	struct geo g = sample(), out;
	uint8_t sb[4096];

	(void)state;
	sb_encode(&g, sb);
	sb[8] = LUNFS_FORMAT_VERSION + 1;
	crc_seal(sb, sizeof(sb), 0x0c);
	assert_int_equal(sb_decode(sb, &out, NULL), -EPROTONOSUPPORT);
}

static void reserved_bytes_must_be_zero(void **state)
{
	struct geo g = sample(), out;
	uint8_t sb[4096];

	(void)state;
	sb_encode(&g, sb);
	sb[0x7ff] = 1;
	crc_seal(sb, sizeof(sb), 0x0c);
	assert_int_equal(sb_decode(sb, &out, NULL), -EUCLEAN);
	sb[0x7ff] = 0;
	sb[0x30 + 20] = 'y'; /* after the label's end */
	crc_seal(sb, sizeof(sb), 0x0c);
	assert_int_equal(sb_decode(sb, &out, NULL), -EUCLEAN);
}

#define REFUSED(change)                                                                            \
	do {                                                                                       \
		struct geo g = sample(), out;                                                      \
		change;                                                                            \
		assert_int_equal(decode(&g, &out), -EUCLEAN);                                      \
	} while (0)

static void every_range_is_checked(void **state)
{
	(void)state;
	REFUSED(g.sb_seq = 0);
	REFUSED(memset(g.vol_id, 0, 16));
	REFUSED(g.sector_bytes = 1024);
	REFUSED(g.sector_bytes = 4096); /* needs cells of two blocks */
	REFUSED(g.cell_blks = 2);
	REFUSED(g.payload_off = 1024);
	REFUSED(g.slots = 0);
	REFUSED(g.slots = 129);
	REFUSED(g.journals = 0);
	REFUSED(g.journals = 9);
	REFUSED(g.journals = 3);
	REFUSED(g.board_row_bytes = 4096);
	REFUSED(g.board_row_bytes = 8193);
	REFUSED(g.board_row_bytes = UINT64_MAX - 4095);
	REFUSED(g.beat_ms = 0);
	REFUSED(g.deadline_ms = 14000);
	REFUSED(g.deadline_ms = UINT32_MAX);
	REFUSED(g.lease_ms = UINT32_MAX);
	REFUSED(g.dev_blks = 1000);
	REFUSED(g.dev_blks = UINT64_MAX);
	REFUSED(g.dev_blks = 65535); /* the tail would lie in the last group */
	REFUSED(g.group_blks = 4095);
	REFUSED(g.group_blks = 1024);
	REFUSED(g.group_blks = 1u << 19);
	REFUSED(g.bitmap_cells = 2);
	REFUSED(g.group0_blk = 2049);
	REFUSED(g.group0_blk = 768); /* in the board */
	REFUSED(g.group0_blk = UINT64_MAX - 255);
	REFUSED(g.groups++);
	REFUSED(g.groups = 0);
	REFUSED(g.end_blk = g.group0_blk);
	REFUSED(g.end_blk = UINT64_MAX);
	REFUSED(g.end_blk = g.group0_blk + 15 * 4096 + 2); /* the last group has no room */
	REFUSED(g.journal_blks = 255);
	REFUSED(g.journal_blks = UINT32_MAX);
	REFUSED(g.journal_blk[1] = 700);
	REFUSED(g.journal_blk[1] = g.journal_blk[0] + 255);
	REFUSED(g.journal_blk[3] = 2047); /* runs into group 0 */
	REFUSED(g.journal_blk[3] = UINT64_MAX);
	REFUSED(g.journal_blk[9] = 5000; g.journals = 5);
	REFUSED(g.orphan_ino[2] = 0);
	REFUSED(g.orphan_ino[7] = 2400);
	REFUSED(g.orphan_ino[2] = g.root_ino);
	REFUSED(g.orphan_ino[2] = g.orphan_ino[1]);
	REFUSED(g.root_ino = 0);
	REFUSED(g.root_ino = geo_anchor_cell(LUNFS_ANCHOR_RENAME));
	REFUSED(g.root_ino = g.group0_blk + 1);
	REFUSED(g.root_ino = UINT64_MAX);
}

static void a_journal_may_lie_inside_one_group(void **state)
{
	struct geo g = sample(), out;

	(void)state;
	g.journal_blk[2] = g.group0_blk + 4096 + 1000;
	assert_int_equal(decode(&g, &out), 0);
	g.journal_blk[2] = g.group0_blk + 2 * 4096 - 100; /* crosses into the next group */
	assert_int_equal(decode(&g, &out), -EUCLEAN);
}

static void a_range_is_good_only_inside_one_groups_allocatable_part(void **state)
{
	struct geo g = sample();
	uint64_t b = geo_group_blk(&g, 3), last = geo_group_blk(&g, g.groups - 1);

	(void)state;
	assert_int_equal(geo_group_meta_blks(&g), 3);
	assert_true(blk_range_ok(&g, b + 3, 4093));
	assert_false(blk_range_ok(&g, b + 3, 4094));
	assert_false(blk_range_ok(&g, b + 2, 1));
	assert_false(blk_range_ok(&g, b + 3, 0));
	assert_false(blk_range_ok(&g, b + 10, UINT64_MAX));
	assert_false(blk_range_ok(&g, b + 10, UINT64_MAX - b));
	assert_false(blk_range_ok(&g, UINT64_MAX, 1));
	assert_false(blk_range_ok(&g, 0, 1));
	assert_false(blk_range_ok(&g, g.group0_blk - 1, 1));
	assert_true(blk_range_ok(&g, g.end_blk - 1, 1));
	assert_false(blk_range_ok(&g, g.end_blk - 1, 2));
	assert_false(blk_range_ok(&g, g.end_blk, 1));
	assert_int_equal(geo_group_len(&g, g.groups - 1), g.end_blk - last);
	assert_int_equal(geo_group_len(&g, 0), 4096);
	assert_int_equal(geo_group_len(&g, g.groups), 0);
	assert_int_equal(geo_group_of(&g, b + 4095), 3);
}

static void a_cell_stands_whole_and_aligned_in_its_group(void **state)
{
	struct geo g = sample();
	uint64_t b;

	(void)state;
	g.cell_blks = 2;
	g.payload_off = 4096;
	g.end_blk -= 1; /* an odd last group */
	b = geo_group_blk(&g, 1);
	assert_false(cell_addr_ok(&g, b));
	assert_true(cell_addr_ok(&g, geo_group_header(&g, 1)));
	assert_true(cell_addr_ok(&g, geo_group_bitmap(&g, 1, 0)));
	assert_false(cell_addr_ok(&g, b + 7));
	assert_true(cell_addr_ok(&g, b + 8));
	assert_true(cell_addr_ok(&g, g.end_blk - 3));
	assert_false(cell_addr_ok(&g, g.end_blk - 1));
	assert_true(cell_addr_ok(&g, geo_anchor_cell(LUNFS_ANCHOR_VOLUME)));
	assert_true(cell_addr_ok(&g, geo_anchor_cell(LUNFS_ANCHOR_WATERMARK)));
	assert_false(cell_addr_ok(&g, geo_anchor_cell(LUNFS_ANCHOR_WATERMARK) + 2));
	assert_false(cell_addr_ok(&g, 0));
	assert_false(cell_addr_ok(&g, UINT64_MAX));
}

static void copies_stand_in_groups_1_and_powers_of_3_5_and_7(void **state)
{
	static const uint64_t yes[] = {1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343};
	size_t n = 0;

	(void)state;
	for (uint64_t g = 0; g <= 400; g++) {
		bool want = n < sizeof(yes) / sizeof(yes[0]) && yes[n] == g;

		assert_int_equal(sb_group_has_copy(g), want);
		n += want;
	}
}

static void the_tail_copy_opens_the_last_whole_64_kib(void **state)
{
	(void)state;
	assert_int_equal(sb_tail_off(64 << 20), (64 << 20) - 65536);
	assert_int_equal(sb_tail_off((64 << 20) + 4096), (64 << 20) - 65536);
	assert_int_equal(sb_tail_off((64 << 20) + 65535), (64 << 20) - 65536);
	assert_int_equal(sb_tail_off(100), 0);
}

static void a_payload_is_known_by_type_volume_address_and_crc(void **state)
{
	struct geo g = sample(), other = sample();
	uint8_t p[LUNFS_PAYLOAD_BYTES];

	(void)state;
	memset(p, 0x77, sizeof(p));
	blk_init(&g, p, LUNFS_BLK_INODE, 2400, 9, 2400, 5);
	blk_seal(p);
	assert_int_equal(blk_check(&g, p, LUNFS_BLK_INODE, 2400), 0);
	assert_int_equal(blk_check(&g, p, LUNFS_BLK_BTREE, 2400), -EUCLEAN);
	assert_int_equal(blk_check(&g, p, LUNFS_BLK_INODE, 2401), -EUCLEAN);
	other.vol_id[15] ^= 1;
	assert_int_equal(blk_check(&other, p, LUNFS_BLK_INODE, 2400), -EUCLEAN);
	p[3583] ^= 1;
	assert_int_equal(blk_check(&g, p, LUNFS_BLK_INODE, 2400), -EUCLEAN);
	p[3583] ^= 1;
	p[0x38] = 1; /* reserved */
	blk_seal(p);
	assert_int_equal(blk_check(&g, p, LUNFS_BLK_INODE, 2400), -EUCLEAN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_encoded_superblock_decodes_to_the_same_geometry),
	    cmocka_unit_test(a_label_of_64_bytes_survives),
	    cmocka_unit_test(no_magic_is_no_lunfs_and_a_flipped_bit_is_damage),
	    cmocka_unit_test(an_unknown_incompat_bit_is_refused_and_named),
	    cmocka_unit_test(a_newer_format_is_refused),
	    cmocka_unit_test(reserved_bytes_must_be_zero),
	    cmocka_unit_test(every_range_is_checked),
	    cmocka_unit_test(a_journal_may_lie_inside_one_group),
	    cmocka_unit_test(a_range_is_good_only_inside_one_groups_allocatable_part),
	    cmocka_unit_test(a_cell_stands_whole_and_aligned_in_its_group),
	    cmocka_unit_test(copies_stand_in_groups_1_and_powers_of_3_5_and_7),
	    cmocka_unit_test(the_tail_copy_opens_the_last_whole_64_kib),
	    cmocka_unit_test(a_payload_is_known_by_type_volume_address_and_crc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
