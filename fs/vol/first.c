/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each writer reserves what it needs and sends its data while it is pinned local shared. Those
 * whose data is on the device park, and the first of them raises its pin: when nobody works on the
 * file any more it commits the pieces of all, one transaction each, and lets them go. So the device
 * has the data of many at a time, and what takes the file for itself takes it once for all of them.
 *
 * Nobody changes the file between the plan of a piece and its commit, save those who commit theirs:
 * pins see to that (lock_raise). So a piece is not for this if it overlaps one that is on its way.
 * Nor is one of which a part is written space: if it then has to be done anew, for lack of room for
 * its changes, other hosts could see that part alone. Until the commit nothing of a piece is to be
 * seen.
 *
 * Blocks for neighbours shall lie one after the other, in whatever order they come, so reserving is
 * done one at a time of a file, and looks at what others have reserved already.
 */
#include "vol/first.h"
#include <stdlib.h>
#include <uthash.h>

struct crew { /* those who write first to one file */
	uint64_t ino;
	unsigned n;
	struct first *all;
	struct first *sent; /* their data is on the device; latest first */
	bool planning;	    /* one of them is */
	bool led;	    /* one of them will commit those that are sent */
	struct cond turn, ended;
	UT_hash_handle hh;
};

struct firsts {
	struct mtx mtx;
	struct crew *table;
	atomic_ullong commits, pieces, in_the_way; /* read without it */
};

struct firsts *firsts_new(struct clock *clk)
{
	struct firsts *t = calloc(1, sizeof(*t));

	lunfs_assert(t);
	mtx_init(&t->mtx, clk);
	return t;
}

void firsts_free(struct firsts *t)
{
	lunfs_assert(!t->table);
	mtx_destroy(&t->mtx);
	free(t);
}

struct first_counts firsts_counts(struct firsts *t)
{
	return (struct first_counts){.commits = atomic_load(&t->commits),
				     .pieces = atomic_load(&t->pieces),
				     .in_the_way = atomic_load(&t->in_the_way)};
}

/* ---- the crew; firsts.mtx is held ------------------------------------------------------------ */

static void join(struct firsts *t, uint64_t ino, struct first *f)
{
	struct crew *c;

	HASH_FIND(hh, t->table, &ino, sizeof(ino), c);
	if (!c) {
		c = calloc(1, sizeof(*c));
		lunfs_assert(c);
		c->ino = ino;
		cond_init(&c->turn, t->mtx.clk);
		cond_init(&c->ended, t->mtx.clk);
		HASH_ADD(hh, t->table, ino, sizeof(c->ino), c);
	}
	c->n++;
	f->next = c->all;
	c->all = f;
	f->crew = c;
}

static void leave(struct firsts *t, struct first *f)
{
	struct crew *c = f->crew;
	struct first **pf = &c->all;

	while (*pf != f)
		pf = &(*pf)->next;
	*pf = f->next;
	if (--c->n)
		return;
	HASH_DEL(t->table, c);
	cond_destroy(&c->turn);
	cond_destroy(&c->ended);
	free(c);
}

static bool overlaps(const struct crew *c, const struct piece *p)
{
	for (const struct first *f = c->all; f; f = f->next)
		if (f->planned && f->p.lblk < p->lblk + p->nblks &&
		    p->lblk < f->p.lblk + f->p.nblks)
			return true;
	return false;
}

/* What others have reserved. */
static void look_near(const struct crew *c, const struct geo *g, struct piece *p)
{
	for (const struct first *f = c->all; f; f = f->next)
		for (unsigned k = 0; f->planned && k < f->p.n; k++) {
			const struct part *t = &f->p.part[k];

			near_look(&p->near, g, p->lblk, t->lblk, t->len, t->blk);
		}
}

/* ---- a writer -------------------------------------------------------------------------------- */

/* False: another one is in the way. */
static bool plan_begin(struct volume *v, struct first *f, uint64_t ino)
{
	struct firsts *t = v->firsts;
	bool clear;

	mtx_lock(&t->mtx);
	join(t, ino, f);
	while (f->crew->planning)
		cond_wait(&f->crew->turn, &t->mtx, CLOCK_FOREVER);
	f->crew->planning = true;
	look_near(f->crew, &v->geo, &f->p);
	clear = !overlaps(f->crew, &f->p);
	t->in_the_way += !clear;
	mtx_unlock(&t->mtx);
	return clear;
}

