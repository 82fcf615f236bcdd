// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which group? The order: where the caller would like it, groups this host holds, roomy ones that
 * are to be had, a fresh one (hosts rather keep apart than share), others that are to be had. Only
 * when all that fails is another live host's group waited for, and by the caller, who holds nothing
 * then.
 *
 * Why it ends: a group is asked for again only FULL_MS after it was seen under its lock without
 * room, and every group is seen or skipped once in each search.
 */
#include "alloc/alloc_impl.h"
#include "base/log.h"
#include <errno.h>

/* Note what came of a try, so that it is not repeated at once. */
static void note(struct alloc *a, struct group_search *s, uint64_t group, int rc)
{
	struct ghint *h;
	uint64_t now = now_ns(a);

	mtx_lock(&a->mtx);
	h = hint_at(a, group);
	if (h && rc == -EAGAIN)
		h->busy_until_ns = now + BUSY_MS * MS_NS;
	else if (h && rc == -EUCLEAN)
		h->flags |= HINT_DAMAGED;
	else if (h && rc == -ENOSPC)
		h->full_until_ns[s->kind] = now + FULL_MS * MS_NS;
	mtx_unlock(&a->mtx);
}

/* Somebody else's group that shows room is one to ask for; the roomiest is best. */
static void note_want(struct alloc *a, struct group_search *s, uint64_t group)
{
	struct ghint *h;

	mtx_lock(&a->mtx);
	h = hint_at(a, group);
	if (h && h->free_blks >= s->min_blks && h->free_blks > s->want_free &&
	    now_ns(a) >= h->full_until_ns[s->kind]) {
		s->want = geo_group_header(a->env.geo, group);
		s->want_free = h->free_blks;
	}
	mtx_unlock(&a->mtx);
}

/* 0: found. -ENOSPC: go on. Else an error. */
static int try_group(struct alloc *a, struct group_search *s, uint64_t group)
{
	struct aobj *o;
	int rc;

	rc = aobj_pin(a, AOBJ_GROUP, geo_group_header(a->env.geo, group), 0, &o);
	if (rc < 0) {
		note(a, s, group, rc);
		if (rc == -EAGAIN)
			note_want(a, s, group);
		return rc == -EAGAIN || rc == -EUCLEAN ? -ENOSPC : rc;
	}
	rc = s->fn(group_of(o), s->arg);
	if (rc < 0) {
		aobj_unpin(o);
		note(a, s, group, rc);
		return rc;
	}
	s->found = group_of(o);
	mtx_lock(&a->mtx);
	a->last_group = group;
	mtx_unlock(&a->mtx);
	return 0;
}

static bool damaged(struct alloc *a, uint64_t group)
{
	struct ghint *h;
	bool bad;

	mtx_lock(&a->mtx);
	h = hint_at(a, group);
	bad = !h || (h->flags & HINT_DAMAGED);
	mtx_unlock(&a->mtx);
	return bad;
}

/* The caller may have waited for it meanwhile. */
static bool cached_here(struct alloc *a, uint64_t group)
{
	return lock_held(a->locks, geo_group_header(a->env.geo, group)) == LOCK_EX;
}

/* The goal's own group, unless another host sits on it. */
static int try_goal(struct alloc *a, struct group_search *s)
{
	const struct geo *geo = a->env.geo;
	struct ghint *h;
	uint64_t group;
	bool skip;

	if (s->goal == 0 || !blk_range_ok(geo, s->goal, 1))
		return -ENOSPC;
	group = geo_group_of(geo, s->goal);
	mtx_lock(&a->mtx);
	h = hint_at(a, group);
	skip = !h || (h->flags & HINT_DAMAGED) ||
	       (!(h->flags & HINT_HELD) && now_ns(a) < h->busy_until_ns);
	mtx_unlock(&a->mtx);
	return skip && !cached_here(a, group) ? -ENOSPC : try_group(a, s, group);
}

#define HELD_BATCH 64u

/* Up to HELD_BATCH held groups with room, the one used last first. */
static unsigned held_with_room(struct alloc *a, struct group_search *s, uint64_t *group)
{
	unsigned n = 0;

	mtx_lock(&a->mtx);
	for (struct group *g = a->groups; g && n < HELD_BATCH; g = g->next) {
		if (atomic_load(&g->avail) < s->min_blks)
			continue;
		group[n++] = g->no;
		if (g->no == a->last_group) {
			group[n - 1] = group[0];
			group[0] = g->no;
		}
	}
	mtx_unlock(&a->mtx);
	return n;
}

