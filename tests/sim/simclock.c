/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The deterministic clock. The scheduler runs on the caller's stack of simclock_run() and switches
 * to one task after the other; a task always switches back to the scheduler. Whatever chooses does
 * so by clk->rng and over arrays in a fixed order, so no address and no hash order decides
 * anything.
 */
#include "simclock.h"

#include "base/log.h"
#include "simfiber.h"
#include "simrand.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define START_NS 1000000000000ull /* not 0: a machine has been up for a while */
#define EPOCH_S 1700000000ull	  /* realtime - now */
#define STEP_MAX_NS 2000u	  /* a step takes up to this much virtual time */
#define YIELD_ONE_IN 4u		  /* at a mutex or a signal */
#define SPURIOUS_ONE_IN 64u

enum task_state { T_READY, T_MTX, T_COND, T_SLEEP, T_JOIN, T_ENDED, T_KILLED };

struct task {
	struct fiber *fiber;
	char name[32];
	unsigned number, group;
	enum task_state state;
	void (*fn)(void *);
	void *arg;
	uint64_t until_ns;     /* T_COND, T_SLEEP */
	bool timed_out;	       /* why a T_COND became ready */
	const struct mtx *mtx; /* T_MTX: wanted; T_COND: to be taken again */
	const struct cond *cond;
	struct task *next;    /* in the waiters' list of that mutex or condition */
	struct task *joining; /* T_JOIN: whose end it waits for */
	struct simclock *sc;
};

struct simclock {
	struct clock clk; /* first */
	uint64_t now_ns, rng, trace, steps, max_steps, max_ns;
	uint64_t paused_until_ns[SIMCLOCK_GROUPS];
	struct fiber *home; /* the scheduler's */
	struct task *current;
	struct task **tasks; /* all, in order of their start */
	unsigned n_tasks, cap_tasks, next_number;
	bool running;
};

static struct simclock *sc_of(struct clock *c)
{
	return (struct simclock *)c;
}

/* ---- the list for the person who has to find out why ----------------------------------------- */

static const char *state_name(enum task_state s)
{
	static const char *const name[] = {
	    "ready", "waits for a mutex", "waits for a condition", "sleeps", "waits for the end",
	    "ended", "was killed"};

	return name[s];
}

static void print_task(const struct simclock *sc, const struct task *t)
{
	const struct task *owner = t->mtx && t->state == T_MTX ? t->mtx->sim.owner : NULL;

	fprintf(stderr, "  task %u \"%s\" group %u %s", t->number, t->name, t->group,
		state_name(t->state));
	if (owner)
		fprintf(stderr, " held by task %u \"%s\"", owner->number, owner->name);
	if (t->state == T_JOIN)
		fprintf(stderr, " of task %u \"%s\"", t->joining->number, t->joining->name);
	if (t->state == T_COND || t->state == T_SLEEP) {
		if (t->until_ns == CLOCK_FOREVER)
			fprintf(stderr, " for ever");
		else
			fprintf(stderr, " for %.3f ms more",
				(double)(int64_t)(t->until_ns - sc->now_ns) / 1e6);
	}
	fprintf(stderr, "\n");
}

static void give_up(const struct simclock *sc, const char *why)
{
	fprintf(stderr, "simclock: %s at %.6f s after %llu steps; the tasks:\n", why,
		(double)(sc->now_ns - START_NS) / 1e9, (unsigned long long)sc->steps);
	for (unsigned i = 0; i < sc->n_tasks; i++)
		print_task(sc, sc->tasks[i]);
	abort();
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

static bool may_run(const struct simclock *sc, const struct task *t)
{
	return sc->paused_until_ns[t->group] <= sc->now_ns;
}

static void cond_unlink(struct task *t)
{
	struct task **at = (struct task **)&((struct cond *)(uintptr_t)t->cond)->sim.waiters;

	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	t->next = NULL;
}

static void wake_due(struct simclock *sc)
{
	for (unsigned i = 0; i < sc->n_tasks; i++) {
		struct task *t = sc->tasks[i];

		if ((t->state != T_COND && t->state != T_SLEEP) || t->until_ns > sc->now_ns)
			continue;
		if (t->state == T_COND) {
			cond_unlink(t);
			t->timed_out = true;
		}
		t->state = T_READY;
	}
}

static struct task *pick(struct simclock *sc)
{
	unsigned n = 0, at;

	for (unsigned i = 0; i < sc->n_tasks; i++)
		n += sc->tasks[i]->state == T_READY && may_run(sc, sc->tasks[i]);
	if (n == 0)
		return NULL;
	at = (unsigned)sim_rand_below(&sc->rng, n);
	for (unsigned i = 0;; i++) {
		struct task *t = sc->tasks[i];

		if (t->state == T_READY && may_run(sc, t) && at-- == 0)
			return t;
	}
}

/* Nothing can run: on to the next deadline or the end of a pause. False: there is none. */
static bool jump(struct simclock *sc)
{
	uint64_t next = CLOCK_FOREVER;

	for (unsigned i = 0; i < sc->n_tasks; i++) {
		const struct task *t = sc->tasks[i];
		uint64_t at = CLOCK_FOREVER;

		if (t->state == T_COND || t->state == T_SLEEP)
			at = t->until_ns;
		else if (t->state == T_READY)
			at = sc->paused_until_ns[t->group];
		if (at > sc->now_ns && at < next)
			next = at;
	}
	if (next == CLOCK_FOREVER)
		return false;
	sc->now_ns = next;
	return true;
}

static void step(struct simclock *sc)
{
	struct task *t;

	sc->now_ns += 1 + sim_rand_below(&sc->rng, STEP_MAX_NS);
	wake_due(sc);
	while (!(t = pick(sc))) {
		if (!jump(sc))
			give_up(sc, "nothing can run and no deadline is pending (deadlock)");
		wake_due(sc);
	}
	sc->steps++;
	sc->trace = (sc->trace ^ (t->number + sc->now_ns)) * 0x100000001b3ull;
	if (sc->max_steps && sc->steps > sc->max_steps)
		give_up(sc, "the limit of steps is reached");
	if (sc->max_ns && sc->now_ns - START_NS > sc->max_ns)
		give_up(sc, "the limit of virtual time is reached");
	sc->current = t;
	fiber_switch(sc->home, t->fiber);
	sc->current = NULL;
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
			w->state = T_READY;
	}
	fiber_switch_final(t->fiber, t->sc->home);
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
	if (sc->n_tasks == sc->cap_tasks) {
		sc->cap_tasks = sc->cap_tasks ? 2 * sc->cap_tasks : 16;
		sc->tasks = realloc(sc->tasks, sc->cap_tasks * sizeof(*sc->tasks));
		lunfs_assert(sc->tasks != NULL);
	}
	sc->tasks[sc->n_tasks++] = t;
	return t;
}

