/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The simulated LUN's commands: time, faults, and when each takes effect. The medium's mutex is a
 * plain one of the process, because it is never held across anything that sleeps or yields.
 *
 * A command goes: decide the fault -> half of its time -> effect -> the other half -> answer. Late
 * commands wait in a list and take effect before the first later command that comes after their
 * time.
 */
#include "simdev_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- effects; the medium's mutex is held ----------------------------------------------------- */

static int effect_caw(struct simdev_medium *m, const struct cmd *c)
{
	uint8_t now[4096];

	simpages_read(&m->pages, c->off_bytes, m->sector_bytes, now);
	if (memcmp(now, c->test, m->sector_bytes) != 0) {
		m->counts.miscompares++;
		return DEV_CAW_MISCOMPARE;
	}
	simpages_write(&m->pages, c->off_bytes, m->sector_bytes, c->out, true, NULL);
	return DEV_CAW_GOOD;
}

static void effect_zero(struct simdev_medium *m, const struct cmd *c)
{
	static const uint8_t zero[SIMPAGE_BYTES];

	for (uint64_t done = 0; done < c->len_bytes; done += m->sector_bytes)
		if (simpages_present(&m->pages, c->off_bytes + done))
			simpages_write(&m->pages, c->off_bytes + done, m->sector_bytes, zero, false,
				       &m->rng);
}

static int effect(struct simdev_medium *m, const struct cmd *c)
{
	if (c->op & (SIMDEV_WRITE | SIMDEV_CAW | SIMDEV_DISCARD) &&
	    simdev_pr_conflict(m, c->nexus)) {
		m->counts.conflicts++;
		return -EBADE;
	}
	switch (c->op) {
	case SIMDEV_READ:
		m->counts.reads++;
		simpages_read(&m->pages, c->off_bytes, c->len_bytes, c->in);
		return 0;
	case SIMDEV_WRITE:
		m->counts.writes += !c->part;
		if (c->out)
			simpages_write(&m->pages, c->off_bytes, c->len_bytes, c->out, false,
				       &m->rng);
		else
			effect_zero(m, c);
		return 0;
	case SIMDEV_FLUSH:
		m->counts.flushes++;
		simpages_flush(&m->pages);
		return 0;
	case SIMDEV_CAW:
		m->counts.caws++;
		return effect_caw(m, c);
	case SIMDEV_DISCARD:
		m->counts.discards++;
		effect_zero(m, c);
		return 0;
	case SIMDEV_PR:
		m->counts.prs++;
		return simdev_pr_effect(m, c);
	case SIMDEV_ANY:
		break;
	}
	return -EINVAL;
}

void simdev_late_free(struct late *l)
{
	free(l->set);
	free(l->test);
	free(l);
}

void simdev_late_land(struct simdev_medium *m, uint64_t now_ns)
{
	struct late **at = &m->late;

	while (*at) {
		struct late *l = *at;
		struct cmd c = {.op = l->op,
				.off_bytes = l->off_bytes,
				.len_bytes = l->len_bytes,
				.out = l->set,
				.test = l->test,
				.nexus = l->nexus,
				.pr = l->pr};

		if (l->due_ns > now_ns) {
			at = &l->next;
			continue;
		}
		*at = l->next;
		m->counts.late++;
		if (c.op != SIMDEV_READ)
			effect(m, &c);
		simdev_late_free(l);
	}
}

static uint8_t *copy_of(const void *p, size_t n)
{
	uint8_t *q;

	if (!p || n == 0)
		return NULL;
	q = malloc(n);
	lunfs_assert(q != NULL);
	return memcpy(q, p, n);
}

static void late_add(struct simdev *s, const struct cmd *c, uint64_t due_ns)
{
	struct late *l = calloc(1, sizeof(*l)), **at = &s->m->late;

	lunfs_assert(l != NULL);
	l->from = &s->dev;
	l->due_ns = due_ns;
	l->op = c->op;
	l->off_bytes = c->off_bytes;
	l->len_bytes = c->len_bytes;
	l->set = copy_of(c->out, c->len_bytes);
	l->test = copy_of(c->test, c->len_bytes);
	l->nexus = c->nexus;
	l->pr = c->pr;
	l->pr.state = NULL;
	while (*at && (*at)->due_ns <= due_ns)
		at = &(*at)->next;
	l->next = *at;
	*at = l;
}

void simdev_abort_nexus(struct simdev_medium *m, unsigned nexus, bool told)
{
	for (struct late **at = &m->late; *at;) {
		struct late *l = *at;

		if (l->nexus != nexus) {
			at = &l->next;
			continue;
		}
		*at = l->next;
		m->counts.aborted++;
		simdev_late_free(l);
	}
	for (struct simdev *s = m->handles; s; s = s->next) {
		if (s->nexus != nexus)
			continue;
		s->aborts++;
		s->attention = told;
	}
}

