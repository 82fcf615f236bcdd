/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Metadata chunks and every cell in them: lock records, payloads of used cells. Fills cell_valid[],
 * cell_used[] and the table of inodes.
 */
#include "base/bitmap.h"
#include "base/crc.h"
#include "fsck/trees.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct chunk { /* one that is being looked at */
	uint64_t g, header, first_blk;
	struct fsck_group *fg;
	uint8_t valid[LUNFS_CHUNK_CELLS / 8], used[LUNFS_CHUNK_CELLS / 8];
	bool doubt; /* which cells are used is a guess, but for .sure ones */
	uint8_t sure[LUNFS_CHUNK_CELLS / 8];
	uint8_t *buf;		      /* one of its cells */
	const struct cell_fact *fact; /* of each, as the device holds it; NULL: not known */
};

static bool in_doubt(const struct fsck *f, const struct chunk *c, uint64_t addr)
{
	return c->doubt && !bit_get(c->sure, (addr - c->first_blk) / f->geo.cell_blks);
}

/* ---- inodes ---------------------------------------------------------------------------------- */

static int add_inode(struct fsck *f, const struct fsck_inode *brief, bool doubt)
{
	struct fsck_inode *fi = inode_add(f, brief->ino);

	if (!fi)
		return -ENOMEM;
	*fi = *brief;
	fi->doubt = doubt;
	return 0;
}

static int note_inode(struct fsck *f, uint64_t addr, const void *payload, bool doubt)
{
	struct fsck_inode brief;

	return inode_brief(&f->geo, addr, payload, &brief) ? -EUCLEAN : add_inode(f, &brief, doubt);
}

static int check_inode(struct fsck *f, const struct chunk *c, uint64_t addr, uint8_t *payload)
{
	int rc = blk_check(&f->geo, payload, LUNFS_BLK_INODE, addr);

	if (rc == 0)
		rc = note_inode(f, addr, payload, in_doubt(f, c, addr));
	if (rc != -EUCLEAN)
		return rc;
	if (in_doubt(f, c, addr)) {
		drop_cell(f, addr);
		return 0;
	}
	if (fix_inode(f, addr, payload) == 0)
		rc = note_inode(f, addr, payload, false);
	return rc == -EUCLEAN ? 0 : rc;
}

/* ---- cells ----------------------------------------------------------------------------------- */

/* Magic, volume and place are right, whatever else is not. */
static bool head_ok(const struct fsck *f, uint64_t addr, const struct lunfs_blk_hdr *h)
{
	return le32_get(h->magic) == LUNFS_BLK_MAGIC && le64_get(h->addr) == addr &&
	       !memcmp(h->vol_id, f->geo.vol_id, sizeof(h->vol_id));
}

static int check_used(struct fsck *f, const struct chunk *c, uint64_t addr, uint8_t *payload)
{
	const struct lunfs_blk_hdr *h = (const void *)payload;

	if (addr == c->header)
		return 0;
	if (head_ok(f, addr, h)) {
		switch (le16_get(h->type)) {
		case LUNFS_BLK_INODE:
			return check_inode(f, c, addr, payload);
		case LUNFS_BLK_BTREE: /* its tree says whether it is good */
			return 0;
		default:
			break;
		}
	}
	if (in_doubt(f, c, addr) || problem(&f->problems, PROBLEM_CELL, addr,
					    "cell %llu is used as nothing "
					    "that is known",
					    (unsigned long long)addr))
		drop_cell(f, addr);
	else
		bit_set(c->fg->cell_claimed, addr - geo_group_blk(&f->geo, c->g)); /* told */
	return 0;
}

/* What is used and as what is known: all but that. */
static void note_used(struct fsck *f, const struct chunk *c, uint64_t addr)
{
	uint32_t bit = (uint32_t)(addr - geo_group_blk(&f->geo, c->g));

	f->cells_used++;
	bit_set(c->fg->cell_used, bit);
	if (addr == c->header)
		bit_set(c->fg->cell_claimed, bit);
}

static int check_cell(struct fsck *f, const struct chunk *c, uint64_t addr, bool used)
{
	const struct lunfs_blk_hdr *h = (const void *)(c->buf + f->geo.payload_off);
	bool own = used && le64_get(h->guard) == addr;
	/* A cell that is not in use may hold any past of itself: its version need not be current.
	 */
	int rc = check_lock(f, addr, c->buf, own ? h : NULL);

	if (rc || !used) {
		f->cells_free += !used;
		return rc;
	}
	note_used(f, c, addr);
	return check_used(f, c, addr, c->buf + f->geo.payload_off);
}

