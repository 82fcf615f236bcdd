/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Room for repairs: cells and blocks that nothing refers to. Only to be used once all trees were
 * walked, since the bitmaps on disk may be wrong: a block is taken only if the bitmap *and* what
 * was found in use say that it is free. Blocks are written at once (clone.c), so what an earlier
 * round has freed is still in use as long as none of it is on the device. What is taken stands in
 * the maps, from which groups and chunks are written at the end of the round.
 */
#include "base/bitmap.h"
#include "base/log.h"
#include "fsck/fsck.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void mark_chunk(struct fsck *f, uint64_t g, uint32_t bit)
{
	bit_set(f->rebuild_chunk,
		g * LUNFS_GROUP_WINDOWS + bit / (LUNFS_CHUNK_CELLS * f->geo.cell_blks));
}

/* ---- cells ----------------------------------------------------------------------------------- */

static bool free_cell_in(const struct fsck_group *fg, uint32_t step, uint32_t *bit)
{
	for (uint32_t b = 0; b < fg->nblks; b += step)
		if (bit_get(fg->cell_valid, b) && !bit_get(fg->cell_used, b) &&
		    !bit_get(fg->cell_bad, b)) {
			*bit = b;
			return true;
		}
	return false;
}

static bool window_free(const struct fsck_group *fg, uint32_t first, uint32_t n)
{
	if (first + n > fg->nblks)
		return false;
	for (uint32_t b = first; b < first + n; b++)
		if (bit_get(fg->referred, b) || bit_get(fg->on_disk, b))
			return false;
	return true;
}

/* All cells of a fresh window: locks free, payloads FREE; the first one becomes the header. */
static int format_window(struct fsck *f, uint64_t first_blk)
{
	int rc = 0;

	for (uint64_t n = 0; n < LUNFS_CHUNK_CELLS && rc == 0; n++)
		rc = lose_cell(f, first_blk + n * f->geo.cell_blks);
	return rc;
}

static int make_chunk_in(struct fsck *f, uint64_t g, unsigned window)
{
	struct fsck_group *fg = &f->group[g];
	uint32_t blks = LUNFS_CHUNK_CELLS * f->geo.cell_blks, first = window * blks;
	int rc = format_window(f, geo_group_blk(&f->geo, g) + first);

	if (rc)
		return rc;
	for (uint32_t b = first; b < first + blks; b++) {
		bit_set(fg->referred, b);
		bit_set(fg->on_disk, b);
		if (b % f->geo.cell_blks == 0)
			bit_set(fg->cell_valid, b);
	}
	bit_set(fg->cell_used, first);
	bit_set(fg->cell_claimed, first);
	fg->chunk[window] = 1;
	fg->rewrite = true;
	f->cell_group = g;
	mark_chunk(f, g, first);
	return 0;
}

static int make_chunk(struct fsck *f)
{
	uint32_t blks = LUNFS_CHUNK_CELLS * f->geo.cell_blks;

	for (uint64_t g = 0; g < f->watermark; g++) {
		struct fsck_group *fg = &f->group[g];

		for (unsigned w = 0; fg->ok && w < LUNFS_GROUP_WINDOWS; w++)
			if (!fg->chunk[w] && window_free(fg, w * blks, blks))
				return make_chunk_in(f, g, w);
	}
	return -ENOSPC;
}

int take_cell(struct fsck *f, uint64_t *addr)
{
	for (int tries = 0; tries < 2; tries++) {
		for (; f->cell_group < f->watermark; f->cell_group++) {
			uint64_t g = f->cell_group;
			struct fsck_group *fg = &f->group[g];
			uint32_t bit;

			if (!fg->ok || !free_cell_in(fg, f->geo.cell_blks, &bit))
				continue;
			bit_set(fg->cell_used, bit);
			bit_set(fg->cell_claimed, bit);
			mark_chunk(f, g, bit);
			*addr = geo_group_blk(&f->geo, g) + bit;
			return 0;
		}
		if (tries == 0) {
			int rc = make_chunk(f);

			if (rc)
				return rc;
		}
	}
	return -ENOSPC;
}