/* ---- faults ---------------------------------------------------------------------------------- */

static bool fault_matches(const struct simdev_fault *f, const struct cmd *c)
{
	if (!(f->ops & c->op))
		return false;
	if (f->len_bytes == 0)
		return true;
	return c->off_bytes < f->off_bytes + f->len_bytes &&
	       f->off_bytes < c->off_bytes + c->len_bytes;
}

static void fault_choose(struct simdev *s, struct cmd *c)
{
	for (unsigned i = 0; i < s->n_faults; i++) {
		struct simdev_fault *f = &s->fault[i];

		if (!fault_matches(f, c))
			continue;
		if (f->nth > 1) {
			f->nth--;
			continue;
		}
		c->fault = *f;
		if (f->count != UINT64_MAX && f->count-- <= 1) {
			s->n_faults--;
			memmove(f, f + 1, (s->n_faults - i) * sizeof(*f));
		}
		return;
	}
}

/* First step of every command: is the handle alive, and what will go wrong with it? */
static int begin(struct simdev *s, struct cmd *c)
{
	struct simdev_medium *m = s->m;
	struct simdev_cmd told = {c->op, c->off_bytes, c->len_bytes, 0};
	simdev_hook hook;
	void *ctx;

	medium_lock(m);
	if (c->op != SIMDEV_READ)
		told.index = ++m->commands;
	hook = m->hook;
	ctx = m->hook_ctx;
	fault_choose(s, c);
	medium_unlock(m);
	if (hook)
		hook(ctx, &s->dev, &told, &c->fault);
	medium_lock(m);
	if (c->fault.kind != SIMDEV_OK)
		m->counts.faults++;
	c->epoch = m->epoch;
	c->nexus = s->nexus;
	c->aborts = s->aborts;
	medium_unlock(m);
	return s->killed ? -ENODEV : 0;
}

static uint64_t deadline_ns(const struct simdev *s)
{
	return (s->dev.deadline_ms ? s->dev.deadline_ms : 30000) * 1000000ull;
}

/* What a command with a fault does and answers; *@delay_ns: to be slept before the answer. */
static int faulty(struct simdev *s, struct cmd *c, uint64_t *delay_ns)
{
	uint64_t now = clock_now_ns(s->m->clk);

	switch (c->fault.kind) {
	case SIMDEV_FAIL:
		return c->fault.error ? c->fault.error : -EIO;
	case SIMDEV_DELAY:
		late_add(s, c, now + c->fault.delay_ns);
		*delay_ns = deadline_ns(s);
		return -ETIMEDOUT;
	case SIMDEV_LATE:
		*delay_ns = deadline_ns(s);
		late_add(s, c, now + *delay_ns + c->fault.delay_ns);
		return -ETIMEDOUT;
	case SIMDEV_LOST_REPLY:
		effect(s->m, c);
		*delay_ns = deadline_ns(s);
		return -ETIMEDOUT;
	case SIMDEV_LOST_COMMAND:
		*delay_ns = deadline_ns(s);
		return -ETIMEDOUT;
	case SIMDEV_LIE_MISCOMPARE:
		return c->op == SIMDEV_CAW ? DEV_CAW_MISCOMPARE : effect(s->m, c);
	case SIMDEV_RESENT:
		effect(s->m, c);
		return effect(s->m, c);
	case SIMDEV_LIE_DONE:
		return c->op & (SIMDEV_WRITE | SIMDEV_CAW | SIMDEV_FLUSH) ? 0 : effect(s->m, c);
	default:
		break;
	}
	return effect(s->m, c);
}

/* The moment a command takes effect. */
static int act(struct simdev *s, struct cmd *c, uint64_t *delay_ns)
{
	struct simdev_medium *m = s->m;
	int err;

	medium_lock(m);
	simdev_late_land(m, clock_now_ns(m->clk));
	if (c->epoch != m->epoch || c->aborts != s->aborts) {
		err = -ETIMEDOUT;
	} else if (s->killed) {
		if (c->op != SIMDEV_READ && sim_chance(&m->rng, 2))
			effect(m, c);
		err = -ENODEV;
	} else {
		err = s->attention && c->op == SIMDEV_CAW ? -EAGAIN : faulty(s, c, delay_ns);
		s->attention = false;
	}
	medium_unlock(m);
	return err;
}

/* ---- the device's functions ------------------------------------------------------------------ */

static uint64_t latency(struct simdev_medium *m)
{
	uint64_t ns;

	medium_lock(m);
	ns = m->min_ns +
	     (m->max_ns > m->min_ns ? sim_rand_below(&m->rng, m->max_ns - m->min_ns + 1) : 0);
	medium_unlock(m);
	return ns;
}