static int try_held(struct alloc *a, struct group_search *s)
{
	uint64_t group[HELD_BATCH];
	unsigned n = held_with_room(a, s, group);

	for (unsigned i = 0; i < n; i++) {
		int rc = damaged(a, group[i]) ? -ENOSPC : try_group(a, s, group[i]);

		if (rc != -ENOSPC)
			return rc;
	}
	return -ENOSPC;
}

/* Is a group that is not held here worth a try? Notes it as one to ask for if another has it. */
static bool worth_trying(struct alloc *a, struct group_search *s, uint64_t group, uint32_t min_blks)
{
	uint64_t now = now_ns(a);
	struct ghint *h;
	bool room, busy;

	mtx_lock(&a->mtx);
	h = hint_at(a, group);
	room = h && !(h->flags & (HINT_HELD | HINT_DAMAGED)) && h->free_blks >= min_blks &&
	       now >= h->full_until_ns[s->kind];
	busy = room && now < h->busy_until_ns;
	mtx_unlock(&a->mtx);
	busy = busy && !cached_here(a, group);
	if (busy)
		note_want(a, s, group);
	return room && !busy;
}

uint64_t watermark_known(struct alloc *a)
{
	uint64_t marked;

	mtx_lock(&a->mtx);
	marked = a->watermark;
	mtx_unlock(&a->mtx);
	return marked;
}

uint64_t home_group(struct alloc *a, uint64_t marked)
{
	return host_slot(a->host) * marked / geo_all_slots(a->env.geo) % marked;
}

/* Initialised groups that this host does not hold, from a place of its own on. */
static int try_others(struct alloc *a, struct group_search *s, uint32_t min_blks)
{
	uint64_t marked = watermark_known(a), start;

	if (marked == 0)
		return -ENOSPC;
	start = home_group(a, marked);
	for (uint64_t i = 0; i < marked; i++) {
		uint64_t group = (start + i) % marked;
		int rc;

		if (i == 0 || group % HINT_BATCH == 0 || group == 0)
			hints_refresh(a, group,
				      HINT_BATCH < marked - group ? HINT_BATCH : marked - group,
				      HINT_AGE_MS);
		if (!worth_trying(a, s, group, min_blks))
			continue;
		rc = try_group(a, s, group);
		if (rc != -ENOSPC)
			return rc;
	}
	return -ENOSPC;
}

static int try_fresh(struct alloc *a, struct group_search *s)
{
	uint64_t group, want = 0;

	for (unsigned i = 0; i < SEARCH_ROUNDS; i++) {
		int rc = watermark_advance(a, &group, &want);

		if (rc == -EAGAIN) {
			s->want = want;
			s->want_free = UINT32_MAX; /* rather a group of our own than a shared one */
		}
		if (rc < 0)
			return rc == -EAGAIN ? -ENOSPC : rc;
		rc = try_group(a, s, group);
		if (rc != -ENOSPC)
			return rc;
	}
	return -ENOSPC;
}

int group_search(struct alloc *a, struct group_search *s)
{
	uint32_t roomy = a->env.geo->group_blks / 8;
	int rc;

	s->found = NULL;
	s->want = 0;
	s->want_free = 0;
	rc = try_goal(a, s);
	if (rc == -ENOSPC)
		rc = try_held(a, s);
	if (rc == -ENOSPC)
		rc = watermark_refresh(a, HINT_AGE_MS);
	else
		return rc;
	if (rc < 0)
		return rc;
	rc = try_others(a, s, s->min_blks > roomy ? s->min_blks : roomy);
	if (rc == -ENOSPC)
		rc = try_fresh(a, s);
	if (rc == -ENOSPC)
		rc = try_others(a, s, s->min_blks);
	if (rc != -ENOSPC)
		return rc;
	return s->want ? -EAGAIN : -ENOSPC;
}

int wants_bound(struct alloc *a, int rc)
{
	if (rc == 0)
		atomic_store(&a->wants, 0);
	else if (rc == -EAGAIN && atomic_fetch_add(&a->wants, 1) >= WANTS_MAX) {
		atomic_store(&a->wants, 0);
		return -ENOSPC;
	}
	return rc;
}
