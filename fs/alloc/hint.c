// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What this host believes about groups and chunks whose locks it does not hold: read off their
 * headers without the lock, as last checkpointed. A hint decides where to look first and whom to
 * ask, never what is allocated. One thing in here is certain: a chunk once seen stays a chunk
 * for as long as anybody has the volume mounted.
 */
#include "alloc/alloc_impl.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct ghint *hint_at(struct alloc *a, uint64_t group)
{
	uint64_t n = a->env.geo->groups;

	if (group >= n)
		return NULL;
	if (n > a->n_hint) { /* the volume has grown */
		struct ghint *h = reallocarray(a->hint, (size_t)n, sizeof(*h));

		if (!h)
			return NULL;
		memset(h + a->n_hint, 0, (size_t)(n - a->n_hint) * sizeof(*h));
		a->hint = h;
		a->n_hint = n;
	}
	return &a->hint[group];
}

/* First entry whose window is not below @window. */
static unsigned chunk_pos(const struct ghint *h, unsigned window)
{
	unsigned lo = 0, hi = h->n_chunk;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (h->chunk[mid].window < window)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct chunk_hint *chunk_entry(struct ghint *h, unsigned window)
{
	unsigned i = chunk_pos(h, window);

	return i < h->n_chunk && h->chunk[i].window == window ? &h->chunk[i] : NULL;
}

static void add_entry(struct ghint *h, unsigned window, unsigned index)
{
	unsigned i = chunk_pos(h, window);
	struct chunk_hint *c;

	if (i < h->n_chunk && h->chunk[i].window == window)
		return;
	c = reallocarray(h->chunk, h->n_chunk + 1u, sizeof(*c));
	if (!c)
		return; /* found again at need */
	h->chunk = c;
	memmove(c + i + 1, c + i, (h->n_chunk - i) * sizeof(*c));
	c[i] = (struct chunk_hint){
	    .window = (uint16_t)window, .index = (uint8_t)index, .free = CHUNK_FREE_UNKNOWN};
	h->n_chunk++;
}

void hint_from_header(struct alloc *a, uint64_t group, const struct group_info *gi)
{
	struct ghint *h;

	mtx_lock(&a->mtx);
	h = hint_at(a, group);
	if (h) {
		h->free_blks = gi->free_blks;
		h->seen_ns = now_ns(a);
		h->flags &= ~HINT_DAMAGED;
		for (unsigned w = 0; w < LUNFS_GROUP_WINDOWS; w++)
			if (gi->chunk[w])
				add_entry(h, w, gi->chunk[w] - 1u);
	}
	mtx_unlock(&a->mtx);
}

/* The entry of the chunk whose window covers @blk; alloc.mtx held. */
static struct chunk_hint *entry_of(struct alloc *a, uint64_t blk, uint64_t *group)
{
	const struct geo *g = a->env.geo;
	struct ghint *h;

	*group = geo_group_of(g, blk);
	h = hint_at(a, *group);
	if (!h)
		return NULL;
	return chunk_entry(h, (unsigned)((blk - geo_group_blk(g, *group)) / window_blks(g)));
}

void hint_add_chunk(struct alloc *a, uint64_t chunk_addr)
{
	const struct geo *g = a->env.geo;
	uint64_t group = geo_group_of(g, chunk_addr);
	uint64_t rel = chunk_addr - geo_group_blk(g, group);
	struct ghint *h;

	mtx_lock(&a->mtx);
	h = hint_at(a, group);
	if (h)
		add_entry(h, (unsigned)(rel / window_blks(g)),
			  (unsigned)(rel % window_blks(g) / g->cell_blks));
	mtx_unlock(&a->mtx);
}

void hint_chunk_free(struct alloc *a, uint64_t chunk_addr, unsigned nfree)
{
	struct chunk_hint *c;
	uint64_t group;

	mtx_lock(&a->mtx);
	c = entry_of(a, chunk_addr, &group);
	if (c) {
		a->lost_cells -= c->free == CHUNK_FREE_UNKNOWN ? 0u : c->free;
		c->free = (uint8_t)(nfree < 254 || nfree == CHUNK_FREE_UNKNOWN ? nfree : 254);
		a->lost_cells += c->free == CHUNK_FREE_UNKNOWN ? 0u : c->free;
	}
	mtx_unlock(&a->mtx);
}

void hint_chunk_busy(struct alloc *a, uint64_t chunk_addr, uint32_t ms)
{
	struct chunk_hint *c;
	uint64_t group;

	mtx_lock(&a->mtx);
	c = entry_of(a, chunk_addr, &group);
	if (c)
		c->not_before_ns = now_ns(a) + ms * MS_NS;
	mtx_unlock(&a->mtx);
}

int hint_chunk_of(struct alloc *a, uint64_t cell, uint64_t *chunk_addr)
{
	const struct geo *g = a->env.geo;
	struct chunk_hint *c;
	uint64_t group;
	int rc = -ENOENT;

	mtx_lock(&a->mtx);
	c = entry_of(a, cell, &group);
	if (c) {
		*chunk_addr = geo_group_blk(g, group) + (uint64_t)c->window * window_blks(g) +
			      (uint64_t)c->index * g->cell_blks;
		rc = 0;
	}
	mtx_unlock(&a->mtx);
	return rc;
}

struct stale_walk {
	uint64_t *chunk;
	unsigned n, max;
	uint64_t waiting;
};

/* alloc.mtx held. */
static void stale_of_group(struct alloc *a, uint64_t group, struct stale_walk *w)
{
	const struct geo *g = a->env.geo;
	struct ghint *h = hint_at(a, group);
	uint64_t now = now_ns(a);

	for (unsigned i = 0; h && i < h->n_chunk && w->n < w->max; i++) {
		const struct chunk_hint *c = &h->chunk[i];
		uint64_t addr = geo_group_blk(g, group) + (uint64_t)c->window * window_blks(g) +
				(uint64_t)c->index * g->cell_blks;

		if (c->free == 0 && now < c->not_before_ns)
			continue;
		if (aobj_known_locked(a, addr))
			continue;
		if (now < c->not_before_ns && lock_held(a->locks, addr) != LOCK_EX)
			w->waiting = addr;
		else
			w->chunk[w->n++] = addr;
	}
}

unsigned hint_stale_chunks(struct alloc *a, bool all, uint64_t from, uint64_t *chunk, unsigned max,
			   uint64_t *waiting)
{
	struct stale_walk w = {.chunk = chunk, .max = max};

	mtx_lock(&a->mtx);
	for (struct group *g = a->groups; g && w.n < max; g = g->next)
		stale_of_group(a, g->no, &w);
	for (uint64_t i = 0; all && i < a->watermark && w.n < max; i++) {
		uint64_t g = (from + i) % a->watermark;
		struct ghint *h = hint_at(a, g);

		if (h && !(h->flags & HINT_HELD))
			stale_of_group(a, g, &w);
	}
	mtx_unlock(&a->mtx);
	if (waiting)
		*waiting = w.waiting;
	return w.n;
}

/* ---- reading headers without their locks
 * ---------------------------------------------------------- */

struct refresh {
	struct alloc *a;
	unsigned n;
	uint64_t group[HINT_BATCH];
	struct dev_io io[HINT_BATCH];
	uint8_t *buf;
};

/* Does the lock record say that another live host holds it exclusively? By the cached host table.
 */
static bool held_by_other(struct alloc *a, const void *cell, uint64_t addr)
{
	struct lunfs_lock_rec rec;
	uint64_t owner;

	if (lock_rec_decode(a->env.geo, cell, addr, &rec) < 0)
		return false;
	owner = le64_get(rec.owner);
	if (le16_get(rec.mode) != LUNFS_LOCK_EXCL || owner == host_owner(a->host))
		return false;
	return host_live_owner(a->host, LUNFS_OWNER_SLOT(owner)) == owner;
}

static void note_header(struct alloc *a, uint64_t group, const uint8_t *cell)
{
	const struct geo *g = a->env.geo;
	struct group_info gi;
	struct ghint *h;
	bool busy = held_by_other(a, cell, geo_group_header(g, group));
	uint64_t now = now_ns(a);

	/* Torn by a write in progress, or damaged: what was known before stays. */
	if (group_decode(g, cell + g->payload_off, group, &gi) == 0)
		hint_from_header(a, group, &gi);
	mtx_lock(&a->mtx);
	h = hint_at(a, group);
	if (h) {
		h->seen_ns = now;
		if (busy)
			h->busy_until_ns = now + BUSY_MS * MS_NS;
	}
	mtx_unlock(&a->mtx);
}

static void refresh_run(struct refresh *r)
{
	struct alloc *a = r->a;
	uint32_t len = geo_cell_bytes(a->env.geo);

	if (r->n == 0)
		return;
	for (unsigned i = 0; i < r->n; i++)
		r->io[i] = (struct dev_io){
		    .op = DEV_READ,
		    .off_bytes = geo_blk_off(geo_group_header(a->env.geo, r->group[i])),
		    .len_bytes = len,
		    .buf = r->buf + (size_t)i * len,
		};
	dev_batch(a->env.dev, r->io, r->n);
	for (unsigned i = 0; i < r->n; i++)
		if (r->io[i].result == 0)
			note_header(a, r->group[i], r->buf + (size_t)i * len);
	r->n = 0;
}

static bool hint_is_old(struct alloc *a, uint64_t group, uint32_t age_ms)
{
	struct ghint *h;
	bool old;

	mtx_lock(&a->mtx);
	h = hint_at(a, group);
	old = h && !(h->flags & HINT_HELD) &&
	      (h->seen_ns == 0 || now_ns(a) - h->seen_ns >= age_ms * MS_NS);
	mtx_unlock(&a->mtx);
	return old;
}

void hints_refresh(struct alloc *a, uint64_t from, uint64_t n, uint32_t age_ms)
{
	struct refresh *r = NULL;

	for (uint64_t g = from; g < from + n; g++) {
		if (!hint_is_old(a, g, age_ms))
			continue;
		if (!r) {
			r = calloc(1, sizeof(*r));
			if (!r)
				return;
			r->a = a;
			r->buf = dev_buf_alloc((size_t)HINT_BATCH * geo_cell_bytes(a->env.geo));
		}
		r->group[r->n++] = g;
		if (r->n == HINT_BATCH)
			refresh_run(r);
	}
	if (!r)
		return;
	refresh_run(r);
	free(r->buf);
	free(r);
}
