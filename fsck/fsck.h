/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fsck.lunfs: a complete check and repair of a volume. It walks the disk with walkers of its own
 * over the decoders of the layers; it shares no code with what it checks beyond them.
 *
 * Passes, in order: superblock, hosts, groups, cells, trees, links, space. Each adds to the maps
 * and tables in struct fsck that the later ones compare. A repair is local and goes to the store,
 * in memory. A round that repaired anything is followed by another one over the changed volume,
 * until one finds nothing more; only then is all of it written, as one. So a pass need not care
 * for what its repair leads to elsewhere, but each repair must get nearer to the end.
 */
#ifndef FSCK_FSCK_H
#define FSCK_FSCK_H

#include "fsck/problem.h"
#include "fsck/store.h"
#include "node/node.h"
#include <stdio.h>

struct fsck_group { /* one initialised group; maps have a bit a block */
	bool ok;    /* header and bitmap could be read */
	uint32_t nblks;
	uint8_t *on_disk;      /* the allocation bitmap as it stands there */
	uint8_t *before;       /* as the device has it; NULL: not read, or the same */
	uint8_t *referred;     /* blocks that something refers to */
	uint8_t *cell_used;    /* first blocks of cells that their chunk calls used */
	uint8_t *cell_claimed; /* of these, the ones that something refers to */
	uint8_t *cell_valid;   /* first blocks of cells of chunks, used or not */
	uint8_t *cell_bad;     /* of these, the ones that cannot be read or written */
	uint16_t chunk[LUNFS_GROUP_WINDOWS];
	bool rewrite;	 /* header and bitmaps are to be written anew from these maps */
	bool bad_header; /* its payload could not be decoded */
	bool bad_bitmap; /* a part of its bitmap neither */
};

struct fsck_inode {
	uint64_t ino, generation, parent, size, blks;
	uint32_t mode, nlink, flags;
	uint16_t orphan_slot;
	uint32_t links;	  /* names found */
	uint32_t subdirs; /* directories found in it */
	uint32_t orphan_refs;
	uint64_t named_in; /* directory of the (last) name found */
	uint64_t names;	   /* directories: entries found */
	uint64_t counted;  /* blocks found */
	uint8_t mark;	   /* reachability: see pass_links.c */
	/*
	 * The chunk's map of used cells is lost and this one looks used: it may have been deleted.
	 * Without a name it is dropped and not asked for.
	 */
	bool doubt;
	bool damaged;	    /* a tree of it is, and stays so */
	bool gone;	    /* it was given up in this round */
	bool walked;	    /* what hangs on it was looked at */
	uint64_t listed_in; /* the orphan list with its entry */
	/*
	 * As its cell stood when cells were gone through: a file without attributes, and all that
	 * it has is in place and good or is this one extent from its block 0 on (.ext_n 0: none).
	 */
	bool simple, unwritten;
	uint32_t ext_n;
	uint64_t ext_blk;
};

/* What a cell is by itself. Nothing of it depends on other cells. */
struct cell_fact {
	bool lock_ok; /* its lock record decodes: */
	uint64_t owner, ex_pending, payload_version;
	bool sealed; /* its payload is what its header says, checksum and all: */
	uint16_t type;
	uint64_t guard, version;
	bool inode_ok; /* it decodes as an inode: */
	struct fsck_inode inode;
};

struct fsck {
	struct dev *dev;
	struct geo geo;
	struct store store;
	struct problems problems;
	bool verbose, progress, json;
	int progress_fd;  /* machine-readable progress (-C FD); 0: a line for people */
	unsigned percent; /* shown last */
	const char *progress_of;
	unsigned round;	 /* 1 is the first */
	uint64_t nonce;	 /* of the lock records that this run makes */
	bool was_marked; /* it could not be mounted before it was checked */

	uint64_t max_generation; /* of any host incarnation that the volume mentions */
	uint64_t cell_group;	 /* no group before it has a cell to take */
	/* A bit a window of each group: the chunk is to be written anew; its used cells are
	 * guessed. */
	uint8_t *rebuild_chunk, *doubt_chunk;
	uint8_t *probed; /* a bit a window: a chunk that is not listed was looked for there */
	/* A bit a window, NULL: none. For all rounds until it is written: cells of it are in use
	 * and its header calls them free. */
	uint8_t *unmarked;
	bool watermark_told;	/* in this round: it is too low */
	bool watermark_guessed; /* in this round: it was lost */
	bool restart;	 /* the round is to begin anew at once: its maps are wrong */
	unsigned no_place; /* directories that the superblock names where no cell can be */