/* A delay within the deadline just makes the command slow; a longer one is a time-out. */
static bool slow_only(const struct simdev *s, struct cmd *c, uint64_t *extra_ns)
{
	if (c->fault.kind != SIMDEV_DELAY || c->fault.delay_ns >= deadline_ns(s))
		return false;
	*extra_ns = c->fault.delay_ns;
	c->fault.kind = SIMDEV_OK;
	return true;
}

/* A write of several sectors: sometimes in two steps, in either order. 0: as a whole. */
static size_t tear_at(struct simdev_medium *m, const struct cmd *c)
{
	size_t sectors = c->len_bytes / m->sector_bytes, at = 0;

	medium_lock(m);
	if (c->op == SIMDEV_WRITE && c->out && sectors > 1 && sim_chance(&m->rng, 2))
		at = (1 + sim_rand_below(&m->rng, sectors - 1)) * m->sector_bytes;
	medium_unlock(m);
	return at;
}

static void torn_step(struct simdev *s, struct cmd *c, size_t at)
{
	struct cmd part = *c;
	uint64_t none = 0;
	bool front;

	medium_lock(s->m);
	front = sim_chance(&s->m->rng, 2);
	medium_unlock(s->m);
	part.part = true;
	part.len_bytes = front ? at : c->len_bytes - at;
	if (!front) {
		part.off_bytes += at;
		part.out = (const uint8_t *)c->out + at;
	}
	act(s, &part, &none);
}

int simdev_command(struct simdev *s, struct cmd *c)
{
	struct simdev_medium *m = s->m;
	uint64_t ns = latency(m), extra = 0;
	size_t at;
	int err = begin(s, c);

	if (err)
		return err;
	slow_only(s, c, &extra);
	clock_sleep_ns(m->clk, ns / 2 + extra);
	at = c->fault.kind == SIMDEV_OK ? tear_at(m, c) : 0;
	if (at) {
		torn_step(s, c, at);
		clock_sleep_ns(m->clk, ns / 4);
	}
	extra = 0;
	err = act(s, c, &extra);
	clock_sleep_ns(m->clk, ns / 2 + extra);
	return s->killed ? -ENODEV : err;
}

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

static int sd_read(struct dev *d, uint64_t off_bytes, size_t len_bytes, void *buf)
{
	struct cmd c = {
	    .op = SIMDEV_READ, .off_bytes = off_bytes, .len_bytes = len_bytes, .in = buf};

	check_range(simdev_of(d), off_bytes, len_bytes, buf);
	return outside(simdev_of(d), off_bytes, len_bytes) ? -EIO
							   : simdev_command(simdev_of(d), &c);
}

static int sd_write(struct dev *d, uint64_t off_bytes, size_t len_bytes, const void *buf)
{
	struct cmd c = {
	    .op = SIMDEV_WRITE, .off_bytes = off_bytes, .len_bytes = len_bytes, .out = buf};

	check_range(simdev_of(d), off_bytes, len_bytes, buf);
	return outside(simdev_of(d), off_bytes, len_bytes) ? -EIO
							   : simdev_command(simdev_of(d), &c);
}

static int sd_flush(struct dev *d)
{
	struct cmd c = {.op = SIMDEV_FLUSH};

	return simdev_command(simdev_of(d), &c);
}

static int sd_discard(struct dev *d, uint64_t off_bytes, uint64_t len_bytes)
{
	struct cmd c = {.op = SIMDEV_DISCARD, .off_bytes = off_bytes, .len_bytes = len_bytes};

	check_range(simdev_of(d), off_bytes, len_bytes, NULL);
	return outside(simdev_of(d), off_bytes, len_bytes) ? -EIO
							   : simdev_command(simdev_of(d), &c);
}

static int sd_write_zeroes(struct dev *d, uint64_t off_bytes, uint64_t len_bytes)
{
	struct cmd c = {.op = SIMDEV_WRITE, .off_bytes = off_bytes, .len_bytes = len_bytes};

	check_range(simdev_of(d), off_bytes, len_bytes, NULL);
	return outside(simdev_of(d), off_bytes, len_bytes) ? -EIO
							   : simdev_command(simdev_of(d), &c);
}

static int sd_caw(struct dev *d, uint64_t off_bytes, const void *test, const void *set)
{
	struct cmd c = {.op = SIMDEV_CAW,
			.off_bytes = off_bytes,
			.len_bytes = simdev_of(d)->m->sector_bytes,
			.out = set,
			.test = test};

	check_range(simdev_of(d), off_bytes, 0, test);
	check_range(simdev_of(d), off_bytes, 0, set);
	return outside(simdev_of(d), off_bytes, c.len_bytes) ? -EIO
							     : simdev_command(simdev_of(d), &c);
}

