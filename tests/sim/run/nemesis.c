/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Faults at random moments, as the profile says. By the timer alone only what the timer promises to
 * survive: hosts that die or cannot reach the device, commands that end within their deadline. With
 * reservations also hosts that stand still for longer than their lease and go on, with writes
 * queued below them, and commands that land seconds after their answer.
 */
#include "cover.h"
#include "devcheck.h"
#include "run.h"

#define MS 1000000ull

static uint64_t now(const struct sim_run *r)
{
	return clock_now_ns(r->t->clk);
}

static uint64_t lease_ns(const struct sim_run *r)
{
	return r->t->geo.lease_ms * MS;
}

static uint64_t between(struct sim_run *r, uint64_t from, uint64_t to)
{
	return from + run_random(r, to - from + 1);
}

static struct sim_host *some_host(struct sim_run *r)
{
	return &r->host[run_random(r, r->plan.hosts)];
}

/* ---- hosts ----------------------------------------------------------------------------------- */

/*
 * Its machine starts anew, which proves its death; or its process alone is killed: here all run
 * under one pid, so that proves nothing, and its lease must run out.
 */
static void crash(struct sim_run *r)
{
	struct sim_host *h = some_host(r);

	if (r->plan.pr || run_random(r, 2))
		r->t->boot[h->number]++;
	run_kill(r, h, run_random(r, 4) == 0, now(r) + run_random(r, 2 * lease_ns(r)));
}

static void leave(struct sim_run *r)
{
	struct sim_host *h = some_host(r);

	if (h->state != H_UP)
		return;
	cover_hit(r, COVER_FAULT_LEAVE);
	h->back_ns = now(r) + run_random(r, SC_S / 2);
	h->leave = true;
}

/* One that is stopped goes on when that is over and not before, or its clock would still stand. */
static bool stop_until(struct sim_run *r, struct sim_host *h, uint64_t until_ns)
{
	if (now(r) < h->stopped_until_ns)
		return false;
	h->stopped_until_ns = until_ns;
	return true;
}

static void pause_host(struct sim_run *r, bool frozen, uint64_t ns)
{
	struct sim_host *h = some_host(r);

	if (h->state == H_DEAD || h->state == H_DOWN || !stop_until(r, h, now(r) + ns))
		return;
	trace_host(h->number, "%s for %llu ms", frozen ? "FROZEN with its clock" : "PAUSED",
		   (unsigned long long)(ns / MS));
	cover_hit(r, ns > lease_ns(r) ? COVER_FAULT_PAUSE_LONG : COVER_FAULT_PAUSE);
	if (!frozen) {
		simclock_pause(r->t->clk, h->number + 1, now(r) + ns);
		return;
	}
	cover_hit(r, COVER_FAULT_FREEZE);
	if (h->inc)
		h->inc->clock_stood = true;
	simclock_freeze(r->t->clk, h->number + 1, now(r) + ns);
}

static void pause_short(struct sim_run *r)
{
	pause_host(r, false, between(r, MS, r->t->geo.deadline_ms * MS / 3));
}

static void zombie(struct sim_run *r)
{
	pause_host(r, run_random(r, 2), between(r, lease_ns(r), 4 * lease_ns(r)));
}

static void slow_host(struct sim_run *r)
{
	struct sim_host *h = some_host(r);

	trace_host(h->number, "SLOW");
	cover_hit(r, COVER_FAULT_SLOW);
	simclock_set_slow(r->t->clk, h->number + 1, 2 + (unsigned)run_random(r, 4),
			  run_random(r, 200000));
}

/* ---- the device ------------------------------------------------------------------------------ */

static enum simdev_outage_how some_how(struct sim_run *r)
{
	static const enum simdev_outage_how how[] = {SIMDEV_OUTAGE_SILENT, SIMDEV_OUTAGE_ERROR,
						     SIMDEV_OUTAGE_QUEUED};

	/* a write that waits in a queue for longer than its deadline is not the timer's business */
	return how[run_random(r, r->plan.pr ? 3 : 2)];
}

static void outage(struct sim_run *r)
{
	enum simdev_outage_how how = some_how(r);
	uint64_t ns = between(r, 50 * MS, run_random(r, 2) ? lease_ns(r) : 5 * lease_ns(r));

	trace_line("array", "GONE for %llu ms", (unsigned long long)(ns / MS));
	cover_hit(r, COVER_FAULT_OUTAGE);
	simdev_outage_all(r->t->medium, now(r) + ns, how);
}

