/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What belongs to a guard: its cached blocks, its committed images, the last transaction that
 * changed something under it. And, for a while after its own payload left the cache, the version
 * that stands on disk: the lock layer asks for it when it gives the lock up. All under txns.mtx.
 */
#include "txn/txn_impl.h"

#include <stdlib.h>

struct guard_idx *gidx_find(struct txns *t, uint64_t addr)
{
	struct guard_idx *g;

	HASH_FIND(hh, t->guards, &addr, sizeof(addr), g);
	return g;
}

struct guard_idx *gidx_get(struct txns *t, uint64_t addr)
{
	struct guard_idx *g = gidx_find(t, addr);

	if (g)
		return g;
	g = txn_zalloc(sizeof(*g));
	g->addr = addr;
	TAILQ_INIT(&g->blks);
	TAILQ_INIT(&g->images);
	HASH_ADD(hh, t->guards, addr, sizeof(g->addr), g);
	return g;
}

void gidx_settle(struct txns *t, struct guard_idx *g)
{
	if (!TAILQ_EMPTY(&g->blks) || !TAILQ_EMPTY(&g->images))
		return;
	if (g->wanted || g->writing || g->last_tid > t->durable_tid)
		return;
	HASH_DEL(t->guards, g);
	free(g);
}

static struct recent *recent_slot(struct txns *t, uint64_t addr)
{
	return &t->recent[(addr * 0x9e3779b97f4a7c15ull >> 32) % RECENT_SLOTS];
}

void recent_put(struct txns *t, uint64_t addr, uint64_t version)
{
	*recent_slot(t, addr) = (struct recent){.addr = addr, .version = version};
}

void recent_give_up(struct txns *t, uint64_t addr)
{
	struct recent *r = recent_slot(t, addr);

	if (r->addr != addr)
		return;
	if (r->given_up)
		*r = (struct recent){0};
	else
		r->given_up = true;
}

uint64_t recent_get(struct txns *t, uint64_t addr)
{
	const struct recent *r = recent_slot(t, addr);

	return r->addr == addr ? r->version : 0;
}

uint64_t txn_guard_version(struct txns *t, uint64_t guard_addr)
{
	struct cblk *b;
	uint64_t v;

	mtx_lock(&t->mtx);
	HASH_FIND(hh, t->blks, &guard_addr, sizeof(guard_addr), b);
	if (b && b->gidx && b->gidx->addr == guard_addr && b->state == CBLK_VALID)
		v = b->unverified ? 0 : b->disk_version;
	else
		v = recent_get(t, guard_addr);
	mtx_unlock(&t->mtx);
	return v;
}
