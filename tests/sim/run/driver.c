/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of a run. The first task makes the shared directories, starts a keeper for each host and
 * the nemesis, and waits. A keeper (which no fault touches) mounts its host, starts its actors,
 * mounts it again when it has died or left, and in the end sees to it that it is up. Then nobody
 * works any more: orphans go, every host reads the whole tree, all go down, and the medium and the
 * history are checked.
 *
 * What a keeper does to its host is done by tasks of the host, so that a kill catches them too.
 */
#include "cover.h"
#include "devcheck.h"
#include "lin.h"
#include "run.h"

#include "txn/txn_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define POLL_NS 10000000ull
#define MOUNT_AT_LAST_NS (20 * SC_S) /* after the faults have stopped */
#define MAX_STEPS 30000000ull
#define MAX_VIRTUAL_NS (400 * SC_S)
#define HISTORY_MAX 20000u

struct sim_run *the_run;

uint64_t run_random(struct sim_run *r, uint64_t below)
{
	return sc_random(r->t, below);
}

struct inc *run_inc_of_label(struct sim_run *r, const char *label)
{
	const char *at = strchr(label, '#');
	unsigned n = at ? (unsigned)strtoul(at + 1, NULL, 10) : 0;

	return n >= 1 && n <= r->n_incs ? &r->inc[n - 1] : NULL;
}

