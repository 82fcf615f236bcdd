/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mkfs.lunfs on a simulated device: what it writes, in which order, and whom it will not disturb.
 */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "mkfs.h"

#include "alloc/alloc.h"
#include "base/bitmap.h"
#include "base/crc.h"
#include "cluster/host.h"
#include "cluster/lock.h"
#include "node/node.h"
#include "simclock.h"
#include "simdev.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000ull

struct bed {
	struct clock *clk;
	struct dev *d, *other;
	struct simdev_medium *m;
	struct geo g;
	char why[MKFS_WHY_BYTES];
	int err;
};

static const struct mkfs_options opts = {
    .label = "", .beat_ms = 150, .deadline_ms = 400, .lease_ms = 800, .quiet = true};

static void bed_init(struct bed *b, uint64_t size, uint32_t sector)
{
	memset(b, 0, sizeof(*b));
	b->clk = simclock_new();
	b->d = simdev_new(b->clk, size, sector, sector);
	b->m = simdev_medium_of(b->d);
	b->other = simdev_attach(b->m);
	assert_int_equal(layout_make(&opts, size, sector, sector, &b->g, b->why, sizeof(b->why)),
			 0);
	memset(b->g.vol_id, 0x33, 16);
	memset(b->g.hash_key, 0x44, 16);
}

static void bed_end(struct bed *b)
{
	dev_close(b->d);
	dev_close(b->other);
	b->clk->ops->destroy(b->clk);
}

static int make(struct bed *b)
{
	struct mkfs_found none = {.patches = 0};
	struct live_table *old;
	int err = live_watch(b->d, b->clk, true, &old, b->why, sizeof(b->why));

	if (err)
		return err;
	err = volume_write(b->d, b->clk, &b->g, &none, old, b->why, sizeof(b->why));
	live_free(old);
	return err;
}

static void cell(struct bed *b, uint64_t addr, uint8_t *sector, uint8_t *payload)
{
	struct lunfs_lock_rec rec;

	simdev_peek(b->m, geo_blk_off(addr), b->g.sector_bytes, sector);
	simdev_peek(b->m, geo_payload_off(&b->g, addr), LUNFS_PAYLOAD_BYTES, payload);
	assert_int_equal(lock_rec_decode(&b->g, sector, addr, &rec), 0);
	assert_int_equal(le16_get(rec.mode), LUNFS_LOCK_FREE);
}

static void check_group0(struct bed *b)
{
	uint8_t sector[4096], pl[LUNFS_PAYLOAD_BYTES];
	const struct lunfs_bitmap_pl *bm = (const void *)pl;
	struct group_info gi;
	struct chunk_info ci;
	uint32_t zeros = 0, len = geo_group_len(&b->g, 0);

	cell(b, geo_group_header(&b->g, 0), sector, pl);
	assert_int_equal(group_decode(&b->g, pl, 0, &gi), 0);
	assert_int_equal(gi.chunks, 1);
	assert_int_equal(gi.chunk[0], layout_chunk_first_cell(&b->g) + 1);
	for (unsigned i = 0; i < b->g.bitmap_cells; i++) {
		uint64_t addr = geo_group_bitmap(&b->g, 0, i);
		uint32_t from = i * LUNFS_BITMAP_BITS;
		uint32_t n = len - from < LUNFS_BITMAP_BITS ? len - from : LUNFS_BITMAP_BITS;

		cell(b, addr, sector, pl);
		assert_int_equal(blk_check(&b->g, pl, LUNFS_BLK_BITMAP, addr), 0);
		zeros += n - (uint32_t)bit_count(bm->bits, n);
	}
	assert_int_equal(zeros, gi.free_blks);
	assert_int_equal(zeros, len - LUNFS_CHUNK_CELLS * b->g.cell_blks);
	cell(b, layout_chunk_header(&b->g), sector, pl);
	assert_int_equal(chunk_decode(&b->g, pl, layout_chunk_header(&b->g), &ci), 0);
	assert_int_equal(ci.cells - ci.free_cells, 2 + b->g.journals);
}

static void check_inodes(struct bed *b)
{
	uint8_t sector[4096], pl[LUNFS_PAYLOAD_BYTES];
	struct inode in;

	cell(b, b->g.root_ino, sector, pl);
	assert_int_equal(blk_check(&b->g, pl, LUNFS_BLK_INODE, b->g.root_ino), 0);
	assert_int_equal(inode_decode(&b->g, pl, b->g.root_ino, &in), 0);
	assert_true(in.mode == (S_IFDIR | 0755) && in.nlink == 2 && in.parent == b->g.root_ino);
	for (unsigned i = 0; i < b->g.journals; i++) {
		cell(b, b->g.orphan_ino[i], sector, pl);
		assert_int_equal(inode_decode(&b->g, pl, b->g.orphan_ino[i], &in), 0);
		assert_true(in.mode == (S_IFDIR | 0700) && in.flags == LUNFS_INODE_ORPHAN_DIR);
	}
}

