/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of in-core locks, in stripes of their own mutex. A lock stays in it while it is held,
 * pinned, waited for or worked on. Held and unused ones stand on the stripe's LRU list, least
 * recently used first, from which the reaper takes.
 */
#include "cluster/lock_impl.h"

#include "base/crc.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_MIN 64u

static uint64_t hash_addr(uint64_t addr)
{
	return addr * 0x9e3779b97f4a7c15ull;
}

struct stripe *table_stripe(struct locks *ls, uint64_t addr)
{
	return &ls->stripe[hash_addr(addr) >> 60];
}

static size_t bucket_of(const struct stripe *s, uint64_t addr)
{
	return (size_t)(hash_addr(addr) >> 24) & (s->nbuckets - 1);
}

int table_init(struct locks *ls)
{
	for (unsigned i = 0; i < LOCK_STRIPES; i++) {
		struct stripe *s = &ls->stripe[i];

		mtx_init(&s->mtx, ls->env.clk);
		TAILQ_INIT(&s->lru);
		TAILQ_INIT(&s->waiting);
		s->nbuckets = BUCKETS_MIN;
		s->bucket = calloc(s->nbuckets, sizeof(*s->bucket));
		if (!s->bucket)
			s->nbuckets = 0;
	}
	for (unsigned i = 0; i < LOCK_STRIPES; i++) {
		if (!ls->stripe[i].bucket)
			return -ENOMEM;
	}
	return 0;
}

struct lock *table_find(struct stripe *s, uint64_t addr)
{
	struct lock *l = s->bucket[bucket_of(s, addr)];

	while (l && l->addr != addr)
		l = l->hash_next;
	return l;
}

static void grow(struct stripe *s)
{
	size_t was = s->nbuckets;
	struct lock **old = s->bucket, **b = calloc(2 * was, sizeof(*b));

	if (!b)
		return; /* longer chains */
	s->bucket = b;
	s->nbuckets = 2 * was;
	for (size_t i = 0; i < was; i++) {
		struct lock *l, *next;

		for (l = old[i]; l; l = next) {
			next = l->hash_next;
			l->hash_next = b[bucket_of(s, l->addr)];
			b[bucket_of(s, l->addr)] = l;
		}
	}
	free(old);
}

static struct lock *make(struct locks *ls, struct stripe *s, uint64_t addr)
{
	struct lock *l = calloc(1, sizeof(*l));

	lunfs_assert(l);
	l->ls = ls;
	l->addr = addr;
	l->sec = (struct ats_sector){.off_bytes = lock_off(addr), .kind = "lock", .addr = addr};
	TAILQ_INIT(&l->waiters);
	cond_init(&l->cond, ls->env.clk);
	if (s->nlocks >= 2 * s->nbuckets)
		grow(s);
	l->hash_next = s->bucket[bucket_of(s, addr)];
	s->bucket[bucket_of(s, addr)] = l;
	s->nlocks++;
	return l;
}

static struct lock *make_born(struct locks *ls, struct stripe *s, uint64_t addr)
{
	struct lock *l = make(ls, s, addr);
	uint8_t *img = dev_buf_alloc(ls->env.geo->sector_bytes);

	rec_born(ls->env.geo, addr, ls->owner, ls->nonce, img);
	memcpy(&l->known, img, sizeof(l->known));
	free(img);
	l->known_valid = true;
	l->born = true;
	lock_set_held(l, LOCK_EX);
	l->since_ns = 0; /* wishes may be older than the struct */
	table_touch(s, l);
	return l;
}

struct lock *table_find_born(struct locks *ls, struct stripe *s, uint64_t addr)
{
	struct lock *l = table_find(s, addr);

	if (!l && born_take(ls, addr))
		l = make_born(ls, s, addr);
	return l;
}

struct lock *table_get(struct locks *ls, struct stripe *s, uint64_t addr)
{
	struct lock *l = table_find_born(ls, s, addr);

	if (!l)
		l = make(ls, s, addr);
	l->refs++;
	return l;
}

