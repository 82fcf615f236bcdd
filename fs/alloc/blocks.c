// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Data blocks: contiguous runs reserved, taken and freed.
 *
 * A run never crosses a group, nor more than two bitmap cells (BLK_TAKE_CREDITS). Without
 * ALLOC_RESERVE_OK the last few blocks of each group and the last few cells of this host are left
 * alone, so that files can still be deleted on a full volume.
 */
#include "alloc/alloc_impl.h"
#include "base/bitmap.h"
#include "base/log.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GOOD_RUN 64u	  /* a run at the goal itself is taken from this length on */
#define ROOM_PART 8u	  /* of a group is kept apart for one file at most */
#define RUNS_LOOKED 4096u /* bound of one search in a map */

struct run {
	uint32_t first, len;
};

/* The longest run of free blocks in [from, to), up to @max: the first that is long enough. */
static struct run longest_run(const struct group *g, uint32_t from, uint32_t to, uint32_t max,
			      unsigned *looked)
{
	struct run best = {0, 0};

	while (from < to && *looked < RUNS_LOOKED) {
		uint32_t first = (uint32_t)bit_find(g->map, from, to, false), end, stop;

		if (first == to)
			break;
		stop = to - first > max ? first + max : to;
		end = (uint32_t)bit_find(g->map, first, stop, true);
		if (end - first > best.len)
			best = (struct run){first, end - first};
		if (best.len == max)
			break;
		from = end;
		++*looked;
	}
	return best;
}

struct pick { /* one blk_reserve */
	uint32_t max, keep;
	struct blk_room room;
	uint64_t goal;
	struct run run;
};

/* Free blocks at the goal itself. */
static struct run run_at_goal(const struct group *g, const struct pick *p, uint32_t max)
{
	uint32_t at, stop;

	if (p->goal < g->first_blk + g->meta_blks || p->goal >= g->first_blk + g->nblks)
		return (struct run){0, 0};
	at = (uint32_t)(p->goal - g->first_blk);
	if (bit_get(g->map, at))
		return (struct run){at, 0};
	stop = g->nblks - at > max ? at + max : g->nblks;
	return (struct run){at, (uint32_t)bit_find(g->map, at, stop, true) - at};
}

/* The first from @at on, and round, that is @want long, or the longest. */
static struct run search_run(struct group *g, uint32_t at, uint32_t want)
{
	unsigned looked = 0;
	struct run r, low;

	r = longest_run(g, at, g->nblks, want, &looked);
	if (r.len == want)
		return r;
	low = longest_run(g, g->meta_blks, at, want, &looked);
	if (low.len > r.len)
		r = low;
	if (r.len < want)
		g->longest = r.len;
	return r;
}

/* Of room that was found: where the blocks shall lie in it. */
static void place_in_room(struct run *r, const struct pick *p, uint32_t max, uint32_t want)
{
	uint32_t skip = 0;

	if (r->len >= want)
		skip = p->room.before < want - max ? p->room.before : 0;
	else if (r->len / 2 >= max) /* where it begins another file may end and grow */
		skip = r->len / 2;
	r->first += skip;
	r->len -= skip;
}

/*
 * o.mtx held. len 0: there is none.
 *
 * A part of a file that cannot lie where it would best gets a place with p->room, of which nothing
 * is set aside: the cursor moves behind it, so the next that looks for such a place finds another
 * one. Files that grow at the same time lie in few pieces, and nothing is to be taken back when
 * they do not.
 */
static struct run choose_run(struct group *g, const struct pick *p, uint32_t max)
{
	uint32_t good = max < GOOD_RUN ? max : GOOD_RUN, at = g->cursor;
	uint32_t room = p->room.before + p->room.after, want = max;
	struct run near = run_at_goal(g, p, max), r;

	if (near.len >= good && near.len)
		return near;
	if (room > max)
		want = room < g->nblks / ROOM_PART ? room : g->nblks / ROOM_PART;
	else if (near.first)
		at = near.first;
	if (want < max)
		want = max;
	r = search_run(g, at, want <= g->longest ? want : g->longest > max ? g->longest : max);
	if (near.len && near.len >= r.len)
		return near;
	if (want > max)
		place_in_room(&r, p, max, want);
	g->cursor = r.first + r.len;
	if (g->cursor >= g->nblks)
		g->cursor = g->meta_blks;
	if (r.len > max)
		r.len = max;
	return r;
}

