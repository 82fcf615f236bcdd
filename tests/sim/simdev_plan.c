/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When a command of the simulated LUN takes effect, in how many pieces, and when it is answered, as
 * chance and its fault will have it. The medium is locked in all of these.
 */
#include "simdev_impl.h"

#include <errno.h>

#define CACHED_MAX_NS 20000000ull /* how much longer a flush may take */

uint64_t simdev_latency(struct simdev_medium *m)
{
	if (m->max_ns == m->min_ns)
		return m->min_ns;
	return m->min_ns + sim_rand_below(&m->rng, m->max_ns - m->min_ns + 1);
}

static void plan_whole(struct cmd *c, uint64_t due_ns)
{
	c->n_pieces = 1;
	c->piece[0] = (struct piece){0, c->len_bytes, due_ns};
}

static void plan_none(struct cmd *c, int result, uint64_t answer_ns)
{
	c->n_pieces = 0;
	c->result = result;
	c->answer_ns = answer_ns;
}

static bool may_tear(struct simdev_medium *m, const struct cmd *c)
{
	if (c->len_bytes <= m->sector_bytes)
		return false;
	if (c->op == SIMDEV_READ)
		return sim_chance(&m->rng, 8);
	return c->op & (SIMDEV_WRITE | SIMDEV_DISCARD) && sim_chance(&m->rng, 2);
}

static void swap_ranges(struct piece *a, struct piece *b)
{
	uint64_t from = a->from_bytes, len = a->len_bytes;

	a->from_bytes = b->from_bytes;
	a->len_bytes = b->len_bytes;
	b->from_bytes = from;
	b->len_bytes = len;
}

/* Some pieces, cut at any sector, in any order, one moment after the other up to the last. */
static void plan_pieces(struct simdev_medium *m, struct cmd *c, uint64_t from_ns, uint64_t due_ns)
{
	uint64_t sectors = c->len_bytes / m->sector_bytes, at = 0;
	unsigned want = 2 + (unsigned)sim_rand_below(&m->rng, SIMDEV_PIECES - 1);

	c->n_pieces = 0;
	while (at < sectors) {
		uint64_t n = sectors - at;
		struct piece *p = &c->piece[c->n_pieces++];

		if (c->n_pieces < want && n > 1)
			n = 1 + sim_rand_below(&m->rng, n - 1);
		p->from_bytes = at * m->sector_bytes;
		p->len_bytes = n * m->sector_bytes;
		p->due_ns = due_ns;
		at += n;
	}
	for (unsigned i = c->n_pieces; i > 1; i--)
		swap_ranges(&c->piece[i - 1], &c->piece[sim_rand_below(&m->rng, i)]);
	for (unsigned i = c->n_pieces - 1; i > 0 && due_ns > from_ns; i--) {
		due_ns = from_ns + sim_rand_below(&m->rng, due_ns - from_ns + 1);
		c->piece[i - 1].due_ns = due_ns;
	}
}

/* What was resent below had been done before. */
static bool is_cached(const struct simdev_medium *m, const struct cmd *c)
{
	return c->op == SIMDEV_CAW && m->caw_cached && c->fault.kind != SIMDEV_RESENT;
}

/* A CAW that is seen at @due_ns and durable at @lasts_ns. */
static void plan_cached(struct cmd *c, uint64_t due_ns, uint64_t lasts_ns)
{
	plan_whole(c, due_ns);
	c->piece[c->n_pieces++] = (struct piece){0, c->len_bytes, lasts_ns};
	c->lasts_later = true;
}

/* Without a fault, or with one that lets it take effect: some time between now and the answer. */
static void plan_effect(struct simdev_medium *m, struct cmd *c, uint64_t from_ns, uint64_t ns)
{
	uint64_t due = sim_chance(&m->rng, 2) ? ns : sim_rand_below(&m->rng, ns + 1);

	c->answer_ns = from_ns + ns;
	if (is_cached(m, c) && sim_chance(&m->rng, 8))
		c->answer_ns += sim_rand_below(&m->rng, CACHED_MAX_NS);
	if (is_cached(m, c))
		plan_cached(c, from_ns + due, c->answer_ns);
	else if (may_tear(m, c))
		plan_pieces(m, c, from_ns, from_ns + due);
	else
		plan_whole(c, from_ns + due);
}

static void plan_refused(struct cmd *c, uint64_t ns, uint64_t deadline)
{
	uint64_t now = c->submitted_ns;

	if (c->op == SIMDEV_CAW)
		plan_none(c, -EAGAIN, now + ns);
	else if (c->fault.delay_ns >= deadline)
		plan_none(c, -ETIMEDOUT, now + deadline);
	else
		plan_effect(c->s->m, c, now + c->fault.delay_ns, ns);
}

