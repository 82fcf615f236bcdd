// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Metadata cells reserved, taken and freed.
 *
 * The order of preference: free cells of chunks held here (for inodes those whose own lock is ours
 * too: they cost no I/O at all); a few stale ones just after the mount, so that short mounts do not
 * each convert a chunk; a fresh chunk; stale cells of all chunks. -ENOSPC comes last.
 */
#include "alloc/alloc_impl.h"
#include "base/bitmap.h"
#include "base/log.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct cell_want { /* one cell_reserve */
	struct alloc *a;
	unsigned n;
	uint64_t goal;
	unsigned flags;
	struct cell_res *res;
	unsigned tries_left; /* locks of cells that may still be tried */
	unsigned max_stale;  /* cells that may be taken by trying their lock */
	uint64_t want;	     /* somebody else's lock that stood in the way */
	bool buried;	     /* free cells were left that wait for their FREE image */
};

static uint64_t addr_of(const struct chunk *c, unsigned i)
{
	return c->first_blk + (uint64_t)i * c->o.a->env.geo->cell_blks;
}

/* ---- versions
 * ----------------------------------------------------------------------------------------- */

/* Every image of a cell in a log stands in a block of its own: so many may not be on disk yet. */
static uint64_t version_margin(const struct alloc *a)
{
	return a->env.geo->journal_blks;
}

#define DAMAGED_MARGIN (1ull << 20)

/* What a reused cell's next payload must go above, from the cell itself. */
static int version_on_disk(struct alloc *a, uint64_t addr, uint64_t *version)
{
	const struct geo *g = a->env.geo;
	uint32_t len = geo_cell_bytes(g);
	uint8_t *buf = dev_buf_alloc(len);
	const struct lunfs_blk_hdr *h = (const struct lunfs_blk_hdr *)(buf + g->payload_off);
	struct lunfs_lock_rec rec;
	uint64_t v = 0;
	int rc;

	rc = read_unlocked(a, geo_blk_off(addr), len, buf);
	if (rc == 0) {
		if (lock_rec_decode(g, buf, addr, &rec) == 0)
			v = le64_get(rec.payload_version);
		if (blk_check(g, h, le16_get(h->type), addr) < 0)
			v += DAMAGED_MARGIN;
		else if (le64_get(h->version) > v)
			v = le64_get(h->version);
		*version = v + version_margin(a);
	}
	free(buf);
	return rc;
}

/* o.mtx held. */
static void remember_version(struct chunk *c, unsigned i, uint64_t version)
{
	if (!c->ver)
		c->ver = calloc(LUNFS_CHUNK_CELLS, sizeof(*c->ver));
	if (c->ver && c->ver[i] < version)
		c->ver[i] = version;
}

/* Read once: nobody else writes to a free cell of a chunk that is held here. */
static int cell_version(struct chunk *c, unsigned i, uint64_t *version)
{
	bool fresh;
	uint64_t v;
	int rc;

	mtx_lock(&c->o.mtx);
	fresh = bit_get(c->fresh, i);
	v = c->ver ? c->ver[i] : 0;
	mtx_unlock(&c->o.mtx);
	if (fresh || v) {
		*version = fresh ? 0 : v;
		return 0;
	}
	rc = version_on_disk(c->o.a, addr_of(c, i), version);
	if (rc == 0) {
		mtx_lock(&c->o.mtx);
		remember_version(c, i, *version);
		mtx_unlock(&c->o.mtx);
	}
	return rc;
}

/* ---- reserving
 * ------------------------------------------------------------------------------------------ */

static bool is_ours(struct alloc *a, uint64_t addr)
{
	return lock_held(a->locks, addr) == LOCK_EX;
}

/* Is the reserve respected if one more cell is taken? */
static bool may_take(const struct cell_want *w)
{
	return (w->flags & ALLOC_RESERVE_OK) || atomic_load(&w->a->free_cells) > RESERVE_CELLS;
}

/*
 * May cell @i serve @w? Where its lock is needed that must be ours, but for @stale. Where it is
 * not, another guard than the cell's own will cover it, which an inode that was there must not
 * outlive.
 */
