/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locks: acquire, cache, revoke, hand over (DESIGN section 6), and the request board.
 *
 * A lock is named by its cell's address. This host *holds* it (NONE, SH, EX; cached for as long as
 * nobody asks) and operations *pin* it. A pin has a host mode and a local mode: host EX / local
 * shared lets several operations of this host work under one exclusive lock side by side (parallel
 * data writes, the allocator), local exclusive shuts out every other pin of this host.
 *
 * Threads of its own: the board poller (reads this host's row), a small pool of revokers.
 */
#ifndef CLUSTER_LOCK_H
#define CLUSTER_LOCK_H

#include "cluster/host.h"

enum lock_mode { LOCK_NONE = 0, LOCK_SH = 1, LOCK_EX = 2 };
enum lock_local { LOCAL_SHARED = 0, LOCAL_EXCL = 1, LOCAL_PARKED = 2 /* lock_park() */ };

#define LOCK_TRY                                                                                   \
	0x1u /* never wait: -EAGAIN if it is not to be had at once (device I/O is allowed) */
#define LOCK_CACHED 0x2u /* with TRY: not even I/O: only if this host holds it already */
#define LOCK_LATE 0x8u /* with DRAIN: write-back, admitted until the last page is dropped */
#define LOCK_AHEAD                                                                                 \
	0x10u		/* for others who will most likely come: lock_ahead() tells if they did    \
			 */
#define LOCK_DRAIN 0x4u /* admitted while a revoke invalidates kernel caches (READ, WRITE) */

struct locks;
struct lock; /* in core; stays valid while pinned */

struct lock_cb { /* upcalls of the revoke path and of cold acquires; no lock mutex is held */
	void *ctx;
	/*
	 * A cold acquire read the whole cell and its payload is current: keep it if you like.
	 * Called with the lock pinned, or while nobody can pin it. @payload is LUNFS_PAYLOAD_BYTES,
	 * CRC not yet checked.
	 */
	void (*loaded)(void *ctx, struct lock *l, const void *payload);
	/*
	 * The lock will go down. First call of the revoke, in which pins with LOCK_DRAIN and
	 * LOCK_LATE are admitted: nothing need be dropped yet; may sleep.
	 */
	void (*prepare)(void *ctx, uint64_t addr);
	/*
	 * The lock will go down to @keep (NONE, or SH from EX). Next call of the revoke: make the
	 * kernel drop what it caches under it. Pins with LOCK_DRAIN are still admitted; may sleep.
	 * If such a pin came meanwhile it is called once more when they are gone; now only pins
	 * with LOCK_LATE are admitted. 0; -EAGAIN: the kernel still has some. Then a lock that was
	 * held exclusively, so that they may be dirty, is kept, who waits for it here is admitted,
	 * and it is tried again soon.
	 */
	int (*invalidate)(void *ctx, uint64_t addr, enum lock_mode keep);
	/*
	 * No pin is left and none is admitted: commit what is dirty under it, write it in place,
	 * flush; with keep NONE also drop cached blocks. 0 or -errno (then the lock is kept).
	 */
	int (*flush)(void *ctx, struct lock *l, enum lock_mode keep);
	/* Payload version to record (of the cell itself, as flushed); 0 = leave what is recorded.
	 */
	uint64_t (*version)(void *ctx, uint64_t addr);
	/* Does this host have the file open (record the OPEN entry)? */
	bool (*is_open)(void *ctx, uint64_t addr);
};

struct lock_intr { /* lets a waiting acquire be interrupted (FUSE_INTERRUPT); zero-init is valid */
	atomic_bool interrupted;
};

int locks_new(const struct env *env, struct ats *ats, struct host *host, const struct lock_cb *cb,
	      struct locks **out);
int locks_start(struct locks *ls); /* after host_claim(): starts the threads */
void locks_stop(struct locks *ls); /* stops the threads; gives nothing back */
void locks_free(struct locks *ls);

/*
 * Take the lock of cell @addr in @mode for the calling operation; pinned until lock_unpin(). The
 * caller joins no transaction and, unless LOCK_TRY, holds only pins on lower addresses. Sleeps: a
 * cold lock costs one read of the cell and one ATS; a lock held by a live host is asked for on its
 * row and waited for for as long as that host lives; a dead host's is waited for until it is
 * recovered. -EAGAIN: LOCK_TRY and not to be had at once. -EINTR: @intr (may be NULL) was
 * interrupted. -EIO: the device failed, or this host lost its lease. -EUCLEAN: the record is
 * damaged.
 */
int lock_pin(struct locks *ls, uint64_t addr, enum lock_mode mode, enum lock_local local,
	     unsigned flags, struct lock_intr *intr, struct lock **out);
void lock_unpin(struct locks *ls, struct lock *l, enum lock_local local);
/*
 * The same for a lock that was only waited for and will be tried in a moment: for a few ms, until
 * its next unpin, it is not given away. Otherwise hosts that all need the same lock could hand it
 * round for ever without anybody's using it.
 */
void lock_unpin_unused(struct locks *ls, struct lock *l, enum lock_local local);
/* Unpin in the middle of an operation that comes back at once: others are still to come after it. */
void lock_unpin_again(struct locks *ls, struct lock *l, enum lock_local local);
/*
 * The locks of these cells, in any order, will be wanted in @mode one after the other: get those
 * that are to be had at once, all together. None is taken that another host holds (in a mode that
 * does not go with @mode) or waits for exclusively, or that hosts have handed each other lately;
 * which, nobody is told. Sleeps for the time of three device I/Os; waits for no lock, so the caller
 * may have pinned any. Returns how many were got.
 */
#define LOCK_AHEAD_MAX 128u
size_t lock_get_ahead(struct locks *ls, const uint64_t *addr, size_t n, enum lock_mode mode);
/*
 * For several who are pinned local shared and let one of them change for all what they work on.
 * lock_park(): from now on local parked; the caller touches nothing any more but to unpin or raise.
 * lock_raise(), of one that is parked: from now on local exclusive, but beside others who are
 * parked; sleeps until no pin is local shared, and cannot fail. One at a time of a lock waits in
 * it: the callers see to that. From the shared pin of any of them to its unpin nobody else of this
 * host is local exclusive, and no other host gets the lock.
 */
void lock_park(struct locks *ls, struct lock *l);
void lock_raise(struct locks *ls, struct lock *l);
void lock_intr_fire(struct locks *ls, struct lock_intr *intr); /* wakes the waiter */

/*
 * This host wrote @n cells from @first on (stride cell_blks) with lock_born_image(): they are held
 * EX without any I/O. Kept as a range; a struct lock is only made when one is used.
 */
void lock_adopt_born(struct locks *ls, uint64_t first, unsigned n);
/* The lock sector of a born-owned cell: EX, owner = this incarnation, possession 1, version 0. */
void lock_born_image(struct locks *ls, uint64_t addr, void *sector);
/* The same for mkfs: a FREE record. @sector is sector_bytes. */
void lock_format(const struct geo *g, uint64_t addr, uint64_t nonce, void *sector);
/* Check and copy out a record. 0 or -EUCLEAN. */
int lock_rec_decode(const struct geo *g, const void *sector, uint64_t addr,
		    struct lunfs_lock_rec *out);

uint64_t lock_addr(const struct lock *l);
enum lock_mode lock_held(struct locks *ls, uint64_t addr); /* cached mode now; a hint */
/* What has become of a lock that was got ahead of its use? A hint. */
enum lock_ahead { AHEAD_NOT, AHEAD_UNUSED, AHEAD_USED, AHEAD_USED_EX };
enum lock_ahead lock_ahead(struct locks *ls, uint64_t addr);
bool lock_is_ex(const struct lock *l);			   /* for assertions while pinned */
uint64_t lock_possession(const struct lock *l); /* possession_seq of the EX holding, while pinned */
uint64_t lock_recorded_version(const struct lock *l);
/*
 * Any other host with an OPEN entry whose generation is live or recovering? Pinned EX. Reads slots
 * where the cached table does not prove "over".
 */
bool lock_open_elsewhere(struct locks *ls, struct lock *l);
/* Per-lock word for the layer above (an in-core object); NULL at first, reset when given up. */
void *lock_priv(struct lock *l);
void lock_set_priv(struct lock *l, void *priv);

/* Give up this cached lock if nobody pins it (freed cell); best effort, asynchronous. */
void lock_drop(struct locks *ls, uint64_t addr);
/* Somebody waits for it, by board or record: borrowed locks should be given back soon. */
bool lock_wanted(struct locks *ls, uint64_t addr);
/* Slot @slot became FREE: waiters look again. From host_cb.recovered. */
void locks_owner_over(struct locks *ls, unsigned slot);

/* Do the threads get on (for the beat, host_cb.alive)? */
bool locks_alive(struct locks *ls);

struct lock_stats {
	atomic_ullong cold, ahead, cached, asked, received, handed_over, released, upgraded, waits;
	atomic_ullong board_reads, board_writes;
	atomic_ullong wait_us;
};
const struct lock_stats *locks_stats(struct locks *ls);
/*
 * So often this host came to hold a lock exclusively because a read showed it (handed over by
 * another host, done late, found when a race was lost), and not by the device's answer to its own
 * test and set. Until a flush that begins after that has ended, such a record may not be durable.
 * Counted before the lock can be pinned.
 */
uint64_t locks_unproven(struct locks *ls);

/*
 * Replay's renewal of a dead host's guards (txn/replay): for each of @n cells decide by its record
 * whether (owner, possession) still holds it exclusively, and if so set a fresh image with the same
 * possession by ATS (one batch). live[i] = result. 0, or -errno if a fate stays unknown.
 */
struct guard_renew {
	uint64_t addr;
	uint64_t possession;
	bool live;
	uint64_t recorded_version; /* out */
};
int locks_renew_guards(struct locks *ls, uint64_t dead_owner, struct guard_renew *g, size_t n);

#endif
