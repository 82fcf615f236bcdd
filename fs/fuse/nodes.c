/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Node ids: the inodes that the kernel holds references to, each with the generation it was told
 * last, and whether it may cache pages of it. The node id is the inode's address. When an address
 * is used again with another generation, the kernel turns its old inode bad by itself and goes on
 * with the new one under the same id, so one generation an id is enough.
 */
#include "fuse/front.h"
#include <stdlib.h>
#include <uthash.h>

struct node {
	uint64_t ino;
	uint64_t generation;
	uint64_t lookups;
	bool pages;
	unsigned busy;	   /* requests on its data in hand */
	unsigned mappable; /* handles open to read and to write */
	UT_hash_handle hh;
};

struct nodes {
	struct mtx mtx;
	struct node *table;
};

struct nodes *nodes_new(struct clock *clk)
{
	struct nodes *n = calloc(1, sizeof(*n));

	lunfs_assert(n);
	mtx_init(&n->mtx, clk);
	return n;
}

void nodes_free(struct nodes *n)
{
	struct node *e, *tmp;

	HASH_ITER (hh, n->table, e, tmp) {
		HASH_DEL(n->table, e);
		free(e);
	}
	mtx_destroy(&n->mtx);
	free(n);
}

static struct node *find(struct nodes *n, uint64_t ino)
{
	struct node *e;

	HASH_FIND(hh, n->table, &ino, sizeof(ino), e);
	return e;
}

void nodes_remember(struct nodes *n, struct nodeid id)
{
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, id.ino);
	if (!e) {
		e = calloc(1, sizeof(*e));
		lunfs_assert(e);
		e->ino = id.ino;
		HASH_ADD(hh, n->table, ino, sizeof(e->ino), e);
	}
	e->generation = id.generation;
	e->lookups++;
	mtx_unlock(&n->mtx);
}

void nodes_forget(struct nodes *n, uint64_t ino, uint64_t count)
{
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	if (e) {
		e->lookups -= count < e->lookups ? count : e->lookups;
		if (e->lookups == 0) {
			HASH_DEL(n->table, e);
			free(e);
		}
	}
	mtx_unlock(&n->mtx);
}

uint64_t nodes_generation(struct nodes *n, uint64_t ino)
{
	uint64_t gen;
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	gen = e ? e->generation : 0;
	mtx_unlock(&n->mtx);
	return gen;
}

bool nodes_data_begin(struct nodes *n, uint64_t ino, bool pages)
{
	bool mappable;
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	mappable = e && e->mappable;
	if (e) {
		e->pages |= pages;
		e->busy++;
	}
	mtx_unlock(&n->mtx);
	return mappable;
}

void nodes_data_end(struct nodes *n, uint64_t ino)
{
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	if (e && e->busy)
		e->busy--;
	mtx_unlock(&n->mtx);
}

bool nodes_busy(struct nodes *n, uint64_t ino)
{
	struct node *e;
	bool busy;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	busy = e && e->busy;
	mtx_unlock(&n->mtx);
	return busy;
}

void nodes_mappable(struct nodes *n, uint64_t ino, int delta)
{
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	if (e && (delta > 0 || e->mappable))
		e->mappable += (unsigned)delta;
	mtx_unlock(&n->mtx);
}

bool nodes_take_pages(struct nodes *n, uint64_t ino)
{
	bool pages;
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	pages = e && e->pages;
	if (e)
		e->pages = false;
	mtx_unlock(&n->mtx);
	return pages;
}
