/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to txn/: what the files share.
 *
 *   cache.c       cached payloads: get, put, new, dirty, forget
 *   early.c       payloads that are read before anybody asks for them
 *   refill.c      and those that are read again since their lock came back
 *   guard.c       which blocks and images belong to a guard; what is known of dropped ones
 *   handle.c      joining and leaving the running transaction, credits for log space
 *   commit.c      the committer: drain, freeze, write the log, flush, tell everybody
 *   journal.c     the log as bytes: header, descriptors, commit block
 *   io.c          gated writes, reads, and flushes that callers share
 *   checkpoint.c  committed images written in place; the tail; giving up a guard
 *   scan.c        a dead host's log, read and checked
 *   replay.c      and what is still live of it, written in place
 *   txns.c        birth and end of it all
 *
 * The life of a change: a block is *dirty* in the one running transaction; the committer freezes it
 * into an *image*; once the log holds it, the image is the block's *committed* one and pins the log
 * space of its transaction until it has been written in place and flushed, until a later
 * transaction committed a newer one, or until the block was given up.
 *
 * One mutex (txns.mtx) covers everything here. It is a leaf: no I/O, no call of another layer and
 * no call-back runs under it.
 */
#ifndef TXN_IMPL_H
#define TXN_IMPL_H

#include "txn/txn.h"

#include "base/log.h"
#include "cluster/io.h"

#include <sys/queue.h>
#include <uthash.h>

#define CACHE_MAX_BLKS 16384u		  /* 64 MiB of clean, unreferenced payloads */
#define POOL_MAX_BUFS 1024u		  /* idle buffers kept for reuse */
#define RECENT_SLOTS 8192u		  /* versions remembered of dropped guards' payloads */
#define REFILL_SLOTS 128u /* guards that were given up and of which is remembered what was used */
#define REFILL_MAX (MBLK_AHEAD_MAX - 1)
#define COMMIT_AGE_NS (5ull * 1000000000) /* a change waits no longer for its commit */
#define CKPT_AGE_NS (5ull * 1000000000)	  /* nor a committed image for its place */
#define CKPT_PASS 512u			  /* images of one background pass */
#define IO_BATCH 128u			  /* in-place writes submitted together */
#define READ_TRIES 4u			  /* of a payload that fails its checks */
#define READ_RETRY_NS 2000000ull
#define LOG_WRITE_BYTES (1u << 20) /* one device write of the log */
#define LOG_KEEP_BLKS 64u	   /* a log so long is encoded in memory that is there already */
#define TXN_BLKS_MAX 4096u	   /* log blocks of a transaction others may still join */
#define STUCK_LEASES 4u		   /* a commit that takes so many leases is no progress */

struct cblk;
struct guard_idx;
struct txn;

TAILQ_HEAD(cblk_list, cblk);
TAILQ_HEAD(image_list, image);
TAILQ_HEAD(txn_list, txn);
TAILQ_HEAD(callback_list, callback);

/* A frozen copy of a payload, or the mention that a block was given up. */
struct image {
	TAILQ_ENTRY(image) of_txn;   /* txn.images */
	TAILQ_ENTRY(image) of_guard; /* guard_idx.images, once committed */
	TAILQ_ENTRY(image) of_tombs; /* txns.tombs, once committed, if tomb */
	uint64_t addr, guard, possession, version;
	struct txn *txn;
	struct cblk *blk;
	struct guard_idx *gidx; /* while committed or being written */
	void *buf;		/* payload_io_bytes, sealed; NULL: revoke */
	bool tomb;		/* type FREE: the payload of a guard that was given up */
	bool writing;		/* a checkpoint pass has it in hand */
	bool stale;		/* superseded meanwhile: the pass frees it */
};

enum cblk_state {
	CBLK_LOADING, /* one mblk_get() or mblk_read_ahead() reads it */
	CBLK_VALID,
	CBLK_GONE, /* given up; stays only for what is still to be committed */
};

struct cblk {
	struct mblk m; /* first */
	UT_hash_handle hh;
	TAILQ_ENTRY(cblk) of_guard; /* guard_idx.blks: the present role */
	TAILQ_ENTRY(cblk) of_txn;   /* txn.dirty */
	TAILQ_ENTRY(cblk) of_lru;
	struct guard_idx *gidx;
	enum cblk_state state;
	uint16_t type;
	unsigned refs;
	bool unverified; /* read before anybody asked for it, not checked yet */
	bool detached;	 /* not in the cache: the volume failed (mblk_new) */
	bool on_lru;
	bool revoked;			  /* in @dirty: the block was given up */
	bool tomb;			  /* in @dirty: the payload became FREE */
	bool freezing;			  /* an image of it is being committed */
	uint64_t version;		  /* highest version read or given to an image */
	uint64_t disk_version;		  /* in place and flushed, 0 = unknown */
	struct txn *dirty;		  /* the running transaction, if it changed this block */
	uint64_t dirty_guard, possession; /* of that change */
	struct image *com;		  /* committed, not yet in place */
};