static bool suits(struct cell_want *w, const struct chunk *c, unsigned i, bool stale)
{
	bool buried;

	if (w->flags & ALLOC_NEED_LOCK)
		return stale || is_ours(w->a, addr_of(c, i));
	buried = txn_tomb_pending(w->a->txns, addr_of(c, i));
	w->buried |= buried;
	return !buried;
}

/* Reserve a free cell of @c that is not in @tried and suits. Its index, or -1. */
static int hold_cell(struct cell_want *w, struct chunk *c, uint8_t tried[32], bool stale)
{
	bool need = w->flags & ALLOC_NEED_LOCK;
	int found = -1;

	mtx_lock(&c->o.mtx);
	for (unsigned k = 0; k < LUNFS_CHUNK_CELLS && found < 0 && may_take(w); k++) {
		unsigned i = (c->cursor + k) % LUNFS_CHUNK_CELLS;

		if (bit_get(c->map, i) || bit_get(tried, i))
			continue;
		if (suits(w, c, i, stale))
			found = (int)i;
		else
			bit_set(tried, i);
	}
	if (found >= 0) {
		bit_set(c->map, (unsigned)found);
		bit_set(tried, (unsigned)found);
		c->cursor = (unsigned)found + 1;
		chunk_count(c, -1);
	} else if (need && !stale && may_take(w)) {
		atomic_store(&c->none_ours, true);
	}
	mtx_unlock(&c->o.mtx);
	return found;
}

/* @good: it could have been taken, and is to be the next again; most reservations are too large. */
static void let_go(struct chunk *c, unsigned i, bool good)
{
	mtx_lock(&c->o.mtx);
	bit_clear(c->map, i);
	if (good && i < c->cursor)
		c->cursor = i;
	if (atomic_load(&c->none_ours) && is_ours(c->o.a, addr_of(c, i)))
		atomic_store(&c->none_ours, false);
	chunk_count(c, 1);
	mtx_unlock(&c->o.mtx);
}

/* Is the cell's own lock to be had? Leaves it cached. */
static int try_cell_lock(struct cell_want *w, uint64_t addr)
{
	struct lock *l;
	int rc;

	if (!(w->flags & ALLOC_NEED_LOCK) || is_ours(w->a, addr))
		return 0;
	if (w->tries_left == 0 || w->max_stale == 0)
		return -EAGAIN;
	w->tries_left--;
	rc = lock_pin(w->a->locks, addr, LOCK_EX, LOCAL_SHARED, LOCK_TRY, NULL, &l);
	if (rc == -EAGAIN)
		w->want = addr;
	if (rc < 0)
		return rc;
	lock_unpin(w->a->locks, l, LOCAL_SHARED);
	w->max_stale--;
	return 0;
}

static int accept_cell(struct cell_want *w, struct chunk *c, unsigned i)
{
	struct cell_res *res = w->res;
	uint64_t addr = addr_of(c, i), version;
	int rc;

	rc = try_cell_lock(w, addr);
	if (rc == 0)
		rc = cell_version(c, i, &version);
	if (rc < 0) {
		let_go(c, i, false);
		return rc;
	}
	res->cell[res->n] = (struct cell){addr, version, is_ours(w->a, addr)};
	res->chunk[res->n++] = c;
	return 0;
}

/* Reserve cells of pinned @c; keeps the pin if there were any, else gives it back. */
static int take_from(struct cell_want *w, struct chunk *c, bool stale)
{
	uint8_t tried[32] = {0};
	unsigned before = w->res->n;
	int rc = 0;

	while (w->res->n < w->n) {
		int i = hold_cell(w, c, tried, stale);

		if (i < 0)
			break;
		rc = accept_cell(w, c, (unsigned)i);
		if (rc == -EAGAIN && w->tries_left > 0 && w->max_stale > 0)
			rc = 0;
		if (rc < 0)
			break;
	}
	if (w->res->n == before)
		aobj_unpin(&c->o);
	return rc == -EAGAIN ? 0 : rc;
}

static bool in_res(const struct cell_res *res, const struct chunk *c)
{
	return res->n > 0 && res->chunk[res->n - 1] == c;
}