static void task_free(struct simclock *sc, struct task *t)
{
	unsigned i = 0;

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

static void drop(struct simclock *sc, struct mtx *m)
{
	lunfs_assert(m->sim.owner == self_or_outside(sc));
	m->sim.owner = NULL;
	while (m->sim.waiters) { /* all of them try again: who gets it is chance */
		struct task *t = m->sim.waiters;

		m->sim.waiters = t->next;
		t->next = NULL;
		if (t->state == T_MTX)
			t->state = T_READY;
	}
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
	if (sc->now_ns >= until_ns)
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
		t->cond = NULL;
	}
	take(sc, m);
	return t->timed_out ? -ETIMEDOUT : 0;
}

static void wake_waiter(struct cond *cv, unsigned at)
{
	struct task *t = cv->sim.waiters;

	while (at--)
		t = t->next;
	cond_unlink(t);
	if (t->state == T_COND)
		t->state = T_READY;
}

static unsigned waiters(const struct cond *cv)
{
	unsigned n = 0;

	for (const struct task *t = cv->sim.waiters; t; t = t->next)
		n++;
	return n;
}

static void sim_cond_signal(struct cond *cv)
{
	struct simclock *sc = sc_of(cv->clk);
	unsigned n = waiters(cv);

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
	return sc_of(c)->now_ns;
}

static void sim_realtime(struct clock *c, struct timespec *out)
{
	uint64_t ns = sc_of(c)->now_ns;

	out->tv_sec = (time_t)(EPOCH_S + ns / 1000000000ull);
	out->tv_nsec = (long)(ns % 1000000000ull);
}

static void sim_random(struct clock *c, void *buf, size_t len)
{
	uint8_t *p = buf;

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)sim_rand(&sc_of(c)->rng);
}

static void sim_sleep_until(struct clock *c, uint64_t until_ns)
{
	struct simclock *sc = sc_of(c);

	if (!sc->current) { /* setting up or looking, outside of a run */
		if (until_ns > sc->now_ns)
			sc->now_ns = until_ns;
		return;
	}
	if (until_ns > sc->now_ns) {
		sc->current->state = T_SLEEP;
		sc->current->until_ns = until_ns;
	}
	to_scheduler(sc);
}

static void sim_destroy(struct clock *c)
{
	lunfs_assert(!sc_of(c)->running);
	free(sc_of(c)->tasks);
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
	memset(sc->paused_until_ns, 0, sizeof(sc->paused_until_ns));
	first = task_new(sc, "first", fn, arg);
	while (first->state != T_ENDED)
		step(sc);
	task_free(sc, first);
	for (unsigned i = 0; i < sc->n_tasks; i++)
		if (sc->tasks[i]->state != T_KILLED)
			give_up(sc, "the first task has returned, yet others were not joined");
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

void simclock_set_group(struct clock *clk, unsigned group)
{
	lunfs_assert(group < SIMCLOCK_GROUPS && sc_of(clk)->current);
	sc_of(clk)->current->group = group;
}

void simclock_pause(struct clock *clk, unsigned group, uint64_t until_ns)
{
	lunfs_assert(group < SIMCLOCK_GROUPS);
	sc_of(clk)->paused_until_ns[group] = until_ns;
	yield(sc_of(clk));
}

void simclock_kill(struct clock *clk, unsigned group)
{
	struct simclock *sc = sc_of(clk);

	lunfs_assert(sc->current && sc->current->group != group);
	for (unsigned i = 0; i < sc->n_tasks; i++)
		if (sc->tasks[i]->group == group)
			sc->tasks[i]->state = T_KILLED;
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
