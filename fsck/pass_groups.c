/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Groups below the watermark: header, bitmap, counts. Fills on_disk[] and chunk[]. A header or a
 * bitmap that is lost is written anew at the end of the round from what was found in use
 * (pass_space.c); until then all blocks of such a group count as used, so that nothing is put
 * there.
 */
#include "base/bitmap.h"
#include "base/crc.h"
#include "fsck/trees.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- a lost header --------------------------------------------------------------------------- */

enum seen { SEEN_NOTHING, SEEN_LOCK, SEEN_FREE, SEEN_USED, SEEN_HEADER };

/* What the blocks at @addr look like: perhaps a cell of the window that begins at @first. */
static enum seen look_at(struct fsck *f, uint64_t addr, uint64_t first)
{
	uint8_t payload[LUNFS_PAYLOAD_BYTES], *sector = dev_buf_alloc(f->geo.sector_bytes);
	const struct lunfs_chunk_pl *p = (const void *)payload;
	enum seen seen = SEEN_NOTHING;
	struct lunfs_lock_rec rec;

	if (!blk_range_ok(&f->geo, addr, f->geo.cell_blks) || peek_cell(f, addr, sector, payload))
		seen = SEEN_NOTHING;
	else if (blk_check(&f->geo, payload, LUNFS_BLK_CHUNK, addr) == 0 &&
		 le64_get(p->first_blk) == first && le64_get(p->hdr.guard) == addr)
		seen = SEEN_HEADER;
	else if (lock_rec_decode(&f->geo, sector, addr, &rec))
		seen = SEEN_NOTHING;
	else if (blk_check(&f->geo, payload, LUNFS_BLK_INODE, addr) == 0 ||
		 blk_check(&f->geo, payload, LUNFS_BLK_BTREE, addr) == 0)
		seen = SEEN_USED;
	else if (blk_check(&f->geo, payload, LUNFS_BLK_FREE, addr) == 0)
		seen = SEEN_FREE;
	else
		seen = SEEN_LOCK;
	free(sector);
	return seen;
}

static uint64_t window_first(const struct fsck *f, uint64_t g, unsigned window)
{
	return geo_group_blk(&f->geo, g) + (uint64_t)window * LUNFS_CHUNK_CELLS * f->geo.cell_blks;
}

/* A chunk's header can stand there: neither in the group's own metadata nor where the root is. */
static bool can_be_header(const struct fsck *f, uint64_t addr)
{
	return blk_range_ok(&f->geo, addr, f->geo.cell_blks) && !is_place(f, addr);
}

/*
 * 1 + index of the header of the window's chunk, 0: there is none. If the header itself is lost
 * too (@sure stays false), what it had under it tells of it: it was the first cell of all. If that
 * one looks sound, its lock is lost as well, and any free cell serves.
 */
static uint16_t find_chunk(struct fsck *f, uint64_t g, unsigned window, bool *sure)
{
	uint64_t addr = window_first(f, g, window), first = addr;
	unsigned at[SEEN_HEADER]; /* 1 + index of the first one */

	for (unsigned i = 0; i < SEEN_HEADER; i++)
		at[i] = LUNFS_CHUNK_CELLS + 1;
	for (unsigned i = 1; i <= LUNFS_CHUNK_CELLS; i++, addr += f->geo.cell_blks) {
		enum seen seen = can_be_header(f, addr) ? look_at(f, addr, first) : SEEN_NOTHING;

		*sure = seen == SEEN_HEADER;
		if (*sure)
			return (uint16_t)i;
		if (at[seen] > i)
			at[seen] = i;
	}
	if (at[SEEN_USED] > LUNFS_CHUNK_CELLS)
		return 0;
	if (at[SEEN_LOCK] < at[SEEN_FREE] && at[SEEN_LOCK] < at[SEEN_USED])
		return (uint16_t)at[SEEN_LOCK];
	return (uint16_t)(at[SEEN_FREE] <= LUNFS_CHUNK_CELLS ? at[SEEN_FREE] : at[SEEN_USED]);
}

static void find_chunks(struct fsck *f, uint64_t g, struct fsck_group *fg)
{
	uint32_t blks = LUNFS_CHUNK_CELLS * f->geo.cell_blks;
	bool sure;

	for (unsigned w = 0; w < LUNFS_GROUP_WINDOWS && w * blks < fg->nblks; w++) {
		progress(f, "chunks", w, LUNFS_GROUP_WINDOWS);
		fg->chunk[w] = find_chunk(f, g, w, &sure);
	}
	progress(f, "chunks", 1, 1);
}

