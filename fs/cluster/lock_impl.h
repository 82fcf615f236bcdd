/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to the lock files: the in-core lock, its table, and who does what.
 *
 *   record.c   lock records: check, build, and the steps from one image to the next
 *   table.c    the table of in-core locks, cached ones in order of use, born ranges (born.c)
 *   lock.c     pins, waiting, start and stop
 *   settle.c   one ATS on a lock's record, unknown fates, what a host does not know that it owns
 *   acquire.c  from "not held" to "held"          ahead.c   many at once, before they are wanted
 *   wishes.c   what we ask of others, on the board      board.c  what others ask of us
 *   queue.c    hosts that hand a lock round without asking
 *   revoke.c   giving a lock up because it is asked for  reaper.c  giving up what nobody uses
 *   guards.c   renewal of a dead host's guards
 *
 * A lock is *busy* (state not IDLE) while one thread works on its record; that thread alone
 * changes `known` and `held`, under the stripe's mutex, and does its I/O and upcalls without it.
 * Order of mutexes: stripe, then any of board.mtx, out.mtx, work.mtx, born.mtx; the last four
 * never nest. Host's own mutex comes last.
 */
#ifndef CLUSTER_LOCK_IMPL_H
#define CLUSTER_LOCK_IMPL_H

#include "cluster/lock.h"

#include <sys/queue.h>

#define LOCK_STRIPES 16u
#define LOCK_CACHE_MAX 131072u	      /* locks held in core before unused ones are given up */
#define LOCK_POLL_MIN_NS 1000000ull   /* an asker who knows nothing reads the lock first then */
#define LOCK_LOOK_MIN_NS 200000ull    /* nobody looks sooner, or again sooner */
#define LOCK_LOOK_MAX_NS 10000000ull  /* nobody who asks looks first later than that */
#define LOOKS_OTHERS 3u		      /* a look again after such a part of the time waited */
#define LOOKS_NEXT 8u		      /* the same of who is next in a queue */
#define LOOK_LONG_NS 4000000ull	      /* from there on a late look costs more than one more */
#define LOOKS_ENOUGH 16u	      /* found at once so often: it is looked for too late */
#define LOCK_POLL_MAX_NS 25000000ull  /* and again so often at the least; in a queue first, too */
#define LOCK_SERVE_NS 5000000ull      /* a received lock serves this host so long at least */
#define LOCK_USE_NS 1000000000ull     /* used so recently: a downgrade keeps it shared */
#define LOCK_RETRY_NS 50000000ull     /* after a revoke that failed */
#define LOCK_RAISE_NS 500000ull	      /* a raised pin lets others pass it so long */
#define LOCK_UPGRADE_NS 100000000ull  /* shared, and within that wanted exclusively */
#define BOARD_FAST_NS 2000000ull      /* poll of our row while being asked, at first */
#define BOARD_SLOW_NS 8000000ull      /* and at last */
#define BOARD_LOOK_MAX_NS 4000000ull  /* after a lock was received somebody asks by then, or not */
#define BOARD_BUSY_NS 50000000ull     /* and at the slowest while operations run */
#define BOARD_BUSY_PINS 16u	      /* so many of them since the last time */
#define BOARD_CALM_NS 250000000ull    /* and after fewer */
#define BOARD_IDLE_NS 1000000000ull   /* and while nothing happens */
#define BOARD_HOT_NS 100000000ull     /* "being asked" lasts this long after the last sign */
#define BOARD_QUEUE_NS 20000000ull    /* in a queue: look for newcomers when received, so often */
#define LOCK_STEP_MAX_NS 100000000ull /* a queue whose steps take longer counts as that slow */
#define TENURE_GIVES 4u		      /* wanted again at once: kept as long as so many hand-overs */
#define TENURE_MIN_NS 1000000ull
#define TENURE_MAX_NS 10000000ull
#define REVOKERS_MIN 4u
#define REVOKERS_MAX 16u
#define BOARD_DUES 32u
#define REC_BYTES 512u
#define BOARD_COLS (LUNFS_MAX_SLOTS + LUNFS_SPARE_SLOTS)

enum lock_state {
	LST_IDLE,
	LST_ACQUIRE, /* a pin acquires, or an unknown fate is being settled */
	LST_REVOKE,  /* is being given up or downgraded */
};

