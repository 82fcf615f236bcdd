/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Orphans: inodes that stand in an orphan directory, since they have no name any more or since a
 * truncation is not over. The worker finishes them: it takes the inode exclusively, makes sure that
 * no host has it open, gives its space up step by step, and at last frees the inode together with
 * its entry in the orphan directory. It waits for other hosts with nothing pinned.
 *
 * Every inode here is looked at by somebody: by the host that removed the last name; by the host
 * that closes it last; after a crash, by whoever scans the orphan directories of slots without a
 * living owner (at every mount and after every recovery).
 */
#include "vol/vol_impl.h"
#include <stdio.h>
#include <stdlib.h>
#include <uthash.h>
#include <utlist.h>

#define BACKOFF_MAX 20u /* beats */
#define SCAN_BATCH 64u
#define DAMAGED_TRIES 4u /* then it is left to fsck, and to the scan of the next mount */

struct oitem {
	struct nodeid id;
	bool ready, busy, again;
	unsigned backoff, damaged;
	uint64_t due_ns;
	struct oitem *prev, *next; /* in one of the two lists, unless busy */
	UT_hash_handle hh;
};

struct orphans {
	struct volume *v;
	struct mtx mtx;
	struct cond wake, idle;
	struct task *task;
	struct lock_intr intr;
	struct oitem *table, *ready, *parked;
	uint64_t n, n_ready, done; /* known; ready or busy; inodes freed */
	bool stop, scan, working;
};

/* ---- in and out of orphan directories -------------------------------------------------------- */

#define ORPHAN_NAME 17 /* bytes, with the terminator */

static void orphan_name(char *name, uint64_t ino)
{
	snprintf(name, ORPHAN_NAME, "%016llx", (unsigned long long)ino);
}

static int get_odir(struct op *o, unsigned slot, struct inode **odir)
{
	uint64_t ino = slot < LUNFS_MAX_SLOTS ? o->v->geo.orphan_ino[slot] : 0;
	int rc;

	if (ino == 0)
		return -EUCLEAN;
	rc = op_get(o, (struct nodeid){ino, 0}, LOCK_EX, LOCAL_EXCL, odir);
	if (rc == 0 && !S_ISDIR((*odir)->mode))
		rc = -EUCLEAN;
	return rc == -ESTALE ? -EUCLEAN : rc;
}

int orphan_prepare(struct op *o, struct change *ch, struct inode *i, struct inode **odir)
{
	char name[ORPHAN_NAME];
	struct dir_entry de;
	int rc;

	*odir = NULL;
	if (i->flags & LUNFS_INODE_ORPHAN)
		return 0;
	rc = get_odir(o, host_slot(o->v->host), odir);
	if (rc)
		return rc;
	orphan_name(name, i->ino);
	rc = dir_lookup(&o->v->ne, *odir, name, &de);
	if (rc == 0) {
		log_err("orphan-entry",
			"Inode %llu has an entry in an orphan directory but does not know of it; "
			"unmount everywhere and run fsck.lunfs.",
			(unsigned long long)i->ino);
		return -EUCLEAN;
	}
	return rc == -ENOENT ? change_need(ch, *odir, FORK_DATA, 1) : rc;
}

int orphan_insert(struct change *ch, struct inode *i, struct inode *odir)
{
	struct volume *v = ch->o->v;
	char name[ORPHAN_NAME];
	int rc;

	if (!odir)
		return 0;
	orphan_name(name, i->ino);
	rc = dir_insert(&v->ne, &ch->nt, odir, name, i->ino, i->generation, mode_to_dtype(i->mode));
	if (rc)
		return rc;
	i->flags |= LUNFS_INODE_ORPHAN;
	i->orphan_slot = (uint16_t)host_slot(v->host);
	inode_touch_data(v, odir);
	inode_update(ch->nt.h, odir);
	return 0;
}