/* group_search.fn */
static int pick_run(struct group *g, void *arg)
{
	struct pick *p = arg;
	uint32_t avail, max;
	int rc = -ENOSPC;

	mtx_lock(&g->o.mtx);
	avail = atomic_load(&g->avail);
	if (avail > p->keep) {
		max = avail - p->keep < p->max ? avail - p->keep : p->max;
		p->run = choose_run(g, p, max);
		if (p->run.len > 0) {
			group_hold(g, p->run.first, p->run.len);
			rc = 0;
		}
	}
	mtx_unlock(&g->o.mtx);
	if (rc < 0)
		return rc;
	rc = group_need_bitmaps(g, p->run.first, p->run.len);
	if (rc < 0) {
		mtx_lock(&g->o.mtx);
		group_release(g, p->run.first, p->run.len);
		mtx_unlock(&g->o.mtx);
	}
	return rc;
}

/* Does a group held here lack room only until a commit makes freed blocks available? */
static bool commit_would_help(struct alloc *a, uint32_t min_blks)
{
	bool helps = false;

	mtx_lock(&a->mtx);
	for (struct group *g = a->groups; g && !helps; g = g->next)
		helps = atomic_load(&g->avail) < min_blks && atomic_load(&g->free_blks) >= min_blks;
	mtx_unlock(&a->mtx);
	return helps;
}

static bool any_with_room(struct alloc *a, uint32_t min_blks)
{
	bool found = false;

	mtx_lock(&a->mtx);
	for (struct group *g = a->groups; g && !found; g = g->next)
		found = atomic_load(&g->avail) >= min_blks;
	mtx_unlock(&a->mtx);
	return found;
}

#define COMMIT_POLLS 20u

/* Commit, and give the call-backs that let the blocks go a moment. */
static int commit_freed(struct alloc *a, uint32_t min_blks)
{
	int rc = txn_commit_all(a->txns);

	for (unsigned i = 0; rc == 0 && i < COMMIT_POLLS && !any_with_room(a, min_blks); i++)
		clock_sleep_ns(a->env.clk, MS_NS);
	return rc;
}

/* While a group gets full, see to it that this host has cells to delete with. */
static void guard_reserve(struct alloc *a, const struct group *g, unsigned flags)
{
	if (!(flags & ALLOC_RESERVE_OK) && atomic_load(&g->avail) < g->nblks / 16)
		cells_ensure(a);
}

int blk_reserve(struct alloc *a, uint32_t max, uint64_t goal, unsigned flags, struct blk_res *res)
{
	return blk_reserve_in(a, max, (struct blk_room){0, 0}, goal, flags, res);
}

int blk_reserve_in(struct alloc *a, uint32_t max, struct blk_room room, uint64_t goal,
		   unsigned flags, struct blk_res *res)
{
	struct pick p = {
	    .max = max < LUNFS_BITMAP_BITS ? max : LUNFS_BITMAP_BITS,
	    .room = room,
	    .keep = flags & ALLOC_RESERVE_OK ? 0 : reserve_blks(a->env.geo),
	    .goal = goal,
	};
	struct group_search s = {
	    .kind = WANT_BLOCKS,
	    .goal = goal,
	    .min_blks = p.keep + 1,
	    .fn = pick_run,
	    .arg = &p,
	};
	int rc;

	lunfs_assert(max > 0);
	memset(res, 0, sizeof(*res));
	rc = group_search(a, &s);
	if ((rc == -ENOSPC || rc == -EAGAIN) && !(flags & ALLOC_NO_COMMIT) &&
	    commit_would_help(a, s.min_blks)) {
		rc = commit_freed(a, s.min_blks);
		if (rc == 0)
			rc = group_search(a, &s);
	}
	rc = wants_bound(a, rc);
	if (rc < 0) {
		res->want = rc == -EAGAIN ? s.want : 0;
		return rc;
	}
	res->blk = s.found->first_blk + p.run.first;
	res->len = p.run.len;
	res->group = s.found;
	guard_reserve(a, s.found, flags);
	return 0;
}

