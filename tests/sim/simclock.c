/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The deterministic clock. The scheduler runs on the caller's stack of simclock_run() and switches
 * to one task after the other; a task always switches back to the scheduler. Whatever chooses does
 * so by clk->rng and over arrays in a fixed order, so no address and no hash order decides
 * anything.
 */
#include "simclock_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EPOCH_S 1700000000ull /* realtime - now */
#define YIELD_ONE_IN 4u	      /* at a mutex or a signal */
#define SPURIOUS_ONE_IN 64u
#define STEP_NS 2000u

static struct simclock *sc_of(struct clock *c)
{
	return (struct simclock *)c;
}

/* ---- switching ------------------------------------------------------------------------------- */

static void to_scheduler(struct simclock *sc)
{
	fiber_switch(sc->current->fiber, sc->home);
}

static void yield(struct simclock *sc)
{
	if (sc->current)
		to_scheduler(sc);
}

static void maybe_yield(struct simclock *sc)
{
	if (sc->current && sim_chance(&sc->rng, YIELD_ONE_IN))
		to_scheduler(sc);
}

static struct group *group_of(const struct task *t)
{
	return &t->sc->group[t->group];
}

static uint64_t now_of_current(struct simclock *sc)
{
	return sc->current ? sched_local_ns(group_of(sc->current), sc->now_ns) : sc->now_ns;
}

/* ---- tasks ----------------------------------------------------------------------------------- */

static void task_body(void *arg)
{
	struct task *t = arg;

	t->fn(t->arg);
	t->state = T_ENDED;
	for (unsigned i = 0; i < t->sc->n_tasks; i++) {
		struct task *w = t->sc->tasks[i];

		if (w->state == T_JOIN && w->joining == t)
			sched_set_state(w, T_READY);
	}
	fiber_switch_final(t->fiber, t->sc->home);
}

static void grow(struct task ***array, unsigned cap)
{
	*array = realloc(*array, cap * sizeof(**array));
	lunfs_assert(*array != NULL);
}

static struct task *task_new(struct simclock *sc, const char *name, void (*fn)(void *), void *arg)
{
	struct task *t = calloc(1, sizeof(*t));

	lunfs_assert(t != NULL);
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->number = sc->next_number++;
	t->group = sc->current ? sc->current->group : 0;
	t->fn = fn;
	t->arg = arg;
	t->sc = sc;
	t->fiber = fiber_new(task_body, t);
	t->in_heap = NOWHERE;
	t->in_ready = NOWHERE;
	if (sc->n_tasks == sc->cap_tasks) {
		sc->cap_tasks = sc->cap_tasks ? 2 * sc->cap_tasks : 16;
		grow(&sc->tasks, sc->cap_tasks);
		grow(&sc->ready, sc->cap_tasks);
		grow(&sc->heap, sc->cap_tasks);
	}
	sc->tasks[sc->n_tasks++] = t;
	sched_place(t);
	return t;
}

static void task_free(struct simclock *sc, struct task *t)
{
	unsigned i = 0;

	lunfs_assert(t->in_heap == NOWHERE && t->in_ready == NOWHERE);
	while (sc->tasks[i] != t)
		i++;
	sc->n_tasks--;
	memmove(&sc->tasks[i], &sc->tasks[i + 1], (sc->n_tasks - i) * sizeof(*sc->tasks));
	fiber_free(t->fiber);
	free(t);
}

static int sim_task_start(struct clock *c, const char *name, void (*fn)(void *), void *arg,
			  struct task **out)
{
	struct simclock *sc = sc_of(c);

	lunfs_assert(sc->running); /* start tasks inside simclock_run() */
	*out = task_new(sc, name, fn, arg);
	maybe_yield(sc);
	return 0;
}

struct task *simclock_start(struct clock *clk, unsigned group, const char *name, void (*fn)(void *),
			    void *arg)
{
	struct task *t;

	lunfs_assert(sc_of(clk)->running && group < SIMCLOCK_GROUPS);
	t = task_new(sc_of(clk), name, fn, arg);
	t->group = group;
	return t;
}