int orphan_leave_prepare(struct op *o, struct change *ch, struct inode *i, struct inode **odir)
{
	char name[ORPHAN_NAME];
	struct dir_entry de;
	int rc;

	rc = get_odir(o, i->orphan_slot, odir);
	if (rc)
		return rc;
	orphan_name(name, i->ino);
	rc = dir_lookup(&o->v->ne, *odir, name, &de);
	if (rc)
		return rc == -ENOENT ? -EUCLEAN : rc;
	rc = change_need_removal(ch, *odir);
	/* If the lock to give an emptied tree node up is not to be had, the node stays. */
	if (rc == 0 && dir_remove_prepare(&o->v->ne, *odir, name, &ch->frees) == -EIO)
		rc = -EIO;
	return rc;
}

int orphan_leave(struct change *ch, struct inode *i, struct inode *odir)
{
	struct volume *v = ch->o->v;
	char name[ORPHAN_NAME];
	int rc;

	orphan_name(name, i->ino);
	rc = dir_remove(&v->ne, &ch->nt, odir, name);
	if (rc)
		return rc;
	i->flags &= ~LUNFS_INODE_ORPHAN;
	i->orphan_slot = 0;
	inode_touch_data(v, odir);
	inode_update(ch->nt.h, odir);
	return 0;
}

/* ---- giving one inode up --------------------------------------------------------------------- */

struct reap {
	struct nodeid id;
	bool look;  /* out: it is an orphan */
	bool later; /* out: open on another host */
	bool freed; /* out */
};

/* First a look that takes nothing away from others; it also clears an OPEN mark of this host. */
static int look_body(struct op *o, void *arg)
{
	struct reap *a = arg;
	struct inode *i;
	int rc = op_get(o, a->id, LOCK_SH, LOCAL_SHARED, &i);

	if (rc == 0)
		a->look = i->flags & LUNFS_INODE_ORPHAN;
	return rc;
}

static int reap_body(struct op *o, void *arg)
{
	struct reap *a = arg;
	struct volume *v = o->v;
	struct node_shrink step = {0};
	struct inode *i;
	int rc;

	rc = op_get(o, a->id, LOCK_EX, LOCAL_EXCL, &i);
	if (rc || !(i->flags & LUNFS_INODE_ORPHAN))
		return rc;
	if (i->nlink)
		return trunc_finish(o, i);
	if (onodes_unlinked(v->onodes, i->ino))
		return 0; /* its last close brings it back here */
	a->later = lock_open_elsewhere(v->locks, op_lock_of(o, i));
	if (a->later)
		return 0;
	while (rc == 0 && !step.done)
		rc = giveup_step(o, i, &step);
	if (rc == 0)
		rc = giveup_inode(o, i);
	a->freed = rc == 0;
	return rc;
}

static void worker_op(struct orphans *w, struct op *o, struct op_ctx *c)
{
	*c = (struct op_ctx){.intr = &w->intr};
	op_init(o, w->v, c);
	o->made_room = true; /* this is who makes it */
}

static bool give_up(struct oitem *e)
{
	if (++e->damaged < DAMAGED_TRIES)
		return false;
	log_err("orphan",
		"The space of deleted inode %llu cannot be given up since its metadata is damaged; "
		"unmount everywhere and run fsck.lunfs.",
		(unsigned long long)e->id.ino);
	return true;
}

/* True: done with it. */
static bool look_after(struct orphans *w, struct oitem *e, struct nodeid id, bool *freed)
{
	struct reap a = {.id = id};
	struct op_ctx c;
	struct op o;
	int rc;

	worker_op(w, &o, &c);
	o.reading = true;
	rc = op_run(&o, look_body, &a);
	if (rc == 0 && a.look && !w->v->read_only) {
		worker_op(w, &o, &c);
		op_plan(&o, id.ino, LOCK_EX, LOCAL_EXCL);
		rc = op_run(&o, reap_body, &a);
	}
	*freed = a.freed;
	if (rc == -EUCLEAN)
		return give_up(e);
	return rc == -ESTALE || (rc == 0 && !a.later);
}

/* ---- scanning -------------------------------------------------------------------------------- */

struct scan {
	unsigned slot;
	uint64_t cookie;
	struct dir_entry *de;
	size_t n;
};

