/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mutual exclusion and coherence under many seeds: hosts and tasks that pin, upgrade, try, are
 * interrupted and die, on a LUN that loses, delays and doubles commands. The oracle asserts
 * exclusion at every pin, and every increment made under an exclusive pin must be there at the end.
 */
#include "fixture.h"

#include "simrand.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CELLS 4
#define TASKS 2
#define ROUNDS 25

struct worker {
	struct box *b;
	uint64_t rng;
	struct lock_intr intr;
	bool done;
};

static unsigned added[CELLS];
static struct worker worker[FIX_HOSTS * TASKS];

static void pause_some(struct worker *w)
{
	uint64_t us = sim_chance(&w->rng, 8) ? 20000 : 300;

	clock_sleep_ns(w->b->f->clk, 1000 * sim_rand_below(&w->rng, us));
}

static void get_ahead(struct worker *w)
{
	uint64_t addr[CELLS];

	for (unsigned c = 0; c < CELLS; c++)
		addr[c] = fix_addr(w->b->f, c);
	lock_get_ahead(w->b->ls, addr, CELLS, sim_chance(&w->rng, 3) ? LOCK_EX : LOCK_SH);
}

static void one_op(struct worker *w)
{
	unsigned cell = (unsigned)sim_rand_below(&w->rng, CELLS);
	enum lock_mode mode = sim_chance(&w->rng, 2) ? LOCK_EX : LOCK_SH;
	enum lock_local local =
	    mode == LOCK_EX || sim_chance(&w->rng, 4) ? LOCAL_EXCL : LOCAL_SHARED;
	unsigned flags = sim_chance(&w->rng, 5) ? LOCK_TRY : 0;
	struct lock *l;
	int rc = fix_pin(w->b, cell, mode, local, flags, &w->intr, &l);

	if (rc == -EINTR) {
		atomic_store(&w->intr.interrupted, false);
		return;
	}
	if (rc == -EAGAIN) {
		assert_true(flags & LOCK_TRY);
		return;
	}
	assert_int_equal(rc, 0);
	if (sim_chance(&w->rng, 2))
		pause_some(w);
	if (mode == LOCK_EX) {
		fix_add(w->b, l);
		added[cell]++;
	} else {
		fix_get(w->b, l);
	}
	fix_unpin(w->b, l, mode, local);
	if (sim_chance(&w->rng, 40))
		lock_drop(w->b->ls, fix_addr(w->b->f, cell));
}

static void work(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		if (sim_chance(&w->rng, 5))
			get_ahead(w);
		one_op(w);
		if (sim_chance(&w->rng, 2))
			pause_some(w);
	}
	w->done = true;
}

static void disturb(struct fix *f, unsigned hosts, unsigned nworkers)
{
	for (unsigned round = 0; round < 10; round++) {
		struct worker *w = &worker[sim_rand_below(&f->rng, nworkers)];

		fix_sleep_ms(f, sim_rand_below(&f->rng, 30));
		if (!w->b->dead && !w->done)
			lock_intr_fire(w->b->ls, &w->intr);
	}
	(void)hosts;
}

static unsigned start(struct fix *f, unsigned hosts, struct task **t)
{
	memset(added, 0, sizeof(added));
	memset(worker, 0, sizeof(worker));
	for (unsigned i = 0; i < hosts; i++)
		fix_up(f, i);
	for (unsigned i = 0; i < hosts * TASKS; i++) {
		worker[i].b = &f->box[i / TASKS];
		worker[i].rng = f->rng + i;
		t[i] = fix_task(f, i / TASKS, work, &worker[i]);
	}
	return hosts * TASKS;
}

static void check_sums(struct fix *f, unsigned host)
{
	for (unsigned c = 0; c < CELLS; c++) {
		struct lock *l;

		assert_int_equal(fix_pin(&f->box[host], c, LOCK_SH, LOCAL_SHARED, 0, NULL, &l), 0);
		assert_int_equal(fix_get(&f->box[host], l), added[c]);
		fix_unpin(&f->box[host], l, LOCK_SH, LOCAL_SHARED);
	}
}

static void body(struct fix *f)
{
	struct task *t[FIX_HOSTS * TASKS];
	unsigned n = start(f, 3, t);

	disturb(f, 3, n);
	for (unsigned i = 0; i < n; i++)
		fix_join(f, t[i]);
	f->one_in = 0;
	check_sums(f, (unsigned)sim_rand_below(&f->rng, 3));
}

static void body_faults(struct fix *f)
{
	f->one_in = 12;
	body(f);
}

/* The last host dies in the middle: the others go on, and end. */
static void body_death(struct fix *f)
{
	struct task *t[FIX_HOSTS * TASKS];
	unsigned n = start(f, 3, t);

	fix_sleep_ms(f, sim_rand_below(&f->rng, 60));
	if (!worker[n - 1].done || !worker[n - 2].done)
		fix_kill(f, 2);
	else
		n += TASKS;
	disturb(f, 3, 2 * TASKS);
	for (unsigned i = 0; i < n - TASKS; i++)
		fix_join(f, t[i]);
}

/* A host comes and goes between the others: what it held is stale, what it wrote is there. */
static void body_churn(struct fix *f)
{
	struct task *t[FIX_HOSTS * TASKS];
	unsigned n = start(f, 2, t);
	struct worker guest = {.b = &f->box[2], .rng = f->rng};

	for (unsigned round = 0; round < 3; round++) {
		fix_up(f, 2);
		get_ahead(&guest);
		for (unsigned i = 0; i < 8; i++)
			one_op(&guest);
		fix_down(f, 2);
	}
	for (unsigned i = 0; i < n; i++)
		fix_join(f, t[i]);
	check_sums(f, (unsigned)sim_rand_below(&f->rng, 2));
}

static unsigned seeds(void)
{
	const char *s = getenv("LUNFS_SEEDS");

	return s ? (unsigned)atoi(s) : 40;
}

static uint64_t first_seed(void)
{
	const char *s = getenv("LUNFS_SEED");

	return s ? strtoull(s, NULL, 0) : 1;
}

static void run_all(void (*fn)(struct fix *f), const char *what)
{
	for (unsigned i = 0; i < seeds(); i++) {
		uint64_t seed = first_seed() + i;

		if (getenv("LUNFS_SEED"))
			fprintf(stderr, "%s: seed %llu\n", what, (unsigned long long)seed);
		fix_run(fn, seed % 8 ? 512 : 4096, seed);
	}
}

static void exclusion_and_coherence_hold(void **state)
{
	(void)state;
	run_all(body, "plain");
}

static void exclusion_and_coherence_hold_on_a_bad_path(void **state)
{
	(void)state;
	run_all(body_faults, "faults");
}

static void exclusion_holds_when_a_host_dies(void **state)
{
	(void)state;
	run_all(body_death, "death");
}

static void exclusion_and_coherence_hold_when_hosts_come_and_go(void **state)
{
	(void)state;
	run_all(body_churn, "churn");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(exclusion_and_coherence_hold),
	    cmocka_unit_test(exclusion_and_coherence_hold_on_a_bad_path),
	    cmocka_unit_test(exclusion_holds_when_a_host_dies),
	    cmocka_unit_test(exclusion_and_coherence_hold_when_hosts_come_and_go),
	};

	return cmocka_run_group_tests_name("lock-random", tests, NULL, NULL);
}