/* A cell in which all is well. False: it is to be looked at, and nothing was noted. */
static bool take_fact(struct fsck *f, const struct chunk *c, uint64_t addr, bool used,
		      const struct cell_fact *x, int *rc)
{
	bool head = addr == c->header;

	if (store_changed(&f->store, geo_blk_off(addr), geo_cell_bytes(&f->geo)) ||
	    (used && !head && !x->inode_ok && !(x->sealed && x->type == LUNFS_BLK_BTREE)) ||
	    !lock_fine(f, x, used && x->guard == addr))
		return false;
	if (!used) {
		f->cells_free++;
		return true;
	}
	note_used(f, c, addr);
	if (!head && x->inode_ok)
		*rc = add_inode(f, &x->inode, in_doubt(f, c, addr));
	return true;
}

/* One that cannot be read. */
static int miss_cell(struct fsck *f, const struct chunk *c, uint64_t addr, bool used, int err)
{
	uint32_t bit = (uint32_t)(addr - geo_group_blk(&f->geo, c->g));

	if (problem(&f->problems, PROBLEM_READ, addr, "cell %llu: %s", (unsigned long long)addr,
		    strerror(-err))) {
		rewrite_chunk(f, addr); /* not in use any more */
		return lose_cell(f, addr);
	}
	bit_set(c->fg->cell_bad, bit);
	if (used)
		bit_set(c->fg->cell_used, bit);
	return 0;
}

static int load_cell(struct fsck *f, const struct chunk *c, uint64_t addr)
{
	uint32_t bytes = geo_cell_bytes(&f->geo);
	const uint8_t *cell = window_cell(f, addr);

	if (!cell)
		return store_read(&f->store, geo_blk_off(addr), bytes, c->buf);
	memcpy(c->buf, cell, bytes);
	store_patch(&f->store, geo_blk_off(addr), bytes, c->buf);
	return 0;
}

static int check_one(struct fsck *f, const struct chunk *c, unsigned n)
{
	uint64_t addr = c->first_blk + (uint64_t)n * f->geo.cell_blks;
	bool used = bit_get(c->used, n);
	int rc = 0;

	map_refer(f, addr, f->geo.cell_blks, c->header);
	bit_set(c->fg->cell_valid, addr - geo_group_blk(&f->geo, c->g));
	if (c->fact && take_fact(f, c, addr, used, &c->fact[n], &rc))
		return rc;
	rc = load_cell(f, c, addr);
	return rc ? miss_cell(f, c, addr, used, rc) : check_cell(f, c, addr, used);
}

static int check_cells(struct fsck *f, struct chunk *c)
{
	int rc = 0;

	c->fact = c->doubt ? NULL : window_hold(f, c->first_blk);
	for (unsigned n = 0; n < LUNFS_CHUNK_CELLS && rc == 0; n++)
		if (bit_get(c->valid, n))
			rc = check_one(f, c, n);
	window_let_go(f);
	return rc;
}

/* ---- a chunk's header ------------------------------------------------------------------------ */

/* All but the counts. Bits of cells that cannot be are taken away. */
static bool header_ok(const struct fsck *f, struct chunk *c, const struct lunfs_chunk_pl *p)
{
	unsigned own = (unsigned)((c->header - c->first_blk) / f->geo.cell_blks);

	if (blk_check(&f->geo, p, LUNFS_BLK_CHUNK, c->header) ||
	    le64_get(p->hdr.guard) != c->header || le64_get(p->group) != c->g ||
	    le64_get(p->first_blk) != c->first_blk || !bit_get(p->used, own))
		return false;
	for (unsigned n = 0; n < LUNFS_CHUNK_CELLS; n++) {
		uint64_t addr = c->first_blk + (uint64_t)n * f->geo.cell_blks;
		bool can = blk_range_ok(&f->geo, addr, f->geo.cell_blks);

		if ((bit_get(p->valid, n) && !can) ||
		    (bit_get(p->used, n) && !bit_get(p->valid, n)))
			return false;
	}
	memcpy(c->valid, p->valid, sizeof(c->valid));
	memcpy(c->used, p->used, sizeof(c->used));
	return mem_is_zero(p->reserved0, sizeof(p->reserved0)) &&
	       mem_is_zero(p->reserved1, sizeof(p->reserved1));
}

static void check_counts(struct fsck *f, const struct chunk *c, const struct lunfs_chunk_pl *p)
{
	uint32_t valid = (uint32_t)bit_count(c->valid, LUNFS_CHUNK_CELLS);
	uint32_t used = (uint32_t)bit_count(c->used, LUNFS_CHUNK_CELLS);

	if (le32_get(p->cells) == valid && le32_get(p->free_cells) == valid - used)
		return;
	if (problem(&f->problems, PROBLEM_CHUNK_COUNT, c->header,
		    "chunk %llu says %u of %u cells are free, its maps say %u of %u",
		    (unsigned long long)c->header, le32_get(p->free_cells), le32_get(p->cells),
		    valid - used, valid))
		rewrite_chunk(f, c->header);
}

