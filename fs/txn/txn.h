/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transactions: the cache of metadata payloads, the journal with group commit, checkpoint, and the
 * replay of a dead host's journal (DESIGN section 7). Only this folder writes the metadata of a
 * mounted volume (born cells of a chunk or a fresh group, which nobody can refer to yet, are
 * written by alloc/ before the transaction that makes them reachable).
 *
 * Threads of its own: the committer (every 5 s, or when asked), the checkpointer.
 */
#ifndef TXN_TXN_H
#define TXN_TXN_H

#include "cluster/lock.h"

struct txns;
struct txn_handle;

struct mblk_seen { /* a part of the payload, found right with these bounds */
	atomic_bool set;
	atomic_ullong lo, hi;
};

struct mblk { /* a cached payload; data stays valid while referenced */
	uint64_t addr;
	uint8_t *data;	    /* LUNFS_PAYLOAD_BYTES: the live copy */
	struct lock *guard; /* valid while the guard is pinned by the caller */
	/* The layer above's: what needs no second look. Cleared when data is read or made. */
	struct mblk_seen seen[2];
	atomic_bool no_caps; /* an inode's: it has no capabilities (node/xattr.c) */

	/* the rest is txn's own */
};

int txns_new(const struct env *env, struct host *host, struct locks *locks, struct txns **out);
/* After host_claim(): write a fresh journal header for this incarnation, start the threads. */
int txns_start(struct txns *t);
/* Commit, checkpoint everything, flush, stop the threads: the slot can be freed. */
int txns_stop(struct txns *t);
/* Stop the threads, drop everything dirty (crash, lost). */
void txns_abandon(struct txns *t);
void txns_free(struct txns *t);

/*
 * Get the payload of @addr, guarded by @guard, which the caller has pinned (SH or better) and keeps
 * pinned while it uses the block. From the cache or by a read; checked (magic, type, vol_id,
 * address, CRC, guard address; a guard's own payload also against lock_recorded_version: older =
 * lost write). -EUCLEAN: damaged, logged. -ESTALE: @guard's own cell is sound but serves as
 * something else or as nothing (an old handle); not logged. -EIO. mblk_put() when done. Sleeps; a
 * txn may be joined.
 */
int mblk_get(struct txns *t, struct lock *guard, uint64_t addr, uint16_t type, struct mblk **out);
/*
 * These will be wanted next, the first one now: if it is not in the cache, all that are not are
 * read together. What goes wrong is left to mblk_get(). Pins and sleeps as there.
 */
#define MBLK_AHEAD_MAX 256u
void mblk_read_ahead(struct txns *t, struct lock *guard, const uint64_t *addr, size_t n);
void mblk_put(struct txns *t, struct mblk *m);

/*
 * A block that enters use: zeroed payload with its header filled, dirty in @h. No read: @version
 * must be above every version on disk (0: the cell is born and was never used; else what
 * cell_alloc says). Guard pinned EX. @guard_gen see struct lunfs_blk_hdr.
 */
struct mblk *mblk_new(struct txn_handle *h, struct lock *guard, uint64_t addr, uint16_t type,
		      uint64_t version, uint64_t guard_gen);
/*
 * Announce a change of m->data before making it. Guard pinned EX (asserted), and only one operation
 * changes a block at a time (local exclusive pin, or a mutex of the layer above). Versions and
 * CRCs are the business of commit.
 */
void mblk_dirty(struct txn_handle *h, struct mblk *m);
/* The same for a change of nothing but time stamps: txn_wait_guard() does not wait for it. */
void mblk_dirty_times(struct txn_handle *h, struct mblk *m);
/*
 * The block is given up by this transaction (revoke record, last mention). Consumes the reference.
 * Returns the version the next user must go above. A guard's own payload (an inode) is not revoked
 * but becomes a payload of type FREE, which is in place before any guard changed in this or a later
 * transaction is given up: whoever comes with an old handle gets -ESTALE. Until then the cell may
 * become the payload of its own guard again, and nothing else: txn_tomb_pending().
 */
