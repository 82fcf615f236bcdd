/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The same promises asked of the real clock and of the simulated one; then what only one has. */
#include "unit.h"

#include "simclock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS 1000000ull

struct world {
	struct clock *clk;
	struct mtx mtx;
	struct cond cond;
	int value, in, waiting;
	bool broken;
	uint64_t order;
};

static void world_init(struct world *w, struct clock *clk)
{
	memset(w, 0, sizeof(*w));
	w->clk = clk;
	mtx_init(&w->mtx, clk);
	cond_init(&w->cond, clk);
}

static void world_end(struct world *w)
{
	cond_destroy(&w->cond);
	mtx_destroy(&w->mtx);
}

static struct task *start(struct world *w, void (*fn)(void *))
{
	struct task *t = NULL;

	assert_int_equal(w->clk->ops->task_start(w->clk, "tester", fn, w, &t), 0);
	return t;
}

static void join(struct world *w, struct task *t)
{
	w->clk->ops->task_join(w->clk, t);
}

/* Run @fn(world) on the real clock, then on the simulated one with many seeds. */
static void on_both(void (*fn)(void *), unsigned seeds)
{
	struct world w;
	struct clock *clk;

	assert_int_equal(clock_real_new(&clk), 0);
	world_init(&w, clk);
	fn(&w);
	world_end(&w);
	clk->ops->destroy(clk);
	for (unsigned seed = 1; seed <= seeds; seed++) {
		clk = simclock_new();
		world_init(&w, clk);
		simclock_run(clk, fn, &w, seed);
		world_end(&w);
		clk->ops->destroy(clk);
	}
}

static void add_often(void *arg)
{
	struct world *w = arg;

	for (int i = 0; i < 200; i++) {
		int v;

		mtx_lock(&w->mtx);
		if (w->in++)
			w->broken = true;
		v = w->value;
		clock_sleep_ns(w->clk, 0); /* let others try */
		w->value = v + 1;
		w->in--;
		mtx_unlock(&w->mtx);
	}
}

static void exclusion(void *arg)
{
	struct world *w = arg;
	struct task *t[4];

	for (int i = 0; i < 4; i++)
		t[i] = start(w, add_often);
	for (int i = 0; i < 4; i++)
		join(w, t[i]);
	assert_false(w->broken);
	assert_int_equal(w->value, 800);
}

static void a_mutex_lets_one_task_in(void **state)
{
	(void)state;
	on_both(exclusion, 30);
}

static void wait_for_one(void *arg)
{
	struct world *w = arg;

	mtx_lock(&w->mtx);
	w->waiting++;
	cond_broadcast(&w->cond);
	while (w->value == 0)
		assert_int_equal(cond_wait(&w->cond, &w->mtx, CLOCK_FOREVER), 0);
	w->in++;
	mtx_unlock(&w->mtx);
}

static void wake_all(void *arg)
{
	struct world *w = arg;
	struct task *t[3];

	for (int i = 0; i < 3; i++)
		t[i] = start(w, wait_for_one);
	mtx_lock(&w->mtx);
	while (w->waiting < 3)
		cond_wait(&w->cond, &w->mtx, CLOCK_FOREVER);
	w->value = 1;
	cond_broadcast(&w->cond);
	mtx_unlock(&w->mtx);
	for (int i = 0; i < 3; i++)
		join(w, t[i]);
	assert_int_equal(w->in, 3);
}

static void a_broadcast_wakes_all_that_wait(void **state)
{
	(void)state;
	on_both(wake_all, 50);
}

static void time_out(void *arg)
{
	struct world *w = arg;
	uint64_t until = clock_now_ns(w->clk) + 20 * MS;
	int err;

	mtx_lock(&w->mtx);
	do
		err = cond_wait(&w->cond, &w->mtx, until);
	while (err == 0);
	assert_int_equal(err, -ETIMEDOUT);
	assert_true(clock_now_ns(w->clk) >= until);
	assert_int_equal(cond_wait(&w->cond, &w->mtx, until), -ETIMEDOUT); /* long past */
	mtx_unlock(&w->mtx);
	until = clock_now_ns(w->clk) + 5 * MS;
	w->clk->ops->sleep_until(w->clk, until);
	assert_true(clock_now_ns(w->clk) >= until);
}

static void a_wait_ends_at_its_deadline_and_not_before(void **state)
{
	(void)state;
	on_both(time_out, 20);
}