static void check_fixed(struct bed *b)
{
	uint8_t sector[4096], pl[LUNFS_PAYLOAD_BYTES];
	const struct lunfs_anchor_pl *an = (const void *)pl;
	struct host_info hi;
	struct maint_info mi = {.holder = 1, .flags = 1};

	for (unsigned i = 0; i < geo_all_slots(&b->g); i++) {
		simdev_peek(b->m, geo_slot_off(i), sizeof(sector), sector);
		assert_int_equal(slot_decode(&b->g, sector, i, &hi), 0);
		assert_true(hi.state == LUNFS_SLOT_FREE && hi.generation == 0);
	}
	simdev_peek(b->m, LUNFS_MAINT_OFF, sizeof(sector), sector);
	assert_int_equal(maint_decode(&b->g, sector, &mi), 0);
	assert_true(mi.holder == 0 && mi.flags == 0);
	for (int a = 0; a < LUNFS_ANCHORS; a++) {
		uint64_t addr = geo_anchor_cell((enum lunfs_anchor)a);

		cell(b, addr, sector, pl);
		assert_int_equal(blk_check(&b->g, pl, LUNFS_BLK_ANCHOR, addr), 0);
		assert_int_equal(le64_get(an->value), a == LUNFS_ANCHOR_WATERMARK);
	}
}

static void check_volume(struct bed *b)
{
	uint8_t sb[4096], copy[4096];
	struct geo g;

	simdev_peek(b->m, LUNFS_SB_OFF, 4096, sb);
	assert_int_equal(sb_decode(sb, &g, NULL), 0);
	assert_int_equal(g.root_ino, b->g.root_ino);
	simdev_peek(b->m, sb_tail_off(b->d->id.size_bytes), 4096, copy);
	assert_memory_equal(sb, copy, 4096);
	for (uint64_t i = 1; i < g.groups; i++) {
		if (!sb_group_has_copy(i))
			continue;
		simdev_peek(b->m, geo_blk_off(geo_group_blk(&g, i)), 4096, copy);
		assert_memory_equal(sb, copy, 4096);
	}
	check_fixed(b);
	check_group0(b);
	check_inodes(b);
	assert_int_equal(simdev_unflushed(b->m), 0);
}

static void a_fresh_volume_decodes_at_every_size(void **state)
{
	static const uint64_t size[] = {64ull << 20, 1ull << 30, 40ull << 30, 64ull << 40};
	struct bed b;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		for (uint32_t sector = 512; sector <= 4096; sector *= 8) {
			bed_init(&b, size[i], sector);
			assert_int_equal(make(&b), 0);
			check_volume(&b);
			assert_true(atomic_load(&b.d->stats.write_bytes) < 64u << 20);
			assert_true(atomic_load(&b.d->stats.writes) < 150);
			bed_end(&b);
		}
	}
}

static void a_second_mkfs_leaves_nothing_of_the_first(void **state)
{
	struct bed b;

	(void)state;
	bed_init(&b, 64ull << 20, 512);
	assert_int_equal(make(&b), 0);
	memset(b.g.vol_id, 0x55, 16);
	assert_int_equal(make(&b), 0);
	check_volume(&b);
	bed_end(&b);
}

/* The hook ends the world at the nth command that changes something. */
static void end_at(void *ctx, struct dev *d, const struct simdev_cmd *cmd, struct simdev_fault *out)
{
	(void)out;
	if (cmd->index == *(uint64_t *)ctx)
		simdev_kill(d);
}

static void an_interrupted_mkfs_is_no_volume_or_a_whole_one(void **state)
{
	unsigned whole = 0;
	struct bed b;

	(void)state;
	for (uint64_t end = 1; end < 40; end++) {
		uint8_t sb[4096];
		struct geo g;

		bed_init(&b, 64ull << 20, 512);
		simdev_set_hook(b.m, end_at, &end);
		b.err = make(&b);
		simdev_set_hook(b.m, NULL, NULL);
		simdev_power_cut(b.m, end);
		simdev_peek(b.m, LUNFS_SB_OFF, 4096, sb);
		if (sb_decode(sb, &g, NULL) == 0) {
			check_volume(&b);
			whole++;
		} else {
			assert_int_not_equal(b.err, 0);
			assert_non_null(strstr(b.why, "no lunfs volume"));
		}
		bed_end(&b);
	}
	assert_in_range(whole, 1, 38);
}

/* ---- hosts that use it ----------------------------------------------------------------------- */

static void slot_set(struct bed *b, unsigned slot, uint16_t slot_state, uint64_t seq)
{
	struct lunfs_slot_rec *rec = dev_buf_alloc(4096);

	slot_format(&b->g, rec, slot, 77);
	rec->state = le16_make(slot_state);
	rec->generation = le64_make(4);
	rec->nonce = le64_make(99);
	rec->beat_seq = le64_make(seq);
	rec->beat_ms = le32_make(150);
	rec->deadline_ms = le32_make(400);
	rec->lease_ms = le32_make(800);
	strcpy((char *)rec->hostname, "node7");
	crc_seal(rec, 512, offsetof(struct lunfs_ats_hdr, crc));
	simdev_poke(b->m, geo_slot_off(slot), 512, rec);
	free(rec);
}