struct waiter { /* one lock_pin() that could not be served at once; on its stack */
	TAILQ_ENTRY(waiter) queue;   /* of the lock, oldest first */
	TAILQ_ENTRY(waiter) waiting; /* of the stripe */
	struct lock *l;
	enum lock_mode mode;
	enum lock_local local;
	unsigned flags;
	struct lock_intr *intr;
	uint8_t *cell; /* the cell as last read while acquiring, or NULL */
	bool current;  /* its payload is current */
	struct cond cond;
};

enum lock_work { WORK_NONE, WORK_REVOKE, WORK_PROBE, WORK_FINISH };

struct lock {
	struct locks *ls;
	uint64_t addr;
	struct lock *hash_next;
	TAILQ_ENTRY(lock) lru;	/* of the stripe while held, idle and unpinned */
	TAILQ_ENTRY(lock) work; /* of the revokers' queue */
	TAILQ_ENTRY(lock) reap; /* of the reaper's list */
	TAILQ_HEAD(, waiter) waiters;
	unsigned nwaiters;
	unsigned refs; /* besides pins: waiters, queues, workers */
	unsigned pins_shared, pins_parked;
	bool pin_excl;
	bool drain_ok; /* LOCK_DRAIN pins are admitted although it is busy */
	bool late_ok;  /* LOCK_LATE pins are; a last invalidation is to come */
	bool drained;  /* pins were there while the invalidation ran */
	bool on_lru;
	bool born;   /* the record on disk is still the born image */
	bool parked; /* a revoke waits for the last unpin */
	bool drop;   /* wanted by lock_drop() */
	bool on_reap;
	bool served;	/* unpinned once since it was received */
	bool asked_for; /* whoever asks for it waits for that */
	bool again;	/* received in a queue, and wanted again at once the last time */
	uint8_t rests;	/* so often nobody here pinned it any more since it was received */
	uint8_t usual;	/* received in a queue: so many rests it had the last time */
	bool eager;	/* received exclusively, though less was wanted */
	bool used_ex;	/* pinned exclusively since it was received */
	uint8_t ahead;	/* enum lock_ahead */
	bool unsettled; /* the fate of an ATS is unknown: neither held nor free */
	bool known_valid;
	uint8_t queued; /* enum lock_work */
	enum lock_state state;
	enum lock_mode held;
	enum lock_mode keep; /* how far the revoke under way goes */
	struct cond cond;
	struct ats_sector sec;
	struct lunfs_lock_rec known; /* what stands on disk as far as we know */
	uint64_t since_ns;	     /* held in this mode or better since then */
	uint64_t received_ns;	     /* handed over to us, or waited for, then; 0: not */
	uint64_t until_ns;	     /* and kept so long if it is wanted again at once */
	uint64_t used_ns, retry_ns;
	struct cond *raiser; /* of who waits in lock_raise(), or NULL */
	uint64_t raise_ns;   /* who comes after that waits until it is done */
	void *_Atomic priv;
};
TAILQ_HEAD(lock_list, lock);
TAILQ_HEAD(waiter_list, waiter);

/* When to look for something, so that most first looks find it. */
struct timing {
	uint64_t ns;	/* 0: not known */
	unsigned found; /* so many first looks in a row found it */
};
static inline void timing_learn(struct timing *t, bool found, uint64_t max_ns)
{
	t->found = found ? t->found + 1 : 0;
	if (!found)
		t->ns += t->ns / (t->ns < LOOK_LONG_NS ? 4 : 16);
	else
		t->ns -= t->found > LOOKS_ENOUGH ? t->ns / 8 : t->ns / 32;
	t->ns = t->ns < max_ns ? t->ns : max_ns;
	t->ns = t->ns > LOCK_LOOK_MIN_NS ? t->ns : LOCK_LOOK_MIN_NS;
}

/*
 * What is remembered of a lock that hosts hand each other, for as long as nothing displaces it. It
 * tells whom to ask, for what, and when to look, and is never taken for more than that.
 */