static int scan_body(struct op *o, void *arg)
{
	struct scan *s = arg;
	struct nodeid id = {o->v->geo.orphan_ino[s->slot], 0};
	struct inode *odir;
	int rc = op_get(o, id, LOCK_SH, LOCAL_SHARED, &odir);

	s->n = 0;
	if (rc == 0)
		rc = dir_list(&o->v->ne, odir, s->cookie, s->de, SCAN_BATCH, &s->n);
	return rc;
}

static void scan_slot(struct orphans *w, unsigned slot)
{
	struct scan s = {.slot = slot, .cookie = DIR_COOKIE_MIN};
	struct op_ctx c;
	struct op o;
	int rc;

	s.de = calloc(SCAN_BATCH, sizeof(*s.de));
	lunfs_assert(s.de);
	do {
		worker_op(w, &o, &c);
		o.reading = true;
		rc = op_run(&o, scan_body, &s);
		for (size_t k = 0; rc == 0 && k < s.n; k++) {
			orphans_add(w, (struct nodeid){s.de[k].ino, s.de[k].generation});
			s.cookie = s.de[k].cookie + 1;
		}
	} while (rc == 0 && s.n);
	if (rc && rc != -EINTR && rc != -EIO)
		log_err("orphan-scan",
			"The orphan directory of slot %u cannot be read (%s); space of deleted "
			"files may stay in use until fsck.lunfs runs.",
			slot, strerror(-rc));
	free(s.de);
}

/* A living host that may write looks after its own. */
static bool looked_after(struct volume *v, const struct host_info *hi, unsigned slot)
{
	if (slot == host_slot(v->host))
		return false;
	return host_live_owner(v->host, slot) && !(hi[slot].flags & 1);
}

static void scan_all(struct orphans *w)
{
	struct volume *v = w->v;
	unsigned n = geo_all_slots(&v->geo);
	struct host_info *hi = calloc(n, sizeof(*hi));

	lunfs_assert(hi);
	host_table(v->host, hi, n);
	for (unsigned slot = 0; slot < v->geo.slots; slot++)
		if (v->geo.orphan_ino[slot] && !looked_after(v, hi, slot))
			scan_slot(w, slot);
	free(hi);
}

/* ---- the worker ------------------------------------------------------------------------------ */

/* All with w->mtx held. */

static void make_ready(struct orphans *w, struct oitem *e)
{
	e->ready = true;
	DL_APPEND(w->ready, e);
	w->n_ready++;
	cond_signal(&w->wake);
}

static void park(struct orphans *w, struct oitem *e)
{
	uint64_t beat_ns = (uint64_t)w->v->geo.beat_ms * 1000000;

	e->backoff = e->backoff == 0		    ? 1
		     : e->backoff * 2 > BACKOFF_MAX ? BACKOFF_MAX
						    : e->backoff * 2;
	e->due_ns = clock_now_ns(w->v->env.clk) + e->backoff * beat_ns;
	DL_APPEND(w->parked, e);
}

/* Everything that is due, or all; returns when the next one is. */
static uint64_t unpark(struct orphans *w, bool all)
{
	uint64_t now = clock_now_ns(w->v->env.clk), next = CLOCK_FOREVER;
	struct oitem *e, *tmp;

	DL_FOREACH_SAFE (w->parked, e, tmp) {
		if (all || e->due_ns <= now) {
			DL_DELETE(w->parked, e);
			make_ready(w, e);
		} else if (e->due_ns < next) {
			next = e->due_ns;
		}
	}
	return next;
}

static void finish(struct orphans *w, struct oitem *e, bool done)
{
	e->busy = false;
	w->n_ready--;
	if (e->again) {
		e->again = false;
		make_ready(w, e);
	} else if (!done) {
		park(w, e);
	} else {
		HASH_DEL(w->table, e);
		w->n--;
		free(e);
	}
}

static void work_one(struct orphans *w)
{
	struct oitem *e = w->ready;
	struct nodeid id = e->id;
	bool done, freed = false;

	DL_DELETE(w->ready, e);
	e->ready = false;
	e->busy = true;
	mtx_unlock(&w->mtx);
	done = look_after(w, e, id, &freed);
	mtx_lock(&w->mtx);
	w->done += freed;
	finish(w, e, done || atomic_load(&w->v->lost));
}