static void random_and_time(void *arg)
{
	struct world *w = arg;
	uint8_t a[32] = {0}, b[32] = {0};
	struct timespec ts;

	w->clk->ops->random(w->clk, a, sizeof(a));
	w->clk->ops->random(w->clk, b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
	w->clk->ops->realtime(w->clk, &ts);
	assert_true(ts.tv_sec > 1600000000 && ts.tv_nsec >= 0 && ts.tv_nsec < 1000000000);
}

static void random_bytes_differ_and_the_date_is_plausible(void **state)
{
	(void)state;
	on_both(random_and_time, 3);
}

/* ---- only simulated -------------------------------------------------------------------------- */

static void note(void *arg)
{
	struct world *w = arg;

	for (int i = 0; i < 5; i++) {
		mtx_lock(&w->mtx);
		w->order = w->order * 31 + (uint64_t)++w->value;
		mtx_unlock(&w->mtx);
		clock_sleep_ns(w->clk, simclock_random(w->clk) % MS);
	}
}

static void notes(void *arg)
{
	struct world *w = arg;
	struct task *t[5];

	for (int i = 0; i < 5; i++)
		t[i] = start(w, note);
	for (int i = 0; i < 5; i++)
		join(w, t[i]);
}

static uint64_t traced(uint64_t seed)
{
	struct clock *clk = simclock_new();
	struct world w;
	uint64_t trace;

	world_init(&w, clk);
	simclock_run(clk, notes, &w, seed);
	trace = simclock_trace(clk);
	world_end(&w);
	clk->ops->destroy(clk);
	return trace;
}

static void the_same_seed_gives_the_same_run_and_another_seed_another(void **state)
{
	(void)state;
	assert_true(traced(5) == traced(5));
	assert_true(traced(5) != traced(6));
}

static void sleep_a_day(void *arg)
{
	struct world *w = arg;
	uint64_t before = clock_now_ns(w->clk);

	clock_sleep_ns(w->clk, 86400ull * 1000 * MS);
	assert_true(clock_now_ns(w->clk) - before >= 86400ull * 1000 * MS);
}

static void a_day_of_virtual_time_takes_no_time(void **state)
{
	struct clock *clk = simclock_new();
	struct world w = {.clk = clk};
	time_t before = time(NULL);

	(void)state;
	simclock_run(clk, sleep_a_day, &w, 1);
	assert_true(time(NULL) - before < 60);
	assert_true(simclock_steps(clk) < 10);
	clk->ops->destroy(clk);
}

static void tick(void *arg)
{
	struct world *w = arg;

	simclock_set_group(w->clk, 3);
	for (int i = 0; i < 100; i++) {
		clock_sleep_ns(w->clk, MS);
		w->value++;
	}
}

static void pause_it(void *arg)
{
	struct world *w = arg;
	struct task *t = start(w, tick);
	int seen;

	clock_sleep_ns(w->clk, 20 * MS);
	simclock_pause(w->clk, 3, clock_now_ns(w->clk) + 1000 * MS);
	seen = w->value;
	assert_in_range(seen, 1, 50);
	clock_sleep_ns(w->clk, 900 * MS);
	assert_int_equal(w->value, seen);
	join(w, t);
	assert_int_equal(w->value, 100);
}

static void kill_it(void *arg)
{
	struct world *w = arg;

	start(w, tick);
	clock_sleep_ns(w->clk, 20 * MS);
	simclock_kill(w->clk, 3);
	assert_in_range(w->value, 1, 50);
	w->in = w->value;
	clock_sleep_ns(w->clk, 900 * MS);
	assert_int_equal(w->value, w->in);
}

static void a_paused_group_stands_still_and_goes_on_and_a_killed_one_never_does(void **state)
{
	struct clock *clk = simclock_new();
	struct world w;

	(void)state;
	world_init(&w, clk);
	simclock_run(clk, pause_it, &w, 9);
	w.value = 0;
	simclock_run(clk, kill_it, &w, 9);
	world_end(&w);
	clk->ops->destroy(clk);
}

/* ---- clocks that drift, stand still, and slow hosts ------------------------------------------ */

static void run_sim(void (*fn)(void *), uint64_t seed)
{
	struct clock *clk = simclock_new();
	struct world w;

	world_init(&w, clk);
	simclock_run(clk, fn, &w, seed);
	world_end(&w);
	clk->ops->destroy(clk);
}

static void sleep_100_s(void *arg)
{
	struct world *w = arg;
	uint64_t until;

	simclock_set_group(w->clk, 2);
	until = clock_now_ns(w->clk) + 100000 * MS;
	w->clk->ops->sleep_until(w->clk, until);
	assert_in_range(clock_now_ns(w->clk) - until, 0, MS);
	w->order = simclock_true_ns(w->clk);
}

static void wait_100_s(void *arg)
{
	struct world *w = arg;
	uint64_t until;

	simclock_set_group(w->clk, 2);
	until = clock_now_ns(w->clk) + 100000 * MS;
	mtx_lock(&w->mtx);
	while (cond_wait(&w->cond, &w->mtx, until) == 0)
		;
	mtx_unlock(&w->mtx);
	assert_in_range(clock_now_ns(w->clk) - until, 0, MS);
	w->order = simclock_true_ns(w->clk);
}

/* 100 s of a clock that gains @ppm are that many of a right one. */
static void drift(struct world *w, int ppm, void (*fn)(void *), uint64_t right_ns)
{
	uint64_t begun = clock_now_ns(w->clk);

	simclock_set_drift(w->clk, 2, ppm);
	join(w, start(w, fn));
	assert_in_range(w->order - begun, right_ns - MS, right_ns + MS);
}

static void drifts(void *arg)
{
	struct world *w = arg;

	drift(w, 1000, sleep_100_s, 99900100000);
	drift(w, 1000, wait_100_s, 99900100000);
	drift(w, -1000, sleep_100_s, 100100100000);
	drift(w, -1000, wait_100_s, 100100100000);
	drift(w, 0, wait_100_s, 100000 * MS);
}

static void a_drifting_clock_reaches_its_deadlines_early_or_late(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 10; seed++)
		run_sim(drifts, seed);
}

