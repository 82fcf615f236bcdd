// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Groups and chunks in core: the table, pins and lifetimes.
 *
 * Each pin is a pin of the lock, taken by LOCK_TRY alone, so that a revoke that has begun admits
 * none and ends. The references to cached payloads go with the last pin, before the lock's own.
 * alloc_lock_gone() takes an object out of the table; call-backs of commits may still hold
 * references to it and find it dead.
 */
#include "alloc/alloc_impl.h"
#include "base/log.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct aobj **bucket_of(struct alloc *a, uint64_t addr)
{
	return &a->bucket[(addr * 0x9e3779b97f4a7c15ull) >> 52];
}
static_assert(AOBJ_BUCKETS == 1u << 12, "bucket_of");

/* alloc.mtx held. */
static struct aobj *table_find(struct alloc *a, uint64_t addr)
{
	struct aobj *o = *bucket_of(a, addr);

	while (o && o->addr != addr)
		o = o->chain;
	return o;
}

static void table_remove(struct alloc *a, struct aobj *o)
{
	struct aobj **p = bucket_of(a, o->addr);

	while (*p != o)
		p = &(*p)->chain;
	*p = o->chain;
}

bool aobj_known_locked(struct alloc *a, uint64_t addr)
{
	return table_find(a, addr) != NULL;
}

void aobj_ref(struct aobj *o)
{
	atomic_fetch_add(&o->refs, 1);
}

void aobj_unref(struct aobj *o)
{
	if (atomic_fetch_sub(&o->refs, 1) != 1)
		return;
	if (o->kind == AOBJ_GROUP)
		group_fini(group_of(o));
	else
		chunk_fini(chunk_of(o));
	mtx_destroy(&o->mtx);
	free(o);
}

/* alloc.mtx held. */
static void list_group(struct alloc *a, struct group *g)
{
	struct ghint *h = hint_at(a, g->no);

	g->prev = NULL;
	g->next = a->groups;
	if (g->next)
		g->next->prev = g;
	a->groups = g;
	if (h)
		h->flags |= HINT_HELD;
}

static void unlist_group(struct alloc *a, struct group *g)
{
	struct ghint *h = hint_at(a, g->no);

	if (g->prev)
		g->prev->next = g->next;
	else
		a->groups = g->next;
	if (g->next)
		g->next->prev = g->prev;
	if (h) {
		h->flags &= ~HINT_HELD;
		h->seen_ns = 0; /* from now on others change it */
	}
}

static struct aobj *obj_new(struct alloc *a, enum aobj_kind kind, uint64_t addr)
{
	size_t size = kind == AOBJ_GROUP ? sizeof(struct group) : sizeof(struct chunk);
	struct aobj *o = calloc(1, size);

	lunfs_assert(o != NULL);
	o->a = a;
	o->kind = kind;
	o->addr = addr;
	atomic_init(&o->refs, 1);
	mtx_init(&o->mtx, a->env.clk);
	if (kind == AOBJ_GROUP)
		group_init(a, group_of(o));
	else
		chunk_init(a, chunk_of(o));
	return o;
}

/* Find or make the object of a lock that the caller has pinned, and count the pin. */
static struct aobj *obj_enter(struct alloc *a, enum aobj_kind kind, uint64_t addr, struct lock *l)
{
	struct aobj *spare = NULL, *o;

	mtx_lock(&a->mtx);
	o = table_find(a, addr);
	if (!o) {
		mtx_unlock(&a->mtx);
		spare = obj_new(a, kind, addr);
		mtx_lock(&a->mtx);
		o = table_find(a, addr);
	}
	if (!o) {
		o = spare;
		spare = NULL;
		o->chain = *bucket_of(a, addr);
		*bucket_of(a, addr) = o;
		if (kind == AOBJ_GROUP)
			list_group(a, group_of(o));
	}
	aobj_ref(o);
	mtx_unlock(&a->mtx);
	if (spare)
		aobj_unref(spare);
	lunfs_assert(o->kind == kind);
	mtx_lock(&o->mtx);
	if (o->pins++ == 0)
		o->lock = l; /* read without the mutex while pinned */
	lunfs_assert(o->lock == l);
	mtx_unlock(&o->mtx);
	return o;
}

/* Make sure that a pinned object is loaded and has its header's payload. */
static int obj_ready(struct aobj *o)
{
	struct txns *t = o->a->txns;
	struct mblk *m;
	bool loaded;
	int rc = 0;

	mtx_lock(&o->mtx);
	loaded = o->loaded;
	m = o->hdr;
	mtx_unlock(&o->mtx);
	if (loaded && m)
		return 0;
	rc = mblk_get(t, o->lock, o->addr,
		      o->kind == AOBJ_GROUP ? LUNFS_BLK_GROUP : LUNFS_BLK_CHUNK, &m);
	if (rc < 0)
		return rc;
	if (!loaded)
		rc =
		    o->kind == AOBJ_GROUP ? group_load(group_of(o), m) : chunk_load(chunk_of(o), m);
	mtx_lock(&o->mtx);
	if (rc == 0 && !o->hdr) {
		o->hdr = m;
		m = NULL;
	}
	mtx_unlock(&o->mtx);
	if (m)
		mblk_put(t, m);
	return rc;
}

