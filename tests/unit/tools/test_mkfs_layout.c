/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where mkfs.lunfs puts things, from 64 MiB to 64 TiB, and what it makes of its command line. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "mkfs.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define TIB (1ull << 40)

static const struct mkfs_options defaults = {
    .label = "", .beat_ms = 3000, .deadline_ms = 8000, .lease_ms = 16000};

static int make(const struct mkfs_options *o, uint64_t size, uint32_t sector, uint32_t phys,
		struct geo *g)
{
	char why[MKFS_WHY_BYTES] = "";
	int err = layout_make(o, size, sector, phys, g, why, sizeof(why));

	assert_int_equal(err == 0, why[0] == '\0');
	return err;
}

static void check_sound(const struct geo *g, uint64_t size)
{
	struct geo sealed = *g, back;
	uint8_t sb[4096];
	uint64_t tail = sb_tail_off(size) / 4096;
	uint32_t last = geo_group_len(g, g->groups - 1);

	memset(sealed.vol_id, 7, 16);
	sb_encode(&sealed, sb);
	assert_int_equal(sb_decode(sb, &back, NULL), 0);
	assert_true(g->end_blk <= tail && tail - g->end_blk < g->group_blks);
	assert_true(last >= 512 && last <= g->group_blks);
	assert_true(g->group0_blk % 256 == 0 && g->journal_blk[0] % 256 == 0);
	assert_true(g->journal_blk[0] * 4096 >=
		    LUNFS_BOARD_OFF + geo_all_slots(g) * g->board_row_bytes);
	assert_true(g->group0_blk * 4096 <= size / 4); /* overhead in proportion */
	assert_true(g->root_ino > layout_chunk_header(g));
	for (unsigned i = 0; i < g->journals; i++) {
		assert_true(g->orphan_ino[i] > g->root_ino);
		assert_true(g->journal_blk[i] + g->journal_blks <= g->group0_blk);
	}
	assert_true(layout_chunk_first_cell(g) + 2 + g->journals <= LUNFS_CHUNK_CELLS);
}

static void every_size_from_64_mib_to_64_tib_has_a_sound_layout(void **state)
{
	static const uint32_t kind[3][2] = {{512, 512}, {512, 4096}, {4096, 4096}};
	struct geo g;

	(void)state;
	for (unsigned k = 0; k < 3; k++) {
		for (uint64_t size = 64 * MIB; size <= 64 * TIB; size += size / 7 / 4096 * 4096) {
			assert_int_equal(make(&defaults, size, kind[k][0], kind[k][1], &g), 0);
			check_sound(&g, size);
		}
		for (uint64_t size = 64 * MIB; size <= 64 * TIB; size *= 2) {
			assert_int_equal(make(&defaults, size, kind[k][0], kind[k][1], &g), 0);
			check_sound(&g, size);
			assert_int_equal(
			    make(&defaults, size + 512 * 7, kind[k][0], kind[k][1], &g), 0);
			check_sound(&g, size + 512 * 7);
		}
	}
}

static void beyond_64_tib_works_too(void **state)
{
	struct geo g;

	(void)state;
	assert_int_equal(make(&defaults, 1ull << 63, 512, 512, &g), 0);
	check_sound(&g, 1ull << 63);
	assert_int_equal(make(&defaults, UINT64_MAX, 512, 512, &g), -EFBIG);
	assert_int_equal(make(&defaults, 4096 * TIB, 512, 512, &g), 0);
	check_sound(&g, 4096 * TIB);
}

static void cells_keep_lock_and_payload_in_separate_physical_blocks(void **state)
{
	struct geo g;

	(void)state;
	make(&defaults, GIB, 512, 512, &g);
	assert_true(g.cell_blks == 1 && g.payload_off == 512 && g.payload_io_bytes == 3584);
	make(&defaults, GIB, 512, 4096, &g);
	assert_true(g.cell_blks == 2 && g.payload_off == 4096 && g.payload_io_bytes == 3584);
	make(&defaults, GIB, 4096, 4096, &g);
	assert_true(g.cell_blks == 2 && g.payload_off == 4096 && g.payload_io_bytes == 4096);
}