/* Try one chunk. @flags: LOCK_CACHED for one that is held. */
static int try_chunk(struct cell_want *w, uint64_t addr, unsigned flags, bool stale)
{
	struct aobj *o;
	int rc = aobj_pin(w->a, AOBJ_CHUNK, addr, flags, &o);

	if (rc == -EAGAIN && !(flags & LOCK_CACHED)) {
		hint_chunk_busy(w->a, addr, BUSY_MS);
		w->want = addr;
	}
	if (rc == -EUCLEAN)
		hint_chunk_busy(w->a, addr, FULL_MS);
	if (rc < 0)
		return rc == -EAGAIN || rc == -EUCLEAN ? 0 : rc;
	if (in_res(w->res, chunk_of(o))) { /* one pin a run of cells; the run's is kept */
		int before = (int)w->res->n;

		rc = take_from(w, chunk_of(o), stale);
		if ((int)w->res->n > before)
			aobj_unpin(o);
		return rc;
	}
	return take_from(w, chunk_of(o), stale);
}

#define OWN_BATCH 64u

/*
 * Addresses of held chunks with free cells: that of the goal first. Without @stale, chunks of which
 * no free cell's lock is ours do not count where it has to be.
 */
static unsigned own_chunks(struct cell_want *w, bool stale, uint64_t *addr)
{
	struct alloc *a = w->a;
	bool ours = (w->flags & ALLOC_NEED_LOCK) && !stale;
	uint64_t near = 0;
	bool not_near = false;
	unsigned n = 0;

	if (w->goal && blk_range_ok(a->env.geo, w->goal, 1) &&
	    hint_chunk_of(a, w->goal, &near) == 0)
		addr[n++] = near;
	mtx_lock(&a->mtx);
	for (struct chunk *c = a->chunks; c && n < OWN_BATCH; c = c->next) {
		bool none = ours && atomic_load(&c->none_ours);

		if (c->o.addr == near)
			not_near = none;
		else if (!none)
			addr[n++] = c->o.addr;
	}
	mtx_unlock(&a->mtx);
	if (not_near)
		addr[0] = addr[--n];
	return n;
}

static int from_held(struct cell_want *w, bool stale)
{
	uint64_t addr[OWN_BATCH];
	unsigned n = own_chunks(w, stale, addr);
	int rc = 0;

	for (unsigned i = 0; i < n && rc == 0 && w->res->n < w->n; i++)
		rc = try_chunk(w, addr[i], LOCK_CACHED, stale);
	return rc;
}

/* Cells of chunks not held here yet, at most @chunks of them. */
static int from_stale(struct cell_want *w, bool all, unsigned chunks)
{
	uint64_t addr[STALE_CHUNKS], waiting;
	uint64_t marked = watermark_known(w->a);
	unsigned n;
	int rc = 0;

	n = hint_stale_chunks(w->a, all, marked ? home_group(w->a, marked) : 0, addr, chunks,
			      &waiting);
	for (unsigned i = 0; i < n && rc == 0 && w->res->n < w->n; i++)
		rc = try_chunk(w, addr[i], 0, true);
	if (rc == 0 && w->res->n < w->n && !w->want)
		w->want = waiting;
	return rc;
}

static bool enough(const struct cell_want *w)
{
	return w->res->n == w->n;
}

/* Read the headers of some groups in which this host is likely to work. */
static void look_near_home(struct alloc *a)
{
	uint64_t marked = watermark_known(a), home;

	if (marked == 0)
		return;
	home = home_group(a, marked);
	hints_refresh(a, home, HINT_BATCH < marked - home ? HINT_BATCH : marked - home, FULL_MS);
}

#define FIRST_CHUNKS 4u

/* Just after the mount: a few stale cells, so that a short visit leaves no chunk behind. */
static int first_stale(struct cell_want *w)
{
	struct alloc *a = w->a;
	bool locks = w->flags & ALLOC_NEED_LOCK;
	int rc;

	mtx_lock(&a->mtx);
	w->max_stale = a->stale_left;
	mtx_unlock(&a->mtx);
	if (w->max_stale == 0)
		return 0;
	w->tries_left = w->max_stale;
	rc = from_held(w, true);
	if (rc == 0 && !enough(w)) {
		look_near_home(a);
		rc = from_stale(w, true, FIRST_CHUNKS);
	}
	mtx_lock(&a->mtx);
	if (!enough(w)) /* there are none */
		a->stale_left = 0;
	else if (locks && a->stale_left > 0)
		a->stale_left = w->max_stale < a->stale_left ? w->max_stale : a->stale_left - 1;
	mtx_unlock(&a->mtx);
	w->want = 0;
	return rc;
}