#define PASTS 64u
struct past {
	uint64_t addr;	     /* 0: nothing is here */
	uint64_t to;	     /* owner id that it was last given to exclusively, 0: none */
	struct timing grant; /* from the wish to the grant */
	bool back;	     /* the last time it came back from there */
	bool noted;	     /* when it was given away this host stood in the queue */
	bool again;	     /* and wanted it before it was gone */
	uint8_t rests;	     /* while it was held the last time */
	int turns;	     /* so often in a row it came back; below 0: do not count on it */
	int penalty;
	uint64_t gave_ns, gave_seq; /* when, and the number of that image */
	uint64_t step_ns;	    /* from one hand-over of a queue to the next; 0: not known */
	bool upgrades;		    /* received shared it was soon wanted exclusively */
};

struct stripe {
	struct mtx mtx;
	struct past past[PASTS];
	struct lock **bucket;
	size_t nbuckets, nlocks;
	struct lock_list lru;
	struct waiter_list waiting;
};

/* ---- born ranges ---------------------------------------------------------------------------- */

#define BORN_CELLS 256u
struct born_range { /* cells first + i * cell_blks of which bit i is set */
	uint64_t first;
	unsigned n;
	uint8_t map[BORN_CELLS / 8];
};
struct born_set {
	struct mtx mtx;
	struct born_range *r; /* ascending, disjoint */
	size_t n, cap;
};

/* ---- the board: what others ask of us ------------------------------------------------------- */

struct in_wish {
	uint64_t addr, seq;
	enum lock_mode mode;
	uint64_t first_ns;   /* when we first saw it */
	uint64_t checked_ns; /* when we last looked whether it can concern us */
	uint64_t served_ns;  /* we granted it then: no more for a beat */
};
struct in_col {
	uint64_t asker;		      /* owner id; 0: nothing valid here */
	uint64_t read_ns;	      /* when the read began that showed this */
	uint64_t refused, refused_ns; /* an asker that was found dead, and when */
	unsigned n;
	struct in_wish wish[LUNFS_WISHES];
};
struct board {
	struct mtx mtx;
	struct cond cond;   /* wakes the poller */
	struct cond looked; /* the poller went round */
	struct in_col col[BOARD_COLS];
	unsigned wishes; /* all of them */
	uint64_t hot_until_ns;
	uint64_t idle_ns;      /* present interval while nothing happens */
	uint64_t read_ns;      /* when the row was read last */
	uint64_t tried_ns;     /* when the last round that has ended began */
	uint64_t look_ns;      /* a lock was received: somebody may ask for it by then, 0: no */
	uint64_t look_last_ns; /* other locks that are received put it off until then */
	struct timing rhythm;  /* from one to the other */
	unsigned news;	       /* wishes seen for the first time, ever */
	struct {
		uint64_t addr, ns; /* ns 0: none */
	} due[BOARD_DUES];	   /* locks of a queue that are to be given on then */
	bool look_now;
	uint64_t full_ns; /* when the whole row was read last */
	unsigned long long pins_seen;
	uint8_t *row_buf;
};

struct cand { /* a wish for one lock, in the order in which they are served */
	uint64_t asker, seq, first_ns;
	unsigned slot, rank;
	enum lock_mode mode;
	bool waiter;
};

/* ---- the board: what we ask of others ------------------------------------------------------- */

struct wish { /* on an acquirer's stack */
	TAILQ_ENTRY(wish) link;
	bool linked;
	uint64_t addr, seq;
	enum lock_mode mode;
	uint8_t rows[(BOARD_COLS + 7) / 8];
};
struct out_row {
	uint64_t asked;	   /* owner id that is asked */
	uint64_t seq;	   /* of the sector */
	uint64_t due_ns;   /* rewrite it then; UINT64_MAX: clean and empty */
	uint64_t last_seq; /* highest wish shown last: excess rotates from there */
	unsigned n;	   /* wishes that belong here */
	bool dirty, writing;
};
struct outbox {
	struct mtx mtx;
	struct cond cond; /* a write ended; wakes the keeper */
	TAILQ_HEAD(, wish) wishes;
	uint64_t next_seq;
	struct out_row row[BOARD_COLS];
};

/* ---- all together --------------------------------------------------------------------------- */

