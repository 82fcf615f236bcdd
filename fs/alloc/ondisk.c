// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Group headers, bitmaps and chunk headers as they stand on disk: pure decoding and formatting,
 * for the allocator, mkfs and fsck. No locks, no I/O. Whatever is decoded here may be hostile:
 * every count and range is checked before anything is handed out.
 */
#include "alloc/alloc_impl.h"
#include "base/bitmap.h"
#include "base/crc.h"
#include <errno.h>
#include <string.h>

/* Is the whole cell at @index of the window that starts at @win_blk an allocatable one of @group?
 */
static bool cell_in_group(const struct geo *g, uint64_t group, uint64_t win_blk, unsigned index)
{
	uint64_t blk = win_blk + (uint64_t)index * g->cell_blks;

	return blk_range_ok(g, blk, g->cell_blks) && geo_group_of(g, blk) == group;
}

static int check_windows(const struct geo *g, uint64_t group, const le16 *chunk, uint32_t chunks)
{
	uint64_t first_blk = geo_group_blk(g, group);
	uint32_t n = 0;

	for (uint32_t w = 0; w < LUNFS_GROUP_WINDOWS; w++) {
		uint16_t c = le16_get(chunk[w]);

		if (c == 0)
			continue;
		if (c > LUNFS_CHUNK_CELLS)
			return -EUCLEAN;
		if (!cell_in_group(g, group, first_blk + (uint64_t)w * window_blks(g), c - 1u))
			return -EUCLEAN;
		n++;
	}
	return n == chunks ? 0 : -EUCLEAN;
}

int group_parse(const struct geo *g, const void *payload, uint64_t group, struct group_info *out)
{
	const struct lunfs_group_pl *p = payload;
	uint32_t len;

	if (group >= g->groups)
		return -EUCLEAN;
	len = geo_group_len(g, group);
	if (le64_get(p->hdr.guard) != geo_group_header(g, group) ||
	    le64_get(p->hdr.guard_gen) != 0 || !mem_is_zero(p->reserved, sizeof(p->reserved)))
		return -EUCLEAN;
	if (le64_get(p->group) != group || le64_get(p->first_blk) != geo_group_blk(g, group) ||
	    le32_get(p->nblks) != len || le32_get(p->free_blks) > len - geo_group_meta_blks(g))
		return -EUCLEAN;
	if (check_windows(g, group, p->chunk, le32_get(p->chunks)) < 0)
		return -EUCLEAN;
	out->group = group;
	out->first_blk = geo_group_blk(g, group);
	out->nblks = len;
	out->free_blks = le32_get(p->free_blks);
	out->chunks = le32_get(p->chunks);
	for (uint32_t w = 0; w < LUNFS_GROUP_WINDOWS; w++)
		out->chunk[w] = le16_get(p->chunk[w]);
	return 0;
}

int group_decode(const struct geo *g, const void *payload, uint64_t group, struct group_info *out)
{
	if (group >= g->groups ||
	    blk_check(g, payload, LUNFS_BLK_GROUP, geo_group_header(g, group)) < 0)
		return -EUCLEAN;
	return group_parse(g, payload, group, out);
}

/* The cells: used only where valid, all inside the group, counts right, the header itself in use.
 */
static int check_cells(const struct geo *g, const struct lunfs_chunk_pl *p, uint64_t group,
		       uint64_t win_blk, unsigned own)
{
	uint32_t valid = 0, used = 0;

	for (unsigned i = 0; i < LUNFS_CHUNK_CELLS; i++) {
		bool v = bit_get(p->valid, i), u = bit_get(p->used, i);

		if (u && !v)
			return -EUCLEAN;
		if (v && !cell_in_group(g, group, win_blk, i))
			return -EUCLEAN;
		valid += v;
		used += u;
	}
	if (!bit_get(p->used, own))
		return -EUCLEAN;
	if (le32_get(p->cells) != valid || le32_get(p->free_cells) != valid - used)
		return -EUCLEAN;
	return 0;
}

int chunk_parse(const struct geo *g, const void *payload, uint64_t addr, struct chunk_info *out)
{
	const struct lunfs_chunk_pl *p = payload;
	uint64_t group, rel, win_blk;

	if (!blk_range_ok(g, addr, g->cell_blks))
		return -EUCLEAN;
	group = geo_group_of(g, addr);
	rel = addr - geo_group_blk(g, group);
	if (rel % g->cell_blks != 0)
		return -EUCLEAN;
	win_blk = addr - rel % window_blks(g);
	if (le64_get(p->hdr.guard) != addr || le64_get(p->hdr.guard_gen) != 0 ||
	    !mem_is_zero(p->reserved0, sizeof(p->reserved0)) ||
	    !mem_is_zero(p->reserved1, sizeof(p->reserved1)))
		return -EUCLEAN;
	if (le64_get(p->group) != group || le64_get(p->first_blk) != win_blk)
		return -EUCLEAN;
	if (check_cells(g, p, group, win_blk, (unsigned)((addr - win_blk) / g->cell_blks)) < 0)
		return -EUCLEAN;
	out->group = group;
	out->first_blk = win_blk;
	out->cells = le32_get(p->cells);
	out->free_cells = le32_get(p->free_cells);
	memcpy(out->valid, p->valid, sizeof(out->valid));
	memcpy(out->used, p->used, sizeof(out->used));
	return 0;
}

int chunk_decode(const struct geo *g, const void *payload, uint64_t addr, struct chunk_info *out)
{
	if (blk_check(g, payload, LUNFS_BLK_CHUNK, addr) < 0)
		return -EUCLEAN;
	return chunk_parse(g, payload, addr, out);
}

static void format_bitmap(const struct geo *g, uint64_t group, unsigned i, void *payload)
{
	struct lunfs_bitmap_pl *b = payload;
	uint64_t header = geo_group_header(g, group);
	uint64_t from = (uint64_t)i * LUNFS_BITMAP_BITS;
	uint32_t len = geo_group_len(g, group), meta = geo_group_meta_blks(g);

	memset(b, 0, LUNFS_PAYLOAD_BYTES);
	blk_init(g, b, LUNFS_BLK_BITMAP, geo_group_bitmap(g, group, i), 1, header, 0);
	for (uint64_t n = from; n < from + LUNFS_BITMAP_BITS; n++)
		if (n < meta || n >= len)
			bit_set(b->bits, (size_t)(n - from));
	blk_seal(b);
}

void group_format(const struct geo *g, uint64_t group, void *header, void *bitmaps)
{
	struct lunfs_group_pl *p = header;
	uint64_t addr = geo_group_header(g, group);
	uint32_t len = geo_group_len(g, group);

	memset(p, 0, LUNFS_PAYLOAD_BYTES);
	blk_init(g, p, LUNFS_BLK_GROUP, addr, 1, addr, 0);
	p->group = le64_make(group);
	p->first_blk = le64_make(geo_group_blk(g, group));
	p->nblks = le32_make(len);
	p->free_blks = le32_make(len - geo_group_meta_blks(g));
	blk_seal(p);
	for (unsigned i = 0; i < g->bitmap_cells; i++)
		format_bitmap(g, group, i, (uint8_t *)bitmaps + (size_t)i * LUNFS_PAYLOAD_BYTES);
}
