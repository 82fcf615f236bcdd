/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The functions of struct dev_ops. A command goes: its fault is chosen, its moments are planned, it
 * is sent off or carried along (simdev.c), it is answered. Commands of a batch, like those of
 * several tasks, take effect in any order.
 */
#include "simdev_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FEW 4u /* commands of a batch that need no memory of their own */
#define FLY_COPY_BYTES (64u << 10)

struct going { /* a command of the caller, until it is answered */
	struct cmd *c;
	struct flight *flight; /* NULL: carried by this task */
	bool refused;	       /* answered at once */
};

struct step { /* of a carried command */
	uint64_t due_ns, chance;
	struct cmd *c;
};

/* ---- submission ------------------------------------------------------------------------------ */

/* Is the handle alive, and what will go wrong with the command? Nonzero: the answer at once. */
static int submit(struct simdev *s, struct cmd *c)
{
	struct simdev_medium *m = s->m;
	struct simdev_cmd told = {c->op, c->off_bytes, c->len_bytes, 0};
	simdev_hook hook;
	void *ctx;

	medium_lock(m);
	lunfs_assert(!s->closed);
	simdev_land_due(m);
	c->s = s;
	c->number = ++m->numbers;
	if (c->op != SIMDEV_READ)
		told.index = ++m->commands;
	hook = m->hook;
	ctx = m->hook_ctx;
	simdev_fault_choose(s, c);
	if (hook) {
		medium_unlock(m);
		hook(ctx, &s->dev, &told, &c->fault);
		medium_lock(m);
		simdev_land_due(m);
	}
	simdev_fault_count(m, c);
	c->submitted_ns = medium_now(m);
	c->epoch = m->epoch;
	c->aborts = s->aborts;
	c->outages = s->outages;
	if (!s->killed)
		simdev_tell(m, SIMDEV_SUBMITTED, c, c->submitted_ns, NULL);
	medium_unlock(m);
	return s->killed ? -ENODEV : 0;
}

/* ---- on the way ------------------------------------------------------------------------------ */

/* Reads go straight to the caller's memory, so its task carries them. */
static bool may_fly(struct simdev_medium *m, const struct cmd *c)
{
	if (c->n_pieces == 0 || c->op == SIMDEV_READ || c->pr.state)
		return false;
	return sim_chance(&m->rng, c->len_bytes > FLY_COPY_BYTES && c->out ? 8 : 2);
}

static void sleep_to(struct simdev_medium *m, uint64_t until_ns)
{
	uint64_t now = medium_now(m);

	do {
		clock_sleep_ns(m->clk, until_ns > now ? until_ns - now : 0);
		now = medium_now(m);
	} while (now < until_ns);
}

/* Why the rest of a carried command may not land; NULL: it may. */
static const char *stopped(struct simdev_medium *m, const struct cmd *c)
{
	if (c->epoch != m->epoch)
		return "power cut";
	if (c->aborts != c->s->aborts)
		return "aborted";
	if (c->s->killed && sim_chance(&m->rng, 2))
		return "its host died";
	if (c->outages != c->s->outages && sim_chance(&m->rng, 2))
		return "transport lost";
	return NULL;
}

static void carry(struct simdev_medium *m, struct cmd *c)
{
	const char *why;

	medium_lock(m);
	simdev_land_due(m);
	if (c->landed < c->n_pieces) {
		why = stopped(m, c);
		if (!why) {
			simdev_land(m, c, medium_now(m));
		} else {
			c->n_pieces = c->landed;
			c->result = -ETIMEDOUT;
			simdev_tell(m, SIMDEV_DROPPED, c, medium_now(m), why);
		}
	}
	medium_unlock(m);
}

static int step_order(const void *pa, const void *pb)
{
	const struct step *a = pa, *b = pb;

	if (a->due_ns != b->due_ns)
		return a->due_ns < b->due_ns ? -1 : 1;
	return a->chance < b->chance ? -1 : a->chance > b->chance;
}

