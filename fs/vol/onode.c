/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How often each inode is open on this host. Counted up under the inode's lock, so whoever has it
 * exclusively knows; when the lock is given up while the file is open, the lock layer records an
 * OPEN mark on disk (onodes_is_open), and the last close has to take the mark back. The last close
 * of a file without a name makes the orphan worker look at it.
 *
 * Beside that: who of several that overwrite data of one file side by side sets its time stamps.
 */
#include "vol/vol_impl.h"
#include <stdlib.h>
#include <uthash.h>

#define STAMP_LAG_NS 1000000000ull

struct onode {
	uint64_t ino, generation, opens;
	bool unlinked; /* seen without a name */
	bool marked;   /* an OPEN mark may stand on disk */

	unsigned writers;    /* side by side, on their way */
	bool owed;	     /* the time stamps are older than what was written */
	uint64_t stamped_ns; /* when somebody last went to set them */
	UT_hash_handle hh;
};

struct onodes {
	struct mtx mtx;
	struct onode *table;
};

struct onodes *onodes_new(struct clock *clk)
{
	struct onodes *t = calloc(1, sizeof(*t));

	lunfs_assert(t);
	mtx_init(&t->mtx, clk);
	return t;
}

void onodes_free(struct onodes *t)
{
	struct onode *e, *tmp;

	HASH_ITER (hh, t->table, e, tmp) {
		HASH_DEL(t->table, e);
		free(e);
	}
	mtx_destroy(&t->mtx);
	free(t);
}

static struct onode *find(struct onodes *t, uint64_t ino)
{
	struct onode *e;

	HASH_FIND(hh, t->table, &ino, sizeof(ino), e);
	return e;
}

void onodes_open(struct onodes *t, struct nodeid id)
{
	struct onode *e;

	mtx_lock(&t->mtx);
	e = find(t, id.ino);
	if (!e) {
		e = calloc(1, sizeof(*e));
		lunfs_assert(e);
		e->ino = id.ino;
		e->generation = id.generation;
		HASH_ADD(hh, t->table, ino, sizeof(e->ino), e);
	}
	e->opens++;
	mtx_unlock(&t->mtx);
}

bool onodes_close(struct onodes *t, struct nodeid id)
{
	struct onode *e;
	bool look = false;

	mtx_lock(&t->mtx);
	e = find(t, id.ino);
	if (e && (id.generation == 0 || e->generation == id.generation) && --e->opens == 0) {
		look = e->unlinked || e->marked;
		HASH_DEL(t->table, e);
		free(e);
	}
	mtx_unlock(&t->mtx);
	return look;
}

uint64_t onodes_count(struct onodes *t, uint64_t ino)
{
	struct onode *e;
	uint64_t n;

	mtx_lock(&t->mtx);
	e = find(t, ino);
	n = e ? e->opens : 0;
	mtx_unlock(&t->mtx);
	return n;
}

bool onodes_is_open(struct onodes *t, uint64_t ino)
{
	struct onode *e;

	mtx_lock(&t->mtx);
	e = find(t, ino);
	if (e)
		e->marked = true;
	mtx_unlock(&t->mtx);
	return e != NULL;
}

bool onodes_unlinked(struct onodes *t, uint64_t ino)
{
	struct onode *e;

	mtx_lock(&t->mtx);
	e = find(t, ino);
	if (e)
		e->unlinked = true;
	mtx_unlock(&t->mtx);
	return e != NULL;
}

void onodes_write_begin(struct onodes *t, uint64_t ino)
{
	struct onode *e;

	mtx_lock(&t->mtx);
	e = find(t, ino);
	if (e)
		e->writers++;
	mtx_unlock(&t->mtx);
}

void onodes_write_cancel(struct onodes *t, uint64_t ino)
{
	struct onode *e;

	mtx_lock(&t->mtx);
	e = find(t, ino);
	if (e)
		e->writers -= e->writers > 0;
	mtx_unlock(&t->mtx);
}

bool onodes_write_end(struct onodes *t, uint64_t ino, bool stale)
{
	struct clock *clk = t->mtx.clk;
	bool mine = stale;
	struct onode *e;

	mtx_lock(&t->mtx);
	e = find(t, ino);
	if (e) {
		e->writers -= e->writers > 0; /* a file may be opened anew meanwhile */
		e->owed |= stale;
		mine = e->owed &&
		       (e->writers == 0 || clock_now_ns(clk) - e->stamped_ns >= STAMP_LAG_NS);
	}
	if (e && mine) {
		e->owed = false;
		e->stamped_ns = clock_now_ns(clk);
	}
	mtx_unlock(&t->mtx);
	return mine;
}