struct workpool {
	struct mtx mtx;
	struct cond cond;
	struct lock_list queue;
	unsigned idle, n;
	struct task *task[REVOKERS_MAX];
	struct cond reap_cond;
	struct lock_list reap; /* to drop or to settle */
	size_t nreap;
	uint64_t picked_ns;		/* when a job was last taken, or the queue was empty */
	uint64_t busy_ns[REVOKERS_MAX]; /* jobs in hand: since when, 0 = none */
};

struct locks {
	struct env env;
	struct ats *ats;
	struct host *host;
	struct lock_cb cb;
	uint64_t owner, nonce; /* of this incarnation; set by locks_start() */
	unsigned slot;
	uint16_t tag;
	atomic_bool stopping;
	bool started;
	unsigned cache_max;
	uint64_t beat_ns;
	atomic_uint cached;	 /* locks held in core */
	atomic_ullong pins;	 /* ever */
	atomic_ullong poller_ns; /* when the poller last went round */
	atomic_uint owners_over; /* slots that became FREE, to wake whoever waits for one */
	atomic_ullong give_ns;	 /* what giving a lock away takes */
	atomic_ullong unproven;	 /* locks_unproven() */
	struct stripe stripe[LOCK_STRIPES];
	struct born_set born;
	struct board board;
	struct outbox out;
	struct workpool work;
	struct task *poller, *keeper, *reaper;
	struct lock_stats stats;
};

static inline uint64_t lock_off(uint64_t addr)
{
	return geo_blk_off(addr);
}
static inline uint64_t lock_now(struct locks *ls)
{
	return clock_now_ns(ls->env.clk);
}
#define LOCK_COUNT(ls, what) atomic_fetch_add_explicit(&(ls)->stats.what, 1, memory_order_relaxed)

/* ---- record.c: pure ------------------------------------------------------------------------- */

struct rec_me { /* what a step needs to know of this host */
	uint64_t owner;
	bool open;	  /* has the file open */
	uint64_t version; /* of the payload; 0: leave what is recorded */
};
uint16_t rec_tag(uint64_t owner);
/* How does @owner hold it by this record? */
enum lock_mode rec_holds(const struct lunfs_lock_rec *r, uint64_t owner);
bool rec_waits(const struct lunfs_lock_rec *r, unsigned slot);
void rec_take_ex(struct lunfs_lock_rec *r, const struct rec_me *me);
void rec_join_sh(struct lunfs_lock_rec *r, const struct rec_me *me);
/* We hold it (EX or SH) and leave; nobody gets it by this step. */
void rec_leave(struct lunfs_lock_rec *r, const struct rec_me *me);
/* We hold it and @to gets it exclusively. The caller made sure that nobody else shares it. */
void rec_grant_ex(struct lunfs_lock_rec *r, const struct rec_me *me, uint64_t to);
/* We hold it EX: shared from now on, by us too if @keep; rec_add_sharer() adds the askers. */
void rec_downgrade(struct lunfs_lock_rec *r, const struct rec_me *me, bool keep);
void rec_add_sharer(struct lunfs_lock_rec *r, uint64_t owner);
void rec_born(const struct geo *g, uint64_t addr, uint64_t owner, uint64_t nonce, void *sector);

/* ---- queue.c --------------------------------------------------------------------------------- */

/* Do all whom the record notes want the lock exclusively, and wait to be handed it unasked? */
bool rec_queue(const struct lunfs_lock_rec *r);
/* How many hand-overs until it is @slot's turn; 0: it is not in the queue. */
unsigned rec_place(const struct lunfs_lock_rec *r, unsigned slot);
void rec_note_self(struct lunfs_lock_rec *r, unsigned slot);
void rec_note_queue(struct lunfs_lock_rec *r); /* if anybody is noted */
/* With the stripe's mutex held. */
bool past_expects(const struct past *p, uint64_t from); /* will it come back from there? */
void past_given(struct past *p, uint64_t to, const struct lock *l);
void past_came_back(struct past *p);
void past_not_wanted(struct past *p);
void past_learn_step(struct past *p, uint64_t ns, uint64_t steps);
uint64_t queue_patience_ns(const struct past *p, unsigned place);
uint64_t queue_tenure_ns(struct locks *ls);
uint64_t queue_until_ns(const struct lock *l); /* kept for this host until then */
bool queue_keeps(struct locks *ls, const struct lock *l);
/* Other hosts stand in the queue by which this one holds it. */
bool queue_others(struct locks *ls, const struct lock *l);
/* Should it have gone to them, and is still here: again in a while. */
void queue_retry(struct locks *ls, struct lock *l);
bool queue_arm(struct locks *ls, struct lock *l, uint64_t ns); /* to be given on then */
void queue_learn_give(struct locks *ls, uint64_t ns);

