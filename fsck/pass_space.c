/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Space accounted a second time: what is referred to against the bitmaps, cells against owners.
 * Then groups and chunks that a repair of this round touched are written from the maps. Trees that
 * are left damaged have parts that nothing refers to: these are kept until the tree is repaired.
 */
#include "base/bitmap.h"
#include "fsck/fsck.h"
#include <errno.h>
#include <string.h>

/* ---- blocks ---------------------------------------------------------------------------------- */

static int difference(const struct fsck_group *fg, uint32_t b)
{
	return (int)bit_get(fg->on_disk, b) - (int)bit_get(fg->referred, b);
}

/* Blocks [from, to) of the group. Leaks that are to stay count as in use. */
static void report_run(struct fsck *f, uint64_t g, bool leak, uint32_t from, uint32_t to)
{
	struct fsck_group *fg = &f->group[g];
	uint64_t first = geo_group_blk(&f->geo, g) + from;

	if (problem(&f->problems, leak ? PROBLEM_LEAK : PROBLEM_NOT_MARKED, first,
		    "blocks %llu to %llu (group %llu)", (unsigned long long)first,
		    (unsigned long long)(first + (to - from) - 1), (unsigned long long)g))
		fg->rewrite = true;
	else if (leak)
		for (uint32_t b = from; b < to; b++)
			bit_set(fg->referred, b);
}

static void compare_group(struct fsck *f, uint64_t g)
{
	const struct fsck_group *fg = &f->group[g];

	for (uint32_t b = 0; b < fg->nblks;) {
		int diff;
		uint32_t from;

		if (b % 8 == 0 && b + 8 <= fg->nblks && fg->on_disk[b / 8] == fg->referred[b / 8]) {
			b += 8;
			continue;
		}
		diff = difference(fg, b);
		from = b;
		while (b < fg->nblks && difference(fg, b) == diff)
			b++;
		if (diff)
			report_run(f, g, diff > 0, from, b);
	}
}

/* ---- what damaged trees have lost ------------------------------------------------------------ */

static bool left_damaged(const struct fsck_inode *fi)
{
	return fi && fi->damaged && !fi->gone;
}

static bool any_file_damaged(const struct fsck *f)
{
	for (size_t i = 0; i < f->inodes; i++)
		if (left_damaged(&f->inode[i]) && S_ISREG(f->inode[i].mode))
			return true;
	return false;
}

/* Which blocks it was that only the lost part of an extent tree refers to, nothing tells. */
static void keep_blks(struct fsck_group *fg)
{
	for (uint32_t i = 0; i < (fg->nblks + 7u) / 8u; i++)
		fg->referred[i] |= fg->on_disk[i];
}

/* A node of a tree that is left damaged. */
static bool keep_cell(struct fsck *f, uint64_t addr)
{
	uint8_t sector[LUNFS_BLOCK_BYTES], payload[LUNFS_PAYLOAD_BYTES];
	const struct lunfs_blk_hdr *h = (const void *)payload;
	const struct fsck_inode *fi;

	if (!fsck_repairs(f) || peek_cell(f, addr, sector, payload) ||
	    blk_check(&f->geo, payload, LUNFS_BLK_BTREE, addr))
		return false;
	fi = inode_find(f, le64_get(h->guard));
	return left_damaged(fi) && fi->generation == le64_get(h->guard_gen);
}

/* ---- cells ----------------------------------------------------------------------------------- */

static bool doubted(struct fsck *f, uint64_t g, uint32_t bit)
{
	return bit_get(f->doubt_chunk,
		       g * LUNFS_GROUP_WINDOWS + bit / (LUNFS_CHUNK_CELLS * f->geo.cell_blks));
}

static void compare_cells(struct fsck *f, uint64_t g)
{
	const struct fsck_group *fg = &f->group[g];

	for (uint32_t b = 0; b < fg->nblks; b++) {
		uint64_t addr = geo_group_blk(&f->geo, g) + b;

		if (b % 8 == 0 && !fg->cell_used[b / 8]) {
			b += 7;
			continue;
		}
		if (bit_get(fg->cell_used, b) && !bit_get(fg->cell_claimed, b) &&
		    !bit_get(fg->cell_bad, b) && !keep_cell(f, addr) &&
		    (doubted(f, g, b) || problem(&f->problems, PROBLEM_LOST_CELL, addr, "cell %llu",
						 (unsigned long long)addr)))
			drop_cell(f, addr);
	}
}

/* ---- writing --------------------------------------------------------------------------------- */