static void unlink_lock(struct stripe *s, struct lock *l)
{
	struct lock **p = &s->bucket[bucket_of(s, l->addr)];

	while (*p != l)
		p = &(*p)->hash_next;
	*p = l->hash_next;
	s->nlocks--;
	if (l->on_lru)
		TAILQ_REMOVE(&s->lru, l, lru);
	cond_destroy(&l->cond);
	free(l);
}

void table_put(struct stripe *s, struct lock *l)
{
	lunfs_assert(l->refs);
	l->refs--;
	if (l->refs || lock_pins(l) || l->held != LOCK_NONE || l->unsettled || l->state != LST_IDLE)
		return;
	unlink_lock(s, l);
}

struct past *table_past(struct stripe *s, uint64_t addr, bool make)
{
	struct past *p = &s->past[(hash_addr(addr) >> 48) & (PASTS - 1)];

	if (p->addr == addr)
		return p;
	if (!make)
		return NULL;
	*p = (struct past){.addr = addr};
	return p;
}

bool lock_is_busy(const struct lock *l)
{
	return l->state != LST_IDLE;
}

void lock_set_held(struct lock *l, enum lock_mode held)
{
	if (l->held == LOCK_NONE && held != LOCK_NONE)
		atomic_fetch_add(&l->ls->cached, 1);
	if (l->held != LOCK_NONE && held == LOCK_NONE) {
		l->ahead = AHEAD_NOT;
		atomic_fetch_sub(&l->ls->cached, 1);
		atomic_store(&l->priv, NULL);
	}
	if (held > l->held) {
		l->since_ns = lock_now(l->ls);
		l->rests = l->usual = 0;
	}
	if (held != l->held)
		l->asked_for = l->again = l->eager = l->used_ex = false;
	l->held = held;
}

void table_touch(struct stripe *s, struct lock *l)
{
	bool want = l->held != LOCK_NONE && l->state == LST_IDLE && !lock_pins(l);

	if (want == l->on_lru)
		return;
	l->on_lru = want;
	if (want)
		TAILQ_INSERT_TAIL(&s->lru, l, lru);
	else
		TAILQ_REMOVE(&s->lru, l, lru);
}

void lock_wake_all(struct lock *l)
{
	struct waiter *w;

	cond_broadcast(&l->cond);
	if (l->raiser)
		cond_signal(l->raiser);
	TAILQ_FOREACH(w, &l->waiters, queue)
	{
		cond_signal(&w->cond);
	}
}

void lock_end_work(struct stripe *s, struct lock *l)
{
	lunfs_assert(l->state != LST_IDLE);
	l->state = LST_IDLE;
	l->drain_ok = false;
	l->late_ok = false;
	if (l->held == LOCK_NONE && !l->unsettled)
		l->known_valid = false;
	table_touch(s, l);
	if (l->unsettled || (l->drop && l->held != LOCK_NONE))
		reap_queue(l->ls, l);
	lock_wake_all(l);
}

static void forget(struct stripe *s, struct lock *l)
{
	l->unsettled = false;
	l->known_valid = false;
	l->born = l->drop = false;
	if (l->parked) {
		l->parked = false;
		l->state = LST_IDLE;
		l->refs--;
	}
	lock_set_held(l, LOCK_NONE);
	table_touch(s, l);
	if (!l->refs && !lock_pins(l))
		unlink_lock(s, l);
}

void table_clear(struct locks *ls)
{
	for (unsigned i = 0; i < LOCK_STRIPES; i++) {
		struct stripe *s = &ls->stripe[i];

		mtx_lock(&s->mtx);
		memset(s->past, 0, sizeof(s->past));
		for (size_t k = 0; k < s->nbuckets; k++) {
			struct lock *l, *next;

			for (l = s->bucket[k]; l; l = next) {
				next = l->hash_next;
				forget(s, l);
			}
		}
		mtx_unlock(&s->mtx);
	}
}

void table_destroy(struct locks *ls)
{
	for (unsigned i = 0; i < LOCK_STRIPES; i++) {
		struct stripe *s = &ls->stripe[i];

		lunfs_assert(!s->nlocks);
		free(s->bucket);
		mtx_destroy(&s->mtx);
	}
}