/* ---- table.c, born.c ------------------------------------------------------------------------ */

int table_init(struct locks *ls);
void table_clear(struct locks *ls); /* forget every lock; those in use become "not held" */
void table_destroy(struct locks *ls);
struct stripe *table_stripe(struct locks *ls, uint64_t addr);
/* All with the stripe's mutex held. */
struct lock *table_find(struct stripe *s, uint64_t addr);
/* Find, or make from a born range; NULL if neither. */
struct lock *table_find_born(struct locks *ls, struct stripe *s, uint64_t addr);
struct lock *table_get(struct locks *ls, struct stripe *s, uint64_t addr); /* makes one; +1 ref */
void table_put(struct stripe *s, struct lock *l);   /* -1 ref; frees what nobody needs */
void table_touch(struct stripe *s, struct lock *l); /* on or off the LRU as its state says */
void lock_set_held(struct lock *l, enum lock_mode held);
static inline unsigned lock_pins(const struct lock *l)
{
	return l->pins_shared + l->pins_parked + l->pin_excl;
}
/* What is remembered of it; NULL: nothing, unless @make. */
struct past *table_past(struct stripe *s, uint64_t addr, bool make);
bool lock_is_busy(const struct lock *l);
void lock_end_work(struct stripe *s, struct lock *l); /* back to IDLE, wake everybody */
void lock_wake_all(struct lock *l); /* all who wait for anything of it; mutex held */

void born_init(struct locks *ls);
void born_clear(struct locks *ls);
void born_destroy(struct locks *ls);
void born_add(struct locks *ls, uint64_t first, unsigned n);
bool born_has(struct locks *ls, uint64_t addr);
bool born_take(struct locks *ls, uint64_t addr);
void born_give_back(struct locks *ls, uint64_t addr);

/* ---- settle.c: the lock is busy by the caller, the stripe's mutex not held ------------------ */

/* Before any write: wait while suspended; -EIO when lost or stopping. */
int lock_gate(struct locks *ls);
struct rec_me lock_me(struct locks *ls, uint64_t addr, bool version);
/* Read the lock's record (@cell: of geo_cell_bytes, the whole cell; NULL: the sector only). */
/* -EIO, -EUCLEAN; -ETIMEDOUT: no answer. */
int lock_read(struct locks *ls, struct lock *l, uint8_t *cell);
/*
 * The same once, for @n in ascending order, into consecutive cells; neighbours are read as one.
 * Result of each in *rc. Nothing is said about what is damaged.
 */
void lock_read_many(struct locks *ls, struct lock **l, uint8_t *cells, int *rc, size_t n);
/*
 * One ATS from l->known to @next. 0: done. -EAGAIN: not done, l->known is what was found; the race
 * was lost, or the device was busy for its whole deadline.
 * -EINPROGRESS: fate unknown, l->unsettled is set. -EIO, -EUCLEAN. held follows known.
 */
int lock_ats(struct locks *ls, struct lock *l, const struct lunfs_lock_rec *next);
/* The same for many; result of each in *rc: -EAGAIN where the gate is shut, unless @wait. */
void lock_ats_many(struct locks *ls, struct lock **l, const struct lunfs_lock_rec *next, int *rc,
		   size_t n, bool wait);
/*
 * Try once to settle an unknown fate. 0: settled, known and held tell. Else it stays unsettled.
 * -EINPROGRESS: not yet. -EIO: the device fails that sector, or is gone: nobody should wait.
 */
int lock_settle(struct locks *ls, struct lock *l);
/* Does the record name us in a way we do not know of? Then an ATS of our own puts that right. */
int lock_probe(struct locks *ls, struct lock *l);
/* The same by what l->known says; one ATS. */
int lock_put_right(struct locks *ls, struct lock *l);
/* Nobody here waits for it any more: take our EX-pending mark away. */
void lock_clear_pending(struct locks *ls, struct lock *l);

