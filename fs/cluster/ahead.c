/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Many cold locks at once, for who will most likely want them one after the other: all cells are
 * read together, then all test and sets are sent together, then cells whose payload was not current
 * are read once more. So they cost the time of two or three commands, and not of as many each.
 *
 * Only what nobody has or wants is taken: nobody is asked, nobody is waited for. What goes wrong is
 * left to who pins the lock, and whoever comes for one meanwhile waits for it as for any acquire.
 */
#include "cluster/lock_impl.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HOSTS_MAX 8u /* that want the same at once: one of them gets it each round */
#define TO_TAKE 1

struct ahead { /* locks that are busy by this thread, in the order of their addresses */
	struct locks *ls;
	enum lock_mode mode;
	size_t n;
	struct lock *l[LOCK_AHEAD_MAX];
	int rc[LOCK_AHEAD_MAX];		     /* 0: held now */
	const uint8_t *cell[LOCK_AHEAD_MAX]; /* whose payload is current; NULL: none yet */
};

static bool is_left_alone(const struct lock *l)
{
	return l->state == LST_IDLE && l->held == LOCK_NONE && !l->unsettled && !l->nwaiters &&
	       !l->queued && !lock_pins(l);
}

static void claim(struct ahead *a, uint64_t addr)
{
	struct locks *ls = a->ls;
	struct stripe *s = table_stripe(ls, addr);
	struct lock *l;

	mtx_lock(&s->mtx);
	if (table_past(s, addr, false) || born_has(ls, addr)) {
		mtx_unlock(&s->mtx); /* hosts hand it each other; it is here */
		return;
	}
	l = table_get(ls, s, addr);
	if (is_left_alone(l)) {
		l->state = LST_ACQUIRE;
		a->l[a->n++] = l;
	} else {
		table_put(s, l);
	}
	mtx_unlock(&s->mtx);
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void claim_all(struct ahead *a, const uint64_t *addr, size_t n)
{
	uint64_t order[LOCK_AHEAD_MAX];

	memcpy(order, addr, n * sizeof(*addr));
	qsort(order, n, sizeof(*order), ascending);
	for (size_t k = 0; k < n; k++)
		if (cell_addr_ok(a->ls->env.geo, order[k]) && (!k || order[k] != order[k - 1]))
			claim(a, order[k]);
}

/*
 * Those that may be had at once, by the record that is known of them. One for which another host
 * was faster may be none the less, if that one shares it, too; but what was read in the @first
 * place is not what its record stands for any more. Is it worth trying again?
 */
static bool take_all(struct ahead *a, const uint8_t *cells, uint64_t read_ns, bool first)
{
	struct lunfs_lock_rec *next = calloc(a->n + 1, sizeof(*next));
	struct lock *go[LOCK_AHEAD_MAX];
	size_t which[LOCK_AHEAD_MAX], n = 0;
	int rc[LOCK_AHEAD_MAX];
	unsigned lost = 0;

	lunfs_assert(next);
	for (size_t k = 0; k < a->n; k++) {
		const uint8_t *cell = cells + k * geo_cell_bytes(a->ls->env.geo);
		struct rec_me me = lock_me(a->ls, a->l[k]->addr, false);
		bool current = false;

		if (a->rc[k] != TO_TAKE)
			continue;
		a->rc[k] = -EAGAIN;
		if (!host_lease_ok(a->ls->host) || atomic_load(&a->ls->stopping))
			continue;
		a->rc[k] = lock_may_take(a->ls, a->l[k], a->mode, cell, read_ns, &current);
		if (a->rc[k])
			continue;
		a->cell[k] = current && first ? cell : NULL;
		next[n] = a->l[k]->known;
		if (a->mode == LOCK_EX)
			rec_take_ex(&next[n], &me);
		else
			rec_join_sh(&next[n], &me);
		go[n] = a->l[k];
		which[n++] = k;
	}
	lock_ats_many(a->ls, go, next, rc, n, false);
	for (size_t i = 0; i < n; i++) {
		bool race = rc[i] == -EAGAIN &&
			    le64_get(go[i]->known.hdr.image_seq) != le64_get(next[i].hdr.image_seq);

		a->rc[which[i]] = race ? TO_TAKE : rc[i];
		lost += race;
	}
	free(next);
	return lost && lost <= n - n / HOSTS_MAX;
}

/* Of those that are held now and whose payload may have been newer than their record said. */
static void read_again(struct ahead *a, uint8_t *cells)
{
	struct lock *l[LOCK_AHEAD_MAX];
	size_t which[LOCK_AHEAD_MAX], n = 0;
	int rc[LOCK_AHEAD_MAX];

	for (size_t k = 0; k < a->n; k++) {
		if (a->rc[k] || a->cell[k])
			continue;
		l[n] = a->l[k];
		which[n++] = k;
	}
	lock_read_many(a->ls, l, cells, rc, n);
	for (size_t i = 0; i < n; i++)
		if (!rc[i])
			a->cell[which[i]] = cells + i * geo_cell_bytes(a->ls->env.geo);
}

static void finish(struct ahead *a, size_t k)
{
	struct locks *ls = a->ls;
	struct lock *l = a->l[k];
	struct stripe *s = table_stripe(ls, l->addr);

	if (!a->rc[k] && a->cell[k] && ls->cb.loaded)
		ls->cb.loaded(ls->cb.ctx, l, a->cell[k] + ls->env.geo->payload_off);
	if (!a->rc[k])
		LOCK_COUNT(ls, ahead);
	mtx_lock(&s->mtx);
	if (!a->rc[k])
		l->ahead = AHEAD_UNUSED;
	lock_end_work(s, l);
	table_put(s, l);
	mtx_unlock(&s->mtx);
}

static size_t get_claimed(struct ahead *a)
{
	size_t bytes = a->n * geo_cell_bytes(a->ls->env.geo), got = 0;
	uint8_t *cells = dev_buf_alloc(2 * bytes);
	uint64_t read_ns = lock_now(a->ls);

	lock_read_many(a->ls, a->l, cells, a->rc, a->n);
	for (size_t k = 0; k < a->n; k++)
		a->rc[k] = a->rc[k] ? a->rc[k] : TO_TAKE;
	for (unsigned i = 0; i < HOSTS_MAX && take_all(a, cells, read_ns, i == 0); i++)
		;
	read_again(a, cells + bytes);
	for (size_t k = 0; k < a->n; k++) {
		finish(a, k);
		got += !a->rc[k];
	}
	free(cells);
	return got;
}

size_t lock_get_ahead(struct locks *ls, const uint64_t *addr, size_t n, enum lock_mode mode)
{
	struct ahead a = {.ls = ls, .mode = mode};

	lunfs_assert(n <= LOCK_AHEAD_MAX);
	if (ls->slot >= LUNFS_MAX_SLOTS || !host_lease_ok(ls->host) || atomic_load(&ls->stopping))
		return 0;
	claim_all(&a, addr, n);
	return a.n ? get_claimed(&a) : 0;
}
