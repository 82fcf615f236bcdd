/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing a volume. O(hosts) writes whatever the size: fixed places, journal headers, group 0 with
 * one metadata chunk, superblock copies. Groups above the watermark (1) are left as they are.
 *
 * An old volume loses its superblocks first; then its host table is looked at once more. A host
 * that mounts it meanwhile stores its slot first and reads the superblock again afterwards, so one
 * of the two sees the other. The new main superblock is written last, between two flushes: before
 * it is there, this is no lunfs volume.
 */
#include "mkfs.h"

#include "alloc/alloc.h"
#include "base/bitmap.h"
#include "base/log.h"
#include "cluster/host.h"
#include "cluster/lock.h"
#include "node/node.h"
#include "txn/txn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MKFS_GENERATION 1u /* of the inodes that mkfs makes */

struct job {
	struct dev *d;
	const struct geo *g;
	uint64_t nonce; /* of mkfs's images */
	struct timespec now;
	int err; /* the first; later steps do nothing */
	const char *what;
};

static void put(struct job *j, const char *what, uint64_t off_bytes, size_t len_bytes,
		const void *buf)
{
	if (j->err)
		return;
	j->what = what;
	j->err = dev_write(j->d, off_bytes, len_bytes, buf);
}

static void zero(struct job *j, const char *what, uint64_t off_bytes, uint64_t len_bytes)
{
	if (j->err)
		return;
	j->what = what;
	j->err = dev_zero(j->d, off_bytes, len_bytes);
}

static void flush(struct job *j)
{
	if (j->err)
		return;
	j->what = "the device's cache";
	j->err = dev_flush(j->d);
}

/* ---- cells ----------------------------------------------------------------------------------- */

/* A cell in a zeroed buffer: its lock record, FREE; returns where its payload goes. */
static void *cell_at(const struct job *j, uint64_t addr, uint8_t *buf)
{
	lock_format(j->g, addr, j->nonce, buf);
	return buf + j->g->payload_off;
}

static void put_maintenance_and_anchors(struct job *j)
{
	size_t len = LUNFS_ANCHOR_OFF + LUNFS_ANCHORS * LUNFS_ANCHOR_STRIDE - LUNFS_MAINT_OFF;
	uint8_t *buf = dev_buf_alloc(len);

	maint_format(j->g, buf, j->nonce);
	for (int a = 0; a < LUNFS_ANCHORS; a++) {
		uint64_t addr = geo_anchor_cell((enum lunfs_anchor)a);
		struct lunfs_anchor_pl *p =
		    cell_at(j, addr, buf + geo_blk_off(addr) - LUNFS_MAINT_OFF);

		blk_init(j->g, p, LUNFS_BLK_ANCHOR, addr, 1, addr, 0);
		p->value = le64_make(a == LUNFS_ANCHOR_WATERMARK ? 1 : 0);
		blk_seal(p);
	}
	put(j, "the anchors", LUNFS_MAINT_OFF, len, buf);
	free(buf);
}

static void put_host_table(struct job *j)
{
	unsigned n =
	    LUNFS_MAX_SLOTS + LUNFS_SPARE_SLOTS; /* leaves nothing of an older, longer one */
	uint8_t *buf = dev_buf_alloc(n * LUNFS_SLOT_STRIDE);

	for (unsigned i = 0; i < geo_all_slots(j->g); i++)
		slot_format(j->g, buf + i * LUNFS_SLOT_STRIDE, i, j->nonce);
	put(j, "the host table", LUNFS_HOST_TABLE_OFF, n * LUNFS_SLOT_STRIDE, buf);
	free(buf);
}

static void put_journals(struct job *j)
{
	uint8_t *blk = dev_buf_alloc(LUNFS_BLOCK_BYTES);

	for (unsigned i = 0; i < LUNFS_MAX_SLOTS; i++) {
		if (!j->g->journal_blk[i])
			continue;
		journal_format(j->g, i, blk);
		put(j, "a journal", geo_blk_off(j->g->journal_blk[i]), LUNFS_BLOCK_BYTES, blk);
	}
	free(blk);
}