static void hosts_slots_journals_and_groups_follow_the_size(void **state)
{
	struct geo g;

	(void)state;
	make(&defaults, 64 * MIB, 512, 512, &g);
	assert_true(g.journals == 4 && g.slots == 8 && g.journal_blks == 256 &&
		    g.group_blks == 2048);
	make(&defaults, GIB, 512, 512, &g);
	assert_true(g.journals == 8 && g.slots == 64 && g.journal_blks == 512);
	assert_int_equal(g.group_blks * 4096ull, 64 * MIB);
	make(&defaults, 16 * GIB, 512, 512, &g);
	assert_true(g.journals == 16 && g.slots == 64 && g.journal_blks == 4096);
	assert_int_equal(g.group_blks * 4096ull, GIB);
	make(&defaults, 64 * TIB, 4096, 4096, &g);
	assert_true(g.journals == 16 && g.journal_blks == 16384);
	assert_int_equal(g.group_blks * 4096ull, GIB);
	assert_in_range(g.groups, 65533, 65536);
}

static void hosts_and_journal_size_are_obeyed(void **state)
{
	struct mkfs_options o = defaults;
	struct geo g;

	(void)state;
	o.hosts = 128;
	o.journal_bytes = 2 * MIB;
	assert_int_equal(make(&o, 2 * GIB, 512, 512, &g), 0);
	assert_true(g.journals == 128 && g.slots == 128 && g.journal_blks == 512);
	assert_true(g.journal_blk[127] && g.orphan_ino[127]);
	check_sound(&g, 2 * GIB);
	o.hosts = 1;
	assert_int_equal(make(&o, 64 * MIB, 512, 512, &g), 0);
	assert_true(g.journals == 1 && g.slots == 8 && g.journal_blk[1] == 0);
	o.hosts = 100;
	assert_int_equal(make(&o, 8 * GIB, 4096, 4096, &g), 0);
	assert_int_equal(g.slots, 100);
	check_sound(&g, 8 * GIB);
}

static void what_does_not_fit_is_refused(void **state)
{
	struct mkfs_options o = defaults;
	struct geo g;

	(void)state;
	assert_int_equal(make(&o, 64 * MIB - 4096, 512, 512, &g), -ENOSPC);
	o.hosts = 128;
	assert_int_equal(make(&o, 128 * MIB, 512, 512, &g), -ENOSPC);
	o.hosts = 4;
	o.journal_bytes = MIB + 512;
	assert_int_equal(make(&o, GIB, 512, 512, &g), -EINVAL);
	o.journal_bytes = MIB / 2;
	assert_int_equal(make(&o, GIB, 512, 512, &g), -EINVAL);
	o.journal_bytes = 2 * GIB;
	assert_int_equal(make(&o, TIB, 512, 512, &g), -EINVAL);
}

static void the_devices_stripes_decide_where_journals_and_groups_begin(void **state)
{
	struct mkfs_options o = defaults;
	struct geo g;

	(void)state;
	assert_int_equal(layout_align(TIB, 0, 0), MIB);
	assert_int_equal(layout_align(TIB, 512, 0), MIB);
	assert_int_equal(layout_align(TIB, 65536, 262144), MIB);
	assert_int_equal(layout_align(TIB, 65536, 3 * 65536), 3 * MIB);
	assert_int_equal(layout_align(TIB, 65536, 4 * MIB), 4 * MIB);
	assert_int_equal(layout_align(TIB, 4096, 33553920), MIB);    /* what some USB bridges say */
	assert_int_equal(layout_align(TIB, 65536, 0xfffff000), MIB); /* nonsense */
	assert_int_equal(layout_align(TIB, 0, 4095), MIB);
	assert_int_equal(layout_align(TIB, 2 * MIB, 0xfffff000), 2 * MIB);
	assert_int_equal(layout_align(256 * MIB, 65536, 4 * MIB),
			 MIB); /* too much of it would go */
	o.align_bytes = 3 * MIB;
	assert_int_equal(make(&o, 8 * GIB, 512, 512, &g), 0);
	assert_int_equal(geo_blk_off(g.journal_blk[0]) % (3 * MIB), 0);
	assert_int_equal(geo_blk_off(g.group0_blk) % (3 * MIB), 0);
	check_sound(&g, 8 * GIB);
	o.align_bytes = 16 * MIB;
	for (uint64_t size = 4 * GIB; size < 64 * TIB; size *= 3) {
		assert_int_equal(make(&o, size, 512, 4096, &g), 0);
		assert_int_equal(geo_blk_off(geo_group_blk(&g, g.groups / 2)) % (16 * MIB), 0);
		check_sound(&g, size);
	}
}