static void sim_task_join(struct clock *c, struct task *t)
{
	struct simclock *sc = sc_of(c);

	lunfs_assert(sc->current && sc->current != t && t->state != T_KILLED);
	while (t->state != T_ENDED) {
		sc->current->joining = t;
		sc->current->state = T_JOIN;
		to_scheduler(sc);
	}
	task_free(sc, t);
}

/* ---- mutexes and conditions ------------------------------------------------------------------ */

/* Outside of simclock_run() there is one owner: whoever set the test up. */
static void *self_or_outside(struct simclock *sc)
{
	return sc->current ? (void *)sc->current : (void *)sc;
}

static void sim_mtx_init(struct mtx *m)
{
	m->sim.owner = NULL;
	m->sim.waiters = NULL;
}

static void sim_mtx_destroy(struct mtx *m)
{
	lunfs_assert(m->sim.owner == NULL && m->sim.waiters == NULL);
}

static void take(struct simclock *sc, struct mtx *m)
{
	lunfs_assert(m->sim.owner != self_or_outside(sc)); /* not recursive */
	while (m->sim.owner) {
		struct task *t = sc->current;

		lunfs_assert(t != NULL);
		t->state = T_MTX;
		t->mtx = m;
		t->next = m->sim.waiters;
		m->sim.waiters = t;
		to_scheduler(sc);
		t->mtx = NULL;
	}
	m->sim.owner = self_or_outside(sc);
}

static unsigned count_waiters(const struct task *t)
{
	unsigned n = 0;

	for (; t; t = t->next)
		n++;
	return n;
}

/* One of those that wait tries again; another task may still come first. */
static void wake_mtx(struct simclock *sc, struct mtx *m)
{
	unsigned n = count_waiters(m->sim.waiters);
	struct task *t = m->sim.waiters;

	if (n == 0)
		return;
	for (n = n > 1 ? (unsigned)sim_rand_below(&sc->rng, n) : 0; n > 0; n--)
		t = t->next;
	sched_waiter_unlink(t);
	sched_set_state(t, T_READY);
}

static void drop(struct simclock *sc, struct mtx *m)
{
	lunfs_assert(m->sim.owner == self_or_outside(sc));
	m->sim.owner = NULL;
	wake_mtx(sc, m);
}

static void sim_mtx_lock(struct mtx *m)
{
	maybe_yield(sc_of(m->clk));
	take(sc_of(m->clk), m);
}

static void sim_mtx_unlock(struct mtx *m)
{
	drop(sc_of(m->clk), m);
	maybe_yield(sc_of(m->clk));
}

static void sim_cond_init(struct cond *cv)
{
	cv->sim.waiters = NULL;
}

static void sim_cond_destroy(struct cond *cv)
{
	lunfs_assert(cv->sim.waiters == NULL);
}

static int sim_cond_wait(struct cond *cv, struct mtx *m, uint64_t until_ns)
{
	struct simclock *sc = sc_of(cv->clk);
	struct task *t = sc->current;

	lunfs_assert(t != NULL);
	if (now_of_current(sc) >= until_ns)
		return -ETIMEDOUT;
	drop(sc, m);
	t->timed_out = false;
	if (sim_chance(&sc->rng, SPURIOUS_ONE_IN)) {
		to_scheduler(sc);
	} else {
		t->state = T_COND;
		t->cond = cv;
		t->until_ns = until_ns;
		t->next = cv->sim.waiters;
		cv->sim.waiters = t;
		to_scheduler(sc);
	}
	take(sc, m);
	return t->timed_out ? -ETIMEDOUT : 0;
}

static void wake_waiter(struct cond *cv, unsigned at)
{
	struct task *t = cv->sim.waiters;

	while (at--)
		t = t->next;
	sched_waiter_unlink(t);
	t->cond = NULL;
	sched_set_state(t, T_READY);
}

static void sim_cond_signal(struct cond *cv)
{
	struct simclock *sc = sc_of(cv->clk);
	unsigned n = count_waiters(cv->sim.waiters);

	if (n > 0)
		wake_waiter(cv, (unsigned)sim_rand_below(&sc->rng, n));
	maybe_yield(sc);
}