static void drift_in_mid_sleep(void *arg)
{
	struct world *w = arg;
	uint64_t begun = clock_now_ns(w->clk);
	struct task *t = start(w, sleep_100_s);

	clock_sleep_ns(w->clk, 50000 * MS);
	simclock_set_drift(w->clk, 2, 100000); /* the other 50 s of its clock take 45.45 s */
	join(w, t);
	assert_in_range(w->order - begun, 95454 * MS, 95455 * MS);
}

static void a_drift_that_begins_in_mid_sleep_counts_from_then(void **state)
{
	(void)state;
	run_sim(drift_in_mid_sleep, 3);
}

static void stand_still(struct world *w, bool frozen, uint64_t until_ns, uint64_t right_ns)
{
	uint64_t begun = clock_now_ns(w->clk);
	struct task *t = start(w, wait_100_s);

	clock_sleep_ns(w->clk, 50000 * MS);
	(frozen ? simclock_freeze : simclock_pause)(
	    w->clk, 2, until_ns == CLOCK_FOREVER ? until_ns : clock_now_ns(w->clk) + until_ns);
	clock_sleep_ns(w->clk, 20000 * MS);
	if (until_ns == CLOCK_FOREVER)
		simclock_resume(w->clk, 2);
	join(w, t);
	assert_in_range(w->order - begun, right_ns - MS, right_ns + MS);
}

static void stand_stills(void *arg)
{
	struct world *w = arg;

	stand_still(w, false, 10000 * MS, 100000 * MS);
	stand_still(w, true, 10000 * MS, 110000 * MS);
	stand_still(w, true, 80000 * MS, 180000 * MS);
	stand_still(w, true, CLOCK_FOREVER, 120000 * MS);
	stand_still(w, false, CLOCK_FOREVER, 100000 * MS);
	simclock_set_drift(w->clk, 2, 1000);
	stand_still(w, true, 10000 * MS, 109900100000);
}

static void a_frozen_clock_stands_still_and_a_paused_one_goes_on(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 10; seed++)
		run_sim(stand_stills, seed);
}

static void overslept(void *arg)
{
	struct world *w = arg;
	uint64_t begun = clock_now_ns(w->clk);
	struct task *t = start(w, tick);

	clock_sleep_ns(w->clk, 10 * MS);
	simclock_pause(w->clk, 3, begun + 5000 * MS);
	join(w, t);
	assert_in_range(clock_now_ns(w->clk) - begun, 5080 * MS, 5110 * MS);
}

static void a_deadline_in_a_pause_is_met_at_its_end(void **state)
{
	(void)state;
	run_sim(overslept, 4);
}

static void spin(void *arg)
{
	struct world *w = arg;

	simclock_set_group(w->clk, (unsigned)++w->in);
	while (!w->broken) {
		if (simclock_group(w->clk) == 1)
			w->value++;
		else
			w->waiting++;
		simclock_yield(w->clk);
	}
}

