/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Latencies by eight buckets for each doubling: percentiles are right to an eighth. */
#include "check/check_impl.h"

#define PER_DOUBLING 8u

static unsigned bucket_of(uint64_t us)
{
	unsigned log, b;

	if (us < PER_DOUBLING)
		return (unsigned)us;
	log = 63u - (unsigned)__builtin_clzll(us);
	b = (log - 2) * PER_DOUBLING + (unsigned)(us >> (log - 3)) % PER_DOUBLING;
	return b < HIST_BUCKETS ? b : HIST_BUCKETS - 1;
}

/* The first microsecond that is above the bucket. */
static uint64_t bucket_end(unsigned b)
{
	unsigned log = b / PER_DOUBLING + 2;

	if (b < PER_DOUBLING)
		return b + 1;
	return (uint64_t)(PER_DOUBLING + b % PER_DOUBLING + 1) << (log - 3);
}

void hist_add(struct hist *h, uint64_t ns)
{
	unsigned long long max = atomic_load(&h->max_ns);

	atomic_fetch_add(&h->bucket[bucket_of(ns / 1000)], 1);
	atomic_fetch_add(&h->n, 1);
	while (ns > max && !atomic_compare_exchange_weak(&h->max_ns, &max, ns))
		;
}

uint64_t hist_max_us(const struct hist *h)
{
	return (atomic_load(&h->max_ns) + 999) / 1000;
}

uint64_t hist_percentile_us(const struct hist *h, unsigned percent)
{
	uint64_t n = atomic_load(&h->n), below = 0, max = hist_max_us(h);

	for (unsigned b = 0; n && b < HIST_BUCKETS; b++) {
		below += atomic_load(&h->bucket[b]);
		if (below * 100 >= n * percent)
			return bucket_end(b) < max ? bucket_end(b) : max;
	}
	return max;
}