/* Everything there is in chunks: with room for no more, or more than enough of it elsewhere. */
static int all_stale(struct cell_want *w, bool all)
{
	int rc;

	w->tries_left = STALE_CELLS;
	w->max_stale = w->n;
	w->want = 0;
	rc = from_held(w, true);
	if (rc == 0 && !enough(w) && all)
		hints_refresh(w->a, 0, watermark_known(w->a), HINT_AGE_MS);
	if (rc == 0 && !enough(w))
		rc = from_stale(w, all, STALE_CHUNKS);
	return rc;
}

static unsigned lost_cells(struct alloc *a)
{
	unsigned n;

	mtx_lock(&a->mtx);
	n = a->lost_cells;
	mtx_unlock(&a->mtx);
	return n;
}

static int fill(struct cell_want *w, bool *converted)
{
	int rc = from_held(w, false);

	*converted = false;
	if (rc < 0 || enough(w))
		return rc;
	rc = first_stale(w);
	if (rc < 0 || enough(w))
		return rc;
	if (lost_cells(w->a) >= LOST_CELLS) {
		rc = all_stale(w, false);
		if (rc < 0 || enough(w))
			return rc;
		if (w->want)
			return -EAGAIN;
	}
	rc = chunk_convert(w->a, w->goal, w->flags, &w->want);
	if (rc == 0) {
		*converted = true;
		return 0;
	}
	return rc;
}

/* No chunk could be converted (@rc says why): the rest must come from those there are. */
static int last_resort(struct cell_want *w, int rc)
{
	uint64_t want = w->want;
	int r = all_stale(w, true);

	if (r < 0 || enough(w))
		return r;
	if (rc == -EAGAIN)
		w->want = want;
	return w->want ? -EAGAIN : -ENOSPC;
}

static void release_from(struct alloc *a, struct cell_res *res, unsigned from)
{
	(void)a;
	for (unsigned i = from; i < res->n; i++) {
		struct chunk *c = res->chunk[i];

		let_go(c,
		       (unsigned)((res->cell[i].addr - c->first_blk) / c->o.a->env.geo->cell_blks),
		       true);
		if (i + 1 == res->n || res->chunk[i + 1] != c)
			aobj_unpin(&c->o);
	}
	res->n = from;
}

/* Cells that were freed here wait for their commit, or for their FREE images to be in place. */
static int settle(struct cell_want *w)
{
	release_from(w->a, w->res, 0);
	w->want = 0;
	w->buried = false;
	return txn_settle_tombs(w->a->txns);
}

static int reserve(struct cell_want *w)
{
	int rc = 0;

	for (unsigned i = 0; i < SEARCH_ROUNDS && !enough(w); i++) {
		bool converted;

		rc = fill(w, &converted);
		if (rc == 0 && converted && w->buried && i > 0)
			rc = settle(w); /* one more chunk has not helped */
		if (rc == 0 && (converted || enough(w)))
			continue;
		if (rc == -ENOSPC || rc == -EAGAIN)
			rc = last_resort(w, rc);
		if (rc < 0)
			return rc;
	}
	return enough(w) ? 0 : w->want ? -EAGAIN : -ENOSPC;
}

int cell_reserve(struct alloc *a, unsigned n, uint64_t goal, unsigned flags, struct cell_res *res)
{
	struct cell_want w = {.a = a, .n = n, .goal = goal, .flags = flags, .res = res};
	int rc;

	lunfs_assert(n <= ALLOC_CELLS_MAX);
	memset(res, 0, sizeof(*res));
	rc = reserve(&w);
	if (rc == -ENOSPC || (rc == -EAGAIN && w.buried)) {
		rc = settle(&w);
		if (rc == 0)
			rc = reserve(&w);
	}
	rc = wants_bound(a, rc);
	if (rc < 0) {
		release_from(a, res, 0);
		res->want = rc == -EAGAIN ? w.want : 0;
	}
	return rc;
}

