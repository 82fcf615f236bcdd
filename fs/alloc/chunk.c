// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Metadata chunks in core, and the conversion of free blocks into one.
 *
 * A conversion writes every cell (lock record born owned by this host, a payload that says FREE)
 * and flushes before the transaction that sets the bitmap bits, so a lock sector is a lock
 * sector from before anybody can refer to it. What a crash leaves behind are free blocks.
 */
#include "alloc/alloc_impl.h"
#include "base/bitmap.h"
#include "base/log.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void chunk_init(struct alloc *a, struct chunk *c)
{
	const struct geo *g = a->env.geo;
	uint64_t rel;

	c->group = geo_group_of(g, c->o.addr);
	rel = c->o.addr - geo_group_blk(g, c->group);
	c->first_blk = c->o.addr - rel % window_blks(g);
	memset(c->map, 0xff, sizeof(c->map));
}

void chunk_fini(struct chunk *c)
{
	free(c->ver);
}

/* alloc.mtx held. */
static void relist(struct alloc *a, struct chunk *c)
{
	bool want = atomic_load(&c->nfree) > 0 && !c->o.dead;

	if (want == c->listed)
		return;
	c->listed = want;
	if (want) {
		c->next = NULL;
		c->prev = a->chunks_last;
		if (c->prev)
			c->prev->next = c;
		else
			a->chunks = c;
		a->chunks_last = c;
		return;
	}
	if (c->prev)
		c->prev->next = c->next;
	else
		a->chunks = c->next;
	if (c->next)
		c->next->prev = c->prev;
	else
		a->chunks_last = c->prev;
}

void chunk_count(struct chunk *c, int delta)
{
	struct alloc *a = c->o.a;

	atomic_fetch_add(&c->nfree, (unsigned)delta);
	atomic_fetch_add(&a->free_cells, (unsigned)delta);
	mtx_lock(&a->mtx);
	relist(a, c);
	mtx_unlock(&a->mtx);
}

int chunk_load(struct chunk *c, struct mblk *hdr)
{
	struct chunk_info ci;
	int rc = 0;

	mtx_lock(&c->o.mtx);
	if (!c->o.loaded) {
		rc = chunk_parse(c->o.a->env.geo, hdr->data, c->o.addr, &ci);
		if (rc == 0) {
			for (unsigned i = 0; i < sizeof(c->map); i++)
				c->map[i] = (uint8_t)(~ci.valid[i] | ci.used[i]);
			c->o.loaded = true;
			chunk_count(c, (int)ci.free_cells);
			hint_chunk_free(c->o.a, c->o.addr, CHUNK_FREE_UNKNOWN);
		}
	}
	mtx_unlock(&c->o.mtx);
	return rc;
}

int read_unlocked(struct alloc *a, uint64_t off_bytes, size_t len_bytes, void *buf)
{
	struct dev_io io = {
	    .op = DEV_READ, .off_bytes = off_bytes, .len_bytes = len_bytes, .buf = buf};

	return host_io_read(&a->io, &io, 1);
}

int write_unreferenced(struct alloc *a, uint64_t off_bytes, size_t len_bytes, void *buf)
{
	struct dev_io io = {
	    .op = DEV_WRITE, .off_bytes = off_bytes, .len_bytes = len_bytes, .buf = buf};
	struct txn_handle *h;
	int rc = host_io_write(&a->io, &io, 1);

	if (rc == 0)
		rc = host_io_flush(&a->io);
	if (rc == -ETIMEDOUT && txn_begin(a->txns, 1, &h) == 0) {
		txn_abort_volume(h, "a write of fresh metadata may still be on its way");
		txn_end(h);
	}
	return rc == -ETIMEDOUT ? -EIO : rc;
}

/* ---- choosing the window
 * ---------------------------------------------------------------------------- */

struct conv { /* one conversion */
	struct alloc *a;
	unsigned flags;
	unsigned min_cells;
	struct group *group;
	unsigned window;
	struct chunk_info ci; /* as it will be: valid, used, cells, free_cells */
	unsigned header;      /* index of the header's cell */
};

/* o.mtx held. Cells of window @w that are free; sets their bits in @valid. */
static unsigned window_cells(struct group *g, unsigned w, uint8_t valid[32])
{
	const struct geo *geo = g->o.a->env.geo;
	uint32_t cb = geo->cell_blks;
	unsigned n = 0;

	memset(valid, 0, 32);
	for (unsigned i = 0; i < LUNFS_CHUNK_CELLS; i++) {
		uint32_t b = w * window_blks(geo) + i * cb;

		if (b + cb > g->nblks || bit_find(g->map, b, b + cb, true) != b + cb)
			continue;
		bit_set(valid, i);
		n++;
	}
	return n;
}

static unsigned windows_of(const struct group *g)
{
	uint32_t wb = window_blks(g->o.a->env.geo);
	uint32_t n = (g->nblks + wb - 1) / wb;

	return n < LUNFS_GROUP_WINDOWS ? n : LUNFS_GROUP_WINDOWS;
}

