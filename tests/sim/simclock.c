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
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define START_NS 1000000000000ull /* not 0: a machine has been up for a while */
#define EPOCH_S 1700000000ull	  /* realtime - now */
#define STEP_MAX_NS 2000u	  /* a step takes up to this much virtual time */
#define YIELD_ONE_IN 4u		  /* at a mutex or a signal */
#define SPURIOUS_ONE_IN 64u
#define SLOW_TRIES 64u /* then a slow task runs although it was passed over */

enum task_state { T_READY, T_MTX, T_COND, T_SLEEP, T_JOIN, T_ENDED, T_KILLED };

#define NOWHERE UINT_MAX

struct task {
	struct fiber *fiber;
	char name[32];
	unsigned number, group;
	enum task_state state;
	void (*fn)(void *);
	void *arg;
	uint64_t until_ns;	/* T_COND, T_SLEEP: on the group's clock */
	uint64_t not_before_ns; /* T_READY: its last step takes until then */
	bool timed_out;		/* why a T_COND became ready */
	struct mtx *mtx;	/* T_MTX: wanted */
	struct cond *cond;	/* T_COND: waited for */
	struct task *next;	/* in the waiters' list of that mutex or condition */
	struct task *joining;	/* T_JOIN: whose end it waits for */
	struct simclock *sc;
	uint64_t wake_ns;	    /* in the heap: when it is due */
	unsigned in_heap, in_ready; /* places, or NOWHERE */
};

struct group {
	uint64_t paused_until_ns;
	/* Its clock said local_ns at true_ns, stands still before, and gains ppm since. */
	uint64_t true_ns, local_ns;
	int ppm;
	unsigned slow_one_in;
	uint64_t slow_step_ns;
};

struct simclock {
	struct clock clk; /* first */
	uint64_t now_ns, rng, trace, steps, max_steps, max_ns;
	struct group group[SIMCLOCK_GROUPS];
	struct fiber *home; /* the scheduler's */
	struct task *current;
	struct task **tasks; /* all, in order of their start */
	struct task **ready; /* those that may run now */
	struct task **heap;  /* those that will at wake_ns, if nothing wakes them before */
	unsigned n_tasks, n_ready, n_heap, cap_tasks, next_number;
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

/* ---- clocks of groups ------------------------------------------------------------------------ */

static uint64_t local_ns(const struct group *g, uint64_t true_ns)
{
	uint64_t d;

	if (g->ppm == 0 && g->true_ns == g->local_ns)
		return true_ns < g->true_ns ? g->true_ns : true_ns;
	if (true_ns <= g->true_ns)
		return g->local_ns;
	d = true_ns - g->true_ns;
	return g->local_ns + d +
	       (uint64_t)((int64_t)(d / 1000000u) * g->ppm +
			  (int64_t)(d % 1000000u) * g->ppm / 1000000);
}

/* The first moment at which the group's clock says @until_ns; it is in the future. */
static uint64_t true_ns(const struct group *g, uint64_t until_ns)
{
	uint64_t rate = (uint64_t)(1000000 + g->ppm), d, t;

	if (until_ns <= g->local_ns || g->true_ns == CLOCK_FOREVER)
		return g->true_ns;
	d = until_ns - g->local_ns;
	if (g->ppm == 0)
		return g->true_ns + d < d ? CLOCK_FOREVER : g->true_ns + d;
	if (d > UINT64_MAX / 4)
		return CLOCK_FOREVER;
	t = g->true_ns + d / rate * 1000000u + d % rate * 1000000u / rate;
	while (local_ns(g, t) < until_ns)
		t++;
	return t;
}

static struct group *group_of(const struct task *t)
{
	return &t->sc->group[t->group];
}

static uint64_t now_of_current(struct simclock *sc)
{
	return sc->current ? local_ns(group_of(sc->current), sc->now_ns) : sc->now_ns;
}

/* ---- who runs, and when ---------------------------------------------------------------------- */

static bool sooner(const struct task *a, const struct task *b)
{
	return a->wake_ns != b->wake_ns ? a->wake_ns < b->wake_ns : a->number < b->number;
}

static void heap_put(struct simclock *sc, struct task *t, unsigned at)
{
	sc->heap[at] = t;
	t->in_heap = at;
}

static void heap_up(struct simclock *sc, struct task *t, unsigned at)
{
	while (at > 0 && sooner(t, sc->heap[(at - 1) / 2])) {
		heap_put(sc, sc->heap[(at - 1) / 2], at);
		at = (at - 1) / 2;
	}
	heap_put(sc, t, at);
}

static void heap_down(struct simclock *sc, struct task *t, unsigned at)
{
	for (;;) {
		unsigned c = 2 * at + 1;

		if (c + 1 < sc->n_heap && sooner(sc->heap[c + 1], sc->heap[c]))
			c++;
		if (c >= sc->n_heap || !sooner(sc->heap[c], t))
			break;
		heap_put(sc, sc->heap[c], at);
		at = c;
	}
	heap_put(sc, t, at);
}

static void heap_remove(struct simclock *sc, struct task *t)
{
	struct task *last = sc->heap[--sc->n_heap];
	unsigned at = t->in_heap;

	t->in_heap = NOWHERE;
	if (last == t)
		return;
	if (at > 0 && sooner(last, sc->heap[(at - 1) / 2]))
		heap_up(sc, last, at);
	else
		heap_down(sc, last, at);
}

static void ready_remove(struct simclock *sc, struct task *t)
{
	struct task *last = sc->ready[--sc->n_ready];

	sc->ready[t->in_ready] = last;
	last->in_ready = t->in_ready;
	t->in_ready = NOWHERE;
}

/* Put @t where its state says; after every change of its state, its deadline or its group. */
static void place(struct task *t)
{
	struct simclock *sc = t->sc;
	const struct group *g = group_of(t);
	uint64_t at = CLOCK_FOREVER;

	if (t->in_heap != NOWHERE)
		heap_remove(sc, t);
	if (t->in_ready != NOWHERE)
		ready_remove(sc, t);
	if (t->state == T_READY) {
		at = t->not_before_ns > g->paused_until_ns ? t->not_before_ns : g->paused_until_ns;
		if (at <= sc->now_ns) {
			t->in_ready = sc->n_ready;
			sc->ready[sc->n_ready++] = t;
			return;
		}
	} else if ((t->state == T_COND || t->state == T_SLEEP) && t->until_ns != CLOCK_FOREVER) {
		at = true_ns(g, t->until_ns);
	}
	if (at == CLOCK_FOREVER)
		return;
	t->wake_ns = at;
	heap_up(sc, t, sc->n_heap++);
}

static void set_state(struct task *t, enum task_state state)
{
	t->state = state;
	place(t);
}

static void place_group(struct simclock *sc, unsigned group)
{
	for (unsigned i = 0; i < sc->n_tasks; i++)
		if (sc->tasks[i]->group == group && sc->tasks[i] != sc->current)
			place(sc->tasks[i]);
}

static void waiter_unlink(struct task *t)
{
	struct task **at = (struct task **)(t->mtx ? &t->mtx->sim.waiters : &t->cond->sim.waiters);

	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	t->next = NULL;
}

static void wake_due(struct simclock *sc)
{
	while (sc->n_heap > 0 && sc->heap[0]->wake_ns <= sc->now_ns) {
		struct task *t = sc->heap[0];

		if (t->state == T_COND) {
			waiter_unlink(t);
			t->cond = NULL;
			t->timed_out = true;
		}
		set_state(t, T_READY);
	}
}

static struct task *pick(struct simclock *sc)
{
	struct task *t;