/* Many at once: they share one latency and take effect in any order. */
static void run_many(struct simdev *s, struct cmd *c, int *err, size_t n)
{
	struct simdev_medium *m = s->m;
	uint64_t ns = latency(m), longest = 0, slowest = 0;
	size_t *order = calloc(n, sizeof(*order));

	lunfs_assert(order != NULL);
	for (size_t i = 0; i < n; i++) {
		uint64_t extra = 0;

		err[i] = begin(s, &c[i]);
		slow_only(s, &c[i], &extra);
		slowest = extra > slowest ? extra : slowest;
		order[i] = i;
	}
	medium_lock(m);
	for (size_t i = n; i > 1; i--) {
		size_t j = sim_rand_below(&m->rng, i), t = order[i - 1];

		order[i - 1] = order[j];
		order[j] = t;
	}
	medium_unlock(m);
	clock_sleep_ns(m->clk, ns / 2 + slowest);
	for (size_t i = 0; i < n; i++) {
		uint64_t extra = 0;
		size_t j = order[i];

		if (err[j] == 0)
			err[j] = act(s, &c[j], &extra);
		longest = extra > longest ? extra : longest;
		if (i == n / 2)
			clock_sleep_ns(m->clk, ns / 4);
	}
	clock_sleep_ns(m->clk, ns / 4 + longest);
	free(order);
}

static void sd_batch(struct dev *d, struct dev_io *io, size_t n)
{
	struct cmd *c = calloc(n, sizeof(*c));
	int *err = calloc(n, sizeof(*err));

	lunfs_assert(c && err);
	for (size_t i = 0; i < n; i++) {
		check_range(simdev_of(d), io[i].off_bytes, io[i].len_bytes, io[i].buf);
		lunfs_assert(!outside(simdev_of(d), io[i].off_bytes, io[i].len_bytes));
		c[i] = (struct cmd){.op = io[i].op == DEV_READ ? SIMDEV_READ : SIMDEV_WRITE,
				    .off_bytes = io[i].off_bytes,
				    .len_bytes = io[i].len_bytes,
				    .in = io[i].buf,
				    .out = io[i].op == DEV_READ ? NULL : io[i].buf};
	}
	run_many(simdev_of(d), c, err, n);
	for (size_t i = 0; i < n; i++)
		io[i].result = simdev_of(d)->killed ? -ENODEV : err[i];
	free(err);
	free(c);
}

static void sd_caw_batch(struct dev *d, struct dev_caw_io *io, size_t n)
{
	struct cmd *c = calloc(n, sizeof(*c));
	int *err = calloc(n, sizeof(*err));

	lunfs_assert(c && err);
	for (size_t i = 0; i < n; i++) {
		check_range(simdev_of(d), io[i].off_bytes, 0, io[i].test);
		check_range(simdev_of(d), io[i].off_bytes, 0, io[i].set);
		lunfs_assert(
		    !outside(simdev_of(d), io[i].off_bytes, simdev_of(d)->m->sector_bytes));
		c[i] = (struct cmd){.op = SIMDEV_CAW,
				    .off_bytes = io[i].off_bytes,
				    .len_bytes = simdev_of(d)->m->sector_bytes,
				    .out = io[i].set,
				    .test = io[i].test};
	}
	run_many(simdev_of(d), c, err, n);
	for (size_t i = 0; i < n; i++)
		io[i].result = simdev_of(d)->killed ? -ENODEV : err[i];
	free(err);
	free(c);
}

/* Late commands of this handle: each lands now or is aborted; none is on its way afterwards. */
static int sd_drain(struct dev *d)
{
	struct simdev_medium *m = simdev_of(d)->m;
	struct late **at;
	bool can;

	medium_lock(m);
	can = m->can_drain;
	medium_unlock(m);
	if (simdev_of(d)->killed)
		return -ENODEV;
	if (!can)
		return -EOPNOTSUPP;
	clock_sleep_ns(m->clk, latency(m));
	medium_lock(m);
	for (at = &m->late; *at;) {
		struct late *l = *at;

		if (l->from != d) {
			at = &l->next;
		} else if (sim_chance(&m->rng, 2)) {
			l->due_ns = 0;
			at = &l->next;
		} else {
			*at = l->next;
			simdev_late_free(l);
		}
	}
	simdev_late_land(m, clock_now_ns(m->clk));
	medium_unlock(m);
	return 0;
}

static void sd_close(struct dev *d)
{
	struct simdev_medium *m = simdev_of(d)->m;
	struct simdev **at = &m->handles;

	medium_lock(m);
	while (*at != simdev_of(d))
		at = &(*at)->next;
	*at = (*at)->next;
	for (struct late *l = m->late; l; l = l->next)
		if (l->from == d)
			l->from = NULL;
	medium_unlock(m);
	free(d);
	simdev_medium_put(m);
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