static void path_lost(struct sim_run *r)
{
	enum simdev_outage_how how = some_how(r);
	struct sim_host *h = some_host(r);
	uint64_t ns = between(r, 50 * MS, run_random(r, 2) ? lease_ns(r) : 4 * lease_ns(r));

	if (h->state != H_UP)
		return;
	trace_host(h->number, "PATH LOST for %llu ms", (unsigned long long)(ns / MS));
	cover_hit(r, COVER_FAULT_PATH);
	simdev_outage(r->t->dev[h->number], now(r) + ns, how);
}

static void forget_keys(struct sim_run *r)
{
	if (!r->plan.pr)
		return;
	cover_hit(r, COVER_FAULT_PR_LOST);
	if (run_random(r, 2)) {
		trace_line("array", "RESET: all registrations are gone");
		simdev_pr_reset(r->t->medium);
	} else {
		struct sim_host *h = some_host(r);

		trace_host(h->number, "ITS REGISTRATION IS GONE");
		simdev_pr_forget(r->t->medium, SC_NEXUS + h->number);
	}
}

/* The device fails one command of a host for good: the host may pass that on, or stop. */
static void hard_error(struct sim_run *r)
{
	static const enum simdev_op op[] = {SIMDEV_CAW, SIMDEV_WRITE, SIMDEV_READ, SIMDEV_FLUSH};
	struct sim_host *h = some_host(r);
	struct simdev_fault f = {.kind = SIMDEV_FAIL, .nth = 1 + run_random(r, 20)};

	if (h->state != H_UP)
		return;
	f.ops = op[run_random(r, sizeof(op) / sizeof(op[0]))];
	trace_host(h->number, "HARD ERROR to come");
	cover_hit(r, COVER_FAULT_EIO);
	h->inc->hard_errors = true;
	simdev_inject(r->t->dev[h->number], &f);
}

/*
 * Some sectors cannot be read, by anybody, until they are written again or the faults stop: of a
 * slot, a journal, a shared directory or anywhere in the groups.
 */
static void latent(struct sim_run *r)
{
	const struct geo *g = &r->t->geo;
	uint64_t off, len = g->sector_bytes << run_random(r, 3);

	if (r->n_rotten == ROTTEN_MAX)
		return;
	switch (run_random(r, 4)) {
	case 0:
		off = geo_slot_off((unsigned)run_random(r, g->slots));
		len = g->sector_bytes;
		break;
	case 1:
		off = geo_blk_off(g->journal_blk[run_random(r, r->plan.hosts)] +
				  run_random(r, g->journal_blks));
		break;
	case 2:
		off = geo_blk_off(r->shared[run_random(r, r->n_shared)].ino);
		break;
	default:
		off = geo_blk_off(g->group0_blk + run_random(r, 4096));
		break;
	}
	trace_line("array", "CANNOT READ %llu bytes at %llu any more", (unsigned long long)len,
		   (unsigned long long)off);
	cover_hit(r, COVER_FAULT_ROT);
	r->rotten_off[r->n_rotten] = off;
	r->rotten_len[r->n_rotten++] = len;
	simdev_rot(r->t->medium, off, len);
	for (unsigned n = 0; n < r->plan.hosts; n++)
		if (r->host[n].inc)
			r->host[n].inc->hard_errors = true;
}

static void read_again(struct sim_run *r)
{
	uint8_t buf[4 * 4096];

	for (unsigned k = 0; k < r->n_rotten; k++) {
		simdev_peek(r->t->medium, r->rotten_off[k], r->rotten_len[k], buf);
		simdev_poke(r->t->medium, r->rotten_off[k], r->rotten_len[k], buf);
	}
}

/* Everything loses power: all hosts and the array. */
static void power(struct sim_run *r)
{
	if (devcheck_last_spare(r, ~0u))
		return;
	trace_line("array", "POWER CUT");
	cover_hit(r, COVER_FAULT_POWER);
	for (unsigned n = 0; n < r->plan.hosts; n++) {
		r->t->boot[n]++;
		run_kill(r, &r->host[n], run_random(r, 6) == 0,
			 now(r) + run_random(r, lease_ns(r)));
		if (r->host[n].state == H_DOWN)
			r->host[n].back_ns = now(r) + run_random(r, lease_ns(r));
	}
	simdev_power_cut(r->t->medium, run_random(r, UINT64_MAX));
	devcheck_power(r);
}