static void sim_cond_broadcast(struct cond *cv)
{
	while (cv->sim.waiters)
		wake_waiter(cv, 0);
	maybe_yield(sc_of(cv->clk));
}

/* ---- time and chance ------------------------------------------------------------------------- */

static uint64_t sim_now_ns(struct clock *c)
{
	return now_of_current(sc_of(c));
}

static void sim_realtime(struct clock *c, struct timespec *out)
{
	uint64_t ns = now_of_current(sc_of(c));

	out->tv_sec = (time_t)(EPOCH_S + ns / 1000000000ull);
	out->tv_nsec = (long)(ns % 1000000000ull);
}

static void sim_random(struct clock *c, void *buf, size_t len)
{
	uint8_t *p = buf;

	for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
		uint64_t r = sim_rand(&sc_of(c)->rng);

		memcpy(p + i, &r, len - i < sizeof(r) ? len - i : sizeof(r));
	}
}

static void sim_sleep_until(struct clock *c, uint64_t until_ns)
{
	struct simclock *sc = sc_of(c);

	if (!sc->current) { /* setting up or looking, outside of a run */
		if (until_ns > sc->now_ns)
			sc->now_ns = until_ns;
		return;
	}
	if (until_ns > now_of_current(sc)) {
		sc->current->state = T_SLEEP;
		sc->current->until_ns = until_ns;
	}
	to_scheduler(sc);
}

static void sim_destroy(struct clock *c)
{
	lunfs_assert(!sc_of(c)->running);
	free(sc_of(c)->tasks);
	free(sc_of(c)->ready);
	free(sc_of(c)->heap);
	free(c);
}

static const struct clock_ops sim_ops = {
    .now_ns = sim_now_ns,
    .realtime = sim_realtime,
    .random = sim_random,
    .task_start = sim_task_start,
    .task_join = sim_task_join,
    .mtx_init = sim_mtx_init,
    .mtx_destroy = sim_mtx_destroy,
    .mtx_lock = sim_mtx_lock,
    .mtx_unlock = sim_mtx_unlock,
    .cond_init = sim_cond_init,
    .cond_destroy = sim_cond_destroy,
    .cond_wait = sim_cond_wait,
    .cond_signal = sim_cond_signal,
    .cond_broadcast = sim_cond_broadcast,
    .sleep_until = sim_sleep_until,
    .destroy = sim_destroy,
};

/* ---- for tests ------------------------------------------------------------------------------- */

struct clock *simclock_new(void)
{
	struct simclock *sc = calloc(1, sizeof(*sc));

	lunfs_assert(sc != NULL);
	sc->clk.ops = &sim_ops;
	sc->now_ns = START_NS;
	sc->rng = 1;
	sc->max_steps = 1ull << 32;
	sc->step_ns = STEP_NS;
	return &sc->clk;
}

void simclock_run(struct clock *clk, void (*fn)(void *), void *arg, uint64_t seed)
{
	struct simclock *sc = sc_of(clk);
	struct task *first;

	lunfs_assert(clk->ops == &sim_ops && !sc->running);
	sc->running = true;
	sc->rng = seed;
	sc->trace = 0xcbf29ce484222325ull;
	sc->home = fiber_main_new();
	memset(sc->group, 0, sizeof(sc->group));
	first = task_new(sc, "first", fn, arg);
	while (first->state != T_ENDED)
		sched_step(sc);
	task_free(sc, first);
	for (unsigned i = 0; i < sc->n_tasks; i++)
		if (sc->tasks[i]->state != T_KILLED)
			sched_give_up(sc,
				      "the first task has returned, yet others were not joined");
	while (sc->n_tasks > 0)
		task_free(sc, sc->tasks[0]);
	fiber_free(sc->home);
	sc->home = NULL;
	sc->running = false;
}

void simclock_set_limits(struct clock *clk, uint64_t max_steps, uint64_t max_virtual_ns)
{
	sc_of(clk)->max_steps = max_steps;
	sc_of(clk)->max_ns = max_virtual_ns;
}

