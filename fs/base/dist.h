/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Distributions of durations: histograms with four buckets for each doubling of microseconds, so
 * that a quantile is told at most a quarter too high and never too low. Counted from any thread
 * without a lock; a reader may see a sample in one number and not yet in the other.
 */
#ifndef BASE_DIST_H
#define BASE_DIST_H

#include <stdatomic.h>
#include <stdint.h>

#define DIST_BUCKETS 112u /* the last: from 469 s on */

struct dist { /* all zero: nothing counted yet */
	atomic_ullong bucket[DIST_BUCKETS];
	atomic_ullong sum_us, max_us;
};

struct dist_copy { /* at one moment, or what came between two */
	uint64_t n, sum_us;
	uint64_t bucket[DIST_BUCKETS];
};

void dist_add(struct dist *d, uint64_t ns);
void dist_read(struct dist *d, struct dist_copy *out);
/* What was counted since @before, which becomes @now. */
void dist_since(struct dist *d, struct dist_copy *before, struct dist_copy *out);

/* Bucket @i holds durations from dist_floor_us(i) to below dist_floor_us(i + 1). */
uint64_t dist_floor_us(unsigned i);
/* Upper bound of the quantile: @permille of all are not above it. 0: nothing was counted. */
uint64_t dist_quantile_us(const struct dist_copy *c, unsigned permille);
/* Lower bound of the greatest duration. */
uint64_t dist_top_us(const struct dist_copy *c);

#endif
