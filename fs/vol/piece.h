/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A piece of a write to a regular file: what one transaction adds to it, at most 1 MiB. The inode
 * is pinned EX; local exclusive where nothing else is said.
 */
#ifndef VOL_PIECE_H
#define VOL_PIECE_H

#include "vol/vol_impl.h"

#define PIECE_BYTES (1u << 20)
#define PARTS_MAX 8u /* extents of a piece; more: the piece ends earlier */

enum part_kind { PART_WRITTEN, PART_UNWRITTEN, PART_NEW };

struct part { /* blocks of a piece that lie together */
	enum part_kind kind;
	uint64_t lblk, blk, len;
	struct blk_res res; /* PART_NEW */
};

/*
 * Where a block of a file had best lie, as some that are not far from it in the file do: what comes
 * one after the other in any order shall lie one after the other.
 */
struct near {
	uint64_t blk;  /* 0: not known */
	uint64_t dist; /* in the file, from those it goes by */
};
/* Is [at, at + len) of the file, which lies from @blk on, the nearest to @lblk so far? */
void near_look(struct near *n, const struct geo *g, uint64_t lblk, uint64_t at, uint64_t len,
	       uint64_t blk);

struct piece {
	uint64_t off, end; /* bytes of the file */
	const uint8_t *src;
	uint64_t lblk, nblks;
	struct near near; /* a place for its first block that the caller knows of */
	bool prompt; /* room is taken as it is, without waiting for a commit */
	unsigned n, changes;
	struct part part[PARTS_MAX];
	uint8_t *tmp;	    /* bounce memory, or NULL */
	const uint8_t *mem; /* block lblk + k is at mem + k * BLK ... */
	uint64_t n_mem;	    /* ... for k < n_mem; the last one, if more, is tail */
	uint8_t *tail;
	bool full; /* it is shorter than it should be, and no more is to be had */
};

/* As much of [off, off + len) as fits in a piece. @src: those bytes. */
void piece_init(struct piece *p, uint64_t off, size_t len, const uint8_t *src);
/* All of it, and piece_end(). -EAGAIN with o->want, -ENOSPC, -EIO; nothing is committed then. */
int piece_write(struct op *o, struct inode *i, struct piece *p);

/*
 * Its steps. Local shared is enough for the first two. piece_plan() maps it and reserves blocks; it
 * shortens the piece when space is in too many parts; or short, but then only when there is no hope
 * for more. After 0 piece_end() must follow.
 */
int piece_plan(struct op *o, struct inode *i, struct piece *p);
int piece_send(struct volume *v, struct inode *i, struct piece *p);
/* @o: of the writer. @i: of whoever has it local exclusive. */
int piece_commit(struct op *o, struct inode *i, struct piece *p);
/* Gives back what was not committed. */
void piece_end(struct volume *v, struct piece *p);

#endif