/* ---- acquire.c ------------------------------------------------------------------------------ */

/* Called with the lock in LST_ACQUIRE. 0: l->held >= w->mode. Errors as lock_pin(). */
int lock_acquire(struct locks *ls, struct lock *l, struct waiter *w);
/*
 * l->known was read with @cell, by a read that began at @read_ns: may this host take the lock in
 * @mode, without asking anybody? 0 or -EAGAIN. *current: if it gets it by that very record, the
 * payload in @cell is what is there.
 */
int lock_may_take(struct locks *ls, struct lock *l, enum lock_mode mode, const uint8_t *cell,
		  uint64_t read_ns, bool *current);
/* Why a wait must end, or 0. */
int waiter_ended(struct locks *ls, const struct waiter *w);

/* ---- wishes.c ------------------------------------------------------------------------------- */

void wishes_init(struct locks *ls);
void wishes_destroy(struct locks *ls);
void wishes_reset(struct locks *ls);
/* Show @w in the rows of these owners (and go on showing it where it is); writes them. */
void wish_ask(struct locks *ls, struct wish *w, const uint64_t *owners, unsigned n);
/* @granter: owner id that granted it and knows that it is served; 0: nobody. */
void wish_cancel(struct locks *ls, struct wish *w, uint64_t granter);
/* If withdrawals for this row are due, write them now. */
void wishes_sync(struct locks *ls, unsigned row);
void wishes_keeper(void *arg);

/* ---- board.c -------------------------------------------------------------------------------- */

/* Check and copy out one sector of row @row; -EUCLEAN, output untouched. */
int board_decode(const struct geo *g, const void *sector, unsigned row, unsigned column,
		 struct lunfs_board_sec *out);
void board_encode(const struct geo *g, struct lunfs_board_sec *b, void *sector); /* seals */
void board_init(struct locks *ls);
void board_destroy(struct locks *ls);
void board_reset(struct locks *ls);
void board_heat(struct locks *ls); /* poll fast for a while */
/* A lock was handed to us: look for the next who wants it when that is likely. */
void board_received(struct locks *ls);
/* The same where a queue says who is next: look for newcomers now and then. */
void board_queued(struct locks *ls);
/* Give lock @addr on at @ns if it is still here and asked for. false: too many wait for that. */
bool board_due(struct locks *ls, uint64_t addr, uint64_t ns);
void board_poller(void *arg);
/*
 * Wishes for @l, in the order to serve them: noted waiters first, then the oldest. Only those that
 * were seen since it is held count: an older sight may be of a wish granted elsewhere meanwhile.
 */
unsigned board_wishes_for(struct locks *ls, const struct lock *l, struct cand out[BOARD_COLS]);
/*
 * @l, busy, was received in a queue and is to be given on. Where a host that the record does not
 * note showed a wish before it was received, wait until the row was read once since then.
 */
void board_meet_newcomers(struct locks *ls, const struct lock *l);
void board_served(struct locks *ls, uint64_t addr, const struct cand *c);

/* ---- revoke.c, reaper.c --------------------------------------------------------------------- */

void work_init(struct locks *ls);
void work_destroy(struct locks *ls);
int work_start(struct locks *ls);
void work_wake(struct locks *ls);
void work_join(struct locks *ls);
/* With the stripe's mutex held. */
void work_queue(struct locks *ls, struct lock *l, enum lock_work what);
/* Invalidate, drain pins, flush: after 0 the lock may go down to @keep. @w: interrupts, or NULL. */
int lock_retire(struct locks *ls, struct lock *l, enum lock_mode keep, const struct waiter *w);
/* Leave a shared lock, or hand it over exclusively if nobody else shares it and somebody waits. */
int lock_leave_shared(struct locks *ls, struct lock *l);
void reap_queue(struct locks *ls, struct lock *l); /* stripe's mutex held */
void reaper_main(void *arg);
/* Owner of a SHARED entry of another host that may still hold; 0: none. */
uint64_t lock_sharer(struct locks *ls, const struct lunfs_lock_rec *r, unsigned slot);

#endif
