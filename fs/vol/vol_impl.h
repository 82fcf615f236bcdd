/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of vol/ share: the mounted volume, the frame that every operation runs in (op.c),
 * the frame of a change (change.c), open counts (onode.c), the orphan worker (orphan.c), and the
 * data path's common parts (data.c, trunc.c).
 */
#ifndef VOL_IMPL_H
#define VOL_IMPL_H

#include "base/log.h"
#include "cluster/ats.h"
#include "cluster/io.h"
#include "vol/ops.h"
#include <errno.h>
#include <string.h>

#define VOL_FILE_MAX (1ull << 60) /* bytes; offsets above give EFBIG */
#define VOL_LINK_MAX 0x7fffffffu  /* links to an inode, subdirectories of a directory */
#define BLK ((uint64_t)LUNFS_BLOCK_BYTES)

struct aheads;
struct firsts;
struct onodes;
struct orphans;

struct volume {
	struct geo geo;
	struct env env; /* geo points to the one above */
	struct ats ats;
	struct host *host;
	struct host_io io;
	struct locks *locks;
	struct txns *txns;
	struct alloc *alloc;
	struct node_env ne;
	struct vol_cb cb;
	char host_name[LUNFS_HOSTNAME_BYTES];
	bool read_only;
	atomic_bool running;	 /* started: upcalls may use everything */
	atomic_bool lost;	 /* EIO from now on */
	atomic_bool super_stale; /* the volume lock was away: read the superblock again */
	struct mtx super_mtx;
	atomic_ullong gen_counter;
	atomic_ullong freed;	       /* transactions that gave up space */
	atomic_ullong freed_committed; /* those known to be durable */
	struct aheads *aheads;
	struct firsts *firsts;
	struct onodes *onodes;
	struct orphans *orphans;
};

/* ---- volume.c -------------------------------------------------------------------------------- */

/* All objects of a volume, before its slot is claimed; vol_destroy() frees what there is of them.
 */
struct volume *vol_new(struct dev *dev, struct clock *clk, const struct geo *g,
		       const struct vol_options *opt);
int vol_make_objects(struct volume *v, const struct vol_options *opt);
void vol_destroy(struct volume *v);

/* upcalls.c. The volume answers EIO from now on. */
void vol_fail(struct volume *v, const char *why);
struct lock_cb vol_lock_cb(struct volume *v);
struct host_cb vol_host_cb(struct volume *v);

/* ---- op.c: the frame of an operation --------------------------------------------------------- */

#define OP_RESTART 1 /* let everything go, pin in order, and look again */
#define OP_NODES 8u

struct opn { /* an inode of the operation */
	uint64_t addr;
	enum lock_mode mode;
	enum lock_local local;
	struct lock *l; /* pinned, or NULL */
	unsigned round; /* in which it was asked for last */
	bool loaded;
	bool parked; /* local parked */
	struct inode i;
};

/*
 * One operation: the inodes it works on, pinned in ascending order of their addresses. The body
 * asks for them by op_get(), in any order; where the order forbids waiting, the lock is only tried,
 * and OP_RESTART makes op_run() start over with all that is known now.
 */
struct op {
	struct volume *v;
	const struct op_ctx *c;
	unsigned pin_flags; /* LOCK_DRAIN for reads and writes of file data */
	bool rename;	    /* pin the rename lock too */
	bool reading;	    /* changes nothing: allowed read-only */
	bool goes_on;	    /* the body: another op under the same locks follows at once */
	bool prompt;	    /* the volume's lock is not waited for: -EAGAIN */
	struct lock *vlock, *rlock;
	unsigned n;
	struct opn e[OP_NODES];
	uint64_t top;	 /* highest address pinned */
	uint64_t want;	 /* with -EAGAIN: the lock to wait for with nothing pinned */
	uint64_t waited; /* that was waited for, and is to be used before it goes */
	unsigned round, waits;
	bool made_room; /* that was tried: there will be no more */
	bool part_fits; /* with -ENOSPC: run the body again in any case, it can do a part */
	/* With @rename: runs when the rename lock is pinned and no inode is yet. */
	int (*first)(struct op *o, void *arg);
};