/* Many carried commands at once stop at a few moments, not at one each. */
static void carry_all(struct simdev_medium *m, struct going *g, struct step *step, size_t n)
{
	size_t steps = 0;
	uint64_t at = 0;

	medium_lock(m);
	for (size_t i = 0; i < n; i++) {
		struct cmd *c = g[i].c;

		for (unsigned k = 0; !g[i].refused && !g[i].flight && k < c->n_pieces; k++) {
			uint64_t due = c->piece[k].due_ns, now = c->submitted_ns;
			uint64_t grain = n > FEW ? (c->answer_ns - now) / 4 + 1 : 1;

			if (due > now)
				due = now + (due - now + grain - 1) / grain * grain;
			step[steps++] = (struct step){due, sim_rand(&m->rng), c};
		}
	}
	medium_unlock(m);
	if (steps > 1)
		qsort(step, steps, sizeof(*step), step_order);
	for (size_t i = 0; i < steps; i++) {
		if (i == 0 || step[i].due_ns != at)
			sleep_to(m, step[i].due_ns);
		at = step[i].due_ns;
		carry(m, step[i].c);
	}
}

/* ---- the answer ------------------------------------------------------------------------------ */

static bool cut_off(const struct cmd *c)
{
	return c->outages != c->s->outages && !c->s->killed;
}

static int answer(struct simdev_medium *m, struct going *g)
{
	struct cmd *c = g->c;
	bool counts = c->n_pieces > 0, truncated = c->fault.kind == SIMDEV_TRUNCATE;

	if (g->refused)
		return c->result;
	if (g->flight)
		c->result = simdev_collect(m, g->flight);
	if (c->s->killed)
		return -ENODEV;
	if (cut_off(c))
		c->result = -ETIMEDOUT;
	else if (counts && (c->epoch != m->epoch || c->aborts != c->s->aborts))
		c->result = -ETIMEDOUT;
	else if (c->fault.kind == SIMDEV_LOST_REPLY || truncated)
		c->result = -ETIMEDOUT;
	simdev_tell(m, SIMDEV_ANSWERED, c, medium_now(m), NULL);
	return c->result;
}

static void answer_all(struct simdev_medium *m, struct going *g, size_t n, uint64_t until_ns)
{
	uint64_t cut_ns = 0;

	sleep_to(m, until_ns);
	for (size_t i = 0; i < n; i++)
		if (!g[i].refused && cut_off(g[i].c))
			cut_ns = g[i].c->submitted_ns + simdev_deadline_ns(g[i].c->s);
	if (cut_ns > until_ns)
		sleep_to(m, cut_ns);
	medium_lock(m);
	simdev_land_due(m);
	for (size_t i = 0; i < n; i++)
		g[i].c->result = answer(m, &g[i]);
	medium_unlock(m);
}

/* @g and @step are for @n commands; they share one latency. */
static void run_with(struct simdev *s, struct cmd *c, struct going *g, struct step *step, size_t n)
{
	struct simdev_medium *m = s->m;
	uint64_t until = 0, ns;
	bool any = false;

	for (size_t i = 0; i < n; i++) {
		g[i] = (struct going){.c = &c[i]};
		c[i].result = submit(s, &c[i]);
		g[i].refused = c[i].result != 0;
		any = any || !g[i].refused;
	}
	if (!any)
		return;
	medium_lock(m);
	ns = simdev_latency(m);
	for (size_t i = 0; i < n; i++) {
		if (g[i].refused)
			continue;
		simdev_plan(&c[i], ns);
		if (may_fly(m, &c[i]))
			g[i].flight = simdev_fly(m, &c[i], true);
		if (c[i].answer_ns > until)
			until = c[i].answer_ns;
	}
	medium_unlock(m);
	carry_all(m, g, step, n);
	answer_all(m, g, n, until);
}

static void run_many(struct simdev *s, struct cmd *c, size_t n)
{
	struct going few_g[FEW], *g = few_g;
	struct step few_step[FEW * SIMDEV_PIECES], *step = few_step;

	if (n > FEW) {
		g = calloc(n, sizeof(*g));
		step = calloc(n * SIMDEV_PIECES, sizeof(*step));
		lunfs_assert(g && step);
	}
	run_with(s, c, g, step, n);
	if (g != few_g) {
		free(g);
		free(step);
	}
}