void blk_take(struct txn_handle *h, struct alloc *a, struct blk_res *res, uint32_t n)
{
	struct group *g = res->group;
	uint32_t first;

	(void)a;
	lunfs_assert(g && n > 0 && n <= res->len);
	first = (uint32_t)(res->blk - g->first_blk);
	mtx_lock(&g->o.mtx);
	group_bits_set(h, g, first, n);
	if (n < res->len) {
		if (g->cursor == first + res->len)
			g->cursor = first + n;
		group_release(g, first + n, res->len - n);
	}
	mtx_unlock(&g->o.mtx);
	res->group = NULL;
	aobj_unpin(&g->o);
}

void blk_unreserve(struct alloc *a, struct blk_res *res)
{
	struct group *g = res->group;

	(void)a;
	if (!g)
		return;
	mtx_lock(&g->o.mtx);
	group_release(g, (uint32_t)(res->blk - g->first_blk), res->len);
	mtx_unlock(&g->o.mtx);
	res->group = NULL;
	aobj_unpin(&g->o);
}

/* ---- freeing
 * ---------------------------------------------------------------------------------------- */

void free_res_init(struct free_res *r)
{
	r->n = 0;
	r->want = 0;
}

struct aobj *free_res_find(const struct free_res *r, uint64_t addr)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->addr[i] == addr)
			return r->obj[i];
	return NULL;
}

int free_res_pin(struct alloc *a, struct free_res *r, enum aobj_kind kind, uint64_t addr,
		 struct aobj **out)
{
	int rc;

	*out = free_res_find(r, addr);
	if (*out)
		return 0;
	if (r->n == ALLOC_CELLS_MAX)
		return -E2BIG;
	rc = aobj_pin(a, kind, addr, 0, out);
	if (rc == -EAGAIN)
		r->want = addr;
	if (rc < 0)
		return rc;
	r->obj[r->n] = *out;
	r->addr[r->n++] = addr;
	return 0;
}

unsigned free_res_credits(const struct free_res *r)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->n; i++) {
		const struct aobj *o = r->obj[i];

		n += o->kind == AOBJ_GROUP ? BLK_FREE_CREDITS : CELL_FREE_CREDITS;
	}
	return n;
}

void free_res_end(struct alloc *a, struct free_res *r)
{
	(void)a;
	while (r->n > 0)
		aobj_unpin(r->obj[--r->n]);
}

int blk_free_prepare(struct alloc *a, struct free_res *r, uint64_t blk, uint32_t len)
{
	const struct geo *geo = a->env.geo;
	struct aobj *o;
	struct group *g;
	bool used;
	int rc;

	if (!blk_range_ok(geo, blk, len))
		return -EUCLEAN;
	rc = free_res_pin(a, r, AOBJ_GROUP, geo_group_header(geo, geo_group_of(geo, blk)), &o);
	if (rc < 0)
		return rc;
	g = group_of(o);
	rc = group_need_bitmaps(g, (uint32_t)(blk - g->first_blk), len);
	if (rc < 0)
		return rc;
	mtx_lock(&o->mtx);
	used = bit_find(g->map, (size_t)(blk - g->first_blk), (size_t)(blk - g->first_blk) + len,
			false) == (size_t)(blk - g->first_blk) + len;
	mtx_unlock(&o->mtx);
	return used ? 0 : -EUCLEAN;
}

struct pending { /* blocks that become available when their transaction is durable */
	struct aobj *o;
	uint32_t first, n;
};

static void blocks_durable(void *arg, bool ok)
{
	struct pending *p = arg;

	mtx_lock(&p->o->mtx);
	if (ok && !p->o->dead)
		group_release(group_of(p->o), p->first, p->n);
	mtx_unlock(&p->o->mtx);
	aobj_unref(p->o);
	free(p);
}

void blk_free(struct txn_handle *h, struct alloc *a, struct free_res *r, uint64_t blk, uint32_t len)
{
	const struct geo *geo = a->env.geo;
	struct aobj *o = free_res_find(r, geo_group_header(geo, geo_group_of(geo, blk)));
	struct pending *p = malloc(sizeof(*p));
	struct group *g;
	bool ok;

	lunfs_assert(o && p);
	g = group_of(o);
	*p = (struct pending){o, (uint32_t)(blk - g->first_blk), len};
	mtx_lock(&o->mtx);
	ok = group_bits_clear(h, g, p->first, len);
	mtx_unlock(&o->mtx);
	if (!ok) {
		free(p);
		txn_abort_volume(h, "blocks were freed that are free already: run fsck.lunfs");
		return;
	}
	aobj_ref(o);
	txn_on_commit(h, blocks_durable, p);
}
