// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A group in core: its map and the changes of its bitmaps.
 *
 * map has a bit for each block: 1 = allocated on disk, or reserved, or freed by a transaction that
 * is not durable yet. It is built from the bitmaps once a holding of the lock, and kept true by
 * everything below. The bitmap payloads say what the running transaction says.
 */
#include "alloc/alloc_impl.h"
#include "base/bitmap.h"
#include "base/log.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void group_init(struct alloc *a, struct group *g)
{
	const struct geo *geo = a->env.geo;

	g->no = geo_group_of(geo, g->o.addr);
	g->first_blk = geo_group_blk(geo, g->no);
	g->nblks = geo_group_len(geo, g->no);
	g->meta_blks = geo_group_meta_blks(geo);
	g->map = calloc((g->nblks + 7u) / 8u, 1);
	lunfs_assert(g->map != NULL);
	atomic_init(&g->avail, g->nblks); /* not known before it is loaded */
	g->longest = UINT32_MAX;
	/* Chunks are looked for from the start on; data leaves them some room there. */
	g->cursor = g->nblks / 16;
	if (g->cursor < g->meta_blks)
		g->cursor = g->meta_blks;
}

void group_fini(struct group *g)
{
	lunfs_assert(!g->bm);
	free(g->map);
}

static uint32_t bitmap_bits(const struct group *g, unsigned i)
{
	uint32_t from = i * LUNFS_BITMAP_BITS;

	if (from >= g->nblks)
		return 0;
	return g->nblks - from < LUNFS_BITMAP_BITS ? g->nblks - from : LUNFS_BITMAP_BITS;
}

static uint8_t *bm_bits(const struct mblk *m)
{
	return ((struct lunfs_bitmap_pl *)m->data)->bits;
}

/* Build the map; o.mtx held. */
static int install(struct group *g, const struct mblk *hdr, struct mblk *const *bm)
{
	const struct geo *geo = g->o.a->env.geo;
	struct group_info gi;
	uint32_t zeros;

	if (group_parse(geo, hdr->data, g->no, &gi) < 0)
		return -EUCLEAN;
	for (unsigned i = 0; i < geo->bitmap_cells; i++)
		memcpy(g->map + (size_t)i * LUNFS_BITMAP_BYTES, bm_bits(bm[i]),
		       (bitmap_bits(g, i) + 7u) / 8u);
	if (bit_find(g->map, 0, g->meta_blks, false) != g->meta_blks)
		return -EUCLEAN;
	zeros = g->nblks - (uint32_t)bit_count(g->map, g->nblks);
	if (zeros != gi.free_blks)
		return -EUCLEAN;
	atomic_store(&g->free_blks, zeros);
	atomic_store(&g->avail, zeros);
	g->longest = UINT32_MAX;
	hint_from_header(g->o.a, g->no, &gi);
	return 0;
}

static void put_all(struct txns *t, struct mblk **bm, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (bm[i])
			mblk_put(t, bm[i]);
	free(bm);
}

int group_load(struct group *g, struct mblk *hdr)
{
	struct alloc *a = g->o.a;
	unsigned n = a->env.geo->bitmap_cells;
	struct mblk **bm = calloc(n, sizeof(struct mblk *));
	int rc = 0;

	lunfs_assert(bm != NULL);
	for (unsigned i = 0; i < n && rc == 0; i++)
		rc = mblk_get(a->txns, g->o.lock, geo_group_bitmap(a->env.geo, g->no, i),
			      LUNFS_BLK_BITMAP, &bm[i]);
	mtx_lock(&g->o.mtx);
	if (rc == 0 && !g->o.loaded) {
		rc = install(g, hdr, bm);
		g->o.loaded = rc == 0;
	}
	if (rc == 0 && !g->bm) {
		g->bm = bm;
		bm = NULL;
	}
	mtx_unlock(&g->o.mtx);
	if (bm)
		put_all(a->txns, bm, n);
	return rc;
}

