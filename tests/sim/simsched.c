/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who runs, and when. A task is in the array of those that may run now, or in the heap of those
 * that will at a known moment, or in neither: it waits for another task, or for ever.
 */
#include "simclock_impl.h"

#include <stdio.h>
#include <stdlib.h>

#define SLOW_TRIES 64u /* then a slow task runs although it was passed over */

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

void sched_give_up(const struct simclock *sc, const char *why)
{
	fprintf(stderr, "simclock: %s at %.6f s after %llu steps; the tasks:\n", why,
		(double)(sc->now_ns - START_NS) / 1e9, (unsigned long long)sc->steps);
	for (unsigned i = 0; i < sc->n_tasks; i++)
		print_task(sc, sc->tasks[i]);
	abort();
}

/* ---- clocks of groups ------------------------------------------------------------------------ */

uint64_t sched_local_ns(const struct group *g, uint64_t true_ns)
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
	while (sched_local_ns(g, t) < until_ns)
		t++;
	return t;
}

static struct group *group_of(const struct task *t)
{
	return &t->sc->group[t->group];
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
void sched_place(struct task *t)
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

void sched_set_state(struct task *t, enum task_state state)
{
	t->state = state;
	sched_place(t);
}

void sched_place_group(struct simclock *sc, unsigned group)
{
	for (unsigned i = 0; i < sc->n_tasks; i++)
		if (sc->tasks[i]->group == group && sc->tasks[i] != sc->current)
			sched_place(sc->tasks[i]);
}

void sched_waiter_unlink(struct task *t)
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
			sched_waiter_unlink(t);
			t->cond = NULL;
			t->timed_out = true;
		}
		sched_set_state(t, T_READY);
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

void sched_step(struct simclock *sc)
{
	struct task *t;

	sc->now_ns += 1 + sim_rand_below(&sc->rng, sc->step_ns);
	wake_due(sc);
	while (!(t = pick(sc))) {
		if (sc->n_heap == 0)
			sched_give_up(sc, "nothing can run and no deadline is pending (deadlock)");
		sc->now_ns = sc->heap[0]->wake_ns; /* on to the next deadline or end of a pause */
		wake_due(sc);
	}
	sc->steps++;
	sc->trace = (sc->trace ^ (t->number + sc->now_ns)) * 0x100000001b3ull;
	if (sc->max_steps && sc->steps > sc->max_steps)
		sched_give_up(sc, "the limit of steps is reached");
	if (sc->max_ns && sc->now_ns - START_NS > sc->max_ns)
		sched_give_up(sc, "the limit of virtual time is reached");
	ready_remove(sc, t);
	sc->current = t;
	fiber_switch(sc->home, t->fiber);
	sc->current = NULL;
	if (t->state == T_READY && group_of(t)->slow_step_ns)
		t->not_before_ns = sc->now_ns + sim_rand_below(&sc->rng, group_of(t)->slow_step_ns);
	if (t->state != T_ENDED)
		sched_place(t);
}
