/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to alloc/. Objects (struct aobj: a group or a chunk) mirror in core what the lock of
 * their header cell protects. They live from the first pin under that lock until alloc_lock_gone(),
 * so their map (allocated, reserved, or freed by a transaction that is not durable yet) needs no
 * re-reading while the lock is cached. References to cached payloads are kept only while pinned.
 *
 * Mutexes: alloc.mtx (table, lists, hints) and aobj.mtx; neither is held across I/O or a wait, and
 * alloc.mtx may be taken inside aobj.mtx, never the other way round.
 */
#ifndef ALLOC_IMPL_H
#define ALLOC_IMPL_H

#include "alloc/alloc.h"
#include "cluster/io.h"

#define AOBJ_BUCKETS 4096u
#define MS_NS 1000000ull

#define BUSY_MS 500u	  /* a lock that another host held is not tried again for so long */
#define HINT_AGE_MS 1000u /* a header read without its lock is believed for so long */
#define FULL_MS 3000u	  /* seen under its lock without room: not asked for again for so long */
#define HINT_BATCH 64u	  /* headers read at once */
#define RESERVE_CELLS 16u /* free cells a host keeps for deleting on a full volume */
#define RESERVE_GROUP_CELLS 32u /* cells' worth of blocks a group keeps for the same */
#define CHUNK_MIN_CELLS 16u	/* smallest chunk worth having; less only from the reserve */
#define CHUNK_LAST_CELLS 2u
#define STALE_FIRST 32u	 /* stale cells used after a mount before a chunk is converted */
#define STALE_CHUNKS 64u /* chunk locks tried in one search */
#define STALE_CELLS 32u	 /* cell locks tried in one search */
#define LOST_CELLS 1024u /* free cells known in chunks that went to others: no more conversions */
#define SEARCH_ROUNDS 8u
#define WANTS_MAX 256u /* -EAGAIN in a row without any success before it is called -ENOSPC */

enum aobj_kind { AOBJ_GROUP, AOBJ_CHUNK };

struct aobj {
	struct alloc *a;
	enum aobj_kind kind;
	uint64_t addr;	    /* header cell: the lock's address */
	struct aobj *chain; /* hash chain; alloc.mtx */
	atomic_uint refs;   /* table, pins, callbacks of commits */
	struct mtx mtx;	    /* the rest, and what follows in struct group and struct chunk */
	unsigned pins;
	bool loaded;
	bool dead;	   /* its lock is gone; only callbacks still know it */
	struct lock *lock; /* while pinned */
	struct mblk *hdr;  /* while pinned */
};

struct group {
	struct aobj o;
	struct group *prev, *next; /* alloc.groups; alloc.mtx */
	uint64_t no, first_blk;
	uint32_t nblks, meta_blks;
	atomic_uint free_blks; /* zero bits of the bitmap */
	atomic_uint avail;     /* zero bits of map */
	uint8_t *map;	       /* 1: allocated, reserved, or freed but not durably */
	struct mblk **bm;      /* bitmap payloads, as needed, while pinned */
	uint32_t cursor;       /* next-fit */
	uint32_t full_windows; /* no wholly free window below this one */
	uint32_t longest;      /* free run when none was as long as wanted; UINT32_MAX: not known */
};

struct chunk {
	struct aobj o;
	struct chunk *prev, *next; /* alloc.chunks while it has free cells; alloc.mtx */
	bool listed;		   /* alloc.mtx */
	uint64_t group, first_blk;
	uint8_t map[32];   /* 1: no cell, used, reserved, or freed but not durably */
	uint8_t fresh[32]; /* born here and never used */
	uint8_t freed[32]; /* freed by this host under this holding of the lock */
	atomic_uint nfree; /* zero bits of map */
	unsigned cursor;
	atomic_bool none_ours; /* no free cell's lock was ours when last looked */
	uint64_t *ver;	       /* what the next user of a cell must go above; 0 = not known */
};

struct chunk_hint { /* a chunk of a group; never goes away while anybody has the volume mounted */
	uint16_t window;
	uint8_t index; /* of its header cell */
	uint8_t free;  /* 254 = that or more, 255 = not known */
	uint64_t not_before_ns;
};
#define CHUNK_FREE_UNKNOWN 255u

#define HINT_HELD 0x1u /* an object exists */
#define HINT_DAMAGED 0x2u

enum want_kind { WANT_BLOCKS, WANT_CHUNK, WANT_KINDS };

