// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Free space given back to the device.
 *
 * Why no discard meets blocks that are in use: the group's lock is held exclusively and pinned, so
 * no other host allocates there, and one that did and died has been fenced and replayed. What is
 * discarded is free in the map, where blocks freed by a transaction that is not durable yet are
 * not; it is held there as if reserved until the discard has ended, so this host does not hand it
 * out either. A discard whose fate stays unknown is the caller's to answer for: the volume stops
 * before the lock can move. A crash changes nothing, free is free.
 *
 * Little is held at a time, and for a short time: other hosts want the lock, and this one the
 * space.
 */
#include "alloc/alloc_impl.h"
#include "base/bitmap.h"
#include <errno.h>

#define STEP_MIN_BLKS 256u   /* 1 MiB */
#define STEP_MAX_BLKS 16384u /* 64 MiB */
#define STEP_FAST_NS (5 * MS_NS)
#define STEP_SLOW_NS (20 * MS_NS)
#define SETTLE_POLLS 20u

struct span { /* blocks of the group */
	uint32_t first, end;
};

void alloc_trim_init(struct alloc_trim *t, uint64_t blk, uint64_t end)
{
	*t = (struct alloc_trim){
	    .blk = blk, .end = end, .step_blks = STEP_MIN_BLKS, .group = UINT64_MAX};
}

static bool frees_pending(struct alloc *a)
{
	bool any = false;

	mtx_lock(&a->mtx);
	for (struct group *g = a->groups; g && !any; g = g->next)
		any = atomic_load(&g->avail) < atomic_load(&g->free_blks);
	mtx_unlock(&a->mtx);
	return any;
}

int alloc_settle_frees(struct alloc *a)
{
	int rc = txn_commit_all(a->txns);

	for (unsigned i = 0; rc == 0 && i < SETTLE_POLLS && frees_pending(a); i++)
		clock_sleep_ns(a->env.clk, MS_NS);
	return rc;
}

/*
 * The next piece of free blocks in [from, to) is held; none: first == end == to. @run is the free
 * run that the last piece was of: what is left of it is never too short.
 */
static struct span hold_next(struct group *g, const struct alloc_trim *t, struct span *run,
			     uint32_t to)
{
	struct span s = {run->first, to};
	uint32_t keep = reserve_blks(g->o.a->env.geo), avail, most;

	mtx_lock(&g->o.mtx);
	for (;; s.first = s.end) {
		s.first = (uint32_t)bit_find(g->map, s.first, to, false);
		s.end = (uint32_t)bit_find(g->map, s.first, to, true);
		if (s.first == to || s.end - s.first >= t->min_blks || s.end <= run->end)
			break;
	}
	*run = s;
	/* Something is left of what they may have for those who write meanwhile. */
	avail = atomic_load(&g->avail);
	most = (avail > keep ? avail - keep : avail) / 2;
	if (most == 0)
		most = 1;
	if (most > t->step_blks)
		most = t->step_blks;
	if (s.end - s.first > most)
		s.end = s.first + most;
	if (s.first < s.end)
		group_hold(g, s.first, s.end - s.first);
	mtx_unlock(&g->o.mtx);
	return s;
}

static void adapt(struct alloc_trim *t, uint64_t took_ns)
{
	if (took_ns < STEP_FAST_NS && t->step_blks < STEP_MAX_BLKS)
		t->step_blks *= 2;
	else if (took_ns > STEP_SLOW_NS && t->step_blks > STEP_MIN_BLKS)
		t->step_blks /= 2;
}

static int discard_held(struct group *g, struct alloc_trim *t, struct span s)
{
	struct alloc *a = g->o.a;
	uint64_t begun = now_ns(a);
	int rc = t->discard(t->ctx, geo_blk_off(g->first_blk + s.first),
			    (uint64_t)(s.end - s.first) * LUNFS_BLOCK_BYTES);

	if (rc == -ESHUTDOWN)
		return rc;
	mtx_lock(&g->o.mtx);
	group_release(g, s.first, s.end - s.first);
	mtx_unlock(&g->o.mtx);
	adapt(t, now_ns(a) - begun);
	if (rc == 0)
		t->done_blks += s.end - s.first;
	return rc;
}

/* Until the range ends in this group, or somebody else wants it. */
static int trim_group(struct group *g, struct alloc_trim *t)
{
	uint64_t end = g->first_blk + g->nblks;
	uint32_t to = t->end < end ? (uint32_t)(t->end - g->first_blk) : g->nblks;
	struct span run = {(uint32_t)(t->blk - g->first_blk), 0};
	int rc;

	do {
		struct span s = hold_next(g, t, &run, to);

		if (s.first == to) {
			t->blk = g->first_blk + to;
			return 0;
		}
		rc = discard_held(g, t, s);
		if (rc)
			return rc;
		run.first = s.end;
		t->blk = g->first_blk + s.end;
	} while (t->blk < g->first_blk + to && !lock_wanted(g->o.a->locks, g->o.addr));
	return 0;
}

int alloc_trim(struct alloc *a, struct alloc_trim *t)
{
	const struct geo *geo = a->env.geo;
	uint64_t first = geo_group_blk(geo, 0), header;
	struct aobj *o;
	int rc;

	t->want = 0;
	if (t->blk < first)
		t->blk = first;
	rc = watermark_refresh(a, HINT_AGE_MS);
	if (rc)
		return rc;
	if (t->blk >= t->end || geo_group_of(geo, t->blk) >= watermark_known(a)) {
		t->blk = t->end; /* fresh groups: nothing was ever written there */
		return 0;
	}
	header = geo_group_header(geo, geo_group_of(geo, t->blk));
	if (t->group != geo_group_of(geo, t->blk)) {
		t->group = geo_group_of(geo, t->blk);
		t->ours = lock_held(a->locks, header) == LOCK_EX;
	}
	rc = aobj_pin(a, AOBJ_GROUP, header, 0, &o);
	if (rc == -EAGAIN)
		t->want = header;
	if (rc)
		return rc;
	rc = trim_group(group_of(o), t);
	aobj_unpin(o);
	/* Whoever trims is not to have all groups for itself afterwards. */
	if (!t->ours && (rc || t->blk >= t->end || geo_group_of(geo, t->blk) != t->group))
		lock_drop(a->locks, header);
	return rc;
}