static int write_bitmap(struct fsck *f, uint64_t g, unsigned i)
{
	const struct fsck_group *fg = &f->group[g];
	uint64_t addr = geo_group_bitmap(&f->geo, g, i);
	uint8_t payload[LUNFS_PAYLOAD_BYTES] = {0};
	struct lunfs_bitmap_pl *p = (void *)payload;
	uint64_t from = (uint64_t)i * LUNFS_BITMAP_BITS;

	blk_init(&f->geo, p, LUNFS_BLK_BITMAP, addr, 0, geo_group_header(&f->geo, g), 0);
	for (uint32_t n = 0; n < LUNFS_BITMAP_BITS; n++)
		if (from + n >= fg->nblks || bit_get(fg->referred, from + n))
			bit_set(p->bits, n);
	return write_cell(f, addr, payload, false);
}

static int write_group(struct fsck *f, uint64_t g)
{
	const struct fsck_group *fg = &f->group[g];
	uint64_t addr = geo_group_header(&f->geo, g);
	uint8_t payload[LUNFS_PAYLOAD_BYTES] = {0};
	struct lunfs_group_pl *p = (void *)payload;
	uint32_t chunks = 0;
	int rc = 0;

	blk_init(&f->geo, p, LUNFS_BLK_GROUP, addr, 0, addr, 0);
	for (unsigned w = 0; w < LUNFS_GROUP_WINDOWS; w++) {
		p->chunk[w] = le16_make(fg->chunk[w]);
		chunks += fg->chunk[w] != 0;
	}
	p->group = le64_make(g);
	p->first_blk = le64_make(geo_group_blk(&f->geo, g));
	p->nblks = le32_make(fg->nblks);
	p->free_blks = le32_make(fg->nblks - (uint32_t)bit_count(fg->referred, fg->nblks));
	p->chunks = le32_make(chunks);
	for (unsigned i = 0; i < f->geo.bitmap_cells && rc == 0; i++)
		rc = write_bitmap(f, g, i);
	if (rc == 0 && fg->bad_header)
		rc = lose_cell(f, addr); /* its lock and what else there is of it */
	return rc ? rc : write_cell(f, addr, payload, fg->bad_header);
}

static int write_chunk(struct fsck *f, uint64_t g, unsigned window)
{
	const struct fsck_group *fg = &f->group[g];
	uint32_t cb = f->geo.cell_blks, from = window * LUNFS_CHUNK_CELLS * cb;
	uint64_t first = geo_group_blk(&f->geo, g) + from;
	uint64_t header = first + (uint64_t)(fg->chunk[window] - 1u) * cb;
	uint8_t payload[LUNFS_PAYLOAD_BYTES] = {0};
	struct lunfs_chunk_pl *p = (void *)payload;
	uint32_t valid, used;

	blk_init(&f->geo, p, LUNFS_BLK_CHUNK, header, 0, header, 0);
	p->group = le64_make(g);
	p->first_blk = le64_make(first);
	for (unsigned n = 0; n < LUNFS_CHUNK_CELLS; n++) {
		uint32_t b = from + n * cb;

		if (b < fg->nblks && bit_get(fg->cell_valid, b))
			bit_set(p->valid, n);
		if (b < fg->nblks && bit_get(fg->cell_used, b))
			bit_set(p->used, n);
	}
	valid = (uint32_t)bit_count(p->valid, LUNFS_CHUNK_CELLS);
	used = (uint32_t)bit_count(p->used, LUNFS_CHUNK_CELLS);
	p->cells = le32_make(valid);
	p->free_cells = le32_make(valid - used);
	if (f->unmarked)
		bit_clear(f->unmarked, g * LUNFS_GROUP_WINDOWS + window);
	return write_cell(f, header, payload, false);
}

static int write_maps(struct fsck *f, uint64_t g)
{
	int rc = 0;

	for (unsigned w = 0; w < LUNFS_GROUP_WINDOWS && rc == 0; w++)
		if (f->group[g].chunk[w] && bit_get(f->rebuild_chunk, g * LUNFS_GROUP_WINDOWS + w))
			rc = write_chunk(f, g, w);
	return rc == 0 && f->group[g].ok && f->group[g].rewrite ? write_group(f, g) : rc;
}

int pass_space(struct fsck *f)
{
	bool keep = fsck_repairs(f) && any_file_damaged(f);
	int rc = 0;

	for (uint64_t g = 0; g < f->watermark && rc == 0; g++) {
		progress(f, "space", g, f->watermark);
		if (keep)
			keep_blks(&f->group[g]);
		if (f->group[g].ok && !f->group[g].bad_header && !f->group[g].bad_bitmap)
			compare_group(f, g);
		compare_cells(f, g);
		if (fsck_repairs(f))
			rc = write_maps(f, g);
	}
	progress(f, "space", 1, 1);
	return rc ? rc : finish_hosts(f);
}