struct ghint { /* what is known about a group without its lock; alloc.mtx */
	uint32_t free_blks;
	uint32_t flags;
	uint64_t seen_ns; /* 0 = never */
	uint64_t busy_until_ns;
	uint64_t full_until_ns[WANT_KINDS];
	struct chunk_hint *chunk; /* by window */
	unsigned n_chunk;
};

struct alloc {
	struct env env;
	struct host *host;
	struct host_io io;
	struct locks *locks;
	struct txns *txns;
	struct mtx mtx;
	struct cond cond;
	struct aobj *bucket[AOBJ_BUCKETS];
	struct group *groups; /* all group objects */
	struct chunk *chunks; /* chunk objects with free cells: old ones fill up first */
	struct chunk *chunks_last;
	struct ghint *hint;
	uint64_t n_hint;
	uint64_t watermark; /* groups known to be initialised; only grows */
	uint64_t watermark_ns;
	unsigned lost_cells;	    /* free when their chunks' locks went to others */
	bool conv_busy, fresh_busy; /* one conversion, one fresh group at a time */
	uint64_t conv_seq, fresh_seq, fresh_group;
	uint64_t last_group;
	unsigned stale_left; /* of STALE_FIRST */
	uint64_t statfs_next;
	atomic_uint free_cells; /* in chunks this host holds */
	atomic_uint wants;	/* -EAGAIN given since the last success */
};

static inline struct group *group_of(struct aobj *o)
{
	return (struct group *)o; /* first member */
}
static inline struct chunk *chunk_of(struct aobj *o)
{
	return (struct chunk *)o;
}
static inline uint32_t window_blks(const struct geo *g)
{
	return LUNFS_CHUNK_CELLS * g->cell_blks;
}
static inline uint32_t reserve_blks(const struct geo *g)
{
	return RESERVE_GROUP_CELLS * g->cell_blks;
}
static inline uint64_t now_ns(struct alloc *a)
{
	return clock_now_ns(a->env.clk);
}

/* ---- ondisk.c: as group_decode, chunk_decode, for a live payload whose CRC is not sealed
 * --------- */

int group_parse(const struct geo *g, const void *payload, uint64_t group, struct group_info *out);
int chunk_parse(const struct geo *g, const void *payload, uint64_t addr, struct chunk_info *out);

/* ---- object.c
 * -------------------------------------------------------------------------------------- */

/*
 * Try the lock of @addr (LOCK_TRY | @flags), find or load its object, pin it. -EAGAIN, -EUCLEAN
 * (logged), -EIO. Nothing is joined that this could wait for. With AOBJ_GUESS it need not be what
 * it is taken for: -ESTALE, and nothing is logged.
 */
#define AOBJ_GUESS 0x80000000u
int aobj_pin(struct alloc *a, enum aobj_kind kind, uint64_t addr, unsigned flags,
	     struct aobj **out);
void aobj_unpin(struct aobj *o);
void aobj_ref(struct aobj *o);
void aobj_unref(struct aobj *o);
bool aobj_known_locked(struct alloc *a, uint64_t addr); /* alloc.mtx held: has it an object? */
/*
 * Enter a chunk that this host has just converted: its lock is pinned in @lock, @hdr is its new
 * payload (reference handed over). Returned pinned.
 */
struct chunk *aobj_adopt_chunk(struct alloc *a, struct lock *lock, struct mblk *hdr,
			       const struct chunk_info *ci);
void aobj_drop_all(struct alloc *a);

/* ---- group.c
 * ---------------------------------------------------------------------------------------- */

void group_init(struct alloc *a, struct group *g);
void group_fini(struct group *g);
/* Fill the maps from the payloads; o.lock pinned, @hdr the header. */
int group_load(struct group *g, struct mblk *hdr);
/* Make bitmap cells of blocks [first, first + n) of the group available in bm[]. */
int group_need_bitmaps(struct group *g, uint32_t first, uint32_t n);
/* o.mtx is held by the caller of these. */
void group_hold(struct group *g, uint32_t first, uint32_t n);	 /* available -> held in map */
void group_release(struct group *g, uint32_t first, uint32_t n); /* back */
void group_bits_set(struct txn_handle *h, struct group *g, uint32_t first, uint32_t n);
/* False, and nothing wholly done: some were clear already. */
bool group_bits_clear(struct txn_handle *h, struct group *g, uint32_t first, uint32_t n);