static bool has_chunk(const struct group *g, unsigned w)
{
	const struct lunfs_group_pl *p = (const struct lunfs_group_pl *)g->o.hdr->data;

	return le16_get(p->chunk[w]) != 0;
}

/* The first wholly free window, else the one with the most free cells. o.mtx held. */
static unsigned best_window(struct group *g, unsigned *window)
{
	uint32_t wb = window_blks(g->o.a->env.geo);
	unsigned n = windows_of(g), best = 0;
	uint8_t valid[32];

	for (unsigned w = g->full_windows; w < n; w++)
		if (!has_chunk(g, w) && (w + 1) * wb <= g->nblks &&
		    bit_find(g->map, w * wb, (w + 1) * wb, true) == (w + 1) * wb) {
			g->full_windows = w;
			*window = w;
			return LUNFS_CHUNK_CELLS;
		}
	g->full_windows = n;
	for (unsigned w = 0; w < n; w++) {
		unsigned cells = has_chunk(g, w) ? 0 : window_cells(g, w, valid);

		if (cells > best) {
			best = cells;
			*window = w;
		}
	}
	return best;
}

/* Keep at most @max of the cells in @valid. */
static unsigned trim(uint8_t valid[32], unsigned max)
{
	unsigned n = 0;

	for (unsigned i = 0; i < LUNFS_CHUNK_CELLS; i++) {
		if (!bit_get(valid, i))
			continue;
		if (n == max)
			bit_clear(valid, i);
		else
			n++;
	}
	return n;
}

static void hold_cells(struct conv *c, bool hold)
{
	const struct geo *geo = c->a->env.geo;

	for (unsigned i = 0; i < LUNFS_CHUNK_CELLS; i++) {
		uint32_t b = c->window * window_blks(geo) + i * geo->cell_blks;

		if (!bit_get(c->ci.valid, i))
			continue;
		if (hold)
			group_hold(c->group, b, geo->cell_blks);
		else
			group_release(c->group, b, geo->cell_blks);
	}
}

/* group_search.fn: choose a window of @g and hold its cells. */
static int pick_window(struct group *g, void *arg)
{
	struct conv *c = arg;
	uint32_t cb = c->a->env.geo->cell_blks, wb = window_blks(c->a->env.geo);
	uint32_t keep = c->flags & ALLOC_RESERVE_OK ? 0 : reserve_blks(c->a->env.geo);
	uint32_t avail, last;
	int rc = -ENOSPC;

	mtx_lock(&g->o.mtx);
	avail = atomic_load(&g->avail);
	if (avail > keep && best_window(g, &c->window) >= c->min_cells) {
		window_cells(g, c->window, c->ci.valid);
		c->ci.cells = trim(c->ci.valid, (avail - keep) / cb);
		if (c->ci.cells >= c->min_cells) {
			c->group = g;
			hold_cells(c, true);
			rc = 0;
		}
	}
	mtx_unlock(&g->o.mtx);
	if (rc < 0)
		return rc;
	last = (c->window + 1) * wb < g->nblks ? (c->window + 1) * wb : g->nblks;
	rc = group_need_bitmaps(g, c->window * wb, last - c->window * wb);
	if (rc < 0) {
		mtx_lock(&g->o.mtx);
		hold_cells(c, false);
		mtx_unlock(&g->o.mtx);
	}
	return rc;
}

/* ---- writing it
 * ---------------------------------------------------------------------------------------- */

static uint64_t cell_addr(const struct conv *c, unsigned i)
{
	return c->ci.first_blk + (uint64_t)i * c->a->env.geo->cell_blks;
}

/* Contiguous cells [from, *end) of the chunk; false when there are no more. */
static bool next_run(const struct conv *c, unsigned *from, unsigned *end)
{
	*from = (unsigned)bit_find(c->ci.valid, *from, LUNFS_CHUNK_CELLS, true);
	*end = (unsigned)bit_find(c->ci.valid, *from, LUNFS_CHUNK_CELLS, false);
	return *from < LUNFS_CHUNK_CELLS;
}

static int write_cells(struct conv *c)
{
	const struct geo *g = c->a->env.geo;
	size_t len = geo_cell_bytes(g);
	uint8_t *buf = dev_buf_alloc(LUNFS_CHUNK_CELLS * len);
	unsigned end;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && next_run(c, &i, &end); i = end) {
		for (unsigned n = i; n < end; n++) {
			uint8_t *at = buf + (size_t)(n - i) * len;

			memset(at, 0, len);
			lock_born_image(c->a->locks, cell_addr(c, n), at);
			blk_init(g, at + g->payload_off, LUNFS_BLK_FREE, cell_addr(c, n), 0,
				 cell_addr(c, n), 0);
			blk_seal(at + g->payload_off);
		}
		rc = write_unreferenced(c->a, geo_blk_off(cell_addr(c, i)), (end - i) * len, buf);
	}
	free(buf);
	return rc;
}

static void adopt_cells(struct conv *c)
{
	unsigned end;

	for (unsigned i = 0; next_run(c, &i, &end); i = end)
		lock_adopt_born(c->a->locks, cell_addr(c, i), end - i);
}