void cell_unreserve(struct alloc *a, struct cell_res *res)
{
	release_from(a, res, res->taken);
}

void cells_ensure(struct alloc *a)
{
	uint64_t addr[STALE_CHUNKS], want;
	struct aobj *o;
	unsigned n;

	if (atomic_load(&a->free_cells) >= RESERVE_CELLS)
		return;
	n = hint_stale_chunks(a, false, 0, addr, STALE_CHUNKS, NULL);
	for (unsigned i = 0; i < n && atomic_load(&a->free_cells) < RESERVE_CELLS; i++)
		if (aobj_pin(a, AOBJ_CHUNK, addr[i], 0, &o) == 0)
			aobj_unpin(o);
		else
			hint_chunk_busy(a, addr[i], BUSY_MS);
	if (atomic_load(&a->free_cells) < RESERVE_CELLS)
		chunk_convert(a, 0, ALLOC_RESERVE_OK, &want);
}

/* ---- taking
 * ------------------------------------------------------------------------------------------------
 */

static struct lunfs_chunk_pl *payload_of(struct chunk *c)
{
	return (struct lunfs_chunk_pl *)c->o.hdr->data;
}

struct cell cell_take(struct txn_handle *h, struct alloc *a, struct cell_res *res)
{
	struct lunfs_chunk_pl *p;
	struct chunk *c;
	struct cell cell;
	unsigned i;

	lunfs_assert(res->taken < res->n);
	cell = res->cell[res->taken];
	c = res->chunk[res->taken++];
	i = (unsigned)((cell.addr - c->first_blk) / a->env.geo->cell_blks);
	mtx_lock(&c->o.mtx);
	mblk_dirty(h, c->o.hdr);
	p = payload_of(c);
	lunfs_assert(bit_get(p->valid, i) && !bit_get(p->used, i));
	bit_set(p->used, i);
	p->free_cells = le32_make(le32_get(p->free_cells) - 1);
	bit_clear(c->fresh, i);
	bit_clear(c->freed, i);
	remember_version(c, i, cell.version + version_margin(a));
	mtx_unlock(&c->o.mtx);
	if (res->taken == res->n || res->chunk[res->taken] != c)
		aobj_unpin(&c->o);
	return cell;
}

/* ---- freeing
 * --------------------------------------------------------------------------------------------------
 */

static struct chunk *prepared_chunk(const struct geo *g, const struct free_res *r, uint64_t cell)
{
	for (unsigned i = 0; i < r->n; i++) {
		struct aobj *o = r->obj[i];

		if (o->kind == AOBJ_CHUNK && cell >= chunk_of(o)->first_blk &&
		    cell - chunk_of(o)->first_blk < window_blks(g))
			return chunk_of(o);
	}
	return NULL;
}

/*
 * Another host's chunk whose header has not been written in place yet, so that the group's header
 * on disk does not know it. Most chunks fill their window and begin with their header: ask for the
 * lock of that cell, and see. Costs that host one lock, not its whole group.
 */
static int guess_chunk(struct alloc *a, struct free_res *r, uint64_t cell)
{
	const struct geo *g = a->env.geo;
	uint64_t rel = cell - geo_group_blk(g, geo_group_of(g, cell));
	uint64_t first = cell - rel % window_blks(g);
	struct lunfs_lock_rec rec;
	struct aobj *o;
	uint8_t *buf;
	int rc;

	if (!blk_range_ok(g, first, g->cell_blks))
		return -ESTALE;
	buf = dev_buf_alloc(geo_cell_bytes(g));
	rc = read_unlocked(a, geo_blk_off(first), geo_cell_bytes(g), buf);
	if (rc == 0 && lock_rec_decode(g, buf, first, &rec) < 0)
		rc = -ESTALE;
	free(buf);
	if (rc < 0)
		return rc;
	rc = aobj_pin(a, AOBJ_CHUNK, first, AOBJ_GUESS, &o);
	if (rc == -EAGAIN)
		r->want = first;
	if (rc < 0)
		return rc;
	hint_add_chunk(a, first);
	aobj_unpin(o);
	return 0;
}