static void worker(void *arg)
{
	struct orphans *w = arg;

	mtx_lock(&w->mtx);
	while (!w->stop) {
		uint64_t next = unpark(w, false);

		w->working = true;
		if (w->scan && !w->v->read_only) {
			w->scan = false;
			unpark(w, true);
			mtx_unlock(&w->mtx);
			scan_all(w);
			mtx_lock(&w->mtx);
		} else if (w->ready) {
			work_one(w);
		} else {
			w->working = false;
			cond_broadcast(&w->idle);
			cond_wait(&w->wake, &w->mtx, next);
		}
	}
	w->working = false;
	cond_broadcast(&w->idle);
	mtx_unlock(&w->mtx);
}

void orphans_add(struct orphans *w, struct nodeid id)
{
	struct oitem *e;

	mtx_lock(&w->mtx);
	HASH_FIND(hh, w->table, &id.ino, sizeof(id.ino), e);
	if (!e) {
		e = calloc(1, sizeof(*e));
		lunfs_assert(e);
		e->id = id;
		HASH_ADD(hh, w->table, id.ino, sizeof(e->id.ino), e);
		w->n++;
		make_ready(w, e);
	} else if (e->busy) {
		e->id = id;
		e->again = true;
	} else {
		e->id = id;
		if (!e->ready) {
			DL_DELETE(w->parked, e);
			e->backoff = 0;
			make_ready(w, e);
		}
	}
	mtx_unlock(&w->mtx);
}

void orphans_scan(struct orphans *w)
{
	mtx_lock(&w->mtx);
	w->scan = true;
	cond_signal(&w->wake);
	mtx_unlock(&w->mtx);
}

bool orphans_settle(struct orphans *w, uint64_t timeout_ns)
{
	uint64_t until = clock_now_ns(w->v->env.clk) + timeout_ns, before;
	bool worked;

	mtx_lock(&w->mtx);
	before = w->done;
	while (w->task && !w->stop && (w->n_ready || w->working || w->scan))
		if (cond_wait(&w->idle, &w->mtx, until) == -ETIMEDOUT)
			break;
	worked = w->done != before;
	mtx_unlock(&w->mtx);
	return worked;
}

void orphans_count(struct orphans *w, uint64_t *waiting, uint64_t *freed)
{
	mtx_lock(&w->mtx);
	*waiting = w->n;
	*freed = w->done;
	mtx_unlock(&w->mtx);
}

struct orphans *orphans_new(struct volume *v)
{
	struct orphans *w = calloc(1, sizeof(*w));

	lunfs_assert(w);
	w->v = v;
	mtx_init(&w->mtx, v->env.clk);
	cond_init(&w->wake, v->env.clk);
	cond_init(&w->idle, v->env.clk);
	return w;
}

int orphans_start(struct orphans *w)
{
	struct task *t;
	int rc = w->v->env.clk->ops->task_start(w->v->env.clk, "lunfs-orphans", worker, w, &t);

	if (rc == 0) {
		mtx_lock(&w->mtx);
		w->task = t;
		mtx_unlock(&w->mtx);
	}
	return rc;
}

void orphans_stop(struct orphans *w)
{
	if (!w->task)
		return;
	mtx_lock(&w->mtx);
	w->stop = true;
	cond_broadcast(&w->wake);
	cond_broadcast(&w->idle);
	mtx_unlock(&w->mtx);
	atomic_store(&w->intr.interrupted, true);
	lock_intr_fire(w->v->locks, &w->intr);
	w->v->env.clk->ops->task_join(w->v->env.clk, w->task);
	w->task = NULL;
}

void orphans_free(struct orphans *w)
{
	struct oitem *e, *tmp;

	HASH_ITER (hh, w->table, e, tmp) {
		HASH_DEL(w->table, e);
		free(e);
	}
	cond_destroy(&w->wake);
	cond_destroy(&w->idle);
	mtx_destroy(&w->mtx);
	free(w);
}