static void fill_header(const struct conv *c, struct mblk *m)
{
	struct lunfs_chunk_pl *p = (struct lunfs_chunk_pl *)m->data;

	p->group = le64_make(c->group->no);
	p->first_blk = le64_make(c->ci.first_blk);
	p->cells = le32_make(c->ci.cells);
	p->free_cells = le32_make(c->ci.free_cells);
	memcpy(p->valid, c->ci.valid, sizeof(p->valid));
	memcpy(p->used, c->ci.used, sizeof(p->used));
}

/* The group's side: bitmap bits, the window's entry, the counts. */
static void enter_window(struct conv *c, struct txn_handle *h)
{
	const struct geo *geo = c->a->env.geo;
	struct group *g = c->group;
	struct lunfs_group_pl *p;
	unsigned end;

	mtx_lock(&g->o.mtx);
	for (unsigned i = 0; next_run(c, &i, &end); i = end)
		group_bits_set(h, g, c->window * window_blks(geo) + i * geo->cell_blks,
			       (end - i) * geo->cell_blks);
	mblk_dirty(h, g->o.hdr);
	p = (struct lunfs_group_pl *)g->o.hdr->data;
	p->chunk[c->window] = le16_make((uint16_t)(c->header + 1));
	p->chunks = le32_make(le32_get(p->chunks) + 1);
	mtx_unlock(&g->o.mtx);
}

#define CONVERT_CREDITS 4u /* group header, two bitmaps, chunk header */

static int commit_chunk(struct conv *c)
{
	struct alloc *a = c->a;
	uint64_t addr = cell_addr(c, c->header);
	struct txn_handle *h;
	struct lock *l;
	struct mblk *m;
	struct chunk *ch;
	int rc;

	/*
	 * It is here and nobody else knows of it; but this host may be suspended, and must not go
	 * on without: it holds these cells by their images alone, and their blocks still count as
	 * free.
	 */
	rc = lock_pin(a->locks, addr, LOCK_EX, LOCAL_SHARED, 0, NULL, &l);
	if (rc < 0)
		return rc;
	rc = txn_begin(a->txns, CONVERT_CREDITS, &h);
	if (rc < 0) {
		lock_unpin(a->locks, l, LOCAL_SHARED);
		return rc;
	}
	m = mblk_new(h, l, addr, LUNFS_BLK_CHUNK, 0, 0);
	fill_header(c, m);
	ch = aobj_adopt_chunk(a, l, m, &c->ci); /* from now on others of this host take cells */
	enter_window(c, h);
	hint_add_chunk(a, addr);
	txn_end(h);
	aobj_unpin(&ch->o);
	return 0;
}

static int convert(struct alloc *a, struct conv *c, uint64_t goal, uint64_t *want)
{
	struct group_search s = {
	    .kind = WANT_CHUNK,
	    .goal = goal,
	    .min_blks = c->min_cells * a->env.geo->cell_blks +
			(c->flags & ALLOC_RESERVE_OK ? 0 : reserve_blks(a->env.geo)),
	    .fn = pick_window,
	    .arg = c,
	};
	int rc = group_search(a, &s);

	if (rc < 0) {
		*want = s.want;
		return rc;
	}
	c->ci.first_blk = c->group->first_blk + (uint64_t)c->window * window_blks(a->env.geo);
	c->header = (unsigned)bit_find(c->ci.valid, 0, LUNFS_CHUNK_CELLS, true);
	bit_set(c->ci.used, c->header);
	c->ci.free_cells = c->ci.cells - 1;
	rc = write_cells(c);
	if (rc == 0) {
		adopt_cells(c);
		rc = commit_chunk(c);
	}
	/* After a failure the cells stay held: a lock record of ours may stand on them by now. */
	aobj_unpin(&c->group->o);
	return rc;
}

static int convert_any(struct alloc *a, uint64_t goal, unsigned flags, uint64_t *want)
{
	struct conv c = {.a = a, .flags = flags, .min_cells = CHUNK_MIN_CELLS};
	int rc = convert(a, &c, goal, want);

	if (rc != -ENOSPC || !(flags & ALLOC_RESERVE_OK))
		return rc;
	c = (struct conv){.a = a, .flags = flags, .min_cells = CHUNK_LAST_CELLS};
	return convert(a, &c, goal, want);
}

int chunk_convert(struct alloc *a, uint64_t goal, unsigned flags, uint64_t *want)
{
	uint64_t seq;
	int rc;

	mtx_lock(&a->mtx);
	seq = a->conv_seq;
	while (a->conv_busy)
		cond_wait(&a->cond, &a->mtx, CLOCK_FOREVER);
	if (a->conv_seq != seq) {
		mtx_unlock(&a->mtx);
		return 0;
	}
	a->conv_busy = true;
	mtx_unlock(&a->mtx);
	rc = convert_any(a, goal, flags, want);
	mtx_lock(&a->mtx);
	a->conv_seq += rc == 0;
	a->conv_busy = false;
	cond_broadcast(&a->cond);
	mtx_unlock(&a->mtx);
	return rc;
}