static int need_bitmap(struct group *g, unsigned i)
{
	struct alloc *a = g->o.a;
	struct mblk *m;
	bool have;
	int rc;

	mtx_lock(&g->o.mtx);
	if (!g->bm) {
		g->bm = calloc(a->env.geo->bitmap_cells, sizeof(struct mblk *));
		lunfs_assert(g->bm != NULL);
	}
	have = g->bm[i] != NULL;
	mtx_unlock(&g->o.mtx);
	if (have)
		return 0;
	rc = mblk_get(a->txns, g->o.lock, geo_group_bitmap(a->env.geo, g->no, i), LUNFS_BLK_BITMAP,
		      &m);
	if (rc < 0)
		return rc;
	mtx_lock(&g->o.mtx);
	if (!g->bm[i]) {
		g->bm[i] = m;
		m = NULL;
	}
	mtx_unlock(&g->o.mtx);
	if (m)
		mblk_put(a->txns, m);
	return 0;
}

int group_need_bitmaps(struct group *g, uint32_t first, uint32_t n)
{
	for (unsigned i = first / LUNFS_BITMAP_BITS; i <= (first + n - 1) / LUNFS_BITMAP_BITS;
	     i++) {
		int rc = need_bitmap(g, i);

		if (rc < 0)
			return rc;
	}
	return 0;
}

void group_hold(struct group *g, uint32_t first, uint32_t n)
{
	for (uint32_t i = first; i < first + n; i++) {
		lunfs_assert(!bit_get(g->map, i));
		bit_set(g->map, i);
	}
	atomic_fetch_sub(&g->avail, n);
}

void group_release(struct group *g, uint32_t first, uint32_t n)
{
	uint32_t window = first / window_blks(g->o.a->env.geo);

	for (uint32_t i = first; i < first + n; i++) {
		lunfs_assert(bit_get(g->map, i));
		bit_clear(g->map, i);
	}
	atomic_fetch_add(&g->avail, n);
	if (g->full_windows > window)
		g->full_windows = window;
	g->longest = UINT32_MAX;
}

static void header_count(struct txn_handle *h, struct group *g)
{
	struct lunfs_group_pl *p;

	mblk_dirty(h, g->o.hdr);
	p = (struct lunfs_group_pl *)g->o.hdr->data;
	p->free_blks = le32_make(atomic_load(&g->free_blks));
}

/* Give bits [first, first + n) of the bitmaps the value @v; each has the other one now. */
static bool change_bits(struct txn_handle *h, struct group *g, uint32_t first, uint32_t n, bool v)
{
	uint32_t end = first + n;

	while (first < end) {
		unsigned i = first / LUNFS_BITMAP_BITS;
		uint32_t base = i * LUNFS_BITMAP_BITS;
		uint32_t stop = base + LUNFS_BITMAP_BITS < end ? base + LUNFS_BITMAP_BITS : end;
		struct mblk *m = g->bm[i];

		lunfs_assert(m != NULL);
		if (bit_find(bm_bits(m), first - base, stop - base, v) != stop - base)
			return false;
		mblk_dirty(h, m);
		for (; first < stop; first++)
			if (v)
				bit_set(bm_bits(m), first - base);
			else
				bit_clear(bm_bits(m), first - base);
	}
	return true;
}

void group_bits_set(struct txn_handle *h, struct group *g, uint32_t first, uint32_t n)
{
	bool were_zero = change_bits(h, g, first, n, true);

	lunfs_assert(were_zero);
	atomic_fetch_sub(&g->free_blks, n);
	header_count(h, g);
}

bool group_bits_clear(struct txn_handle *h, struct group *g, uint32_t first, uint32_t n)
{
	if (!change_bits(h, g, first, n, false))
		return false;
	atomic_fetch_add(&g->free_blks, n);
	header_count(h, g);
	return true;
}
