/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Space: groups, their bitmaps, metadata chunks, the watermark (DESIGN sections 3 and 6).
 *
 * Everything that can fail or wait happens in a *reservation*, before the operation joins a
 * transaction; what is taken from a reservation inside the transaction cannot fail. Reservations
 * live in memory only and keep the group's or chunk's lock pinned (host EX, local shared; the
 * in-core group or chunk has a mutex of its own). Group, chunk and watermark locks are only ever
 * tried: if one is in the way, -EAGAIN and *want is the lock to wait for with nothing else pinned
 * (lock_pin EX, unpin at once, start over).
 *
 * Space freed by a transaction is not handed out again before that transaction is durable, and the
 * cell of an inode to another guard's node not before it says FREE in place (txn_tomb_pending()).
 */
#ifndef ALLOC_ALLOC_H
#define ALLOC_ALLOC_H

#include "txn/txn.h"

struct alloc;

int alloc_new(const struct env *env, struct host *host, struct locks *locks, struct txns *txns,
	      struct alloc **out);
int alloc_start(struct alloc *a); /* after the claim and txns_start() */
void alloc_stop(struct alloc *a); /* no reservation is outstanding; forgets all hints */
void alloc_free(struct alloc *a);
/*
 * lock_cb.flush(NONE) of @addr, after txn_flush_guard() returned 0: forget what is cached in core
 * about this group or chunk. Cheap for every other address.
 */
void alloc_lock_gone(struct alloc *a, uint64_t addr);

/* ---- metadata cells ------------------------------------------------------------------------- */

#define ALLOC_CELLS_MAX 64u

struct cell {
	uint64_t addr;
	uint64_t version; /* the new payload must go above this; 0 for a born cell */
	bool born;	  /* this host holds the cell's own lock EX (or has just adopted it) */
};

struct cell_res {
	unsigned n, taken;
	struct cell cell[ALLOC_CELLS_MAX];
	void *chunk[ALLOC_CELLS_MAX]; /* in-core chunk of each, pinned */
	uint64_t want;		      /* out, with -EAGAIN */
};

#define ALLOC_RESERVE_OK 0x1u /* may dip into the reserve kept for deleting on a full volume */
#define ALLOC_NEED_LOCK 0x2u  /* cells for inodes: their own lock must be to be had EX by a try */
#define ALLOC_NO_COMMIT 0x4u  /* blocks: does not wait for a commit that could make room */

/*
 * The lock at @lock_addr, which was wanted (-EAGAIN), has been waited for: take home what it was
 * wanted for, before other locks are waited for and it goes. The caller has no inode pinned and no
 * transaction. If it fails, the caller will just want it again.
 */
void alloc_use(struct alloc *a, uint64_t lock_addr);

/*
 * Reserve @n cells near @goal (an address or 0). No transaction is joined. May convert a fresh
 * chunk (its own transaction). -EAGAIN with res->want; -ENOSPC; -EIO; -EROFS.
 */
int cell_reserve(struct alloc *a, unsigned n, uint64_t goal, unsigned flags, struct cell_res *res);
/* Transaction blocks that taking one cell dirties (credits for txn_begin). */
#define CELL_TAKE_CREDITS 1u
struct cell cell_take(struct txn_handle *h, struct alloc *a, struct cell_res *res);
void cell_unreserve(struct alloc *a, struct cell_res *res); /* what was not taken; always call */

/*
 * Free cells: prepare tries the chunk locks (no transaction joined; -EAGAIN and *want), then
 * cell_free inside the transaction, then end. The payload was mblk_forget()ed in the same
 * transaction by the caller.
 */
struct free_res {
	unsigned n;
	void *obj[ALLOC_CELLS_MAX];
	uint64_t addr[ALLOC_CELLS_MAX]; /* their locks' addresses */
	uint64_t want;
};
void free_res_init(struct free_res *r);
int cell_free_prepare(struct alloc *a, struct free_res *r, uint64_t cell);
#define CELL_FREE_CREDITS 1u
void cell_free(struct txn_handle *h, struct alloc *a, struct free_res *r, uint64_t cell);
/*
 * Optional, next to cell_free(): what mblk_forget() returned, so that the next user of the cell
 * need not read it to learn its version.
 */
void cell_free_version(struct alloc *a, struct free_res *r, uint64_t cell, uint64_t version);

/* ---- data blocks ------------------------------------------------------------------------------
 */