void drop_cell(struct fsck *f, uint64_t addr)
{
	uint64_t g;
	uint32_t bit;
	struct fsck_group *fg = map_find(f, addr, &bit);

	if (!fg || !bit_get(fg->cell_used, bit))
		return;
	bit_clear(fg->cell_used, bit);
	bit_clear(fg->cell_claimed, bit);
	g = geo_group_of(&f->geo, addr);
	if (g < f->cell_group)
		f->cell_group = g;
	mark_chunk(f, g, bit);
}

void rewrite_chunk(struct fsck *f, uint64_t cell)
{
	uint32_t bit;

	if (map_find(f, cell, &bit))
		mark_chunk(f, geo_group_of(&f->geo, cell), bit);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* Of a part that is damaged there nothing is known. */
static void read_before(struct fsck *f, uint64_t g, unsigned i)
{
	uint64_t addr = geo_group_bitmap(&f->geo, g, i), from = (uint64_t)i * LUNFS_BITMAP_BITS;
	uint8_t *cell = dev_buf_alloc(geo_cell_bytes(&f->geo));
	const struct lunfs_bitmap_pl *pl = (const void *)(cell + f->geo.payload_off);
	struct fsck_group *fg = &f->group[g];

	if (store_read_device(&f->store, geo_blk_off(addr), geo_cell_bytes(&f->geo), cell) == 0 &&
	    blk_check(&f->geo, pl, LUNFS_BLK_BITMAP, addr) == 0)
		for (uint32_t b = 0; b < LUNFS_BITMAP_BITS && from + b < fg->nblks; b++)
			if (bit_get(pl->bits, b))
				bit_set(fg->before, from + b);
	free(cell);
}

static void look_before(struct fsck *f, uint64_t g)
{
	struct fsck_group *fg = &f->group[g];
	uint64_t first = geo_group_bitmap(&f->geo, g, 0);

	if (fg->before || !store_changed(&f->store, geo_blk_off(first),
					 f->geo.bitmap_cells * (size_t)geo_cell_bytes(&f->geo)))
		return;
	fg->before = calloc(1, (fg->nblks + 7u) / 8u);
	lunfs_assert(fg->before);
	for (unsigned i = 0; i < f->geo.bitmap_cells; i++)
		read_before(f, g, i);
}

static bool busy(const struct fsck_group *fg, uint32_t b)
{
	return bit_get(fg->referred, b) || bit_get(fg->on_disk, b) ||
	       (fg->before && bit_get(fg->before, b));
}

static bool take_run(struct fsck_group *fg, uint64_t n, uint32_t *from, uint64_t *got)
{
	for (uint32_t b = 0; b < fg->nblks; b++) {
		if (busy(fg, b))
			continue;
		*from = b;
		for (*got = 0; *got < n && b < fg->nblks && !busy(fg, b); (*got)++, b++) {
			bit_set(fg->referred, b);
			bit_set(fg->on_disk, b); /* soon, and no problem of the volume */
		}
		return true;
	}
	return false;
}

int take_blks(struct fsck *f, uint64_t n, uint64_t *blk, uint64_t *got)
{
	for (uint64_t g = 0; g < f->watermark; g++) {
		struct fsck_group *fg = &f->group[g];
		uint32_t from;

		if (!fg->ok)
			continue;
		look_before(f, g);
		if (!take_run(fg, n, &from, got))
			continue;
		fg->rewrite = true;
		*blk = geo_group_blk(&f->geo, g) + from;
		return 0;
	}
	return -ENOSPC;
}

void drop_blks(struct fsck *f, uint64_t blk, uint64_t n)
{
	uint32_t bit;
	struct fsck_group *fg = map_find(f, blk, &bit);

	if (!fg)
		return;
	for (uint64_t i = 0; i < n && bit + i < fg->nblks; i++) {
		bit_clear(fg->referred, bit + i);
		bit_clear(fg->on_disk, bit + i);
	}
	fg->rewrite = true;
}