/* ---- group 0 --------------------------------------------------------------------------------- */

/* The chunk takes what is left of window 0. */
static unsigned chunk_cells(const struct geo *g)
{
	return LUNFS_CHUNK_CELLS - layout_chunk_first_cell(g);
}

static void enter_chunk(const struct geo *g, struct lunfs_group_pl *header,
			struct lunfs_bitmap_pl *bitmap)
{
	uint32_t from = geo_group_meta_blks(g), n = chunk_cells(g) * g->cell_blks;

	for (uint32_t b = from; b < from + n; b++)
		bit_set(bitmap->bits, b);
	header->free_blks = le32_make(le32_get(header->free_blks) - n);
	header->chunks = le32_make(1);
	header->chunk[0] = le16_make((uint16_t)(layout_chunk_first_cell(g) + 1));
	blk_seal(header);
	blk_seal(bitmap);
}

static void put_group_header(struct job *j)
{
	const struct geo *g = j->g;
	size_t cell = geo_cell_bytes(g), n = 1 + g->bitmap_cells;
	uint8_t *buf = dev_buf_alloc(n * cell);
	uint8_t *pl = dev_buf_alloc(n * LUNFS_PAYLOAD_BYTES);

	group_format(g, 0, pl, pl + LUNFS_PAYLOAD_BYTES);
	enter_chunk(g, (void *)pl, (void *)(pl + LUNFS_PAYLOAD_BYTES));
	for (size_t i = 0; i < n; i++)
		memcpy(cell_at(j, geo_group_header(g, 0) + i * g->cell_blks, buf + i * cell),
		       pl + i * LUNFS_PAYLOAD_BYTES, LUNFS_PAYLOAD_BYTES);
	put(j, "group 0", geo_blk_off(geo_group_header(g, 0)), n * cell, buf);
	free(pl);
	free(buf);
}

static void fill_chunk_header(const struct geo *g, void *payload)
{
	struct lunfs_chunk_pl *p = payload;
	uint64_t addr = layout_chunk_header(g);
	unsigned first = layout_chunk_first_cell(g), used = 2 + g->journals;

	blk_init(g, p, LUNFS_BLK_CHUNK, addr, 1, addr, 0);
	p->first_blk = le64_make(geo_group_blk(g, 0));
	p->cells = le32_make(chunk_cells(g));
	p->free_cells = le32_make(chunk_cells(g) - used);
	for (unsigned i = first; i < LUNFS_CHUNK_CELLS; i++) {
		bit_set(p->valid, i);
		if (i < first + used)
			bit_set(p->used, i);
	}
	blk_seal(p);
}

static void fill_directory(const struct job *j, uint64_t ino, bool root, void *payload)
{
	struct inode i = {.ino = ino,
			  .generation = MKFS_GENERATION,
			  .mode = root ? S_IFDIR | 0755 : S_IFDIR | 0700,
			  .nlink = 2,
			  .atime = j->now,
			  .mtime = j->now,
			  .ctime = j->now,
			  .btime = j->now,
			  .parent = root ? ino : 0,
			  .flags = root ? 0 : LUNFS_INODE_ORPHAN_DIR};

	inode_format(j->g, &i, payload);
}

static void put_chunk(struct job *j)
{
	const struct geo *g = j->g;
	size_t cell = geo_cell_bytes(g);
	unsigned n = chunk_cells(g);
	uint8_t *buf = dev_buf_alloc(n * cell);

	for (unsigned i = 0; i < n; i++) {
		uint64_t addr = layout_chunk_header(g) + (uint64_t)i * g->cell_blks;
		void *payload = cell_at(j, addr, buf + i * cell);

		if (i == 0) {
			fill_chunk_header(g, payload);
		} else if (i < 2 + g->journals) {
			fill_directory(j, addr, addr == g->root_ino, payload);
		} else {
			blk_init(g, payload, LUNFS_BLK_FREE, addr, 0, addr, 0);
			blk_seal(payload);
		}
	}
	put(j, "the first metadata chunk", geo_blk_off(layout_chunk_header(g)), n * cell, buf);
	free(buf);
}