void simclock_set_step(struct clock *clk, uint64_t max_ns)
{
	sc_of(clk)->step_ns = max_ns;
}

void simclock_set_group(struct clock *clk, unsigned group)
{
	lunfs_assert(group < SIMCLOCK_GROUPS && sc_of(clk)->current);
	sc_of(clk)->current->group = group;
}

unsigned simclock_group(struct clock *clk)
{
	const struct simclock *sc = sc_of(clk);

	return sc->current ? sc->current->group : 0;
}

void simclock_pause(struct clock *clk, unsigned group, uint64_t until_ns)
{
	struct simclock *sc = sc_of(clk);

	lunfs_assert(group < SIMCLOCK_GROUPS);
	sc->group[group].paused_until_ns = until_ns;
	sched_place_group(sc, group);
	yield(sc);
}

/* The group's clock goes on from @at_ns, as it is now, at @ppm. */
static void set_base(struct simclock *sc, unsigned group, uint64_t at_ns, int ppm)
{
	struct group *g = &sc->group[group];

	lunfs_assert(group > 0 && group < SIMCLOCK_GROUPS);
	g->local_ns = sched_local_ns(g, sc->now_ns);
	g->true_ns = at_ns;
	g->ppm = ppm;
	sched_place_group(sc, group);
}

void simclock_freeze(struct clock *clk, unsigned group, uint64_t until_ns)
{
	struct simclock *sc = sc_of(clk);

	if (until_ns > sc->now_ns)
		set_base(sc, group, until_ns, sc->group[group].ppm);
	simclock_pause(clk, group, until_ns);
}

void simclock_resume(struct clock *clk, unsigned group)
{
	struct simclock *sc = sc_of(clk);

	if (sc->group[group].true_ns > sc->now_ns) /* it stands still */
		set_base(sc, group, sc->now_ns, sc->group[group].ppm);
	simclock_pause(clk, group, 0);
}

void simclock_set_drift(struct clock *clk, unsigned group, int ppm)
{
	struct simclock *sc = sc_of(clk);
	uint64_t from = sc->group[group].true_ns;

	lunfs_assert(ppm > -500000 && ppm < 1000000);
	set_base(sc, group, from > sc->now_ns ? from : sc->now_ns, ppm);
}

void simclock_set_slow(struct clock *clk, unsigned group, unsigned one_in, uint64_t step_ns)
{
	lunfs_assert(group < SIMCLOCK_GROUPS);
	sc_of(clk)->group[group].slow_one_in = one_in;
	sc_of(clk)->group[group].slow_step_ns = step_ns;
}

/* One that was to take a mutex and never will: the others shall try. */
static void pass_on(struct simclock *sc, struct task *killed)
{
	struct mtx *m = killed->mtx;

	killed->mtx = NULL;
	if (m && !m->sim.owner)
		wake_mtx(sc, m);
}

void simclock_kill(struct clock *clk, unsigned group)
{
	struct simclock *sc = sc_of(clk);

	lunfs_assert(sc->current && sc->current->group != group);
	for (unsigned i = 0; i < sc->n_tasks; i++) {
		struct task *t = sc->tasks[i];

		if (t->group != group)
			continue;
		if (t->state == T_MTX || t->state == T_COND)
			sched_waiter_unlink(t);
		sched_set_state(t, T_KILLED);
	}
	for (unsigned i = 0; i < sc->n_tasks; i++)
		if (sc->tasks[i]->group == group && sc->tasks[i]->state == T_KILLED)
			pass_on(sc, sc->tasks[i]);
}

uint64_t simclock_true_ns(struct clock *clk)
{
	return clk->ops == &sim_ops ? sc_of(clk)->now_ns : clock_now_ns(clk);
}

void simclock_yield(struct clock *clk)
{
	yield(sc_of(clk));
}

uint64_t simclock_trace(struct clock *clk)
{
	return sc_of(clk)->trace;
}

uint64_t simclock_steps(struct clock *clk)
{
	return sc_of(clk)->steps;
}

uint64_t simclock_random(struct clock *clk)
{
	return sim_rand(&sc_of(clk)->rng);
}