/* Learn where the chunk of @cell has its header: off the disk, by a guess, from the group. */
static int locate_chunk(struct alloc *a, struct free_res *r, uint64_t cell, uint64_t *addr)
{
	uint64_t group = geo_group_of(a->env.geo, cell);
	struct aobj *o;
	int rc;

	if (hint_chunk_of(a, cell, addr) == 0)
		return 0;
	hints_refresh(a, group, 1, 0);
	if (hint_chunk_of(a, cell, addr) == 0)
		return 0;
	rc = guess_chunk(a, r, cell);
	if (rc == -ESTALE || rc == -EUCLEAN) {
		rc = aobj_pin(a, AOBJ_GROUP, geo_group_header(a->env.geo, group), 0, &o);
		if (rc == -EAGAIN)
			r->want = geo_group_header(a->env.geo, group);
		if (rc == 0)
			aobj_unpin(o);
	}
	if (rc < 0)
		return rc;
	return hint_chunk_of(a, cell, addr) == 0 ? 0 : -EUCLEAN;
}

static int check_cell(struct alloc *a, struct chunk *c, uint64_t cell)
{
	uint64_t rel = cell - c->first_blk;
	unsigned i = (unsigned)(rel / a->env.geo->cell_blks);
	bool ok;

	if (rel % a->env.geo->cell_blks != 0 || cell == c->o.addr)
		return -EUCLEAN;
	mtx_lock(&c->o.mtx);
	ok = bit_get(payload_of(c)->valid, i) && bit_get(payload_of(c)->used, i);
	mtx_unlock(&c->o.mtx);
	return ok ? 0 : -EUCLEAN;
}

int cell_free_prepare(struct alloc *a, struct free_res *r, uint64_t cell)
{
	const struct geo *g = a->env.geo;
	struct chunk *c;
	struct aobj *o;
	uint64_t addr;
	int rc;

	if (!blk_range_ok(g, cell, g->cell_blks))
		return -EUCLEAN;
	c = prepared_chunk(g, r, cell);
	if (!c) {
		rc = locate_chunk(a, r, cell, &addr);
		if (rc == 0)
			rc = free_res_pin(a, r, AOBJ_CHUNK, addr, &o);
		if (rc < 0)
			return rc;
		c = chunk_of(o);
	}
	return check_cell(a, c, cell);
}

struct pending_cell {
	struct chunk *c;
	unsigned i;
};

static void cell_durable(void *arg, bool ok)
{
	struct pending_cell *p = arg;
	struct chunk *c = p->c;

	mtx_lock(&c->o.mtx);
	if (ok && !c->o.dead) {
		bit_clear(c->map, p->i);
		atomic_store(&c->none_ours, false);
		chunk_count(c, 1);
	}
	mtx_unlock(&c->o.mtx);
	aobj_unref(&c->o);
	free(p);
}

void cell_free(struct txn_handle *h, struct alloc *a, struct free_res *r, uint64_t cell)
{
	struct chunk *c = prepared_chunk(a->env.geo, r, cell);
	struct pending_cell *p = malloc(sizeof(*p));
	struct lunfs_chunk_pl *pl;
	bool used;

	lunfs_assert(c && p);
	*p = (struct pending_cell){c, (unsigned)((cell - c->first_blk) / a->env.geo->cell_blks)};
	mtx_lock(&c->o.mtx);
	used = bit_get(payload_of(c)->used, p->i);
	if (used) {
		mblk_dirty(h, c->o.hdr);
		pl = payload_of(c);
		bit_clear(pl->used, p->i);
		pl->free_cells = le32_make(le32_get(pl->free_cells) + 1);
		bit_set(c->freed, p->i);
	}
	mtx_unlock(&c->o.mtx);
	if (!used) {
		free(p);
		txn_abort_volume(h, "a metadata cell was freed twice: run fsck.lunfs");
		return;
	}
	aobj_ref(&c->o);
	txn_on_commit(h, cell_durable, p);
}

void cell_free_version(struct alloc *a, struct free_res *r, uint64_t cell, uint64_t version)
{
	struct chunk *c = prepared_chunk(a->env.geo, r, cell);

	lunfs_assert(c != NULL);
	mtx_lock(&c->o.mtx);
	remember_version(c, (unsigned)((cell - c->first_blk) / a->env.geo->cell_blks), version);
	mtx_unlock(&c->o.mtx);
}