int simdev_command(struct simdev *s, struct cmd *c)
{
	run_many(s, c, 1);
	return c->result;
}

/* ---- the device's functions ------------------------------------------------------------------ */

static void check_range(const struct simdev *s, uint64_t off_bytes, uint64_t len_bytes,
			const void *buf)
{
	const struct simdev_medium *m = s->m;

	lunfs_assert(off_bytes % m->sector_bytes == 0 && len_bytes % m->sector_bytes == 0);
	lunfs_assert((uintptr_t)buf % SIMPAGE_BYTES == 0);
}

static bool outside(const struct simdev *s, uint64_t off_bytes, uint64_t len_bytes)
{
	return off_bytes > s->m->size_bytes || len_bytes > s->m->size_bytes - off_bytes;
}

static int ranged(struct dev *d, struct cmd c)
{
	struct simdev *s = simdev_of(d);

	check_range(s, c.off_bytes, c.len_bytes, c.in ? c.in : c.out);
	check_range(s, c.off_bytes, c.len_bytes, c.test);
	return outside(s, c.off_bytes, c.len_bytes) ? -EIO : simdev_command(s, &c);
}

static int sd_read(struct dev *d, uint64_t off_bytes, size_t len_bytes, void *buf)
{
	return ranged(
	    d, (struct cmd){
		   .op = SIMDEV_READ, .off_bytes = off_bytes, .len_bytes = len_bytes, .in = buf});
}

static int sd_write(struct dev *d, uint64_t off_bytes, size_t len_bytes, const void *buf)
{
	return ranged(
	    d, (struct cmd){
		   .op = SIMDEV_WRITE, .off_bytes = off_bytes, .len_bytes = len_bytes, .out = buf});
}

static int sd_flush(struct dev *d)
{
	return ranged(d, (struct cmd){.op = SIMDEV_FLUSH});
}

static int sd_discard(struct dev *d, uint64_t off_bytes, uint64_t len_bytes)
{
	return ranged(
	    d, (struct cmd){.op = SIMDEV_DISCARD, .off_bytes = off_bytes, .len_bytes = len_bytes});
}

static int sd_write_zeroes(struct dev *d, uint64_t off_bytes, uint64_t len_bytes)
{
	return ranged(
	    d, (struct cmd){.op = SIMDEV_WRITE, .off_bytes = off_bytes, .len_bytes = len_bytes});
}

static int sd_caw(struct dev *d, uint64_t off_bytes, const void *test, const void *set)
{
	return ranged(d, (struct cmd){.op = SIMDEV_CAW,
				      .off_bytes = off_bytes,
				      .len_bytes = simdev_of(d)->m->sector_bytes,
				      .out = set,
				      .test = test});
}

static struct cmd *cmds_new(size_t n)
{
	struct cmd *c = calloc(n, sizeof(*c));

	lunfs_assert(c != NULL);
	return c;
}

static void sd_batch(struct dev *d, struct dev_io *io, size_t n)
{
	struct simdev *s = simdev_of(d);
	struct cmd *c = cmds_new(n);

	for (size_t i = 0; i < n; i++) {
		check_range(s, io[i].off_bytes, io[i].len_bytes, io[i].buf);
		lunfs_assert(!outside(s, io[i].off_bytes, io[i].len_bytes));
		c[i].op = io[i].op == DEV_READ ? SIMDEV_READ : SIMDEV_WRITE;
		c[i].off_bytes = io[i].off_bytes;
		c[i].len_bytes = io[i].len_bytes;
		c[i].in = io[i].op == DEV_READ ? io[i].buf : NULL;
		c[i].out = io[i].op == DEV_READ ? NULL : io[i].buf;
	}
	run_many(s, c, n);
	for (size_t i = 0; i < n; i++)
		io[i].result = c[i].result;
	free(c);
}