static void lose_header(struct fsck *f, uint64_t g, struct fsck_group *fg, int err)
{
	uint64_t addr = geo_group_header(&f->geo, g);

	bool fix =
	    problem(&f->problems, PROBLEM_GROUP, addr, "group %llu: %s", (unsigned long long)g,
		    err == -EUCLEAN ? "it fails its checks" : strerror(-err));

	if (!fsck_goes_on(f, fix))
		return;
	fg->bad_header = true;
	fg->rewrite = fix;
	find_chunks(f, g, fg);
}

/* All but the counts, which are reported and corrected by themselves. */
static bool header_ok(const struct fsck *f, uint64_t g, const struct lunfs_group_pl *p)
{
	uint64_t addr = geo_group_header(&f->geo, g);
	uint32_t nblks = geo_group_len(&f->geo, g);

	if (blk_check(&f->geo, p, LUNFS_BLK_GROUP, addr) || le64_get(p->hdr.guard) != addr ||
	    le64_get(p->group) != g || le64_get(p->first_blk) != geo_group_blk(&f->geo, g) ||
	    le32_get(p->nblks) != nblks || !mem_is_zero(p->reserved, sizeof(p->reserved)))
		return false;
	for (uint32_t w = 0; w < LUNFS_GROUP_WINDOWS; w++) {
		uint32_t c = le16_get(p->chunk[w]);

		if (c > LUNFS_CHUNK_CELLS ||
		    (c && (w * LUNFS_CHUNK_CELLS + c) * f->geo.cell_blks > nblks))
			return false;
		if (c && !can_be_header(f, window_first(f, g, w) + (c - 1u) * f->geo.cell_blks))
			return false;
	}
	return true;
}

static int list_chunk(struct fsck *f, uint64_t g, unsigned window, uint16_t found)
{
	uint64_t addr = geo_group_header(&f->geo, g);
	uint8_t sector[LUNFS_BLOCK_BYTES], payload[LUNFS_PAYLOAD_BYTES];
	struct lunfs_group_pl *p = (void *)payload;
	int rc = peek_cell(f, addr, sector, payload);

	if (rc)
		return rc;
	/* One that does not count lists nothing: the next round would be where this one is. */
	if (!header_ok(f, g, p))
		return -EUCLEAN;
	p->chunk[window] = le16_make(found);
	p->chunks = le32_make(le32_get(p->chunks) + 1);
	return write_cell(f, addr, payload, false);
}

/* Is it just what leads there, and no inode that was being given up? */
static bool is_cell_of(struct fsck *f, uint64_t addr, uint64_t ino, uint64_t generation)
{
	uint8_t sector[LUNFS_BLOCK_BYTES], payload[LUNFS_PAYLOAD_BYTES];
	struct fsck_inode brief;
	struct lunfs_lock_rec rec;

	if (peek_cell(f, addr, sector, payload) ||
	    (!is_place(f, addr) && lock_rec_decode(&f->geo, sector, addr, &rec)))
		return false;
	if (addr != ino)
		return !is_place(f, addr) && tree_node(f, addr, ino, generation, payload);
	return blk_check(&f->geo, payload, LUNFS_BLK_INODE, addr) == 0 &&
	       inode_brief(&f->geo, addr, payload, &brief) == 0 && !fsck_dying(&brief) &&
	       (generation ? brief.generation == generation : S_ISDIR(brief.mode));
}

/*
 * Its chunk calls the cell free: writes of the header were lost, if nothing of this run has freed
 * it. Then others are missing there, too.
 */
