/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A superblock made anew: what the headers of groups, the first chunk and the size of the device
 * say of the volume's layout.
 */
#include "fsck/super_rebuild.h"
#include <sys/stat.h>

#define PROBE_BLKS 4u			/* a superblock copy and the header cell, of either shape */
#define BATCH 32u			/* probes at once */
#define SEARCH_END_BYTES (160ull * GIB) /* behind the largest board and the largest journals */
#define MIN_GROUP_BLKS 2048u
#define MIN_LAST_GROUP_BLKS 512u

static bool is_power(uint64_t x)
{
	return x && power_below(x) == x;
}

/* ---- headers on the way ---------------------------------------------------------------------- */

static void add(struct seen *list, unsigned *n, struct seen s)
{
	if (*n < MAX_SEEN)
		list[(*n)++] = s;
}

void rebuild_note_journal(struct rebuild *r, uint64_t blk, const void *buf)
{
	const struct lunfs_jhdr *h = buf;

	if (le32_get(h->magic) == LUNFS_JHDR_MAGIC && ours(r, h->vol_id) &&
	    crc_ok(h, sizeof(*h), offsetof(struct lunfs_jhdr, crc)) &&
	    le16_get(h->slot) < LUNFS_MAX_SLOTS)
		add(r->journal, &r->journals,
		    (struct seen){.blk = blk, .index = le16_get(h->slot)});
}

/* A group header whose group begins at @blk; @buf: PROBE_BLKS blocks from there. */
static void note_group(struct rebuild *r, uint64_t blk, const uint8_t *buf)
{
	for (uint32_t c = 1; c <= 2; c++) {
		const struct lunfs_group_pl *p =
		    (const void *)(buf + (size_t)c * BLK + (c == 1 ? 512 : BLK));

		if (r->shape_known && r->g->cell_blks != c)
			continue;
		if (!blk_check(r->g, p, LUNFS_BLK_GROUP, blk + c) &&
		    le64_get(p->first_blk) == blk && le32_get(p->nblks) >= MIN_LAST_GROUP_BLKS)
			add(r->group, &r->groups,
			    (struct seen){.blk = blk,
					  .index = le64_get(p->group),
					  .nblks = le32_get(p->nblks),
					  .cell_blks = c});
	}
}

static void probe_batch(struct rebuild *r, uint64_t off, uint64_t end, uint8_t *buf)
{
	struct dev_io io[BATCH];
	size_t n = 0;

	for (; n < BATCH && off + PROBE_BLKS * BLK <= end; off += STEP_BYTES, n++)
		io[n] = (struct dev_io){.op = DEV_READ,
					.off_bytes = off,
					.len_bytes = PROBE_BLKS * BLK,
					.buf = buf + n * PROBE_BLKS * BLK};
	dev_batch(r->dev, io, n);
	for (size_t i = 0; i < n; i++) {
		if (io[i].result)
			read_what_can_be(r->dev, io[i].off_bytes, PROBE_BLKS * BLK, io[i].buf);
		rebuild_note_journal(r, io[i].off_bytes / BLK, io[i].buf);
		note_group(r, io[i].off_bytes / BLK, io[i].buf);
	}
}

/* Group 0 stands before all others: the first header that is found ends it. */
void rebuild_probe(struct rebuild *r)
{
	uint64_t size = r->dev->id.size_bytes;
	uint64_t end = size < SEARCH_END_BYTES ? size : SEARCH_END_BYTES;
	uint8_t *buf = dev_buf_alloc((size_t)BATCH * PROBE_BLKS * BLK);

	for (uint64_t off = LUNFS_BOARD_OFF; off < end && !r->groups; off += BATCH * STEP_BYTES)
		probe_batch(r, off, end, buf);
	free(buf);
}

/* ---- groups ---------------------------------------------------------------------------------- */

static uint32_t bitmap_cells(uint32_t group_blks)
{
	return (group_blks + LUNFS_BITMAP_BITS - 1) / LUNFS_BITMAP_BITS;
}

static uint32_t usual_group_blks(const struct dev *dev)
{
	uint64_t bytes = power_below(dev->id.size_bytes / 16);

	if (dev->id.size_bytes >= 16 * GIB || bytes > GIB)
		bytes = GIB;
	return (uint32_t)((bytes < 8 * MIB ? 8 * MIB : bytes) / BLK);
}

/* Does group @s->index begin where it says, if groups have @blks blocks? Then group 0 is where? */
static bool group0_from(const struct rebuild *r, const struct seen *s, uint32_t blks,
			uint64_t *group0)
{
	uint64_t most = LUNFS_GROUP_WINDOWS * LUNFS_CHUNK_CELLS * s->cell_blks;

	if (!is_power(blks) || blks < MIN_GROUP_BLKS || blks > most || blks < s->nblks)
		return false;
	if (s->index > s->blk / blks)
		return false;
	*group0 = s->blk - s->index * blks;
	return *group0 > LUNFS_BOARD_OFF / BLK && *group0 % (MIB / BLK) == 0 &&
	       *group0 < r->dev->id.size_bytes / BLK;
}

