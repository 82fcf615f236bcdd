/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See mkfs_bed.h. */
#include "mkfs_bed.h"

#include "alloc/alloc.h"
#include "base/bitmap.h"
#include "cluster/host.h"
#include "cluster/lock.h"
#include "node/node.h"

#include <string.h>

static const struct mkfs_options opts = {
    .label = "", .beat_ms = 150, .deadline_ms = 400, .lease_ms = 800, .quiet = true};

void bed_init(struct bed *b, uint64_t size, uint32_t sector)
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

void bed_end(struct bed *b)
{
	dev_close(b->d);
	dev_close(b->other);
	b->clk->ops->destroy(b->clk);
}

int bed_make(struct bed *b)
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

void bed_check_body(struct bed *b)
{
	check_fixed(b);
	check_group0(b);
	check_inodes(b);
}

void bed_check_volume(struct bed *b)
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
	bed_check_body(b);
	assert_int_equal(simdev_unflushed(b->m), 0);
}