/* Commands that go wrong one in a while. */
static void flaky(struct sim_run *r, bool on)
{
	uint64_t deadline = r->t->geo.deadline_ms * MS;
	unsigned often = 40 + (unsigned)run_random(r, 400);
	struct simdev_chaos c = {0};

	if (!on) {
		simdev_chaos(r->t->medium, NULL);
		return;
	}
	c.rate[SIMDEV_DELAY] = (struct simdev_rate){often, 0, 1 * MS, deadline / 4};
	c.rate[SIMDEV_BUSY] = (struct simdev_rate){often, 0, MS, 20 * MS};
	c.rate[SIMDEV_TASK_SET_FULL] = (struct simdev_rate){often, 0, MS, 20 * MS};
	c.rate[SIMDEV_UNIT_ATTENTION] = (struct simdev_rate){often, 0, MS, 20 * MS};
	c.rate[SIMDEV_LOST_REPLY] = (struct simdev_rate){4 * often, 0, 0, 0};
	c.rate[SIMDEV_LOST_COMMAND] = (struct simdev_rate){4 * often, 0, 0, 0};
	c.rate[SIMDEV_TRUNCATE] = (struct simdev_rate){8 * often, 0, 0, 0};
	c.rate[SIMDEV_RESENT] = (struct simdev_rate){often, 0, 0, 0};
	c.rate[SIMDEV_LIE_MISCOMPARE] = (struct simdev_rate){2 * often, 0, 0, 0};
	if (r->plan.pr)
		c.rate[SIMDEV_LATE] = (struct simdev_rate){4 * often, 0, 1 * MS, 3 * lease_ns(r)};
	simdev_chaos(r->t->medium, &c);
}

/*
 * For a while no test and set of a lock of this host is answered, while its beats and all else get
 * through; some of them land when nobody expects them any more.
 */
static void stuck_hook(void *ctx, struct dev *d, const struct simdev_cmd *c,
		       struct simdev_fault *out)
{
	struct sim_run *r = ctx;

	if (out->kind != SIMDEV_OK || c->op != SIMDEV_CAW || d != r->t->dev[r->stuck_host] ||
	    devcheck_is_slot(r, c->off_bytes) || now(r) >= r->stuck_ns)
		return;
	out->kind = run_random(r, 3) ? SIMDEV_LOST_COMMAND : SIMDEV_LATE;
	out->ops = SIMDEV_CAW;
	out->delay_ns = between(r, MS, 2 * lease_ns(r));
}

static void stuck(struct sim_run *r)
{
	struct sim_host *h = some_host(r);
	uint64_t ns = between(r, r->t->geo.deadline_ms * MS / 4, 3 * r->t->geo.deadline_ms * MS);

	if (h->state != H_UP || !r->plan.pr)
		return;
	trace_host(h->number, "TEST AND SETS OF ITS LOCKS ARE STUCK for %llu ms",
		   (unsigned long long)(ns / MS));
	cover_hit(r, COVER_FAULT_STUCK);
	r->stuck_host = h->number;
	r->stuck_ns = now(r) + ns;
	simdev_set_hook(r->t->medium, stuck_hook, r);
}

/* ---- a device that lies -----------------------------------------------------------------------
 */

static bool tells_lie(struct sim_run *r, const struct simdev_cmd *c)
{
	switch (r->plan.lie) {
	case LIE_CAW_BLIND:
	case LIE_CAW_SPLIT:
	case LIE_CAW_DONE:
	case LIE_CAW_REFUSES:
		return c->op == SIMDEV_CAW;
	case LIE_LOST_WRITE:
		return c->op == SIMDEV_WRITE && devcheck_is_meta(r, c->off_bytes);
	case LIE_READ_CORRUPT:
	case LIE_READ_STALE:
		return c->op == SIMDEV_READ && devcheck_is_meta(r, c->off_bytes);
	default:
		return false;
	}
}

static struct inc *writer_of(struct sim_run *r, const struct dev *d)
{
	for (unsigned n = 0; n < r->plan.hosts; n++)
		if (r->t->dev[n] == d)
			return r->host[n].inc;
	return NULL;
}