	struct windows *windows; /* window.c */
	struct clock *clk;	 /* for threads that read ahead; NULL: there are none */
	unsigned threads;	 /* how many; 0: one */
	uint64_t watermark;
	struct host_info slot[LUNFS_MAX_SLOTS + LUNFS_SPARE_SLOTS];
	bool slot_ok[LUNFS_MAX_SLOTS + LUNFS_SPARE_SLOTS];
	bool slot_reset[LUNFS_MAX_SLOTS + LUNFS_SPARE_SLOTS]; /* to be made free */
	unsigned hosts_not_free;
	bool journals_in_groups;
	bool super_given; /* -b: .geo counts, however new another copy is */

	struct fsck_group *group; /* watermark many */
	struct fsck_inode *inode; /* ascending by ino */
	size_t inodes, inodes_room;
	struct trees *trees;

	uint64_t files, dirs, others, orphans, data_blks, cells_used, cells_free, names;
};

/* An orphan is given up in steps: its long link or its attributes may be incomplete. */
static inline bool fsck_dying(const struct fsck_inode *fi)
{
	return fi->flags & LUNFS_INODE_ORPHAN && fi->nlink == 0;
}

/* ---- check.c --------------------------------------------------------------------------------- */

/* @geo is the volume's. Without @maint nothing is repaired. */
void fsck_init(struct fsck *f, struct dev *dev, const struct geo *geo, enum repair_mode mode,
	       struct maint *maint);
/*
 * All rounds; repairs are in the store afterwards and not on the device. 0, or -errno when the
 * check itself cannot go on; -ELOOP: the repairs did not come to an end, none should be written.
 */
int fsck_run(struct fsck *f);
/*
 * Write what a run has repaired (nothing if it was stopped), and take off the mark that keeps
 * mounts out, unless it was there before and something is left. @tell may be NULL.
 */
int fsck_write(struct fsck *f, void (*tell)(void *ctx, uint64_t done, uint64_t total), void *ctx);
void fsck_free(struct fsck *f);
/* A check that repairs nothing looks on as if it had. */
static inline bool fsck_goes_on(const struct fsck *f, bool fixed)
{
	return fixed || f->problems.mode == MODE_CHECK;
}
static inline bool fsck_repairs(const struct fsck *f)
{
	return f->problems.mode != MODE_CHECK && !f->problems.stopped;
}

/* Each returns 0, or -errno when the check itself cannot go on. */
int pass_super(struct fsck *f);
int pass_hosts(struct fsck *f);
int pass_groups(struct fsck *f);
int pass_cells(struct fsck *f);
int pass_trees(struct fsck *f);
int pass_links(struct fsck *f);
int pass_space(struct fsck *f);

/*
 * pass_groups.c: something refers to the cell @addr of inode @ino (itself, or a node; @generation
 * 0: a directory, of any), and no chunk is known there, or the chunk calls it free. True: there is
 * one, it is listed now, or the cell is what it should be and its chunk will be built anew; and the
 * round begins anew. What was about to be reported is not so.
 */
bool missed_cell(struct fsck *f, uint64_t addr, uint64_t ino, uint64_t generation);

/*
 * pass_hosts.c: something refers to @blk. True: that lies in a group beyond the watermark which is
 * initialised all the same (the raise was lost); the watermark is right now, and the round begins
 * anew. Once it is to do that nothing of this kind is worth telling, here as in missed_cell():
 * true.
 */
bool low_watermark(struct fsck *f, uint64_t blk);

/*
 * pass_groups.c: no header of a chunk is where group @g lists that of @window. True: the chunk's
 * header is elsewhere, and chunk[] says now where.
 */
bool misplaced_chunk(struct fsck *f, uint64_t g, unsigned window);

/* ---- maps.c ---------------------------------------------------------------------------------- */

int maps_init(struct fsck *f); /* after the watermark is known */
void maps_free(struct fsck *f);
/* The group and bit of @blk, NULL if it lies in no initialised, readable group. */
struct fsck_group *map_find(struct fsck *f, uint64_t blk, uint32_t *bit);
/* Note a reference to [blk, blk + n) by @who (an inode's or chunk's address). */
void map_refer(struct fsck *f, uint64_t blk, uint64_t n, uint64_t who);
/* Is any of [blk, blk + n) referred to already? */
bool map_referred(struct fsck *f, uint64_t blk, uint64_t n);
struct fsck_inode *inode_find(struct fsck *f, uint64_t ino);
struct fsck_inode *inode_add(struct fsck *f, uint64_t ino);

