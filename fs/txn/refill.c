/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where hosts hand a lock to and fro, each finds its cache empty when the lock comes back, and
 * would read one block after the other until it has again what it works with: the nodes of a
 * directory that several hosts change. So what was used last under a guard is remembered when it
 * goes, and read together with the first block that is wanted when it has come back. Others may
 * have put those blocks to other use meanwhile: each is judged as what is read ahead always is
 * (early.c).
 *
 * How many are worth it shows the next time the guard goes. All of it under txns.mtx.
 */
#include "txn/txn_impl.h"

#define REFILL_FIRST 16u
#define REFILL_MIN 2u
#define TOO_FEW 16u /* never worth it where less than that part is used */
#define LOAD_MAX_NS 50000000ull /* an outage says nothing about how long a read takes */

static struct refill *slot_of(struct txns *t, uint64_t guard)
{
	return &t->refill[(guard * 0x9e3779b97f4a7c15ull >> 32) % REFILL_SLOTS];
}

static bool is_other(const struct cblk *b, const struct guard_idx *g)
{
	return b->m.addr != g->addr && b->state == CBLK_VALID;
}

void refill_learn_load(struct txns *t, uint64_t ns)
{
	ns = ns < LOAD_MAX_NS ? ns : LOAD_MAX_NS;
	t->load_ns = t->load_ns ? (7 * t->load_ns + ns) / 8 : ns;
}

/*
 * What was read the last time was worth it if those of them that were used, and the one that was
 * wanted, would have taken longer one by one. Nobody used @unused.
 */
static void learn(const struct txns *t, struct refill *f, unsigned unused)
{
	unsigned used = unused < f->read ? f->read - unused : 0;
	uint64_t saved = (used + 1) * t->load_ns;

	if (!f->read)
		return;
	if (saved < f->took_ns || used * TOO_FEW < f->read)
		f->most = f->most / 2 > REFILL_MIN ? f->most / 2 : REFILL_MIN;
	else if (f->full && saved >= f->took_ns + f->took_ns / 4)
		f->most = 2 * f->most < REFILL_MAX ? 2 * f->most : REFILL_MAX;
	f->read = 0;
}

void refill_note(struct txns *t, const struct guard_idx *g)
{
	struct refill *f = slot_of(t, g->addr);
	unsigned used = 0, unused = 0;
	const struct cblk *b;

	TAILQ_FOREACH(b, &g->blks, of_guard)
	{
		used += is_other(b, g) && !b->unverified;
		unused += is_other(b, g) && b->unverified;
	}
	if (!used) { /* what was remembered before may be wanted the next time */
		if (f->guard == g->addr)
			f->read = 0;
		return;
	}
	if (f->guard != g->addr)
		*f = (struct refill){.guard = g->addr, .most = REFILL_FIRST};
	learn(t, f, unused);
	f->full = used + unused > f->most;
	f->n = 0;
	TAILQ_FOREACH_REVERSE(b, &g->blks, cblk_list, of_guard)
	{
		if (f->n < f->most && is_other(b, g))
			f->addr[f->n++] = b->m.addr;
	}
}

bool refill(struct txns *t, uint64_t guard, uint64_t addr)
{
	struct refill *f = slot_of(t, guard);
	uint64_t all[MBLK_AHEAD_MAX], began;
	size_t n = 0;

	if (f->guard != guard || !f->n || addr == guard)
		return false;
	all[n++] = addr;
	for (unsigned k = 0; k < f->n; k++)
		if (f->addr[k] != addr)
			all[n++] = f->addr[k];
	f->n = 0;
	began = clock_now_ns(t->env.clk);
	n = early_read(t, guard, all, n);
	n -= n > 0; /* the one that was wanted */
	if (f->guard == guard) {
		f->read = (unsigned)n;
		f->took_ns = clock_now_ns(t->env.clk) - began;
	}
	atomic_fetch_add(&t->stats.cache_refilled, n);
	return true;
}
