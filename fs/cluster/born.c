/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Born ranges: cells that this host wrote with lock_born_image() and that nobody has touched since.
 * They are held EX by their image alone. A cell leaves its range when an in-core lock is made for
 * it, and comes back when that lock is put away with its record unchanged.
 */
#include "cluster/lock_impl.h"

#include "base/bitmap.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void born_init(struct locks *ls)
{
	memset(&ls->born, 0, sizeof(ls->born));
	mtx_init(&ls->born.mtx, ls->env.clk);
}

void born_clear(struct locks *ls)
{
	mtx_lock(&ls->born.mtx);
	ls->born.n = 0;
	mtx_unlock(&ls->born.mtx);
}

void born_destroy(struct locks *ls)
{
	free(ls->born.r);
	mtx_destroy(&ls->born.mtx);
}

/* Index of the first range that begins above @addr. */
static size_t range_above(const struct born_set *b, uint64_t addr)
{
	size_t lo = 0, hi = b->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (b->r[mid].first <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct born_range *range_of(struct locks *ls, uint64_t addr, unsigned *bit)
{
	struct born_set *b = &ls->born;
	size_t i = range_above(b, addr);
	uint64_t dist;

	if (!i)
		return NULL;
	dist = addr - b->r[i - 1].first;
	if (dist % ls->env.geo->cell_blks || dist / ls->env.geo->cell_blks >= b->r[i - 1].n)
		return NULL;
	*bit = (unsigned)(dist / ls->env.geo->cell_blks);
	return &b->r[i - 1];
}

static void insert_range(struct born_set *b, uint64_t first, unsigned n)
{
	size_t at = range_above(b, first);

	if (b->n == b->cap) {
		size_t cap = b->cap ? 2 * b->cap : 16;
		struct born_range *r = realloc(b->r, cap * sizeof(*r));

		lunfs_assert(r); /* some of the cells would be ours, and nobody would know */
		b->r = r;
		b->cap = cap;
	}
	memmove(b->r + at + 1, b->r + at, (b->n - at) * sizeof(*b->r));
	b->n++;
	b->r[at] = (struct born_range){.first = first, .n = n};
	for (unsigned i = 0; i < n; i++)
		bit_set(b->r[at].map, i);
}

void born_add(struct locks *ls, uint64_t first, unsigned n)
{
	mtx_lock(&ls->born.mtx);
	while (n) {
		unsigned part = n < BORN_CELLS ? n : BORN_CELLS;

		insert_range(&ls->born, first, part);
		first += (uint64_t)part * ls->env.geo->cell_blks;
		n -= part;
	}
	mtx_unlock(&ls->born.mtx);
}

bool born_has(struct locks *ls, uint64_t addr)
{
	struct born_range *r;
	unsigned bit = 0;
	bool has;

	mtx_lock(&ls->born.mtx);
	r = range_of(ls, addr, &bit);
	has = r && bit_get(r->map, bit);
	mtx_unlock(&ls->born.mtx);
	return has;
}

bool born_take(struct locks *ls, uint64_t addr)
{
	struct born_range *r;
	unsigned bit = 0;
	bool has;

	mtx_lock(&ls->born.mtx);
	r = range_of(ls, addr, &bit);
	has = r && bit_get(r->map, bit);
	if (has)
		bit_clear(r->map, bit);
	mtx_unlock(&ls->born.mtx);
	return has;
}

void born_give_back(struct locks *ls, uint64_t addr)
{
	struct born_range *r;
	unsigned bit = 0;

	mtx_lock(&ls->born.mtx);
	r = range_of(ls, addr, &bit);
	lunfs_assert(r && !bit_get(r->map, bit));
	bit_set(r->map, bit);
	mtx_unlock(&ls->born.mtx);
}