struct guard_idx {
	UT_hash_handle hh;
	uint64_t addr;
	struct cblk_list blks;	  /* used last at the end */
	struct image_list images; /* committed, not yet in place */
	TAILQ_ENTRY(guard_idx) of_wanted;
	uint64_t last_tid; /* last transaction that changed something under it */
	uint64_t data_tid; /* and more than time stamps */
	unsigned writing;  /* images in the hands of a checkpoint pass */
	bool wanted;	   /* somebody waits for its checkpoint */
};

struct callback {
	TAILQ_ENTRY(callback) link;
	void (*fn)(void *arg, bool ok);
	void *arg;
};

struct txn {
	TAILQ_ENTRY(txn) link; /* txns.logged */
	uint64_t id;
	uint64_t seq; /* of the log */
	bool closing;
	unsigned handles;
	unsigned credits; /* of joined handles, not used yet */
	unsigned entries; /* length of dirty */
	struct cblk_list dirty;
	struct image_list images; /* frozen, later committed and not in place */
	struct callback_list callbacks;
	uint64_t began_ns; /* first change */
	uint64_t committed_ns;
	uint32_t log_pos, log_blks; /* in the ring */
	unsigned pins;		    /* images that need its log space, +1 while being written */
};

struct txn_handle {
	struct txns *t;
	struct txn *txn;
	unsigned credits;
};

struct recent { /* what stood on disk when a guard's own payload left the cache */
	uint64_t addr, version;
	bool given_up; /* the lock went with it: of no use to the next possession */
};

struct refill {		/* what was used last of a guard that was given up */
	uint64_t guard; /* 0: none */
	unsigned most;	/* so many are worth it */
	bool full;	/* more was used than there was room for */
	unsigned read;	/* so many were read when it came back, */
	uint64_t took_ns; /* and it took so long */
	unsigned n;
	uint64_t addr[REFILL_MAX]; /* used last first */
};

struct txns {
	struct env env;
	struct host *host;
	struct host_io io;
	struct locks *locks;
	struct mtx mtx;
	struct cond load_cv;   /* a payload was read */
	struct cond commit_cv; /* the committer has something to do */
	struct cond drain_cv;  /* the closing transaction has no handles left */
	struct cond begin_cv;  /* a new running transaction, or log space */
	struct cond done_cv;   /* a commit ended, or everything failed */
	struct cond flush_cv;
	struct cond pass_cv; /* a checkpoint pass ended */
	struct cond ckpt_cv; /* the checkpointer has something to do */
	struct txn_stats stats;

	bool started, stop, failed;
	atomic_bool halted; /* as failed, for I/O that waits without the mutex */
	struct task *committer, *checkpointer;

	/* cache */
	struct cblk *blks;
	struct guard_idx *guards;
	struct cblk_list lru;
	unsigned nlru;
	void *pool[POOL_MAX_BUFS];
	unsigned npool;
	struct recent recent[RECENT_SLOTS];
	struct refill refill[REFILL_SLOTS];
	uint64_t load_ns; /* what reading one block takes, about; 0: not known */

	/* transactions */
	struct txn *running;
	struct txn_list logged; /* in log order; the first holds the tail */
	uint64_t want_tid, durable_tid;
	uint64_t commit_busy_ns;  /* since when a commit is under way, 0 = none is */
	bool committer_waits;	  /* until that one has ended */
	uint64_t committer_until; /* it sleeps so long by itself; 0: it does not sleep */
	uint64_t committer_saw;	  /* the running transaction when it went to sleep */
	unsigned begin_waiters, big_waiters, space_waiters;
	bool over_credit_said;

	/* log; positions count blocks of the ring from 0 (block 1 of the region) */
	uint64_t region_blk;
	uint32_t log_blks; /* 0: this host has no journal */
	uint32_t head, tail;
	uint32_t log_used; /* from the tail in the header on disk */
	uint64_t next_seq;
	uint8_t *log_mem; /* of the commit under way: LOG_KEEP_BLKS, kept from one to the next */

	/* flushes */
	bool flush_busy;
	uint64_t flush_begun, flush_ended;
	/* host_written() and locks_unproven() before the last one began */
	uint64_t flush_written, flush_unproven;