static bool unmarked_cell(struct fsck *f, uint64_t g, unsigned window, uint64_t addr, uint64_t ino,
			  uint64_t generation)
{
	const struct fsck_group *fg = &f->group[g];
	uint64_t n = g * LUNFS_GROUP_WINDOWS + window;
	uint64_t header = window_first(f, g, window) + (fg->chunk[window] - 1u) * f->geo.cell_blks;
	bool fix;

	if (bit_get(fg->cell_used, addr - geo_group_blk(&f->geo, g)) ||
	    store_changed(&f->store, geo_blk_off(header), geo_cell_bytes(&f->geo)) ||
	    !is_cell_of(f, addr, ino, generation))
		return false;
	fix = !bit_get(f->probed, n) &&
	      problem(&f->problems, PROBLEM_CHUNK, header,
		      "chunk %llu of group %llu: cell %llu is in use, by inode %llu, and marked "
		      "free",
		      ULL(header), ULL(g), ULL(addr), ULL(ino));
	bit_set(f->probed, n);
	if (!fix)
		return fsck_goes_on(f, fix);
	if (!f->unmarked)
		f->unmarked = calloc(f->geo.groups, LUNFS_GROUP_WINDOWS / 8);
	if (!f->unmarked)
		return false;
	bit_set(f->unmarked, n);
	f->restart = true;
	return true;
}

bool missed_cell(struct fsck *f, uint64_t addr, uint64_t ino, uint64_t generation)
{
	uint64_t g, blk;
	uint32_t bit;
	struct fsck_group *fg = map_find(f, addr, &bit);
	uint16_t found;
	unsigned w;
	bool sure;

	if (f->restart)
		return true;
	if (!fg)
		return low_watermark(f, addr);
	w = bit / (LUNFS_CHUNK_CELLS * f->geo.cell_blks);
	g = geo_group_of(&f->geo, addr);
	if (fg->chunk[w])
		return unmarked_cell(f, g, w, addr, ino, generation);
	if (fg->bad_header)
		return false;
	if (bit_get(f->probed, g * LUNFS_GROUP_WINDOWS + w))
		return false;
	bit_set(f->probed, g * LUNFS_GROUP_WINDOWS + w);
	found = find_chunk(f, g, w, &sure);
	blk = window_first(f, g, w);
	if (!found ||
	    !problem(&f->problems, PROBLEM_CHUNK_LOST, blk,
		     "chunk at %llu of group %llu, to which "
		     "cell %llu belongs",
		     (unsigned long long)blk, (unsigned long long)g, (unsigned long long)addr) ||
	    list_chunk(f, g, w, found))
		return false;
	f->restart = true;
	return true;
}

bool misplaced_chunk(struct fsck *f, uint64_t g, unsigned window)
{
	uint64_t first = window_first(f, g, window);
	uint16_t *listed = &f->group[g].chunk[window], found;
	enum seen seen = look_at(f, first + (uint64_t)(*listed - 1u) * f->geo.cell_blks, first);
	bool sure, fix;

	if (seen == SEEN_LOCK || seen == SEEN_HEADER)
		return false; /* the header is damaged, and its place is right */
	found = find_chunk(f, g, window, &sure);
	if (!found || found == *listed || (!sure && seen != SEEN_USED))
		return false;
	fix = problem(&f->problems, PROBLEM_CHUNK_PLACE, geo_group_header(&f->geo, g),
		      "the header of the chunk at %llu is its cell %u, group %llu says %u",
		      (unsigned long long)first, found - 1u, (unsigned long long)g, *listed - 1u);
	if (!fsck_goes_on(f, fix))
		return false;
	f->group[g].rewrite |= fix;
	*listed = found;
	return true;
}

/* ---- bitmaps --------------------------------------------------------------------------------- */

static void take_bits(struct fsck_group *fg, unsigned i, const uint8_t *bits)
{
	size_t from = (size_t)i * LUNFS_BITMAP_BYTES, bytes = (fg->nblks + 7u) / 8u;
	size_t n = from >= bytes		       ? 0
		   : bytes - from < LUNFS_BITMAP_BYTES ? bytes - from
						       : LUNFS_BITMAP_BYTES;

	if (n && bits)
		memcpy(fg->on_disk + from, bits, n);
	else if (n)
		memset(fg->on_disk + from, 0xff, n);
}