static void lie(void *ctx, struct dev *d, const struct simdev_cmd *c, struct simdev_fault *out)
{
	static const enum simdev_fault_kind kind[LIES] = {
	    [LIE_CAW_BLIND] = SIMDEV_LIE_BLIND, [LIE_CAW_SPLIT] = SIMDEV_LIE_SPLIT,
	    [LIE_CAW_DONE] = SIMDEV_LIE_DONE,	[LIE_CAW_REFUSES] = SIMDEV_LIE_MISCOMPARE,
	    [LIE_LOST_WRITE] = SIMDEV_LIE_DONE, [LIE_READ_CORRUPT] = SIMDEV_CORRUPT,
	    [LIE_READ_STALE] = SIMDEV_STALE};
	struct sim_run *r = ctx;

	if (out->kind != SIMDEV_OK || !tells_lie(r, c))
		return;
	if (r->plan.lie == LIE_CAW_REFUSES ? d != r->t->dev[0] || run_random(r, 20) == 0
					   : run_random(r, r->plan.lie_one_in) != 0)
		return;
	out->kind = kind[r->plan.lie];
	out->ops = SIMDEV_ANY;
	out->delay_ns = MS + run_random(r, 20 * MS);
	r->lied++;
	if (r->plan.lie == LIE_LOST_WRITE)
		devcheck_lose(r, writer_of(r, d), c->off_bytes);
}

/*
 * A few bytes of a sector on which somebody is about to test and set are something else: firmware
 * that mixes sectors up, or a machine that writes where it must not.
 */
static void scribble(void *ctx, struct dev *d, const struct simdev_cmd *c, struct simdev_fault *out)
{
	struct sim_run *r = ctx;
	uint8_t buf[16];

	(void)d;
	(void)out;
	if (c->op != SIMDEV_CAW || run_random(r, 20 * r->plan.lie_one_in) != 0)
		return;
	for (unsigned k = 0; k < sizeof(buf); k++)
		buf[k] = (uint8_t)run_random(r, 256);
	trace_line("array", "SCRIBBLES on the sector at %llu", (unsigned long long)c->off_bytes);
	simdev_poke(r->t->medium, c->off_bytes + run_random(r, 512 - sizeof(buf)), sizeof(buf),
		    buf);
	r->lied++;
}

static void liar(struct sim_run *r)
{
	struct simdev_snapshot *old;

	trace_line("array", "LIES: %s", lie_name(r->plan.lie));
	clock_sleep_ns(r->t->clk, run_random(r, r->plan.work_ns / 3));
	if (r->plan.lie == LIE_SCRIBBLE) {
		simdev_set_hook(r->t->medium, scribble, r);
		return;
	}
	if (r->plan.lie != LIE_ROLL_BACK) {
		simdev_mark_old(r->t->medium);
		simdev_set_hook(r->t->medium, lie, r);
		return;
	}
	old = simdev_snapshot(r->t->medium);
	devcheck_snapshot(r);
	clock_sleep_ns(r->t->clk, run_random(r, r->plan.work_ns / 3));
	trace_line("array", "GOES BACK");
	simdev_roll_back(r->t->medium, old);
	devcheck_roll_back(r);
	simdev_snapshot_free(old);
	r->lied++;
}

/* ---- profiles -------------------------------------------------------------------------------- */

typedef void (*strike_fn)(struct sim_run *r);

static void strike(struct sim_run *r)
{
	static const strike_fn in_crash[] = {crash, crash, crash, leave, pause_short, slow_host},
			       in_zombie[] = {zombie, zombie, zombie, crash, leave, pause_short},
			       in_flaky[] = {pause_short, leave, crash, slow_host,
					     stuck,	  stuck, stuck, stuck},
			       in_power[] = {power, power, crash, leave},
			       in_outage[] = {outage, path_lost, path_lost,
					      leave,  crash,	 hard_error},
			       in_mixed_timer[] = {crash,  leave,     pause_short, slow_host,
						   outage, path_lost, power,	   latent},
			       in_mixed[] = {crash,	  leave,  pause_short, slow_host,
					     outage,	  zombie, path_lost,   power,
					     forget_keys, zombie, hard_error,  latent};
#define ONE_OF(table) table[run_random(r, sizeof(table) / sizeof((table)[0]))](r)

	switch (r->plan.profile) {
	case PROF_CRASH:
		ONE_OF(in_crash);
		break;
	case PROF_ZOMBIE:
		ONE_OF(in_zombie);
		break;
	case PROF_FLAKY:
		ONE_OF(in_flaky);
		break;
	case PROF_POWER:
		ONE_OF(in_power);
		break;
	case PROF_OUTAGE:
		ONE_OF(in_outage);
		break;
	case PROF_MIXED:
		if (r->plan.pr)
			ONE_OF(in_mixed);
		else
			ONE_OF(in_mixed_timer);
		break;
	default:
		break;
	}
#undef ONE_OF
}