static void plan_end(struct firsts *t, struct first *f, bool planned)
{
	mtx_lock(&t->mtx);
	f->crew->planning = false;
	f->planned = planned;
	cond_signal(&f->crew->turn);
	if (!planned)
		leave(t, f);
	mtx_unlock(&t->mtx);
}

/* 1: only in several, or the volume is full. */
static int plan_whole(struct op *o, struct inode *i, struct piece *p)
{
	uint64_t nblks = p->nblks;
	int rc = piece_plan(o, i, p);
	bool fits = p->nblks == nblks;

	if (rc)
		return rc;
	for (unsigned k = 0; k < p->n; k++)
		fits &= p->part[k].kind != PART_WRITTEN;
	if (!fits)
		piece_end(o->v, p);
	return fits ? 0 : 1;
}

int first_begin(struct op *o, struct inode *i, struct first *f, uint64_t off_bytes,
		size_t len_bytes, const uint8_t *buf)
{
	int rc = 1;

	if (len_bytes > PIECE_BYTES)
		return 1;
	f->o = o;
	piece_init(&f->p, off_bytes, len_bytes, buf);
	f->p.prompt = true;
	if (plan_begin(o->v, f, i->ino))
		rc = plan_whole(o, i, &f->p);
	plan_end(o->v->firsts, f, rc == 0);
	o->want = 0;
	o->part_fits = false;
	return rc == -EAGAIN || rc == -ENOSPC ? 1 : rc;
}

static int commit(struct first *f, struct inode *i)
{
	int rc = piece_commit(f->o, i, &f->p);

	f->o->want = 0;
	return rc == -EAGAIN || rc == -ENOSPC ? 1 : rc;
}

bool first_sent(struct op *o, struct inode *i, struct first *f)
{
	struct firsts *t = o->v->firsts;
	bool leads;

	op_park(o, i);
	mtx_lock(&t->mtx);
	f->next_sent = f->crew->sent;
	f->crew->sent = f;
	leads = !f->crew->led;
	f->crew->led = true;
	mtx_unlock(&t->mtx);
	return leads;
}

/* Those who come from now on find a leader of their own. */
static struct first *take_sent(struct firsts *t, struct crew *c)
{
	struct first *batch;

	mtx_lock(&t->mtx);
	batch = c->sent;
	c->sent = NULL;
	c->led = false;
	mtx_unlock(&t->mtx);
	return batch;
}

/* All but @own: it may be gone afterwards. */
static void announce(struct firsts *t, struct first *batch, struct first *own)
{
	struct first *told = NULL, *f, *next;

	mtx_lock(&t->mtx);
	t->commits++;
	for (f = batch; f; f = next) {
		next = f->next_sent;
		t->pieces += f->rc == 0;
		f->done = true;
		if (f != own && f->ended) {
			f->next_sent = told;
			told = f;
		}
	}
	cond_broadcast(&own->crew->ended);
	mtx_unlock(&t->mtx);
	for (f = told; f; f = next) {
		next = f->next_sent;
		f->ended(f);
	}
}

void first_lead(struct op *o, struct inode *i, struct first *f)
{
	struct firsts *t = o->v->firsts;
	int rc = op_raise(o, i);
	struct first *batch = take_sent(t, f->crew);

	for (struct first *k = batch; k; k = k->next_sent)
		k->rc = rc ? rc : commit(k, i);
	op_drop(o, i);
	announce(t, batch, f);
}

int first_end(struct volume *v, struct first *f)
{
	mtx_lock(&v->firsts->mtx);
	leave(v->firsts, f);
	mtx_unlock(&v->firsts->mtx);
	piece_end(v, &f->p);
	return f->rc;
}

static void wait_done(struct firsts *t, struct first *f)
{
	mtx_lock(&t->mtx);
	while (!f->done)
		cond_wait(&f->crew->ended, &t->mtx, CLOCK_FOREVER);
	mtx_unlock(&t->mtx);
}

int first_write(struct op *o, struct inode *i, uint64_t off_bytes, size_t len_bytes,
		const uint8_t *buf)
{
	struct first f = {0};
	int rc = first_begin(o, i, &f, off_bytes, len_bytes, buf);

	if (rc)
		return rc;
	f.rc = piece_send(o->v, i, &f.p);
	if (f.rc == 0) {
		if (first_sent(o, i, &f))
			first_lead(o, i, &f);
		else
			wait_done(o->v->firsts, &f);
	}
	return first_end(o->v, &f);
}