	/* checkpoint */
	uint64_t ckpt_until; /* the checkpointer sleeps so long by itself; 0: it does not sleep */
	bool pass_busy;
	uint64_t passes; /* ended */
	unsigned ncom;	 /* committed images not in place */
	struct image_list tombs;
	TAILQ_HEAD(, guard_idx) wanted;
};

static inline struct cblk *cblk_of(struct mblk *m)
{
	return (struct cblk *)m;
}

/* txns.c */
void *txn_zalloc(size_t len);
/* The volume stops: one sentence, everybody is woken. With and without the mutex. */
void txns_fail_locked(struct txns *t, const char *why, int err);
void txns_fail(struct txns *t, const char *why, int err);

/* guard.c: the mutex is held */
struct guard_idx *gidx_find(struct txns *t, uint64_t addr);
struct guard_idx *gidx_get(struct txns *t, uint64_t addr);
void gidx_settle(struct txns *t, struct guard_idx *g); /* frees it when nothing refers to it */
void recent_put(struct txns *t, uint64_t addr, uint64_t version);
uint64_t recent_get(struct txns *t, uint64_t addr);
void recent_give_up(struct txns *t, uint64_t addr); /* the guard's possession ends */

/* early.c: the mutex is held, let go while those are read that are not here. How many came? */
size_t early_read(struct txns *t, uint64_t guard_addr, const uint64_t *addr, size_t n);

/* refill.c: the mutex is held */
void refill_note(struct txns *t, const struct guard_idx *g); /* the guard goes */
void refill_learn_load(struct txns *t, uint64_t ns);	     /* one block was read, in that time */
/* @addr is not here: read it with what else was used when its guard went, if anything was. */
bool refill(struct txns *t, uint64_t guard, uint64_t addr);

/* cache.c: the mutex is held */
void *pool_get(struct txns *t);
void pool_put(struct txns *t, void *buf);
struct cblk *cblk_find(struct txns *t, uint64_t addr);
struct cblk *cblk_make(struct txns *t, uint64_t addr);
void cblk_set_guard(struct txns *t, struct cblk *b, uint64_t guard_addr);
void cblk_adopt_header(struct cblk *b);		  /* of the payload it holds now */
void cblk_settle(struct txns *t, struct cblk *b); /* to the LRU or away, if it is idle */
void cblk_drop(struct txns *t, struct cblk *b);	  /* idle: away */
void cache_drop_all(struct txns *t);

/* handle.c: the mutex is held */
struct txn *txn_new(uint64_t id);
void txn_free(struct txn *x);
bool txn_is_empty(const struct txn *x);
void txn_changed(struct txn_handle *h, struct cblk *b); /* @b enters the dirty list */
void txn_want(struct txns *t, uint64_t tid);
/* Until transaction @tid is durable; @help: commit in this thread, rather than wait for another. */
int txn_wait_done(struct txns *t, uint64_t tid, bool help);

/* commit.c */
void commit_main(void *arg);
void commit_locked(struct txns *t); /* the mutex is held, no commit is under way */
void callbacks_run(struct callback_list *list, bool ok);

/* checkpoint.c */
void checkpoint_main(void *arg);
/* If a commit gave it work before it looks by itself. */
void checkpoint_wake_locked(struct txns *t);
void image_supersede(struct txns *t, struct image *im); /* the mutex is held */
void image_commit(struct txns *t, struct image *im);	/* the mutex is held */
int checkpoint_all(struct txns *t);
int tail_write(struct txns *t);

/* journal.c */
uint32_t log_need(unsigned entries); /* upper bound of a transaction's log blocks */
uint32_t log_blks_of(unsigned entries, unsigned images);
void journal_header(const struct geo *g, unsigned slot, uint64_t generation, uint64_t nonce,
		    uint32_t tail_blk, uint64_t tail_seq, void *sector);
/* The bytes of a transaction, log_blks_of() blocks, into @log; all of them. */
void journal_encode(const struct txns *t, const struct txn *x, unsigned entries, uint8_t *log);

/* io.c: the mutex is not held */
int txn_write(struct txns *t, struct dev_io *io, size_t n); /* gated; all written, or the errno */
int txn_read(struct txns *t, struct dev_io *io, size_t n);  /* results in io[].result too */
void txn_try_read(struct txns *t, struct dev_io *io, size_t n); /* once; results in io[].result */
int txn_flush(struct txns *t);
/* Flushes are shared: a caller takes a number first, then waits for a flush not older than it. */
uint64_t flush_ticket_locked(const struct txns *t);
uint64_t flush_ticket(struct txns *t);
int flush_wait(struct txns *t, uint64_t ticket);
int flush_now(struct txns *t);

#endif