/*
 * Look for a group in which @fn succeeds: near @goal, in groups held, in others that are to be had,
 * in a fresh one. @fn gets it pinned, returns 0 (it stays pinned), -ENOSPC (go on) or an error.
 * -EAGAIN with *want, -ENOSPC.
 */
struct group_search {
	enum want_kind kind;
	uint64_t goal;
	uint32_t min_blks; /* free blocks without which a group is not looked at */
	int (*fn)(struct group *g, void *arg);
	void *arg;
	struct group *found;
	uint64_t want;
	uint32_t want_free;
};
int group_search(struct alloc *a, struct group_search *s);
/* Where this host begins among @marked (not 0) groups, so that hosts keep apart. */
uint64_t home_group(struct alloc *a, uint64_t marked);
uint64_t watermark_known(struct alloc *a);

/* Turns one -EAGAIN too many into -ENOSPC; success starts the count again. */
int wants_bound(struct alloc *a, int rc);

/* ---- blocks.c: reservations to free
 * ------------------------------------------------------------------- */

/* The object of @addr in @r, NULL if it was not prepared. */
struct aobj *free_res_find(const struct free_res *r, uint64_t addr);
int free_res_pin(struct alloc *a, struct free_res *r, enum aobj_kind kind, uint64_t addr,
		 struct aobj **out);

/* ---- cells.c
 * -----------------------------------------------------------------------------------------------
 */

/* Best effort: have RESERVE_CELLS free cells in chunks that are held here. */
void cells_ensure(struct alloc *a);

/* ---- hint.c
 * ------------------------------------------------------------------------------------------ */

struct ghint *hint_at(struct alloc *a, uint64_t group); /* alloc.mtx held; NULL: no such group */
/* Read headers of groups in [from, from + n) that are older than @age_ms and not held here. */
void hints_refresh(struct alloc *a, uint64_t from, uint64_t n, uint32_t age_ms);
/* From a header under its lock or checked off the disk. */
void hint_from_header(struct alloc *a, uint64_t group, const struct group_info *gi);
void hint_add_chunk(struct alloc *a, uint64_t chunk_addr);
void hint_chunk_free(struct alloc *a, uint64_t chunk_addr, unsigned free);
void hint_chunk_busy(struct alloc *a, uint64_t chunk_addr, uint32_t ms);
/*
 * Up to @max chunks that are not held here and may have free cells: of groups held here, or with
 * @all then of every group whose header was read, from group @from on. Returns how many; @waiting
 * (may be NULL) gets one that another host held when last tried.
 */
unsigned hint_stale_chunks(struct alloc *a, bool all, uint64_t from, uint64_t *chunk, unsigned max,
			   uint64_t *waiting);
/* Address of the header of the chunk that @cell belongs to. -ENOENT: not known. */
int hint_chunk_of(struct alloc *a, uint64_t cell, uint64_t *chunk_addr);

/* ---- watermark.c
 * --------------------------------------------------------------------------------------- */

/* Learn the watermark without its lock, if what is known is older than @age_ms. */
int watermark_refresh(struct alloc *a, uint32_t age_ms);
/* Initialise one more group: *group. -ENOSPC: there is none left. -EAGAIN and *want. */
int watermark_advance(struct alloc *a, uint64_t *group, uint64_t *want);

/* ---- chunk.c
 * -------------------------------------------------------------------------------------------- */

void chunk_init(struct alloc *a, struct chunk *c);
void chunk_fini(struct chunk *c);
int chunk_load(struct chunk *c, struct mblk *hdr);
/* Keep alloc.chunks and the counts true after nfree changed; o.mtx is held. */
void chunk_count(struct chunk *c, int delta);
/*
 * Convert a fresh chunk near @goal; one at a time, a second caller waits for the first and returns
 * 0 too. -EAGAIN and *want; -ENOSPC.
 */
int chunk_convert(struct alloc *a, uint64_t goal, unsigned flags, uint64_t *want);
/* What may change under the reader: it checks what it gets. Waits for a device that is away. */
int read_unlocked(struct alloc *a, uint64_t off_bytes, size_t len_bytes, void *buf);
/*
 * Write @len bytes of cells or a group that nobody refers to yet, gate and flush included. A write
 * whose fate stays unknown stops the volume.
 */
int write_unreferenced(struct alloc *a, uint64_t off_bytes, size_t len_bytes, void *buf);

#endif
