/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of super_rebuild.c, which makes a superblock anew, share, and what super_votes.c
 * reads for it and for super_choose.c.
 */
#ifndef FSCK_SUPER_REBUILD_H
#define FSCK_SUPER_REBUILD_H

#include "base/crc.h"
#include "base/log.h"
#include "fsck/super.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BLK LUNFS_BLOCK_BYTES
#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define TABLE_SLOTS (LUNFS_MAX_SLOTS + LUNFS_SPARE_SLOTS)
#define TABLE_BYTES ((size_t)TABLE_SLOTS * LUNFS_SLOT_STRIDE)
#define FIXED_BYTES (LUNFS_ANCHOR_OFF - LUNFS_MAINT_OFF + LUNFS_ANCHORS * LUNFS_ANCHOR_STRIDE)
#define STEP_BYTES MIB /* groups and the first journal begin on whole MiB */
#define MAX_SEEN 256u

struct seen { /* a header that vouches for its place */
	uint64_t blk;
	uint64_t index; /* slot of a journal, group of a group header */
	uint32_t nblks; /* of a group */
	uint32_t cell_blks;
};

struct rebuild {
	struct dev *dev;
	struct geo *g;
	struct super_rebuilt *out;
	bool any_sector, shape_known;
	unsigned table_slots; /* 1 + the last slot with a valid record */
	unsigned orphans;     /* orphan directories in a row, behind the root */
	struct seen journal[MAX_SEEN], group[MAX_SEEN];
	unsigned journals, groups;
	uint64_t journal0_blk;
	char *why;
	size_t why_len;
};

static inline uint64_t round_up(uint64_t x, uint64_t to)
{
	return (x + to - 1) / to * to;
}

static inline uint64_t power_below(uint64_t x)
{
	return x ? 1ull << (63 - __builtin_clzll(x)) : 0;
}

/* Does a sector that names this volume id belong to the volume? */
static inline bool ours(const struct rebuild *r, const uint8_t id[16])
{
	return !memcmp(id, r->g->vol_id, 16);
}

/* -ENOENT; @what cannot be made out is the reason given. */
int rebuild_fail(const struct rebuild *r, const char *what);
/* The shape of cells is known from now on. */
void rebuild_shape(struct rebuild *r, uint32_t cell_blks);

/* ---- super_votes.c --------------------------------------------------------------------------- */

#define MAX_VOTES (1 + 2 * LUNFS_ANCHORS + TABLE_SLOTS + 64u) /* and those of copies */

struct votes {
	uint8_t id[MAX_VOTES][16];
	unsigned n;
};

/* What cannot be read reads as zeroes here, a block at a time. */
void read_what_can_be(struct dev *dev, uint64_t off, size_t len, uint8_t *buf);
/* @fixed, of FIXED_BYTES: from the maintenance sector to the anchors; @table, of TABLE_BYTES. */
void read_fixed(struct dev *dev, uint8_t *fixed, uint8_t *table);
/* NULL: what stands there is none, of whichever volume. */
const uint8_t *anchor_at(const uint8_t *fixed, int a, uint32_t payload_off);
const struct lunfs_slot_rec *slot_at(const uint8_t *table, unsigned slot);
void vote(struct votes *v, const uint8_t id[16]);
void vote_fixed(struct votes *v, const uint8_t *fixed, const uint8_t *table);
unsigned votes_for(const struct votes *v, const uint8_t id[16]);
/* How many name the winner; with none it is not set. */
unsigned count_votes(const struct votes *v, uint8_t winner[16]);
/* 0 or -ENOENT. */
int super_elect(const uint8_t *fixed, const uint8_t *table, uint8_t winner[16], unsigned *votes,
		unsigned *all);

/* ---- parts of making one anew ---------------------------------------------------------------- */

/* super_groups.c: each fills in .g what its name says, from what stands before it here. */
void rebuild_probe(struct rebuild *r); /* .journal[], .group[] */
int rebuild_groups(struct rebuild *r);
void rebuild_inodes(struct rebuild *r);
int rebuild_end(struct rebuild *r, uint64_t groups_in_use);
/* Note the header of a journal that stands at @blk, if @buf is one. */
void rebuild_note_journal(struct rebuild *r, uint64_t blk, const void *buf);

/* super_journals.c */
int rebuild_journals(struct rebuild *r);
int rebuild_slots(struct rebuild *r); /* the request board, too */

#endif
