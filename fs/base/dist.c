/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Distributions of durations: dist.h. */
#include "base/dist.h"

#define PER_DOUBLING 4u
#define RELAXED memory_order_relaxed

static unsigned bucket_of(uint64_t us)
{
	unsigned log, i;

	if (us < PER_DOUBLING)
		return (unsigned)us;
	log = 63u - (unsigned)__builtin_clzll(us);
	i = (log - 1) * PER_DOUBLING + (unsigned)(us >> (log - 2)) % PER_DOUBLING;
	return i < DIST_BUCKETS ? i : DIST_BUCKETS - 1;
}

uint64_t dist_floor_us(unsigned i)
{
	unsigned log = i / PER_DOUBLING + 1;

	if (i < PER_DOUBLING)
		return i;
	return (uint64_t)(PER_DOUBLING + i % PER_DOUBLING) << (log - 2);
}

void dist_add(struct dist *d, uint64_t ns)
{
	uint64_t us = ns / 1000;
	unsigned long long max = atomic_load_explicit(&d->max_us, RELAXED);

	atomic_fetch_add_explicit(&d->bucket[bucket_of(us)], 1, RELAXED);
	atomic_fetch_add_explicit(&d->sum_us, us, RELAXED);
	while (us > max &&
	       !atomic_compare_exchange_weak_explicit(&d->max_us, &max, us, RELAXED, RELAXED))
		;
}

void dist_read(struct dist *d, struct dist_copy *out)
{
	out->n = 0;
	out->sum_us = atomic_load_explicit(&d->sum_us, RELAXED);
	for (unsigned i = 0; i < DIST_BUCKETS; i++) {
		out->bucket[i] = atomic_load_explicit(&d->bucket[i], RELAXED);
		out->n += out->bucket[i];
	}
}

void dist_since(struct dist *d, struct dist_copy *before, struct dist_copy *out)
{
	struct dist_copy now;

	dist_read(d, &now);
	out->n = now.n - before->n;
	out->sum_us = now.sum_us - before->sum_us;
	for (unsigned i = 0; i < DIST_BUCKETS; i++)
		out->bucket[i] = now.bucket[i] - before->bucket[i];
	*before = now;
}

uint64_t dist_quantile_us(const struct dist_copy *c, unsigned permille)
{
	uint64_t below = 0;

	for (unsigned i = 0; c->n && i < DIST_BUCKETS; i++) {
		below += c->bucket[i];
		if (below * 1000 >= c->n * permille)
			return dist_floor_us(i + 1);
	}
	return 0;
}

uint64_t dist_top_us(const struct dist_copy *c)
{
	for (unsigned i = DIST_BUCKETS; i > 0; i--) {
		if (c->bucket[i - 1])
			return dist_floor_us(i - 1);
	}
	return 0;
}