/* It lands at @due_ns whatever becomes of its task, which is answered at the deadline. */
static void plan_late(struct cmd *c, uint64_t due_ns, uint64_t deadline)
{
	struct simdev_medium *m = c->s->m;

	if (c->op != SIMDEV_READ) {
		if (is_cached(m, c))
			plan_cached(c, due_ns, due_ns + simdev_latency(m));
		else
			plan_whole(c, due_ns);
		simdev_fly(m, c, false);
	}
	plan_none(c, -ETIMEDOUT, c->submitted_ns + deadline);
}

static void plan_split(struct cmd *c, uint64_t ns)
{
	plan_whole(c, c->submitted_ns + ns / 2);
	c->n_pieces = 2;
	c->piece[1] = c->piece[0];
	c->piece[1].due_ns += c->fault.delay_ns;
	c->answer_ns = c->submitted_ns + ns + c->fault.delay_ns;
}

static void plan_truncated(struct cmd *c, uint64_t ns, uint64_t deadline)
{
	struct simdev_medium *m = c->s->m;

	if (c->len_bytes > m->sector_bytes) {
		plan_pieces(m, c, c->submitted_ns, c->submitted_ns + ns);
		c->n_pieces--;
	} else {
		plan_whole(c, c->submitted_ns + ns);
		c->n_pieces = sim_chance(&m->rng, 2);
	}
	c->result = -ETIMEDOUT;
	c->answer_ns = c->submitted_ns + deadline;
}

static void plan_fault(struct cmd *c, uint64_t ns)
{
	struct simdev *s = c->s;
	uint64_t now = c->submitted_ns, deadline = simdev_deadline_ns(s);

	switch (c->fault.kind) {
	case SIMDEV_FAIL:
		plan_none(c, c->fault.error ? c->fault.error : -EIO, now + ns);
		return;
	case SIMDEV_DELAY:
		if (c->fault.delay_ns >= deadline)
			plan_late(c, now + c->fault.delay_ns, deadline);
		else
			plan_effect(s->m, c, now + c->fault.delay_ns, ns);
		return;
	case SIMDEV_LATE:
		plan_late(c, now + deadline + c->fault.delay_ns, deadline);
		return;
	case SIMDEV_LOST_REPLY:
		plan_effect(s->m, c, now, ns);
		c->answer_ns = now + deadline;
		return;
	case SIMDEV_LOST_COMMAND:
		plan_none(c, -ETIMEDOUT, now + deadline);
		return;
	case SIMDEV_BUSY:
	case SIMDEV_TASK_SET_FULL:
	case SIMDEV_UNIT_ATTENTION:
		plan_refused(c, ns, deadline);
		return;
	case SIMDEV_LIE_SPLIT:
		plan_split(c, ns);
		return;
	case SIMDEV_TRUNCATE:
		plan_truncated(c, ns, deadline);
		return;
	case SIMDEV_OUTAGE:
		plan_effect(s->m, c, now, ns);
		simdev_outage_begin(s, now + c->fault.delay_ns,
				    c->fault.error ? SIMDEV_OUTAGE_ERROR : SIMDEV_OUTAGE_SILENT);
		return;
	case SIMDEV_ROT:
		if (c->op == SIMDEV_READ)
			simdev_rot_add(s->m, c->off_bytes, s->m->sector_bytes);
		break;
	default:
		break;
	}
	plan_effect(s->m, c, now, ns);
}

/* True: the transport is gone, which decides it. */
static bool plan_outage(struct cmd *c, uint64_t ns)
{
	const struct outage *o = simdev_outage_of(c->s, c->submitted_ns);
	uint64_t now = c->submitted_ns;

	if (!o)
		return false;
	if (o->how == SIMDEV_OUTAGE_ERROR)
		plan_none(c, -ETIMEDOUT, now);
	else if (o->how == SIMDEV_OUTAGE_QUEUED && !(c->op & (SIMDEV_CAW | SIMDEV_PR)))
		plan_effect(c->s->m, c, o->until_ns, ns);
	else
		plan_none(c, -ETIMEDOUT, now + simdev_deadline_ns(c->s));
	return true;
}

void simdev_plan(struct cmd *c, uint64_t ns)
{
	struct simdev *s = c->s;
	bool attention = s->attention;

	if (plan_outage(c, ns))
		return;
	s->attention = false;
	if (attention && c->op == SIMDEV_CAW)
		plan_none(c, -EAGAIN, c->submitted_ns + ns);
	else
		plan_fault(c, ns);
}