/* What the answer alone does not tell. */
static enum dev_cause cause(const struct cmd *c)
{
	if (c->result == -ETIMEDOUT &&
	    (cut_off(c) || simdev_outage_of(c->s, c->submitted_ns)))
		return DEV_CAUSE_TRANSPORT;
	if (c->result == -ETIMEDOUT && c->aborts != c->s->aborts)
		return DEV_CAUSE_ABORTED;
	if (c->result != -EAGAIN || c->fault.kind == SIMDEV_FAIL)
		return DEV_CAUSE_NONE;
	if (c->fault.kind == SIMDEV_BUSY)
		return DEV_CAUSE_BUSY;
	if (c->fault.kind == SIMDEV_TASK_SET_FULL)
		return DEV_CAUSE_TASK_SET_FULL;
	return DEV_CAUSE_UNIT_ATTENTION;
}

static void sd_caw_batch(struct dev *d, struct dev_caw_io *io, size_t n)
{
	struct simdev *s = simdev_of(d);
	struct cmd *c = cmds_new(n);

	for (size_t i = 0; i < n; i++) {
		check_range(s, io[i].off_bytes, 0, io[i].test);
		check_range(s, io[i].off_bytes, 0, io[i].set);
		lunfs_assert(!outside(s, io[i].off_bytes, s->m->sector_bytes));
		c[i].op = SIMDEV_CAW;
		c[i].off_bytes = io[i].off_bytes;
		c[i].len_bytes = s->m->sector_bytes;
		c[i].out = io[i].set;
		c[i].test = io[i].test;
	}
	run_many(s, c, n);
	for (size_t i = 0; i < n; i++) {
		io[i].result = c[i].result;
		io[i].cause = cause(&c[i]);
	}
	free(c);
}

/*
 * Late commands of this nexus, and all of other handles on it that is on its way: each lands now or
 * is aborted; none is on its way afterwards.
 */
static struct flight *take_drained(struct simdev_medium *m, const struct simdev *s)
{
	for (struct flight **at = &m->flying; *at; at = &(*at)->next) {
		struct flight *f = *at;

		if (f->c.s->nexus == s->nexus && (!f->wanted || f->c.s != s)) {
			*at = f->next;
			return f;
		}
	}
	return NULL;
}

static void drain_now(struct simdev_medium *m, const struct simdev *s)
{
	struct flight *f;

	while ((f = take_drained(m, s))) {
		bool lands = sim_chance(&m->rng, 2);

		while (lands && f->c.landed < f->c.n_pieces)
			simdev_land(m, &f->c, medium_now(m));
		simdev_drop(m, f, lands ? f->c.result : -ETIMEDOUT,
			    lands ? "drained: it landed" : "drained");
	}
}

static int sd_drain(struct dev *d)
{
	struct simdev *s = simdev_of(d);
	struct simdev_medium *m = s->m;
	const struct outage *o;
	uint64_t ns, wait = 0;
	int err = 0;

	if (s->killed)
		return -ENODEV;
	medium_lock(m);
	ns = medium_now(m) + simdev_latency(m);
	if (!m->can_drain)
		err = -EOPNOTSUPP;
	medium_unlock(m);
	if (err)
		return err;
	sleep_to(m, ns);
	medium_lock(m);
	simdev_land_due(m);
	o = simdev_outage_of(s, medium_now(m));
	if (o)
		err = o->how == SIMDEV_OUTAGE_ERROR ? -EIO : -ETIMEDOUT;
	else
		drain_now(m, s);
	if (err == -ETIMEDOUT)
		wait = ns + simdev_deadline_ns(s);
	medium_unlock(m);
	if (wait)
		sleep_to(m, wait);
	return s->killed ? -ENODEV : err;
}

static void sd_close(struct dev *d)
{
	struct simdev *s = simdev_of(d);

	medium_lock(s->m);
	lunfs_assert(!s->closed);
	s->closed = true;
	free(s->chaos);
	s->chaos = NULL;
	medium_unlock(s->m);
	simdev_medium_put(s->m);
}

const struct dev_ops simdev_ops = {
    .read = sd_read,
    .write = sd_write,
    .flush = sd_flush,
    .discard = sd_discard,
    .write_zeroes = sd_write_zeroes,
    .compare_and_write = sd_caw,
    .batch = sd_batch,
    .caw_batch = sd_caw_batch,
    .drain = sd_drain,
    .pr = &simdev_pr_ops,
    .close = sd_close,
};