void op_init(struct op *o, struct volume *v, const struct op_ctx *c);
/* Known beforehand: pinned in order at the start of the first round. */
void op_plan(struct op *o, uint64_t ino, enum lock_mode mode, enum lock_local local);
/*
 * Run @body until it ends: starts over on OP_RESTART, waits for o->want on -EAGAIN, tries to make
 * room once on -ENOSPC. The body must stand being run again from the start. Between two runs all
 * locks are let go: others see what the first one changed.
 */
int op_run(struct op *o, int (*body)(struct op *o, void *arg), void *arg);
/* Before an answer: until the lease is there (again). -EIO: it will not be, or is of no use. */
int vol_wait_active(struct volume *v);
/* The lease is over: if the volume has failed nobody waits for the device any more. */
bool vol_end_if_failed(struct volume *v);
/*
 * For those that cannot wait: pins what is planned if that is to be had at once. To be followed by
 * op_leave() in any case, on whatever thread, which lets all go.
 */
int op_try(struct op *o);
void op_leave(struct op *o);
/* Pin and load @id; *out stays valid until the body returns. OP_RESTART, -ESTALE, ... */
int op_get(struct op *o, struct nodeid id, enum lock_mode mode, enum lock_local local,
	   struct inode **out);
/* The same for what a directory entry names: an inode that is not there is damage. */
int op_get_entry(struct op *o, const struct dir_entry *de, enum lock_mode mode,
		 enum lock_local local, struct inode **out);
/*
 * lock_park() for an inode that is pinned local shared, of which nothing may be used any more, and
 * lock_raise() for one that is parked. It is loaded anew then: -EIO, ... and it is raised
 * nevertheless.
 */
void op_park(struct op *o, const struct inode *i);
int op_raise(struct op *o, struct inode *i);
/* The body is done with it: let go before the operation ends. */
void op_drop(struct op *o, const struct inode *i);
/* The lock behind a loaded inode of this operation. */
struct lock *op_lock_of(struct op *o, const struct inode *i);
/* The inode's block was given up in a transaction (mblk_forget took the reference). */
void op_forget(struct op *o, struct inode *i);
int vol_check_name(const char *name);

/* ---- change.c: the frame of a change --------------------------------------------------------- */

struct change {
	struct op *o;
	struct cell_res cells; /* for tree nodes */
	struct free_res frees;
	struct node_txn nt;
	unsigned want_cells, credits, freed;
	bool reserved;
	bool counted; /* credits for frees are in already */
};

void change_init(struct change *ch, struct op *o);
/* Add what @changes insertions or removals in this fork need. */
int change_need(struct change *ch, struct inode *i, enum node_fork fork, unsigned changes);
/* The same for extents of a file in [lblk, lblk+len). */
int change_need_ext(struct change *ch, struct inode *i, uint64_t lblk, uint64_t len,
		    unsigned changes);
/* The same for one removal from the data fork, which takes no cells. */
int change_need_removal(struct change *ch, struct inode *i);
/* What setting an xattr to @keep_bytes, or removing it, needs: xattr_need(). */
int change_need_xattr(struct change *ch, struct inode *i, const char *name, size_t keep_bytes);
void change_credits(struct change *ch, unsigned n);
/* Cells only, so that data can be written between this and change_begin(). */
int change_reserve(struct change *ch, uint64_t goal, unsigned flags);
/* Reserve if not done yet, and join a transaction. After 0 nothing may fail any more. */
int change_begin(struct change *ch, uint64_t goal, unsigned flags);
void change_end(struct change *ch); /* leaves the transaction if joined; gives the rest back */
/* A call that must not fail did: the volume stops. Returns @rc. */
int change_broken(struct change *ch, int rc, const char *what);
/* A prepare call answered @rc: note what to wait for. */
int change_want(struct change *ch, int rc);

/* ---- attributes ------------------------------------------------------------------------------ */

struct timespec vol_now(struct volume *v);
/* Now, but always later than @old: a time stamp that tells one change from the next. */
struct timespec vol_now_after(struct volume *v, struct timespec old);
void inode_touch_data(struct volume *v, struct inode *i); /* mtime and ctime */
void inode_touch(struct volume *v, struct inode *i);	  /* ctime */
void attr_fill(struct volume *v, const struct inode *i, struct vattr *out);
uint8_t mode_to_dtype(uint32_t mode);
uint64_t vol_new_generation(struct volume *v);

/* ---- priv.c: set-id bits and capabilities ---------------------------------------------------- */