static void a_device_that_begins_within_a_physical_block_is_refused(void **state)
{
	struct mkfs_topology t = {.logical_bytes = 512, .physical_bytes = 4096};
	char why[MKFS_WHY_BYTES] = "";

	(void)state;
	assert_int_equal(topology_check(&t, why, sizeof(why)), 0);
	t.misaligned_bytes = 3584;
	assert_int_equal(topology_check(&t, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "4096"));
	t.physical_bytes = 512;
	assert_int_equal(topology_check(&t, why, sizeof(why)), 0);
	memset(&t, 0, sizeof(t));
	assert_int_equal(topology_check(&t, why, sizeof(why)), 0);
}

static void sizes_are_read_with_and_without_a_suffix(void **state)
{
	uint64_t v = 0;

	(void)state;
	assert_int_equal(size_parse("4096", &v), 0);
	assert_int_equal(v, 4096);
	assert_int_equal(size_parse("64k", &v), 0);
	assert_int_equal(v, 65536);
	assert_int_equal(size_parse("3M", &v), 0);
	assert_int_equal(v, 3 * MIB);
	assert_int_equal(size_parse("2G", &v), 0);
	assert_int_equal(v, 2 * GIB);
	assert_int_equal(size_parse("1T", &v), 0);
	assert_int_equal(v, TIB);
	assert_int_equal(size_parse("", &v), -EINVAL);
	assert_int_equal(size_parse("M", &v), -EINVAL);
	assert_int_equal(size_parse("-1", &v), -EINVAL);
	assert_int_equal(size_parse("1X", &v), -EINVAL);
	assert_int_equal(size_parse("1MM", &v), -EINVAL);
	assert_int_equal(size_parse("99999999999999999999", &v), -ERANGE);
	assert_int_equal(size_parse("17179869184G", &v), -ERANGE);
	assert_int_equal(v, TIB);
}

static int parse(struct mkfs_options *o, const char *a, const char *b, const char *c)
{
	char *argv[] = {(char *)"mkfs.lunfs", (char *)a, (char *)b, (char *)c, NULL};
	int argc = 1 + (a != NULL) + (b != NULL) + (c != NULL);

	optind = 0;
	return options_parse(o, argc, argv);
}

static void options_are_taken_or_refused(void **state)
{
	struct mkfs_options o;

	(void)state;
	assert_int_equal(parse(&o, "--timing", "150,400,800", "dev"), 0);
	assert_true(o.beat_ms == 150 && o.deadline_ms == 400 && o.lease_ms == 800);
	assert_string_equal(o.device, "dev");
	assert_int_equal(parse(&o, "--timing", "150,400", "dev"), -1);
	assert_int_equal(parse(&o, "--timing", "150,400,800,9", "dev"), -1);
	assert_int_equal(parse(&o, "--timing", "400,400,800", "dev"), -1);
	assert_int_equal(parse(&o, "--timing", "0,400,800", "dev"), -1);
	assert_int_equal(parse(&o, "--timing", "1,2,3600001", "dev"), -1);
	assert_int_equal(parse(&o, "--hosts", "0", "dev"), -1);
	assert_int_equal(parse(&o, "--hosts", "129", "dev"), -1);
	assert_int_equal(parse(&o, "--hosts", "12x", "dev"), -1);
	assert_int_equal(parse(&o, "--sector-size", "1024", "dev"), -1);
	assert_int_equal(parse(&o, "-U", "nonsense", "dev"), -1);
	assert_int_equal(parse(&o, "-nqF", "dev", NULL), 0);
	assert_true(o.dry_run && o.quiet && o.force);
	assert_true(!o.keep && !o.json);
	assert_int_equal(parse(&o, "-K", "--json", "dev"), 0);
	assert_true(o.keep && o.json && !o.force);
	assert_int_equal(parse(&o, "dev", "dev2", NULL), -1);
	assert_int_equal(parse(&o, NULL, NULL, NULL), -1);
	assert_int_equal(parse(&o, "-V", NULL, NULL), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_size_from_64_mib_to_64_tib_has_a_sound_layout),
	    cmocka_unit_test(beyond_64_tib_works_too),
	    cmocka_unit_test(cells_keep_lock_and_payload_in_separate_physical_blocks),
	    cmocka_unit_test(hosts_slots_journals_and_groups_follow_the_size),
	    cmocka_unit_test(hosts_and_journal_size_are_obeyed),
	    cmocka_unit_test(what_does_not_fit_is_refused),
	    cmocka_unit_test(the_devices_stripes_decide_where_journals_and_groups_begin),
	    cmocka_unit_test(a_device_that_begins_within_a_physical_block_is_refused),
	    cmocka_unit_test(sizes_are_read_with_and_without_a_suffix),
	    cmocka_unit_test(options_are_taken_or_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