static void spin_both(struct world *w, unsigned one_in, uint64_t step_ns)
{
	struct task *t[2];

	w->in = w->value = w->waiting = 0;
	w->broken = false;
	simclock_set_slow(w->clk, 2, one_in, step_ns);
	t[0] = start(w, spin);
	t[1] = start(w, spin);
	clock_sleep_ns(w->clk, 5 * MS);
	w->broken = true;
	join(w, t[0]);
	join(w, t[1]);
}

static void slow_spins(void *arg)
{
	struct world *w = arg;

	spin_both(w, 1, 0);
	assert_in_range(w->waiting * 10 / w->value, 7, 13);
	spin_both(w, 10, 0);
	assert_in_range(w->value / w->waiting, 7, 13);
	spin_both(w, 1, 40000);
	assert_in_range(w->value / w->waiting, 10, 40);
}

static void a_slow_host_makes_fewer_steps(void **state)
{
	(void)state;
	run_sim(slow_spins, 5);
}

static void hold_and_die(void *arg)
{
	struct world *w = arg;

	simclock_set_group(w->clk, 3);
	mtx_lock(&w->mtx);
	w->waiting++;
	mtx_unlock(&w->mtx);
	clock_sleep_ns(w->clk, 1000 * MS);
}

static void hold_and_live(void *arg)
{
	struct world *w = arg;

	mtx_lock(&w->mtx);
	w->value++;
	mtx_unlock(&w->mtx);
}

/* Others must get a mutex that a killed task was about to take. */
static void kill_waiters(void *arg)
{
	struct world *w = arg;
	struct task *t[3];

	mtx_lock(&w->mtx);
	for (int i = 0; i < 5; i++)
		start(w, hold_and_die);
	for (int i = 0; i < 3; i++)
		t[i] = start(w, hold_and_live);
	clock_sleep_ns(w->clk, MS);
	mtx_unlock(&w->mtx);
	if (w->waiting == 0)
		simclock_kill(w->clk, 3);
	for (int i = 0; i < 3; i++)
		join(w, t[i]);
	assert_int_equal(w->value, 3);
	simclock_kill(w->clk, 3);
}

static void a_killed_task_takes_no_mutex_with_it_that_it_only_waited_for(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 40; seed++)
		run_sim(kill_waiters, seed);
}

static void wait_for_nobody(void *arg)
{
	struct world *w = arg;

	mtx_lock(&w->mtx);
	for (;;)
		cond_wait(&w->cond, &w->mtx, CLOCK_FOREVER);
}

static void a_deadlock_is_reported_and_aborts(void **state)
{
	int out[2], status;
	char text[2048] = "";
	size_t have = 0;
	ssize_t n;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(out), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct clock *clk = simclock_new();
		struct world w;

		dup2(out[1], STDERR_FILENO);
		signal(SIGABRT, SIG_DFL);
		world_init(&w, clk);
		simclock_run(clk, wait_for_nobody, &w, 1);
		_exit(0);
	}
	close(out[1]);
	while ((n = read(out[0], text + have, sizeof(text) - 1 - have)) > 0)
		have += (size_t)n;
	close(out[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_non_null(strstr(text, "deadlock"));
	assert_non_null(strstr(text, "waits for a condition for ever"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_mutex_lets_one_task_in),
	    cmocka_unit_test(a_broadcast_wakes_all_that_wait),
	    cmocka_unit_test(a_wait_ends_at_its_deadline_and_not_before),
	    cmocka_unit_test(random_bytes_differ_and_the_date_is_plausible),
	    cmocka_unit_test(the_same_seed_gives_the_same_run_and_another_seed_another),
	    cmocka_unit_test(a_day_of_virtual_time_takes_no_time),
	    cmocka_unit_test(a_paused_group_stands_still_and_goes_on_and_a_killed_one_never_does),
	    cmocka_unit_test(a_drifting_clock_reaches_its_deadlines_early_or_late),
	    cmocka_unit_test(a_drift_that_begins_in_mid_sleep_counts_from_then),
	    cmocka_unit_test(a_frozen_clock_stands_still_and_a_paused_one_goes_on),
	    cmocka_unit_test(a_deadline_in_a_pause_is_met_at_its_end),
	    cmocka_unit_test(a_slow_host_makes_fewer_steps),
	    cmocka_unit_test(a_killed_task_takes_no_mutex_with_it_that_it_only_waited_for),
	    cmocka_unit_test(a_deadlock_is_reported_and_aborts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
