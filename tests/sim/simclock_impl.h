/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Private to the simulated clock: simsched.c says who runs and when, simclock.c is the rest. */
#ifndef TESTS_SIMCLOCK_IMPL_H
#define TESTS_SIMCLOCK_IMPL_H

#include "base/log.h"
#include "simclock.h"
#include "simfiber.h"
#include "simrand.h"

#include <limits.h>

#define START_NS 1000000000000ull /* not 0: a machine has been up for a while */

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
	uint64_t step_ns; /* a step takes from 1 to this much virtual time */
	struct group group[SIMCLOCK_GROUPS];
	struct fiber *home; /* the scheduler's */
	struct task *current;
	struct task **tasks; /* all, in order of their start */
	struct task **ready; /* those that may run now */
	struct task **heap;  /* those that will at wake_ns, if nothing wakes them before */
	unsigned n_tasks, n_ready, n_heap, cap_tasks, next_number;
	bool running;
};

/* The clock of @g at that moment. */
uint64_t sched_local_ns(const struct group *g, uint64_t true_ns);
/* Put @t where its state says; after every change of its state, its deadline or its group. */
void sched_place(struct task *t);
void sched_place_group(struct simclock *sc, unsigned group);
void sched_set_state(struct task *t, enum task_state state);
void sched_waiter_unlink(struct task *t); /* T_MTX, T_COND: off the list it stands in */
void sched_step(struct simclock *sc);	  /* one task runs until it gives way */
/* Print all tasks and abort. */
void sched_give_up(const struct simclock *sc, const char *why) __attribute__((noreturn));

#endif