/* A lock sector is always a lock sector: what has a lock record of its own place is a cell. */
static void guess_cell(struct fsck *f, struct chunk *c, unsigned n)
{
	uint64_t addr = c->first_blk + (uint64_t)n * f->geo.cell_blks;
	uint32_t bytes = geo_cell_bytes(&f->geo);
	uint8_t *cell = c->buf;
	const struct lunfs_blk_hdr *h = (const void *)(cell + f->geo.payload_off);
	struct lunfs_lock_rec rec;
	uint16_t type;

	if (bit_get(c->sure, n)) {
		bit_set(c->valid, n);
		bit_set(c->used, n);
		return;
	}
	/* The root and the lists of orphans have no other place: cells, whatever stands there. */
	if (!blk_range_ok(&f->geo, addr, f->geo.cell_blks) ||
	    store_read(&f->store, geo_blk_off(addr), bytes, cell) ||
	    (addr != c->header && !is_place(f, addr) && lock_rec_decode(&f->geo, cell, addr, &rec)))
		return;
	bit_set(c->valid, n);
	type = le16_get(h->type);
	if (addr == c->header)
		bit_set(c->used, n);
	else if ((type == LUNFS_BLK_INODE || type == LUNFS_BLK_BTREE) &&
		 blk_check(&f->geo, h, type, addr) == 0)
		bit_set(c->used, n);
}

/* @err 0: it is good and calls cells free that are in use; that was told before. */
static bool rebuild(struct fsck *f, struct chunk *c, int err)
{
	bool fix =
	    !err || problem(&f->problems, PROBLEM_CHUNK, c->header, "chunk %llu of group %llu: %s",
			    (unsigned long long)c->header, (unsigned long long)c->g,
			    err == -EUCLEAN ? "it fails its checks" : strerror(-err));

	if (!fsck_goes_on(f, fix))
		return false;
	c->doubt = true;
	bit_set(f->doubt_chunk,
		c->g * LUNFS_GROUP_WINDOWS + (c->first_blk - geo_group_blk(&f->geo, c->g)) /
						 (LUNFS_CHUNK_CELLS * f->geo.cell_blks));
	if (!err)
		memcpy(c->sure, c->used, sizeof(c->sure));
	memset(c->valid, 0, sizeof(c->valid));
	memset(c->used, 0, sizeof(c->used));
	if (fix && lose_cell(f, c->header))
		return false;
	for (unsigned n = 0; n < LUNFS_CHUNK_CELLS; n++)
		guess_cell(f, c, n);
	return true;
}

static int read_header(struct fsck *f, struct chunk *c, unsigned window, uint8_t *sector,
		       uint8_t *payload)
{
	int rc;

	c->header = c->first_blk + (uint64_t)(c->fg->chunk[window] - 1u) * f->geo.cell_blks;
	rc = peek_cell(f, c->header, sector, payload);
	return rc == 0 && !header_ok(f, c, (const void *)payload) ? -EUCLEAN : rc;
}

static int check_chunk(struct fsck *f, uint64_t g, unsigned window, uint8_t *buf)
{
	uint32_t cb = f->geo.cell_blks;
	struct chunk c = {.g = g, .fg = &f->group[g], .buf = buf};
	uint8_t sector[LUNFS_BLOCK_BYTES], payload[LUNFS_PAYLOAD_BYTES];
	int rc;

	c.first_blk = geo_group_blk(&f->geo, g) + (uint64_t)window * LUNFS_CHUNK_CELLS * cb;
	rc = read_header(f, &c, window, sector, payload);
	if (rc == -EUCLEAN && misplaced_chunk(f, g, window))
		rc = read_header(f, &c, window, sector, payload);
	if (rc == 0 && !(f->unmarked && bit_get(f->unmarked, g * LUNFS_GROUP_WINDOWS + window)))
		check_counts(f, &c, (const void *)payload);
	else if (rebuild(f, &c, rc))
		rewrite_chunk(f, c.header);
	else
		return 0;
	return check_cells(f, &c);
}

/* Directories that nothing names. */
static void look_for_top(struct fsck *f)
{
	if (!inode_find(f, f->geo.root_ino))
		missed_cell(f, f->geo.root_ino, f->geo.root_ino, 0);
	for (unsigned s = 0; s < f->geo.slots; s++)
		if (f->geo.journal_blk[s] && !inode_find(f, f->geo.orphan_ino[s]))
			missed_cell(f, f->geo.orphan_ino[s], f->geo.orphan_ino[s], 0);
}

int pass_cells(struct fsck *f)
{
	uint8_t *buf = dev_buf_alloc(geo_cell_bytes(&f->geo));
	int rc = 0;

	windows_examine(f, true);
	for (uint64_t g = 0; g < f->watermark && rc == 0; g++) {
		for (unsigned w = 0; w < LUNFS_GROUP_WINDOWS && rc == 0; w++)
			if (f->group[g].chunk[w])
				rc = check_chunk(f, g, w, buf);
		progress(f, "cells", g, f->watermark);
	}
	progress(f, "cells", 1, 1);
	windows_examine(f, false);
	free(buf);
	if (rc == 0)
		look_for_top(f);
	return rc;
}