int aobj_pin(struct alloc *a, enum aobj_kind kind, uint64_t addr, unsigned flags, struct aobj **out)
{
	struct lock *l;
	struct aobj *o;
	int rc;

	rc = lock_pin(a->locks, addr, LOCK_EX, LOCAL_SHARED, LOCK_TRY | (flags & ~AOBJ_GUESS), NULL,
		      &l);
	if (rc < 0)
		return rc;
	o = obj_enter(a, kind, addr, l);
	rc = obj_ready(o);
	if (rc == -ESTALE && !(flags & AOBJ_GUESS))
		rc = -EUCLEAN; /* something else stands there */
	if (rc < 0) {
		if (rc == -EUCLEAN)
			log_err("space-damaged",
				"the header of %s %llu does not make sense, so nothing is "
				"allocated or freed there: run fsck.lunfs",
				kind == AOBJ_GROUP ? "group at block" : "metadata chunk at block",
				(unsigned long long)addr);
		aobj_unpin(o);
		return rc;
	}
	*out = o;
	return 0;
}

struct detached {
	struct mblk *hdr;
	struct mblk **bm;
};

/* The last pin goes: take the payload references out. o->mtx held. */
static void detach(struct aobj *o, struct detached *d)
{
	d->hdr = o->hdr;
	o->hdr = NULL;
	if (o->kind == AOBJ_GROUP) {
		struct group *g = group_of(o);

		d->bm = g->bm;
		g->bm = NULL;
	}
}

static void put_detached(struct alloc *a, const struct detached *d)
{
	if (d->bm)
		for (unsigned i = 0; i < a->env.geo->bitmap_cells; i++)
			if (d->bm[i])
				mblk_put(a->txns, d->bm[i]);
	free(d->bm);
	if (d->hdr)
		mblk_put(a->txns, d->hdr);
}

void aobj_unpin(struct aobj *o)
{
	struct detached d = {0};
	struct alloc *a = o->a;
	struct lock *l;

	mtx_lock(&o->mtx);
	lunfs_assert(o->pins > 0);
	l = o->lock;
	if (--o->pins == 0)
		detach(o, &d);
	mtx_unlock(&o->mtx);
	put_detached(a, &d);
	aobj_unref(o);
	lock_unpin(a->locks, l, LOCAL_SHARED);
}

/* What was never used is fresh: @map says what others took since they came upon the chunk. */
static void set_fresh(struct chunk *c, const struct chunk_info *ci)
{
	for (unsigned i = 0; i < sizeof(c->fresh); i++) {
		uint8_t taken = c->o.loaded ? c->map[i] : ci->used[i];

		c->fresh[i] = (uint8_t)(ci->valid[i] & ~taken);
	}
}

/*
 * Loading lists the chunk, and from then on other threads take cells of it, so everything else
 * comes first. Who guessed its address may have brought the header, and even loaded it, before.
 */
struct chunk *aobj_adopt_chunk(struct alloc *a, struct lock *lock, struct mblk *hdr,
			       const struct chunk_info *ci)
{
	struct aobj *o = obj_enter(a, AOBJ_CHUNK, lock_addr(lock), lock);
	struct chunk *c = chunk_of(o);
	bool there;
	int rc;

	mtx_lock(&o->mtx);
	there = o->hdr != NULL;
	lunfs_assert(!there || o->hdr == hdr);
	o->hdr = hdr;
	set_fresh(c, ci);
	mtx_unlock(&o->mtx);
	if (there)
		mblk_put(a->txns, hdr);
	rc = chunk_load(c, hdr);
	lunfs_assert(rc == 0);
	return c;
}

/* Cells that this host freed: their own locks go too, so that the next holder can use them. */
static void drop_freed_locks(struct alloc *a, struct chunk *c)
{
	for (unsigned i = 0; i < LUNFS_CHUNK_CELLS; i++)
		if (c->freed[i / 8] & 1u << (i % 8))
			lock_drop(a->locks, c->first_blk + (uint64_t)i * a->env.geo->cell_blks);
}

static void obj_bury(struct alloc *a, struct aobj *o)
{
	mtx_lock(&o->mtx);
	lunfs_assert(o->pins == 0);
	if (o->kind == AOBJ_CHUNK && o->loaded) {
		struct chunk *c = chunk_of(o);
		unsigned left = atomic_load(&c->nfree);

		hint_chunk_free(a, o->addr, left);
		if (left == 0)
			hint_chunk_busy(a, o->addr, FULL_MS);
		chunk_count(c, -(int)left);
	}
	o->dead = true;
	mtx_unlock(&o->mtx);
}

void alloc_lock_gone(struct alloc *a, uint64_t addr)
{
	struct aobj *o;

	mtx_lock(&a->mtx);
	o = table_find(a, addr);
	if (o) {
		table_remove(a, o);
		if (o->kind == AOBJ_GROUP)
			unlist_group(a, group_of(o));
	}
	mtx_unlock(&a->mtx);
	if (!o)
		return;
	obj_bury(a, o);
	if (o->kind == AOBJ_CHUNK)
		drop_freed_locks(a, chunk_of(o));
	aobj_unref(o);
}

void aobj_drop_all(struct alloc *a)
{
	for (unsigned b = 0; b < AOBJ_BUCKETS; b++) {
		for (;;) {
			struct aobj *o;

			mtx_lock(&a->mtx);
			o = a->bucket[b];
			if (o) {
				a->bucket[b] = o->chain;
				if (o->kind == AOBJ_GROUP)
					unlist_group(a, group_of(o));
			}
			mtx_unlock(&a->mtx);
			if (!o)
				break;
			obj_bury(a, o);
			aobj_unref(o);
		}
	}
}
