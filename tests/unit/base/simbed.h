/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A simulated LUN with two handles, and short forms of what tests do with it. */
#ifndef TESTS_UNIT_BASE_SIMBED_H
#define TESTS_UNIT_BASE_SIMBED_H

#include "unit.h"

#include "simclock.h"
#include "simdev.h"

#include <stdlib.h>
#include <string.h>

#define MS 1000000ull

struct bed {
	struct clock *clk;
	struct dev *a, *b;
	struct simdev_medium *m;
	uint8_t *x, *y, *z; /* 64 KiB each */
	uint64_t seed;
	int result;
	void *ctx;
};

static inline void bed_init(struct bed *t)
{
	memset(t, 0, sizeof(*t));
	t->clk = simclock_new();
	t->a = simdev_new(t->clk, 64ull << 40, 512, 512);
	t->m = simdev_medium_of(t->a);
	t->b = simdev_attach(t->m);
	t->x = aligned_alloc(4096, 65536);
	t->y = aligned_alloc(4096, 65536);
	t->z = aligned_alloc(4096, 65536);
	memset(t->x, 'x', 65536);
	memset(t->y, 'y', 65536);
	memset(t->z, 0, 65536);
}

static inline void bed_end(struct bed *t)
{
	t->a->ops->close(t->a);
	t->b->ops->close(t->b);
	t->clk->ops->destroy(t->clk);
	free(t->x);
	free(t->y);
	free(t->z);
}

/* Without a run of its own the simulated clock just moves on: enough for one thing at a time. */
#define BED                                                                                        \
	struct bed t;                                                                              \
	(void)state;                                                                               \
	bed_init(&t)

static inline int rd(struct dev *d, uint64_t off, size_t len, void *buf)
{
	return d->ops->read(d, off, len, buf);
}

static inline int wr(struct dev *d, uint64_t off, size_t len, const void *buf)
{
	return d->ops->write(d, off, len, buf);
}

static inline int caw(struct dev *d, uint64_t off, const void *test, const void *set)
{
	return d->ops->compare_and_write(d, off, test, set);
}

static inline char at(struct bed *t, uint64_t off)
{
	char c;

	simdev_peek(t->m, off, 1, &c);
	return c;
}

/* Which of the first @n sectors hold @c: a bit each. */
static inline unsigned sectors_of(struct bed *t, char c, unsigned n)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < n; i++)
		bits |= (unsigned)(at(t, i * 512) == c) << i;
	return bits;
}

/* Run @fn(t) as the first task on a fresh bed with 0.1 to 1 ms a command, for each of the seeds. */
static inline void for_seeds(void (*fn)(void *), unsigned seeds, void *ctx)
{
	for (uint64_t seed = 1; seed <= seeds; seed++) {
		struct bed t;

		bed_init(&t);
		t.seed = seed;
		t.ctx = ctx;
		simdev_seed(t.m, seed);
		simdev_set_latency(t.m, MS / 10, MS);
		simclock_run(t.clk, fn, &t, seed);
		bed_end(&t);
	}
}

static inline struct task *go(struct bed *t, void (*fn)(void *))
{
	struct task *task;

	assert_int_equal(t->clk->ops->task_start(t->clk, "host", fn, t, &task), 0);
	return task;
}

static inline void join(struct bed *t, struct task *task)
{
	t->clk->ops->task_join(t->clk, task);
}

#endif