	for (unsigned tries = 0; sc->n_ready > 0; tries++) {
		t = sc->ready[sim_rand_below(&sc->rng, sc->n_ready)];
		if (group_of(t)->slow_one_in <= 1 || tries >= SLOW_TRIES ||
		    sim_chance(&sc->rng, group_of(t)->slow_one_in))
			return t;
	}
	return NULL;
}

static void step(struct simclock *sc)
{
	struct task *t;

	sc->now_ns += 1 + sim_rand_below(&sc->rng, STEP_MAX_NS);
	wake_due(sc);
	while (!(t = pick(sc))) {
		if (sc->n_heap == 0)
			give_up(sc, "nothing can run and no deadline is pending (deadlock)");
		sc->now_ns = sc->heap[0]->wake_ns; /* on to the next deadline or end of a pause */
		wake_due(sc);
	}
	sc->steps++;
	sc->trace = (sc->trace ^ (t->number + sc->now_ns)) * 0x100000001b3ull;
	if (sc->max_steps && sc->steps > sc->max_steps)
		give_up(sc, "the limit of steps is reached");
	if (sc->max_ns && sc->now_ns - START_NS > sc->max_ns)
		give_up(sc, "the limit of virtual time is reached");
	ready_remove(sc, t);
	sc->current = t;
	fiber_switch(sc->home, t->fiber);
	sc->current = NULL;
	if (t->state == T_READY && group_of(t)->slow_step_ns)
		t->not_before_ns = sc->now_ns + sim_rand_below(&sc->rng, group_of(t)->slow_step_ns);
	if (t->state != T_ENDED)
		place(t);
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
			set_state(w, T_READY);
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
	place(t);
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
	waiter_unlink(t);
	set_state(t, T_READY);
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
	waiter_unlink(t);
	t->cond = NULL;
	set_state(t, T_READY);
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
	place_group(sc, group);
	yield(sc);
}

/* The group's clock goes on from @at_ns, as it is now, at @ppm. */
static void set_base(struct simclock *sc, unsigned group, uint64_t at_ns, int ppm)
{
	struct group *g = &sc->group[group];

	lunfs_assert(group > 0 && group < SIMCLOCK_GROUPS);
	g->local_ns = local_ns(g, sc->now_ns);
	g->true_ns = at_ns;
	g->ppm = ppm;
	place_group(sc, group);
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
			waiter_unlink(t);
		set_state(t, T_KILLED);
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