/* @i is pinned. Is it known, from memory, that there is nothing to drop? */
bool priv_none(const struct inode *i, bool suidgid);
/* The same for sure. May read. */
int priv_look(struct op *o, struct inode *i, bool suidgid, bool *some);
/*
 * Before contents or owner change: drop what there is, in a transaction of its own. @i is pinned
 * EX, local exclusive. -EAGAIN with o->want, ... as a body.
 */
int priv_drop(struct op *o, struct inode *i, bool suidgid);

/* ---- onode.c: open counts -------------------------------------------------------------------- */

struct onodes *onodes_new(struct clock *clk);
void onodes_free(struct onodes *t);
void onodes_open(struct onodes *t, struct nodeid id);
/* One open less. True if it was the last and there is something to look after (see onode.c). */
bool onodes_close(struct onodes *t, struct nodeid id);
uint64_t onodes_count(struct onodes *t, uint64_t ino);
/* For lock_cb.is_open: remembers that an OPEN mark may stand on disk. */
bool onodes_is_open(struct onodes *t, uint64_t ino);
/* It has no name any more. True if it is open here. */
bool onodes_unlinked(struct onodes *t, uint64_t ino);
/*
 * Data of @ino is overwritten by who may not be alone. @stale: the time stamps are older than this
 * write. True: the caller is to set them, being the last for now; or they lag by a second.
 */
void onodes_write_begin(struct onodes *t, uint64_t ino);
bool onodes_write_end(struct onodes *t, uint64_t ino, bool stale);
/* It did not come to that, and the caller begins anew at once. */
void onodes_write_cancel(struct onodes *t, uint64_t ino);

/* ---- ahead.c --------------------------------------------------------------------------------- */

struct aheads *aheads_new(struct volume *v);
int aheads_start(struct aheads *w);
void aheads_stop(struct aheads *w);
void aheads_free(struct aheads *w);
unsigned long long aheads_got_from_others(const struct aheads *w); /* locks, ever */
/* Somebody begins to list @dir. */
void ahead_listed(struct aheads *w, struct nodeid dir);
/* @de of @dir, which is pinned, was looked up; the lock of what it names is wanted now. */
void ahead_looked(struct aheads *w, struct nodeid dir, const struct dir_entry *de);
/* The locks of these, of a directory that is pinned, where they are to be had; how many were. */
size_t ahead_take(struct volume *v, const uint64_t *ino, size_t n, enum lock_mode mode);

/* ---- askers.c -------------------------------------------------------------------------------- */

struct askers;
struct askers *askers_new(struct volume *v);
void askers_stop(struct askers *k); /* interrupts what is asked for; nothing is from now on */
void askers_free(struct askers *k);
/*
 * Get the locks of all of these in @mode, from other hosts too, and the inodes; how many were got.
 * Nothing may be pinned. Sleeps until each was got or is not to be had, or for @within_ns and what
 * it takes then to end what is under way. One caller at a time.
 */
size_t askers_get(struct askers *k, const struct nodeid *id, size_t n, enum lock_mode mode,
		  uint64_t within_ns);

/* ---- first.c --------------------------------------------------------------------------------- */

struct firsts *firsts_new(struct clock *clk);
void firsts_free(struct firsts *t);
struct first_counts {
	unsigned long long commits;    /* by one for all who had sent their data */
	unsigned long long pieces;     /* committed by them */
	unsigned long long in_the_way; /* of one that is on its way: done alone */
};
struct first_counts firsts_counts(struct firsts *t); /* never waits */

/* ---- orphan.c -------------------------------------------------------------------------------- */

struct orphans *orphans_new(struct volume *v);
int orphans_start(struct orphans *w);
void orphans_stop(struct orphans *w);
void orphans_free(struct orphans *w);
void orphans_scan(struct orphans *w);			     /* all slots, in the background */
void orphans_add(struct orphans *w, struct nodeid id);	     /* look after this inode */
bool orphans_settle(struct orphans *w, uint64_t timeout_ns); /* wait until nothing is ready */
void orphans_count(struct orphans *w, uint64_t *waiting, uint64_t *freed);

/*
 * Before the transaction: pin the orphan directory where @i will stand (it may stand in one
 * already: *odir NULL) and add what the insertion needs. Inside: put it there.
 */