/* False: it is lost and stays so. */
static int read_bitmap(struct fsck *f, uint64_t g, struct fsck_group *fg, unsigned i, bool *ok)
{
	uint8_t sector[LUNFS_BLOCK_BYTES], payload[LUNFS_PAYLOAD_BYTES];
	const struct lunfs_bitmap_pl *pl = (const void *)payload;
	uint64_t addr = geo_group_bitmap(&f->geo, g, i);
	int rc = peek_cell(f, addr, sector, payload);

	if (rc == 0 && (blk_check(&f->geo, payload, LUNFS_BLK_BITMAP, addr) ||
			le64_get(pl->hdr.guard) != geo_group_header(&f->geo, g)))
		rc = -EUCLEAN;
	take_bits(fg, i, rc ? NULL : pl->bits);
	if (rc == 0)
		return check_lock(f, addr, sector, NULL);
	if (problem(&f->problems, PROBLEM_BITMAP, addr, "group %llu, part %u: %s",
		    (unsigned long long)g, i,
		    rc == -EUCLEAN ? "it fails its checks" : strerror(-rc))) {
		fg->rewrite = fg->bad_bitmap = true;
		return lose_cell(f, addr); /* it may be unreadable; filled in at the end */
	}
	*ok = false;
	return 0;
}

static int read_bitmaps(struct fsck *f, uint64_t g, struct fsck_group *fg)
{
	bool ok = true;
	int rc = 0;

	for (unsigned i = 0; i < f->geo.bitmap_cells && rc == 0; i++)
		rc = read_bitmap(f, g, fg, i, &ok);
	fg->ok = ok;
	return rc;
}

/* ---- counts ---------------------------------------------------------------------------------- */

static void check_counts(struct fsck *f, uint64_t g, struct fsck_group *fg,
			 const struct lunfs_group_pl *p)
{
	uint64_t free_blks = fg->nblks - bit_count(fg->on_disk, fg->nblks);
	uint32_t chunks = 0;

	if (!fg->rewrite && free_blks != le32_get(p->free_blks))
		fg->rewrite |= problem(
		    &f->problems, PROBLEM_FREE_COUNT, geo_group_header(&f->geo, g),
		    "group %llu says %u free blocks, its bitmap says %llu", (unsigned long long)g,
		    le32_get(p->free_blks), (unsigned long long)free_blks);
	for (unsigned w = 0; w < LUNFS_GROUP_WINDOWS; w++)
		chunks += fg->chunk[w] != 0;
	if (chunks != le32_get(p->chunks))
		fg->rewrite |=
		    problem(&f->problems, PROBLEM_CHUNK_COUNT, geo_group_header(&f->geo, g),
			    "group %llu says %u chunks, it lists %u", (unsigned long long)g,
			    le32_get(p->chunks), chunks);
}

static void refer_fixed(struct fsck *f, struct fsck_group *fg)
{
	uint32_t meta = geo_group_meta_blks(&f->geo);

	for (uint32_t b = 0; b < meta && b < fg->nblks; b++)
		bit_set(fg->referred, b);
}

static void refer_journals(struct fsck *f)
{
	for (unsigned s = 0; f->journals_in_groups && s < f->geo.slots; s++)
		if (f->geo.journal_blk[s] >= f->geo.group0_blk)
			map_refer(f, f->geo.journal_blk[s], f->geo.journal_blks,
				  f->geo.journal_blk[s]);
}

/* ---- one group ------------------------------------------------------------------------------- */

static int check_group(struct fsck *f, uint64_t g)
{
	struct fsck_group *fg = &f->group[g];
	uint64_t addr = geo_group_header(&f->geo, g);
	uint8_t sector[LUNFS_BLOCK_BYTES], payload[LUNFS_PAYLOAD_BYTES];
	const struct lunfs_group_pl *p = (const void *)payload;
	int rc = peek_cell(f, addr, sector, payload);

	refer_fixed(f, fg);
	if (rc == 0 && !header_ok(f, g, p))
		rc = -EUCLEAN;
	if (rc) {
		lose_header(f, g, fg, rc);
		if (!fg->bad_header)
			return 0;
		rc = 0;
	} else {
		for (unsigned w = 0; w < LUNFS_GROUP_WINDOWS; w++)
			fg->chunk[w] = le16_get(p->chunk[w]);
		rc = check_lock(f, addr, sector, payload);
	}
	if (rc == 0)
		rc = read_bitmaps(f, g, fg);
	if (rc == 0 && fg->ok && !fg->bad_header)
		check_counts(f, g, fg, p);
	return rc;
}

int pass_groups(struct fsck *f)
{
	int rc = 0;

	for (uint64_t g = 0; g < f->watermark && rc == 0; g++) {
		rc = check_group(f, g);
		progress(f, "groups", g, f->watermark);
	}
	progress(f, "groups", 1, 1);
	refer_journals(f);
	return rc;
}