/* The header of the first chunk says where group 0 is, if groups have the usual size. */
static bool group0_from_chunk(struct rebuild *r)
{
	struct geo *g = r->g;
	uint64_t size = r->dev->id.size_bytes,
		 end = size < SEARCH_END_BYTES ? size : SEARCH_END_BYTES;
	struct lunfs_chunk_pl *p;
	uint8_t *buf;
	bool found = false;

	if (!r->shape_known)
		return false;
	g->group_blks = usual_group_blks(r->dev);
	g->bitmap_cells = bitmap_cells(g->group_blks);
	end -= geo_blk_off(geo_group_meta_blks(g) + g->cell_blks);
	buf = dev_buf_alloc(2 * BLK);
	p = (void *)(buf + g->payload_off);
	for (uint64_t off = LUNFS_BOARD_OFF + STEP_BYTES; off < end && !found; off += STEP_BYTES) {
		uint64_t cell = off / BLK + geo_group_meta_blks(g);

		found = dev_read(r->dev, geo_blk_off(cell), geo_cell_bytes(g), buf) == 0 &&
			blk_check(g, p, LUNFS_BLK_CHUNK, cell) == 0 && le64_get(p->group) == 0 &&
			le64_get(p->first_blk) == off / BLK;
		g->group0_blk = off / BLK;
	}
	free(buf);
	return found;
}

int rebuild_groups(struct rebuild *r)
{
	uint32_t usual = usual_group_blks(r->dev);
	struct geo *g = r->g;

	for (unsigned pass = 0; pass < 2; pass++) /* group 0 by itself, if there is one */
		for (unsigned i = 0; i < r->groups; i++) {
			const struct seen *s = &r->group[i];
			uint32_t blks = s->index == 0 || is_power(s->nblks) ? s->nblks : usual;

			if ((pass == 0) != (s->index == 0) ||
			    !group0_from(r, s, blks, &g->group0_blk))
				continue;
			g->group_blks = blks;
			g->bitmap_cells = bitmap_cells(blks);
			rebuild_shape(r, s->cell_blks);
			return 0;
		}
	return group0_from_chunk(r) ? 0 : rebuild_fail(r, "no group header is left");
}

/* ---- the first chunk ------------------------------------------------------------------------- */

static bool is_dir(const struct rebuild *r, const struct lunfs_inode_pl *p, uint64_t cell)
{
	return !blk_check(r->g, p, LUNFS_BLK_INODE, cell) && S_ISDIR(le32_get(p->mode));
}

/* Orphan directories stand in a row behind the root; damaged ones may be among them. */
void rebuild_inodes(struct rebuild *r)
{
	size_t cell_bytes = geo_cell_bytes(r->g), n = 1 + LUNFS_MAX_SLOTS;
	uint64_t first = r->g->group0_blk + geo_group_meta_blks(r->g) + r->g->cell_blks;
	uint8_t *buf = dev_buf_alloc(n * cell_bytes);

	r->g->root_ino = first; /* mkfs: behind the header of the first chunk */
	if (geo_blk_off(first) + n * cell_bytes <= r->dev->id.size_bytes)
		read_what_can_be(r->dev, geo_blk_off(first), n * cell_bytes, buf);
	for (size_t i = 0; i < n; i++) {
		uint64_t cell = first + i * r->g->cell_blks;
		const struct lunfs_inode_pl *p =
		    (const void *)(buf + i * cell_bytes + r->g->payload_off);

		if (is_dir(r, p, cell) && i == 0)
			r->g->mkfs_time_s = le64_get(p->btime_s);
		else if (is_dir(r, p, cell) && le32_get(p->flags) & LUNFS_INODE_ORPHAN_DIR)
			r->orphans = (unsigned)i;
	}
	free(buf);
}

/* ---- where it ends --------------------------------------------------------------------------- */

/* As mkfs would have it on a device of this size. */
static void usual_end(struct rebuild *r)
{
	struct geo *g = r->g;
	uint64_t n, rest;

	g->dev_blks = r->dev->id.size_bytes / BLK;
	g->end_blk = sb_tail_off(r->dev->id.size_bytes) / BLK;
	n = g->end_blk > g->group0_blk ? g->end_blk - g->group0_blk : 0;
	rest = n % g->group_blks;
	if (rest < MIN_LAST_GROUP_BLKS || rest < 2 * geo_group_meta_blks(g))
		g->end_blk -= n ? rest : 0;
	g->groups = (g->end_blk - g->group0_blk + g->group_blks - 1) / g->group_blks;
	r->out->guessed_groups = true;
}

/* The size that the header of @group says, 0 if there is none. */
static uint32_t group_says(struct rebuild *r, uint64_t group)
{
	uint64_t blk = geo_group_blk(r->g, group);
	uint8_t *buf = dev_buf_alloc(PROBE_BLKS * BLK);
	uint32_t nblks = 0;

	r->groups = 0;
	if (blk <= r->g->dev_blks && r->g->dev_blks - blk >= PROBE_BLKS) {
		read_what_can_be(r->dev, geo_blk_off(blk), PROBE_BLKS * BLK, buf);
		note_group(r, blk, buf);
	}
	if (r->groups && r->group[0].index == group && r->group[0].nblks <= r->g->group_blks)
		nblks = r->group[0].nblks;
	free(buf);
	return nblks;
}

/* A short group is the last. The last initialised one must be there as a whole. */
int rebuild_end(struct rebuild *r, uint64_t groups_in_use)
{
	struct geo *g = r->g;
	uint64_t last;
	uint32_t nblks;

	usual_end(r);
	if (!g->groups)
		return rebuild_fail(r, "the device ends before its first group");
	last = groups_in_use && groups_in_use < g->groups ? groups_in_use - 1 : g->groups - 1;
	nblks = group_says(r, last);
	if (!nblks)
		return 0;
	if (nblks > g->end_blk - geo_group_blk(g, last) && nblks > geo_group_len(g, last))
		return rebuild_fail(
		    r, "the last group does not end on the device, which has shrunk or is "
		       "not all there");
	if (nblks < g->group_blks) {
		g->groups = last + 1;
		g->end_blk = geo_group_blk(g, last) + nblks;
	}
	r->out->guessed_groups = last + 1 != g->groups;
	return 0;
}