struct blk_res {
	uint64_t blk; /* first block */
	uint32_t len; /* blocks, >= 1, <= what was asked */
	void *group;
	uint64_t want;
};

/*
 * Reserve one contiguous run of 1..@max blocks, near @goal if possible. Errors as cell_reserve. May
 * wait for a commit of this host before it says -ENOSPC.
 */
int blk_reserve(struct alloc *a, uint32_t max, uint64_t goal, unsigned flags, struct blk_res *res);
/*
 * The same for a part of a file, other parts of which are expected: where it cannot be had at @goal
 * it goes where there is room for them, which nobody else goes to who can help it. Nothing is
 * reserved by that.
 */
struct blk_room {
	uint32_t before, after; /* blocks; the first one that is reserved counts as after */
};
int blk_reserve_in(struct alloc *a, uint32_t max, struct blk_room room, uint64_t goal,
		   unsigned flags, struct blk_res *res);
#define BLK_TAKE_CREDITS 3u
/* The first @n blocks become allocated in this transaction (n <= len); the rest is let go. */
void blk_take(struct txn_handle *h, struct alloc *a, struct blk_res *res, uint32_t n);
void blk_unreserve(struct alloc *a, struct blk_res *res); /* if not taken */

int blk_free_prepare(struct alloc *a, struct free_res *r, uint64_t blk, uint32_t len);
#define BLK_FREE_CREDITS 11u /* header and bitmaps; an extent never crosses a group */
void blk_free(struct txn_handle *h, struct alloc *a, struct free_res *r, uint64_t blk,
	      uint32_t len);
/* Transaction blocks that all frees by what was prepared dirty, payloads that are forgotten aside.
 */
unsigned free_res_credits(const struct free_res *r);
void free_res_end(struct alloc *a, struct free_res *r); /* unpins; always call */

/* ---- giving free space back to the device ---------------------------------------------------- */

struct alloc_trim {
	uint64_t blk, end;  /* what is still to be looked at */
	uint32_t min_blks;  /* shorter runs stay */
	uint32_t step_blks; /* at once; adapts itself to the device */
	uint64_t done_blks; /* given back */
	uint64_t group;	    /* that is looked at ... */
	bool ours;	    /* ... and whose lock was held here before */
	/*
	 * An error ends it, and nothing of it lands any more; but for -ESHUTDOWN: it may, and no
	 * lock here moves, nor is anything written to what was to be discarded.
	 */
	int (*discard)(void *ctx, uint64_t off_bytes, uint64_t len_bytes);
	void *ctx;
	uint64_t want; /* out, with -EAGAIN */
};
void alloc_trim_init(struct alloc_trim *t, uint64_t blk, uint64_t end);
/*
 * Discard free blocks from t->blk on in its group, with no transaction joined; t->blk moves. Ends
 * early when another host wants the group. To be called until t->blk == t->end.
 */
int alloc_trim(struct alloc *a, struct alloc_trim *t);
/* What has been freed so far becomes available: a commit, and its call-backs have been made. */
int alloc_settle_frees(struct alloc *a);

/* ---- the whole ----------------------------------------------------------------------------------
 */

struct space {
	uint64_t total_blks; /* allocatable on this volume */
	uint64_t free_blks;  /* own groups exactly, others as last checkpointed, fresh ones whole */
	uint64_t avail_blks; /* free less the reserve */
	uint64_t used_cells, free_cells; /* estimate, for statfs files/ffree */
};
int alloc_statfs(struct alloc *a, struct space *out);

/* ---- shared with mkfs and fsck: pure, no locks
 * ---------------------------------------------------- */

struct group_info {
	uint64_t group, first_blk;
	uint32_t nblks, free_blks, chunks;
	uint16_t chunk[LUNFS_GROUP_WINDOWS]; /* as on disk */
};
struct chunk_info {
	uint64_t group, first_blk;
	uint32_t cells, free_cells;
	uint8_t valid[32], used[32];
};
/* Check header, counts and ranges; outputs untouched on -EUCLEAN. */
int group_decode(const struct geo *g, const void *payload, uint64_t group, struct group_info *out);
int chunk_decode(const struct geo *g, const void *payload, uint64_t addr, struct chunk_info *out);
/*
 * Build all payloads of a fresh group as mkfs and the watermark's holder write them: @header, and
 * @bitmaps (bitmap_cells payloads in a row). Sealed, version 1.
 */
void group_format(const struct geo *g, uint64_t group, void *header, void *bitmaps);

#endif