void run_wrong(struct sim_run *r, const char *fmt, ...)
{
	char text[1200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (r->plan.profile == PROF_LIAR && r->lied && r->said) {
		if (!r->wrong)
			cover_hit(r, COVER_LIE_SAID);
		r->wrong = true;
		trace_line("run", "WRONG, as was said: %s", text);
		return;
	}
	/* Of two commands that both say GOOD neither host can know: lunfs check-device is for that.
	 * Nor can anybody of a write that was lost before its version was on record. */
	if (r->lied &&
	    (r->plan.lie == LIE_CAW_SPLIT || r->unseen || (r->dc && devcheck_unseen(r)))) {
		if (!r->wrong)
			cover_hit(r, COVER_LIE_UNSEEN);
		r->wrong = true;
		return;
	}
	sc_fail(r->t, __FILE__, __LINE__, "%s%s", text,
		r->plan.profile == PROF_LIAR ? " and nobody has said a word" : "");
}

/* ---- incarnations ---------------------------------------------------------------------------- */

static struct inc *inc_new(struct sim_run *r, unsigned host)
{
	struct inc *i;

	SC_CHECK(r->t, r->n_incs < INCS_MAX, "too many mounts in one run");
	i = &r->inc[r->n_incs++];
	*i = (struct inc){.host = host, .number = r->n_incs};
	i->begin_ev = history_tick(r->hist);
	i->nexus = SC_NEXUS + host;
	i->hard_errors = r->n_rotten > 0;
	i->drift_ppm = r->plan.drift_ppm[host];
	snprintf(r->t->label[host], sizeof(r->t->label[host]), "host%u#%u", host, i->number);
	return i;
}

static void inc_ended(struct sim_run *r, struct inc *i, enum inc_end how)
{
	uint64_t durable = i->leaving ? i->left_durable : i->v ? i->v->txns->durable_tid : 0;
	uint64_t next = i->leaving ? i->left_running + 1 : durable + 1;

	if (i->end != INC_LOST) {
		i->end = how;
		i->end_ev = history_tick(r->hist);
		i->end_ns = clock_now_ns(r->t->clk);
		i->durable_lo = durable;
		i->durable_hi = next;
	} else if (i->durable_hi < durable) { /* taken over before, but it got to know more */
		i->durable_hi = durable;
	}
	if (i->v && !i->leaving)
		cover_volume(r, i->v);
}

/* What it had not committed by now is lost, whether it knows or not. */
void run_inc_taken(struct sim_run *r, struct inc *i, unsigned slot)
{
	if (slot >= r->t->geo.slots || i->end != INC_RUNS)
		return;
	trace_host(i->host, "ITS SLOT %u IS TAKEN OVER", slot);
	inc_ended(r, i, INC_LOST);
}

void run_kill(struct sim_run *r, struct sim_host *h, bool stay_dead, uint64_t back_ns)
{
	if (h->state != H_MOUNTING && h->state != H_UP && h->state != H_LEAVING)
		return;
	if (devcheck_last_spare(r, 1u << h->number) && !r->wrong)
		return;
	trace_host(h->number, "KILLED %s", h->state == H_UP ? "" : "while mounting or unmounting");
	cover_hit(r, h->state == H_UP ? COVER_FAULT_KILL : COVER_FAULT_KILL_MOUNTING);
	sc_kill(r->t, h->number);
	h->died_mounting |= h->state == H_MOUNTING;
	if (h->inc)
		inc_ended(r, h->inc, INC_KILLED);
	h->state = H_DEAD;
	h->stay_dead = stay_dead;
	h->back_ns = back_ns;
}

/* ---- steps of a host, on tasks of its own ---------------------------------------------------- */

static void mount_task(void *arg)
{
	struct sim_host *h = arg;

	h->step_rc = sc_mount(h->r->t, h->number, false, h->why, sizeof(h->why));
	simclock_set_group(h->r->t->clk, h->number + 1); /* so that a kill still finds it */
	h->step_done = true;
}

static void unmount_task(void *arg)
{
	struct sim_host *h = arg;

	h->step_rc = vol_unmount(h->inc->v);
	h->step_done = true;
}

static void read_task(void *arg)
{
	struct sim_host *h = arg;

	actor_read_tree(h->r, h);
	h->step_done = true;
}

static void settle_task(void *arg)
{
	struct sim_host *h = arg;
	uint64_t freed;

	sc_settle(h->r->t, h->number);
	orphans_count(h->inc->v->orphans, &h->orphans, &freed);
	h->step_done = true;
}

/* False: it was killed meanwhile. */
static bool step(struct sim_host *h, void (*fn)(void *))
{
	struct simcluster *t = h->r->t;
	struct task *task;

	h->step_done = false;
	task = sc_task(t, h->number, fn, h);
	while (!h->step_done && h->state != H_DEAD)
		clock_sleep_ns(t->clk, POLL_NS);
	if (h->state == H_DEAD)
		return false;
	sc_join(t, task);
	return true;
}

static bool actors_end(struct sim_host *h)
{
	struct sim_run *r = h->r;

	for (unsigned k = 0; k < r->plan.tasks; k++)
		while (!h->actor[k].ended && h->state != H_DEAD)
			clock_sleep_ns(r->t->clk, POLL_NS);
	if (h->state == H_DEAD)
		return false;
	for (unsigned k = 0; k < r->plan.tasks; k++)
		sc_join(r->t, h->actor[k].task);
	return true;
}

static void actors_start(struct sim_host *h)
{
	struct sim_run *r = h->r;

	for (unsigned k = 0; k < r->plan.tasks; k++) {
		struct actor *a = &h->actor[k];

		*a = (struct actor){.r = r, .host = h->number, .number = k, .inc = h->inc};
		a->rng = run_random(r, UINT64_MAX);
		a->buf = dev_buf_alloc(32768);
		a->dir[a->n_dirs++] = r->shared[0];
		a->dir[a->n_dirs++] = r->shared[1];
		a->dir[a->n_dirs++] = r->shared[2];
		a->dir[a->n_dirs++] = h->number < r->n_shared ? r->shared[h->number] : r->root;
		a->task = sc_task(r->t, h->number, actor_main, a);
	}
}

/* The key of a mount that ended between its registration and its claim belongs to no slot. */
static void take_key_away(struct sim_host *h)
{
	trace_host(h->number, "ITS KEY IS TAKEN AWAY by sg_persist");
	cover_hit(h->r, COVER_ADMIN_KEY);
	simdev_pr_forget(h->r->t->medium, SC_NEXUS + h->number);
}

/* A mount may fail while there are faults, and for a while after that: an outage lasts. */
static void mount_failed(struct sim_host *h)
{
	struct sim_run *r = h->r;

	trace_host(h->number, "CANNOT MOUNT: %s", h->why);
	inc_ended(r, h->inc, INC_KILLED);
	if (r->plan.profile == PROF_CALM ||
	    (r->stopping && ++h->failures > 5 &&
	     clock_now_ns(r->t->clk) >= r->stopped_ns + MOUNT_AT_LAST_NS)) {
		run_wrong(r, "host %u cannot mount: %s", h->number, h->why);
		h->state = H_DEAD;
		h->stay_dead = true;
		return;
	}
	if (h->step_rc == -EBADE && h->died_mounting)
		take_key_away(h);
	h->died_mounting = true; /* its registration may have had no answer */
	clock_sleep_ns(r->t->clk, r->stopping ? SC_S : SC_S / 4);
}

static bool host_mount(struct sim_host *h)
{
	struct sim_run *r = h->r;

	h->state = H_MOUNTING;
	for (;;) {
		h->inc = inc_new(r, h->number);
		if (!step(h, mount_task))
			return false;
		if (h->step_rc == 0)
			break;
		mount_failed(h);
		if (h->state == H_DEAD)
			return false;
	}
	h->inc->v = r->t->v[h->number];
	h->state = H_UP;
	trace_host(h->number, "UP as %llx", (unsigned long long)h->inc->owner);
	return true;
}

/* It answers EIO from now on. */
static bool is_broken(struct volume *v)
{
	return atomic_load(&v->lost) || v->txns->failed;
}

/* The command that frees the slot is given up when it had no answer for its deadline. */
static bool away_at_the_end(const struct sim_host *h, struct dev *d)
{
	return simdev_was_away(d, clock_now_ns(h->r->t->clk) - d->deadline_ms * 1000000ull);
}

static bool host_unmount(struct sim_host *h)
{
	struct sim_run *r = h->r;
	struct inc *i = h->inc;
	struct dev *d = r->t->dev[h->number];
	bool broken = is_broken(i->v);

	h->state = H_LEAVING;
	r->t->v[h->number] = NULL;
	cover_volume(r, i->v);
	i->left_durable = i->v->txns->durable_tid;
	i->left_running = i->v->txns->running->id;
	i->leaving = true;
	if (!step(h, unmount_task))
		return false;
	if (h->step_rc && !broken && !i->hard_errors && i->end != INC_LOST &&
	    !away_at_the_end(h, d))
		run_wrong(r, "host %u: unmount: %s", h->number, strerror(-h->step_rc));
	inc_ended(r, i, h->step_rc ? INC_LOST : INC_CLEAN);
	i->v = NULL;
	h->inc = NULL;
	h->state = H_DOWN;
	trace_host(h->number, "DOWN%s", h->step_rc ? ", not cleanly" : "");
	return true;
}

/* ---- the keeper ------------------------------------------------------------------------------ */

static bool wait_to_come_back(struct sim_host *h)
{
	struct sim_run *r = h->r;

	while (clock_now_ns(r->t->clk) < h->back_ns && !r->stopping)
		clock_sleep_ns(r->t->clk, POLL_NS);
	return h->state != H_DEAD || !h->stay_dead;
}

#define FINDS_OUT_NS (30 * SC_S)

/* It was recovered by another: however it was stopped, once it goes on it finds that out. */
static void finds_out(struct sim_host *h)
{
	struct sim_run *r = h->r;
	uint64_t until = clock_now_ns(r->t->clk) + FINDS_OUT_NS;

	while (h->state == H_UP && h->inc->end == INC_LOST && !is_broken(h->inc->v)) {
		SC_CHECK(r->t, clock_now_ns(r->t->clk) < until,
			 "host %u has not noticed in half a minute that it was recovered",
			 h->number);
		clock_sleep_ns(r->t->clk, POLL_NS);
	}
}

static void keep(struct sim_host *h)
{
	struct sim_run *r = h->r;

	while (wait_to_come_back(h)) {
		if (h->state == H_DEAD)
			cover_hit(r, COVER_FAULT_RESTART);
		h->leave = false;
		if (!host_mount(h))
			continue;
		actors_start(h);
		if (!actors_end(h))
			continue;
		while (!h->leave && !r->stopping && h->state == H_UP && !is_broken(h->inc->v))
			clock_sleep_ns(r->t->clk, POLL_NS);
		finds_out(h);
		if (h->state != H_UP)
			continue;
		if (!h->leave && !is_broken(h->inc->v))
			return;
		host_unmount(h);
	}
}

static void keeper_main(void *arg)
{
	keep(arg);
}

/* ---- beginning and end ----------------------------------------------------------------------- */

static void make_shared(struct sim_run *r)
{
	struct simcluster *t = r->t;

	r->root = sc_root_id(t, 0);
	r->n_shared = 3;
	for (unsigned k = 0; k < r->n_shared; k++) {
		struct hop *h = hop_begin(r, 0, 0, HOP_MKDIR);
		struct vattr va;

		h->id = k == 2 ? r->shared[0] : r->root;
		snprintf(h->name, sizeof(h->name), "s%u", k);
		hop_call(r, h);
		SC_OK(t, vol_mkdir(t->v[0], &h->ctx, h->id, h->name, 0755, &va));
		hop_end(r, h, 0, &va);
		r->shared[k] = va.id;
	}
}

#define LEFT_BLKS 300u

/* A file that takes all but a little of the space. */
static void fill_up(struct sim_run *r)
{
	struct simcluster *t = r->t;
	struct hop *h = hop_begin(r, 0, 0, HOP_MKNOD);
	struct statvfs sv;
	struct vattr va;

	h->id = r->root;
	snprintf(h->name, sizeof(h->name), "fill");
	hop_call(r, h);
	SC_OK(t, vol_mknod(t->v[0], &h->ctx, h->id, h->name, S_IFREG | 0644, 0, &va));
	hop_end(r, h, 0, &va);
	SC_OK(t, vol_statfs(t->v[0], &sv));
	h = hop_begin(r, 0, 0, HOP_FALLOCATE);
	h->id = va.id;
	h->len = (sv.f_bavail - LEFT_BLKS) * 4096;
	hop_call(r, h);
	SC_OK(t, vol_fallocate(t->v[0], &h->ctx, h->id, 0, 0, h->len));
	hop_end(r, h, 0, NULL);
}

/* A clean mount by host 0, as part of the history. */
static void begin(struct sim_run *r)
{
	struct simcluster *t = r->t;
	struct sim_host *h = &r->host[0];

	*h = (struct sim_host){.r = r};
	devcheck_start(r);
	SC_CHECK(t, host_mount(h), "the first mount");
	make_shared(r);
	if (r->plan.full)
		fill_up(r);
	SC_CHECK(t, host_unmount(h), "the first unmount");
	r->begin_ns = clock_now_ns(t->clk);
	r->stop_ns = r->begin_ns + r->plan.work_ns;
	simdev_set_latency(t->medium, r->plan.lat_min_ns, r->plan.lat_max_ns);
}

/* Every host that lives can take every lock: it reads everything there is. */
static void read_trees(struct sim_run *r)
{
	for (unsigned n = 0; n < r->plan.hosts; n++)
		if (r->host[n].state == H_UP)
			step(&r->host[n], read_task);
}

static void all_orphans_go(struct sim_run *r)
{
	struct simcluster *t = r->t;
	uint64_t waiting = 1, until = clock_now_ns(t->clk) + 60 * SC_S;

	while (waiting) {
		waiting = 0;
		for (unsigned n = 0; n < r->plan.hosts; n++) {
			if (r->host[n].state != H_UP)
				continue;
			step(&r->host[n], settle_task);
			waiting += r->host[n].orphans;
		}
		if (waiting && clock_now_ns(t->clk) >= until) {
			run_wrong(
			    r,
			    "%llu orphans are still there, a minute after all faults have stopped",
			    (unsigned long long)waiting);
			return;
		}
		if (waiting)
			clock_sleep_ns(t->clk, SC_S / 8);
	}
}

/* Whoever is dead by now is recovered by the others, if there are any. */
static void all_recovered(struct sim_run *r)
{
	uint64_t until = simclock_true_ns(r->t->clk) + 30 * SC_S;
	int slot;

	while ((slot = devcheck_unrecovered(r)) >= 0 && r->plan.profile != PROF_LIAR) {
		SC_CHECK(r->t, simclock_true_ns(r->t->clk) < until,
			 "the dead host in slot %d has not been recovered in half a minute", slot);
		clock_sleep_ns(r->t->clk, POLL_NS);
	}
}

static void kill_all(struct sim_run *r)
{
	for (unsigned n = 0; n < r->plan.hosts; n++)
		run_kill(r, &r->host[n], true, 0);
}

#define LIAR_NS (60 * SC_S)

/* On a volume that a device has ruined there may be waits that do not end: not for ever here. */
static void liar_watch(void *arg)
{
	struct sim_run *r = arg;

	while (!r->ended && !(r->stopping && simclock_true_ns(r->t->clk) >
						 r->stopped_ns + (r->kept ? 3 * LIAR_NS : LIAR_NS)))
		clock_sleep_ns(r->t->clk, SC_S / 4);
	if (r->ended)
		return;
	run_wrong(r, "hosts do not get on, minutes after the device lied last");
	kill_all(r);
}

static void wait_for_keepers(struct sim_run *r)
{
	for (unsigned n = 0; n < r->plan.hosts; n++)
		sc_join(r->t, r->host[n].keeper);
}

static struct task *start_task(struct sim_run *r, const char *name, void (*fn)(void *), void *arg)
{
	struct task *task;

	SC_OK(r->t, r->t->clk->ops->task_start(r->t->clk, name, fn, arg, &task));
	return task;
}

static void all_down(struct sim_run *r)
{
	for (unsigned n = 0; n < r->plan.hosts; n++)
		if (r->host[n].state == H_UP)
			SC_CHECK(r->t, host_unmount(&r->host[n]) || r->wrong,
				 "a host died in the end");
}

/* A host that could not unmount cleanly is for the next who mounts. */
static void clean_up(struct sim_run *r)
{
	all_down(r);
	while (r->plan.profile != PROF_LIAR && devcheck_unrecovered(r) >= 0) {
		if (!host_mount(&r->host[0]))
			return;
		all_recovered(r);
		all_orphans_go(r);
		all_down(r);
	}
}

static void end(struct sim_run *r)
{
	bool up = false;

	r->kept = true;
	if (r->wrong) {
		kill_all(r);
		return;
	}
	for (unsigned n = 0; n < r->plan.hosts; n++)
		up |= r->host[n].state == H_UP;
	if (!up) { /* all are dead: somebody has to come */
		r->host[0].state = H_DOWN;
		if (!host_mount(&r->host[0]))
			return;
	}
	read_trees(r);
	all_recovered(r);
	all_orphans_go(r);
	r->closing = true;
	clean_up(r);
}

static void body(struct simcluster *t)
{
	struct sim_run *r = t->ctx;
	struct task *nemesis, *watch = NULL, *in_wait = NULL;

	r->t = t;
	the_run = r;
	simclock_set_limits(t->clk, MAX_STEPS, MAX_VIRTUAL_NS);
	simdev_set_pr(t->medium, r->plan.pr, true);
	simdev_set_caw_cached(t->medium, r->plan.caw_cached);
	t->opt.host.fence = r->plan.pr ? FENCE_PR : FENCE_AUTO;
	begin(r);
	trace_device(r);
	for (unsigned n = 0; n < r->plan.hosts; n++) {
		t->boot[n] = 1;
		simclock_set_drift(t->clk, n + 1, r->plan.drift_ppm[n]);
		r->host[n] = (struct sim_host){.r = r, .number = n};
		r->host[n].keeper = start_task(r, "keeper", keeper_main, &r->host[n]);
	}
	nemesis = start_task(r, "nemesis", nemesis_main, r);
	if (r->plan.profile == PROF_MIXED || r->plan.profile == PROF_CRASH)
		in_wait = start_task(r, "ambush", ambush_main, r);
	else if (r->plan.profile == PROF_POWER && r->plan.caw_cached)
		in_wait = start_task(r, "ambush", flush_ambush_main, r);
	if (r->plan.profile == PROF_LIAR)
		watch = start_task(r, "liar-watch", liar_watch, r);
	sc_join(t, nemesis);
	trace_line("run", "faults have stopped");
	r->stopping = true;
	r->stopped_ns = clock_now_ns(t->clk);
	if (in_wait)
		sc_join(t, in_wait);
	wait_for_keepers(r);
	end(r);
	r->ended = true;
	if (watch)
		sc_join(t, watch);
	r->hash = simclock_trace(t->clk);
}

static void done(struct simcluster *t)
{
	struct sim_run *r = t->ctx;
	unsigned long long problems, stale;

	r->unseen = devcheck_unseen(r);
	devcheck_stop(r);
	problems = run_fsck(t, &stale);
	if (stale && r->lied)
		r->said = true; /* nobody has looked there since; fsck says it */
	if (problems)
		run_wrong(r, "fsck.lunfs -n finds %llu problems", problems);
	if (!r->wrong)
		lin_check(r);
	if (r->lied)
		cover_hit(r, (enum cover_point)(COVER_LIE_CAW_BLIND + r->plan.lie - 1));
	cover_device(r);
	the_run = NULL;
}

void run_seed(struct sim_run *r)
{
	r->hist = history_new(r, HISTORY_MAX);
	sc_run(body, &(struct sc_shape){.seed = r->plan.seed,
					.hosts = r->plan.hosts,
					.sector_bytes = r->plan.sector_bytes,
					.journal_bytes = r->plan.journal_bytes,
					.ctx = r,
					.done = done});
	__atomic_fetch_add(&r->cover->seeds, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&r->cover->ops, history_len(r->hist), __ATOMIC_RELAXED);
	history_free(r->hist);
}