/* ---- superblocks ----------------------------------------------------------------------------- */

static void put_copies(struct job *j, const void *sb)
{
	const struct geo *g = j->g;

	put(j, "the superblock's copy", sb_tail_off(g->dev_blks * LUNFS_BLOCK_BYTES),
	    LUNFS_BLOCK_BYTES, sb);
	for (uint64_t i = 1; i < g->groups; i++)
		if (sb_group_has_copy(i))
			put(j, "a superblock copy", geo_blk_off(geo_group_blk(g, i)),
			    LUNFS_BLOCK_BYTES, sb);
}

struct old_sbs { /* of the volume that stood here, to be put back if it turns out to be in use */
	uint64_t off[2];
	uint8_t *sb[2];
};

static void old_save(struct job *j, struct old_sbs *o)
{
	o->off[0] = LUNFS_SB_OFF;
	o->off[1] = sb_tail_off(j->d->id.size_bytes);
	for (int i = 0; i < 2; i++) {
		o->sb[i] = dev_buf_alloc(LUNFS_BLOCK_BYTES);
		j->what = "the old superblocks";
		if (!j->err)
			j->err = dev_read(j->d, o->off[i], LUNFS_BLOCK_BYTES, o->sb[i]);
	}
}

/* Take the old volume away, then look whether anybody mounted it in between. */
static int retire_old(struct job *j, struct live_table *old, char *why, size_t why_len)
{
	struct old_sbs o;
	int err = 0;

	old_save(j, &o);
	for (int i = 0; i < 2; i++)
		zero(j, "the old superblocks", o.off[i], LUNFS_BLOCK_BYTES);
	flush(j);
	if (!j->err)
		err = live_recheck(j->d, old, why, why_len);
	for (int i = 0; i < 2; i++) {
		if (err)
			put(j, "the old superblocks", o.off[i], LUNFS_BLOCK_BYTES, o.sb[i]);
		free(o.sb[i]);
	}
	if (err)
		flush(j);
	return err;
}

static void wipe_others(struct job *j, const struct mkfs_found *f)
{
	for (size_t i = 0; i < f->patches; i++)
		put(j, "the old signatures", f->patch[i].off_bytes, j->d->id.sector_bytes,
		    f->patch[i].buf);
	zero(j, "the first 64 KiB", 0, LUNFS_SB_OFF);
	zero(j, "the last 64 KiB", sb_tail_off(j->d->id.size_bytes), LUNFS_TAIL_BYTES);
	flush(j);
}

static void put_all(struct job *j)
{
	void *sb = dev_buf_alloc(LUNFS_BLOCK_BYTES);

	zero(j, "the superblock", LUNFS_SB_OFF, LUNFS_BLOCK_BYTES);
	put_maintenance_and_anchors(j);
	zero(j, "the scratch area", LUNFS_SCRATCH_OFF, LUNFS_SCRATCH_BYTES);
	put_host_table(j);
	zero(j, "the request board", LUNFS_BOARD_OFF, geo_all_slots(j->g) * j->g->board_row_bytes);
	put_journals(j);
	put_group_header(j);
	put_chunk(j);
	sb_encode(j->g, sb);
	put_copies(j, sb);
	flush(j);
	put(j, "the superblock", LUNFS_SB_OFF, LUNFS_BLOCK_BYTES, sb);
	flush(j);
	free(sb);
}

int volume_write(struct dev *d, struct clock *clk, const struct geo *g, const struct mkfs_found *f,
		 struct live_table *old, char *why, size_t why_len)
{
	struct job j = {.d = d, .g = g};
	int err;

	clk->ops->random(clk, &j.nonce, sizeof(j.nonce));
	clk->ops->realtime(clk, &j.now);
	err = retire_old(&j, old, why, why_len);
	if (err)
		return err;
	wipe_others(&j, f);
	put_all(&j);
	if (j.err)
		snprintf(why, why_len, "Writing %s failed: %s; this is no lunfs volume now.",
			 j.what, strerror(-j.err));
	return j.err;
}
