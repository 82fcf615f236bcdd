// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The allocator as a whole: made, started, stopped, and what statfs says. Groups above the
 * watermark count as wholly free without being looked at, so a volume's size costs nothing.
 */
#include "alloc/alloc_impl.h"
#include <errno.h>
#include <stdlib.h>

#define STATFS_HEADERS 1024u /* re-read in one call at most; the first reads all */

int alloc_new(const struct env *env, struct host *host, struct locks *locks, struct txns *txns,
	      struct alloc **out)
{
	struct alloc *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->env = *env;
	a->host = host;
	host_io_init(&a->io, env, host, txns_halted(txns));
	a->locks = locks;
	a->txns = txns;
	mtx_init(&a->mtx, env->clk);
	cond_init(&a->cond, env->clk);
	a->stale_left = STALE_FIRST;
	*out = a;
	return 0;
}

int alloc_start(struct alloc *a)
{
	return watermark_refresh(a, 0);
}

void alloc_stop(struct alloc *a)
{
	aobj_drop_all(a);
	mtx_lock(&a->mtx);
	for (uint64_t g = 0; g < a->n_hint; g++)
		free(a->hint[g].chunk);
	free(a->hint);
	a->hint = NULL;
	a->n_hint = 0;
	a->watermark_ns = 0;
	mtx_unlock(&a->mtx);
}

void alloc_free(struct alloc *a)
{
	alloc_stop(a);
	cond_destroy(&a->cond);
	mtx_destroy(&a->mtx);
	free(a);
}

/* Bring hints up to date: all at first, then some at a time, in turn. */
static void refresh_some(struct alloc *a)
{
	uint64_t marked, from, n;

	mtx_lock(&a->mtx);
	marked = a->watermark;
	from = a->statfs_next < marked ? a->statfs_next : 0;
	n = marked - from;
	if (a->statfs_next != 0 && n > STATFS_HEADERS)
		n = STATFS_HEADERS;
	a->statfs_next = from + n;
	mtx_unlock(&a->mtx);
	hints_refresh(a, from, n, HINT_AGE_MS);
}

/*
 * alloc.mtx held. Groups whose numbers are in memory, by their objects. One that another host
 * began lies above the watermark as this host last read it, and was counted as fresh.
 */
static void count_held(struct alloc *a, struct space *s)
{
	const struct geo *geo = a->env.geo;

	for (struct group *g = a->groups; g; g = g->next) {
		s->free_blks += atomic_load(&g->free_blks);
		if (g->no >= a->watermark)
			s->free_blks -= geo_group_len(geo, g->no) - geo_group_meta_blks(geo);
	}
}

/* alloc.mtx held. */
static void count_hints(struct alloc *a, struct space *s)
{
	for (uint64_t g = 0; g < a->watermark; g++) {
		struct ghint *h = hint_at(a, g);

		if (!h)
			break;
		if (!(h->flags & HINT_HELD))
			s->free_blks += h->free_blks;
		s->used_cells += (uint64_t)h->n_chunk * LUNFS_CHUNK_CELLS;
		for (unsigned i = 0; i < h->n_chunk; i++)
			if (h->chunk[i].free != CHUNK_FREE_UNKNOWN)
				s->free_cells += h->chunk[i].free;
	}
}

static uint64_t fresh_blks(const struct geo *g, uint64_t from)
{
	uint64_t n = g->groups - from;

	if (n == 0)
		return 0;
	return (n - 1) * (g->group_blks - geo_group_meta_blks(g)) +
	       geo_group_len(g, g->groups - 1) - geo_group_meta_blks(g);
}

int alloc_statfs(struct alloc *a, struct space *out)
{
	const struct geo *g = a->env.geo;
	struct space s = {0};
	uint64_t reserve = g->groups * reserve_blks(g);
	int rc = watermark_refresh(a, HINT_AGE_MS);

	if (rc < 0)
		return rc;
	refresh_some(a);
	s.total_blks = fresh_blks(g, 0);
	mtx_lock(&a->mtx);
	s.free_blks = fresh_blks(g, a->watermark);
	count_held(a, &s);
	count_hints(a, &s);
	mtx_unlock(&a->mtx);
	s.free_cells += atomic_load(&a->free_cells);
	s.used_cells -= s.free_cells < s.used_cells ? s.free_cells : s.used_cells;
	s.avail_blks = s.free_blks > reserve ? s.free_blks - reserve : 0;
	*out = s;
	return 0;
}