uint64_t mblk_forget(struct txn_handle *h, struct mblk *m);

/*
 * Join the running transaction. @nblks: upper bound of distinct blocks this handle dirties. Sleeps
 * for log space and while a commit closes; so all locks are pinned and all space is reserved
 * before. Never waits for another host. -EIO: the journal failed or the host is lost. -EROFS: no
 * journal (spare slot) or not started. -E2BIG: more than two thirds of the journal.
 */
int txn_begin(struct txns *t, unsigned nblks, struct txn_handle **out);
/* Leave it. Returns its id, to wait for. All mblks dirtied become part of the next commit. */
uint64_t txn_end(struct txn_handle *h);
/* Run @fn(arg) once the transaction of @h is durable (or dropped: ok=false). On the committer. */
void txn_on_commit(struct txn_handle *h, void (*fn)(void *arg, bool ok), void *arg);
/* A change went wrong half-way: the volume stops (EIO from then on); nothing of it is committed. */
void txn_abort_volume(struct txn_handle *h, const char *why);

uint64_t txn_current(struct txns *t); /* id of the running transaction */
/*
 * Everything up to and including @tid is durable, data written before the call included: always
 * ends with a flush of the device that began after the call. This is fsync. -EIO.
 */
int txn_wait_durable(struct txns *t, uint64_t tid);
/*
 * The same for the last transaction that changed, under this guard, more than time stamps: all that
 * is needed to find and read what the guard's file holds. Nobody gives the guard up before that is
 * durable, so it does not matter whether it is pinned, or still here. This is fdatasync.
 */
int txn_wait_guard(struct txns *t, uint64_t guard_addr);
int txn_commit_all(struct txns *t); /* txn_wait_durable(txn_current()) */
bool txn_failed(struct txns *t);
const atomic_bool *txns_halted(struct txns *t); /* the same, for host_io_init() */
/* The volume has failed elsewhere, and somebody said so: nothing is committed from now on. */
void txns_halt(struct txns *t);

/*
 * Does what stands in place at @addr still say that an inode is there which has been given up? As
 * long as that is so the cell must not serve under another guard: its image would end the FREE one,
 * and whoever comes for the inode's own lock with an old handle would find the inode.
 */
bool txn_tomb_pending(struct txns *t, uint64_t addr);
/* Commit what was given up, and put the FREE images in place. -EIO: failed. */
int txn_settle_tombs(struct txns *t);

/*
 * The lock layer's upcalls for guards; vol/ wires them up. txn_flush_guard() is called with no pin
 * left, so with no reference to the guard's blocks, whatever is given up (EX or SH). keep EX: only
 * commit and checkpoint. txn_guard_version() after it is what stands in place, 0 = unknown.
 */
int txn_flush_guard(struct txns *t, uint64_t guard_addr, enum lock_mode keep);
uint64_t txn_guard_version(struct txns *t, uint64_t guard_addr);
void txn_loaded(struct txns *t, struct lock *guard, const void *payload);

/* host_cb.replay. -ETIMEDOUT: something that it wrote may still land; else it can be repeated. */
int txn_replay(struct txns *t, unsigned slot, uint64_t owner, uint64_t nonce);

struct txn_stats {
	atomic_ullong commits, committed_blocks, checkpoints, checkpointed_blocks, log_blocks;
	atomic_ullong replays, replayed_blocks, skipped_blocks, cache_hits, cache_misses;
	atomic_ullong cache_refilled; /* read together when a lock came back, and right */
	atomic_ullong commit_us_max;
};
const struct txn_stats *txns_stats(struct txns *t);
/* Has the committer made progress lately (for the beat, host_cb.alive)? */
bool txns_alive(struct txns *t);

/* What mkfs writes: an empty journal header. @blk is one block of 4096 bytes. */
void journal_format(const struct geo *g, unsigned slot, void *blk);

#endif