/* ---- facts.c --------------------------------------------------------------------------------- */

/* Any thread: of the bytes of a cell and nothing else. */
void cell_fact(const struct geo *geo, uint64_t addr, const uint8_t *cell, struct cell_fact *out);
/* -EUCLEAN: it does not decode as an inode. */
int inode_brief(const struct geo *geo, uint64_t addr, const void *payload, struct fsck_inode *out);

/* ---- read.c ---------------------------------------------------------------------------------- */

/*
 * A cell of a chunk as the device holds it, read with its neighbours; good until the next call.
 * NULL: it is in no known chunk, or something there cannot be read: read it by itself.
 */
const uint8_t *window_cell(struct fsck *f, uint64_t addr);
#define FSCK_WORKERS_MIN 4u /* of the program */
#define FSCK_WORKERS_MAX 8u
/*
 * What the cells of the chunk that begins at @first are on the device; good until window_let_go().
 * NULL: something there cannot be read.
 */
const struct cell_fact *window_hold(struct fsck *f, uint64_t first);
void window_let_go(struct fsck *f);
/* From now on facts are wanted of all that is read. */
void windows_examine(struct fsck *f, bool on);
void windows_free(struct fsck *f);
/* A cell: @sector gets the lock sector (512 or 4096 bytes), @payload 3584 bytes. */
int peek_cell(struct fsck *f, uint64_t addr, void *sector, void *payload);
/* The same; reports read errors, which are repaired by lose_cell(). */
int read_cell(struct fsck *f, uint64_t addr, void *sector, void *payload);
/* What a cell held is gone: a free lock and a payload that serves as nothing. */
int lose_cell(struct fsck *f, uint64_t addr);
/*
 * Check and repair a lock record: itself, against the hosts, and the version of @payload against it
 * (NULL: any past of the cell may stand there). Returns errors of the store only.
 */
int check_lock(struct fsck *f, uint64_t addr, const void *sector, const void *payload);
/* The same where there is nothing to repair: false if there may be. @own: of its own payload. */
bool lock_fine(struct fsck *f, const struct cell_fact *x, bool own);
/* An incarnation of some host that the volume mentions. */
void note_generation(struct fsck *f, uint64_t generation);
/* pass_hosts.c: the slots that are to be made free. At the end of a round. */
int finish_hosts(struct fsck *f);
/*
 * Change a cell in the store: seals @payload (whose header but version and CRC is right) with a
 * version above all that the cell and its lock record have seen. @lock: the lock record is made
 * free and new as well.
 */
int write_cell(struct fsck *f, uint64_t addr, void *payload, bool lock);
/* Only its lock record: free and new, with the payload's version. */
int write_lock(struct fsck *f, uint64_t addr, uint64_t payload_version);
void progress(struct fsck *f, const char *pass, uint64_t done, uint64_t total);

/* ---- space.c: room for repairs --------------------------------------------------------------- */

/*
 * After all trees were walked (what is referred to is known). A cell that nothing uses: it is
 * marked used and claimed, its chunk and group will be written. -ENOSPC. Makes a new chunk if need
 * be.
 */
int take_cell(struct fsck *f, uint64_t *addr);
/* The cell is not in use any more; what refers to it is the caller's business. */
void drop_cell(struct fsck *f, uint64_t addr);
/* The chunk of @cell is to be written anew at the end of the round. */
void rewrite_chunk(struct fsck *f, uint64_t cell);
/* Up to @n blocks in a row that nothing refers to, marked referred; *got >= 1. -ENOSPC. */
int take_blks(struct fsck *f, uint64_t n, uint64_t *blk, uint64_t *got);
/* Nothing refers to these blocks any more. */
void drop_blks(struct fsck *f, uint64_t blk, uint64_t n);

/* inode_fix.c: 0: @payload is a good inode now, and in the store; 1: it was cleared or left. */
int fix_inode(struct fsck *f, uint64_t addr, uint8_t *payload);

/* ---- what hangs on inodes (trees.h) ---------------------------------------------------------- */

void trees_free(struct fsck *f);

#endif