int orphan_prepare(struct op *o, struct change *ch, struct inode *i, struct inode **odir);
int orphan_insert(struct change *ch, struct inode *i, struct inode *odir);
/* The other way: pin the directory where @i stands and take it out of there. */
int orphan_leave_prepare(struct op *o, struct change *ch, struct inode *i, struct inode **odir);
int orphan_leave(struct change *ch, struct inode *i, struct inode *odir);

/* ---- giveup.c -------------------------------------------------------------------------------- */

/* A transaction that frees a part of what @i holds, or nothing with step->done. */
int giveup_step(struct op *o, struct inode *i, struct node_shrink *step);
/* It holds nothing any more and stands in an orphan directory: free it. It is gone after 0. */
int giveup_inode(struct op *o, struct inode *i);

/*
 * The last name of an inode goes. Before the transaction: can it be given up with it, or what does
 * an orphan directory need? Inside, with the name: it is gone, or *@gone is the worker's
 * (orphans_add() when all locks are let go). @i may not be used afterwards.
 */
struct parting {
	bool at_once;
	struct inode *odir;
	struct node_shrink step;
};
int parting_prepare(struct change *ch, struct inode *i, struct parting *p);
int parting_commit(struct change *ch, struct inode *i, struct parting *p, struct nodeid *gone);

/* ---- ops_create.c ---------------------------------------------------------------------------- */

struct newcell {
	struct cell_res res;
	struct lock *l;
};
/*
 * A cell near @goal for a new inode, and its lock; before the transaction, with everything else
 * that is pinned. -EAGAIN: op->want.
 */
int newcell_get(struct op *o, uint64_t goal, struct newcell *nc);
void newcell_put(struct op *o, struct newcell *nc);
/* What overlayfs takes for "no such name"; its first name is the caller's. To be inode_put(). */
void whiteout_create(struct change *ch, struct newcell *nc, const struct inode *dir,
		     struct inode *i);

/* ---- ops_write.c ----------------------------------------------------------------------------- */

/* Time stamps of a change of data, and the size if it grew to @end. */
void write_attrs(struct change *ch, struct inode *i, uint64_t end);
/* Are the time stamps of @i new enough for data that was overwritten just now? */
bool vol_is_stamped(struct volume *v, const struct inode *i);
/* Set them. */
int vol_touch(struct volume *v, const struct op_ctx *c, struct nodeid id);

/* ---- data.c: device I/O of file data --------------------------------------------------------- */

#define DATA_IOS 32u

struct io_list {
	struct volume *v;
	unsigned n;
	struct dev_io io[DATA_IOS];
};
void io_init(struct io_list *l, struct volume *v);
/* Add one transfer; runs the list when it is full. */
int io_add(struct io_list *l, enum dev_io_op op, uint64_t blk, uint64_t len_blks, void *buf);
int io_run(struct io_list *l);
/* What host_io_write() of file data answered: the volume stops if its fate stays unknown. */
int data_write_failed(struct volume *v, int rc);
/* Fill @nblks blocks of @buf (aligned) from @lblk on; holes and unwritten space are zeroes. */
int data_read_blks(struct volume *v, struct inode *i, uint64_t lblk, uint64_t nblks, uint8_t *buf);
/* Zero [from, to) of the file where it is written space, in place; both in the same block. */
int data_zero_part(struct volume *v, struct inode *i, uint64_t from, uint64_t to);

/* ---- trunc.c --------------------------------------------------------------------------------- */

/*
 * All of these work on a regular file pinned EX, local exclusive, and may return OP_RESTART and
 * -EAGAIN with o->want; when run again they go on.
 */
/*
 * Before a file may grow or be allocated beyond its end: finish a truncation that was cut short, so
 * that what its blocks held cannot come back to life. What was preallocated for a file without
 * names stays.
 */
int trunc_finish(struct op *o, struct inode *i);
/*
 * After trunc_finish(): set the size and give up what lies beyond. *@begun: the size is set, and
 * the rest of it is left to trunc_finish().
 */
int trunc_set_size(struct op *o, struct inode *i, uint64_t size, bool *begun);
/* Give up the blocks in [from, to) that read as zeroes, in steps of a transaction each. */
int trunc_remove_unwritten(struct op *o, struct inode *i, uint64_t from, uint64_t to);
/* Turn inline bytes into a block of their own. */
int data_leave_inline(struct op *o, struct inode *i);
/* The file will grow to or beyond @off: bytes between the end of file and the end of its block
 * become zero. */
int data_zero_tail(struct op *o, struct inode *i, uint64_t off);

#endif
