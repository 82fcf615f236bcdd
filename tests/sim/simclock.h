/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A deterministic clock: tasks are fibers of one thread, one runs at a time, which one is chosen by
 * a seeded generator, and time jumps to the next deadline when nothing can run. The same seed and
 * the same code give the same run.
 *
 * A task gives way where it waits, and by chance at mtx_lock, mtx_unlock, task_start and at every
 * call that signals. Waits may end spuriously, by chance. When nothing can run and no deadline is
 * pending, the list of tasks and what each waits for is printed and the process aborts.
 */
#ifndef TESTS_SIMCLOCK_H
#define TESTS_SIMCLOCK_H

#include <lunfs/dev.h>

#define SIMCLOCK_GROUPS 65u

struct clock *simclock_new(void); /* destroy by clk->ops->destroy(clk) */

/*
 * Run @fn as the first task, until it returns; by then every other task has ended and was joined,
 * or was killed (else: abort with the list). May be called again on the same clock; time goes on.
 */
void simclock_run(struct clock *clk, void (*fn)(void *), void *arg, uint64_t seed);

/* Abort with the list when a run takes more than this (0: no limit; default 2^32 steps, no time).
 */
void simclock_set_limits(struct clock *clk, uint64_t max_steps, uint64_t max_virtual_ns);

/*
 * Each step of any task, whichever its group, takes from 1 to @max_ns of everybody's time; default
 * 2000. 1: processors cost nothing, and hosts do not hold each other up by the work they do.
 */
void simclock_set_step(struct clock *clk, uint64_t max_ns);

/*
 * Groups, one a simulated host: a task belongs to the group of the task that started it, the first
 * one to group 0. simclock_set_group() moves the calling task. Moments given to the functions below
 * are those of group 0, whose clock neither drifts nor stands still; a task's own calls of the
 * struct clock speak of its group's clock.
 */
void simclock_set_group(struct clock *clk, unsigned group);
unsigned simclock_group(struct clock *clk);
/* A task in @group; the caller stays where it is and goes on at once. To be joined. */
struct task *simclock_start(struct clock *clk, unsigned group, const char *name, void (*fn)(void *),
			    void *arg);
/* No task of @group runs before @until_ns: a stopped process, a zombie. Its clock goes on. */
void simclock_pause(struct clock *clk, unsigned group, uint64_t until_ns);
/* The same, and the group's clock stands still meanwhile: a paused virtual machine. */
void simclock_freeze(struct clock *clk, unsigned group, uint64_t until_ns);
/* A pause or freeze ends now, whatever end it was given (CLOCK_FOREVER, for instance). */
void simclock_resume(struct clock *clk, unsigned group);
/* From now on the group's clock gains @ppm microseconds a second (negative: loses). Not group 0. */
void simclock_set_drift(struct clock *clk, unsigned group, int ppm);
/*
 * A slow host: a task of @group that could run is passed over, but for one in @one_in times, and
 * each of its steps takes up to @step_ns more before its next. 1, 0: as fast as the others.
 */
void simclock_set_slow(struct clock *clk, unsigned group, unsigned one_in, uint64_t step_ns);
/*
 * Tasks of @group never run again (not the caller's own group): kill -9. What they locked stays
 * locked and what they allocated is lost; their stacks go at the end of the run. Do not join them.
 */
void simclock_kill(struct clock *clk, unsigned group);

/* The time of group 0, whoever asks. Any other clock: its clock_now_ns(). */
uint64_t simclock_true_ns(struct clock *clk);
void simclock_yield(struct clock *clk);	     /* let others run, if any can */
uint64_t simclock_trace(struct clock *clk);  /* hash over all choices so far: equal = same run */
uint64_t simclock_steps(struct clock *clk);  /* task switches so far */
uint64_t simclock_random(struct clock *clk); /* for tests: of the same seed */

#endif