static void run_make(void *arg)
{
	struct bed *b = arg;

	b->err = make(b);
}

static void beat(void *arg)
{
	struct bed *b = arg;

	for (uint64_t seq = 2; seq < 20; seq++) {
		clock_sleep_ns(b->clk, 150 * MS);
		slot_set(b, 3, LUNFS_SLOT_LIVE, seq);
	}
}

static void make_beside_a_beat(void *arg)
{
	struct bed *b = arg;
	struct task *t;

	b->clk->ops->task_start(b->clk, "beat", beat, b, &t);
	b->err = make(b);
	b->clk->ops->task_join(b->clk, t);
}

static void a_beating_host_is_refused_and_named_and_nothing_is_written(void **state)
{
	struct bed b;
	uint64_t writes;

	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++) {
		bed_init(&b, 64ull << 20, 512);
		assert_int_equal(make(&b), 0);
		writes = atomic_load(&b.d->stats.writes);
		slot_set(&b, 3, LUNFS_SLOT_LIVE, 1);
		simclock_run(b.clk, make_beside_a_beat, &b, seed);
		assert_int_equal(b.err, -EBUSY);
		assert_non_null(strstr(b.why, "node7"));
		assert_int_equal(atomic_load(&b.d->stats.writes), writes);
		bed_end(&b);
	}
}

static void a_dead_host_costs_its_lease_and_no_more(void **state)
{
	struct bed b;
	uint64_t before;

	(void)state;
	bed_init(&b, 64ull << 20, 512);
	assert_int_equal(make(&b), 0);
	slot_set(&b, 3, LUNFS_SLOT_RECOVERING,
		 1); /* without a recoverer: it does not even decode */
	slot_set(&b, 5, LUNFS_SLOT_LIVE, 1);
	before = clock_now_ns(b.clk);
	simclock_run(b.clk, run_make, &b, 1);
	assert_int_equal(b.err, 0);
	assert_in_range(clock_now_ns(b.clk) - before, 800 * MS, 1200 * MS);
	check_volume(&b);
	bed_end(&b);
}

static void a_live_host_is_found_when_the_superblock_is_gone(void **state)
{
	uint8_t zero[4096] = {0};
	struct bed b;

	(void)state;
	bed_init(&b, 64ull << 20, 512);
	assert_int_equal(make(&b), 0);
	simdev_poke(b.m, LUNFS_SB_OFF, 4096, zero);
	simdev_poke(b.m, sb_tail_off(64ull << 20), 4096, zero);
	slot_set(&b, 3, LUNFS_SLOT_LIVE, 1);
	simclock_run(b.clk, make_beside_a_beat, &b, 3);
	assert_int_equal(b.err, -EBUSY);
	bed_end(&b);
}

/* A host claims its slot after the watch, just as the old superblocks have gone. */
static void claim_late(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
		       struct simdev_fault *out)
{
	struct bed *b = ctx;

	(void)out;
	if (d == b->d && cmd->op == SIMDEV_FLUSH) {
		simdev_set_hook(b->m, NULL, NULL);
		slot_set(b, 0, LUNFS_SLOT_LIVE, 1);
	}
}

static void a_host_that_mounts_in_the_last_moment_keeps_its_volume(void **state)
{
	uint8_t sb[4096];
	struct bed b;
	struct geo g;

	(void)state;
	bed_init(&b, 64ull << 20, 512);
	assert_int_equal(make(&b), 0);
	memset(b.g.vol_id, 0x33, 16);
	simdev_set_hook(b.m, claim_late, &b);
	assert_int_equal(make(&b), -EBUSY);
	assert_non_null(strstr(b.why, "node7"));
	simdev_peek(b.m, LUNFS_SB_OFF, 4096, sb);
	assert_int_equal(sb_decode(sb, &g, NULL), 0);
	simdev_peek(b.m, sb_tail_off(64ull << 20), 4096, sb);
	assert_int_equal(sb_decode(sb, &g, NULL), 0);
	assert_int_equal(simdev_unflushed(b.m), 0);
	bed_end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_fresh_volume_decodes_at_every_size),
	    cmocka_unit_test(a_second_mkfs_leaves_nothing_of_the_first),
	    cmocka_unit_test(an_interrupted_mkfs_is_no_volume_or_a_whole_one),
	    cmocka_unit_test(a_beating_host_is_refused_and_named_and_nothing_is_written),
	    cmocka_unit_test(a_dead_host_costs_its_lease_and_no_more),
	    cmocka_unit_test(a_live_host_is_found_when_the_superblock_is_gone),
	    cmocka_unit_test(a_host_that_mounts_in_the_last_moment_keeps_its_volume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