/* ---- in the middle of a recovery --------------------------------------------------------------
 */

static void ambush(struct sim_run *r, unsigned recoverer)
{
	struct sim_host *h = &r->host[recoverer];
	uint64_t ns = between(r, lease_ns(r), 2 * lease_ns(r));

	switch (run_random(r, 4)) {
	case 0:
		if (r->plan.pr)
			r->t->boot[h->number]++;
		run_kill(r, h, false, now(r) + run_random(r, lease_ns(r)));
		break;
	case 1:
		trace_line("array", "GONE for %llu ms", (unsigned long long)(ns / MS));
		cover_hit(r, COVER_FAULT_OUTAGE);
		simdev_outage_all(r->t->medium, now(r) + ns, SIMDEV_OUTAGE_SILENT);
		break;
	case 2:
		if (r->plan.pr && stop_until(r, h, now(r) + ns)) {
			trace_host(recoverer, "PAUSED for %llu ms", (unsigned long long)(ns / MS));
			simclock_pause(r->t->clk, recoverer + 1, now(r) + ns);
		}
		break;
	default:
		break;
	}
}

/* Strikes where it hurts: when a host has just begun to recover another. */
void ambush_main(void *arg)
{
	struct sim_run *r = arg;
	unsigned seen = 0;

	while (!r->stopping) {
		clock_sleep_ns(r->t->clk, MS);
		if (r->takes == seen)
			continue;
		seen = r->takes;
		clock_sleep_ns(r->t->clk, run_random(r, 4 * MS));
		if (!r->stopping && run_random(r, 2))
			ambush(r, r->taker);
	}
}

/*
 * A flush comes of a host that was given a lock, which is not durable yet: hold it up for what
 * flush_ambush_main() does.
 */
static void flush_hook(void *ctx, struct dev *d, const struct simdev_cmd *c,
		       struct simdev_fault *out)
{
	struct sim_run *r = ctx;
	unsigned n = 0;

	if (out->kind != SIMDEV_OK || c->op != SIMDEV_FLUSH || r->cut_now || !r->cuts)
		return;
	while (n < r->plan.hosts && r->t->dev[n] != d)
		n++;
	if (n == r->plan.hosts || !devcheck_given_in_cache(r, n) || run_random(r, 3) == 0)
		return;
	out->kind = SIMDEV_DELAY;
	out->ops = SIMDEV_FLUSH;
	out->delay_ns = 4 * MS;
	r->cut_now = true;
}

/* The power goes where what a host has just written may rest on what it has only seen. */
void flush_ambush_main(void *arg)
{
	struct sim_run *r = arg;

	r->cuts = 1 + (unsigned)run_random(r, 3);
	simdev_set_hook(r->t->medium, flush_hook, r);
	while (!r->stopping) {
		clock_sleep_ns(r->t->clk, MS);
		if (!r->cut_now)
			continue;
		cover_hit(r, COVER_FAULT_POWER_FLUSH);
		r->cuts--;
		power(r);
		r->cut_now = false;
	}
}

static void stop_faults(struct sim_run *r)
{
	flaky(r, false);
	read_again(r);
	simdev_set_hook(r->t->medium, NULL, NULL);
	for (unsigned n = 0; n < r->plan.hosts; n++) {
		simclock_set_slow(r->t->clk, n + 1, 1, 0);
		if (r->host[n].state == H_UP)
			simdev_inject_clear(r->t->dev[n]);
	}
}

void nemesis_main(void *arg)
{
	struct sim_run *r = arg;
	enum profile p = r->plan.profile;

	if (p == PROF_LIAR)
		liar(r);
	if (p == PROF_FLAKY || (p == PROF_MIXED && run_random(r, 2)))
		flaky(r, true);
	for (unsigned k = 0; p != PROF_CALM && p != PROF_LIAR && k < r->plan.events; k++) {
		clock_sleep_ns(r->t->clk, run_random(r, r->plan.work_ns / r->plan.events));
		strike(r);
	}
	while (now(r) < r->stop_ns)
		clock_sleep_ns(r->t->clk, SC_S / 20);
	stop_faults(r);
}
