/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long to wait before a command is sent again: each cause has its own rule. What is not in the
 * table is never sent again: the device rejects it for good.
 */
#include "cluster/ats_impl.h"

#define MS_NS 1000000ull
#define DOUBLINGS_MAX 10u

struct rule {
	unsigned at_once; /* so often without a pause */
	uint64_t min_ns, max_ns;
};

static const struct rule rules[DEV_CAUSES] = {
    /* A miscompare of what is equal: a cache or a path that lags behind. */
    [DEV_CAUSE_NONE] = {0, 1 * MS_NS, 50 * MS_NS},
    [DEV_CAUSE_BUSY] = {0, 2 * MS_NS, 100 * MS_NS},
    /* Its queue is full: let it drain, SAM-5 5.3.1 asks for no less. */
    [DEV_CAUSE_TASK_SET_FULL] = {0, 10 * MS_NS, 250 * MS_NS},
    /* Each is told once; several come one after the other. */
    [DEV_CAUSE_UNIT_ATTENTION] = {8, 1 * MS_NS, 50 * MS_NS},
    /* A path that an array wakes takes its time. */
    [DEV_CAUSE_NOT_READY] = {0, 20 * MS_NS, 500 * MS_NS},
    [DEV_CAUSE_NOT_SENT] = {0, 1 * MS_NS, 50 * MS_NS},
    [DEV_CAUSE_NO_ANSWER] = {0, 1 * MS_NS, 50 * MS_NS},
    [DEV_CAUSE_ABORTED] = {2, 1 * MS_NS, 50 * MS_NS},
    [DEV_CAUSE_TRANSPORT] = {0, 10 * MS_NS, 200 * MS_NS},
    [DEV_CAUSE_NOT_DURABLE] = {0, 1 * MS_NS, 50 * MS_NS},
    /* It may be for good, and each try costs the device its own retries. */
    [DEV_CAUSE_UNCLEAR] = {0, 20 * MS_NS, 500 * MS_NS},
};

uint64_t ats_pause_ns(struct ats_try *t)
{
	const struct rule *r = &rules[t->cause];
	struct clock *clk = t->a->env.clk;
	unsigned n = t->pauses[t->cause]++;
	uint64_t wait;
	uint8_t jitter;

	if (n < r->at_once)
		return 0;
	n -= r->at_once;
	wait = r->min_ns << (n < DOUBLINGS_MAX ? n : DOUBLINGS_MAX);
	clk->ops->random(clk, &jitter, 1);
	return (wait < r->max_ns ? wait : r->max_ns) * (128u + jitter) / 256;
}
