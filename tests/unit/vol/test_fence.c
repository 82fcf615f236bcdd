/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whole hosts on a device with persistent reservations: what a lost registration costs (nothing),
 * what a host that was fenced still may do (nothing), and that both leave a clean volume.
 */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define WRITES 150u
#define LEN 8192u

static void with_pr(struct simcluster *t)
{
	simdev_set_pr(t->medium, true, true);
}

static uint64_t key_of(struct simcluster *t, unsigned host)
{
	return simdev_pr_key(t->medium, SC_NEXUS + host);
}

struct writer {
	struct simcluster *t;
	unsigned host, done;
	int rc;
	struct nodeid id, dir;
};

/* New files, data and syncs, so that every kind of write is under way. */
static void write_on(void *arg)
{
	struct writer *w = arg;
	struct simcluster *t = w->t;
	uint8_t *buf = dev_buf_alloc(LEN);
	size_t done;
	char name[32];
	struct vattr va;

	memset(buf, (int)w->host + 'a', LEN);
	for (unsigned i = 0; i < WRITES && !w->rc; i++) {
		w->rc = vol_write(t->v[w->host], &sc_root, w->id, (uint64_t)i * LEN, LEN, buf, 0,
				  &done, NULL);
		snprintf(name, sizeof(name), "h%u-%u", w->host, i);
		if (!w->rc && i % 4 == 0)
			w->rc =
			    vol_create(t->v[w->host], &sc_root, w->dir, name, S_IFREG | 0644, &va);
		if (!w->rc && i % 8 == 0)
			w->rc = vol_fsync(t->v[w->host], &sc_root, w->id, false);
		w->done = i + 1;
	}
	free(buf);
}

static void start_writers(struct simcluster *t, struct writer *w, struct task **task)
{
	char name[16];

	for (unsigned n = 0; n < t->hosts; n++)
		sc_up(t, n);
	for (unsigned n = 0; n < t->hosts; n++) {
		snprintf(name, sizeof(name), "f%u", n);
		w[n] = (struct writer){.t = t, .host = n, .dir = sc_root_id(t, 0)};
		w[n].id = sc_mkfile(t, n, w[n].dir, name);
	}
	for (unsigned n = 0; n < t->hosts; n++)
		task[n] = sc_task(t, n, write_on, &w[n]);
}

static void check_data(struct simcluster *t, unsigned reader, const struct writer *w)
{
	uint8_t *buf = dev_buf_alloc(LEN);

	for (unsigned i = 0; i < w->done; i++) {
		assert_int_equal(sc_read(t, reader, w->id, (uint64_t)i * LEN, buf, LEN), LEN);
		assert_int_equal(buf[0], (int)w->host + 'a');
		assert_int_equal(buf[LEN - 1], (int)w->host + 'a');
	}
	free(buf);
}

static void resets_body(struct simcluster *t)
{
	struct writer w[SC_HOSTS];
	struct task *task[SC_HOSTS];
	bool all = false;

	with_pr(t);
	simdev_set_latency(t->medium, SC_S / 5000, SC_S / 500);
	start_writers(t, w, task);
	while (!all) {
		clock_sleep_ns(t->clk, SC_S / 8 + sc_random(t, SC_S / 4));
		if (sc_random(t, 3) == 0)
			simdev_pr_reset(t->medium);
		else
			simdev_pr_forget(t->medium, SC_NEXUS + (unsigned)sc_random(t, t->hosts));
		all = true;
		for (unsigned n = 0; n < t->hosts; n++)
			all = all && (w[n].rc || w[n].done == WRITES);
	}
	for (unsigned n = 0; n < t->hosts; n++) {
		sc_join(t, task[n]);
		assert_int_equal(w[n].rc, 0);
		check_data(t, (n + 1) % t->hosts, &w[n]);
	}
}

static void lost_registrations_fail_no_operation_and_lose_nothing(void **s)
{
	(void)s;
	sc_run_seeds(resets_body, 6);
}

static uint64_t refused;

static void cold_lock_body(struct simcluster *t)
{
	struct nodeid f;

	with_pr(t);
	sc_up(t, 0);
	sc_up(t, 1);
	sc_up(t, 2); /* keeps the reservation */
	f = sc_mkfile(t, 1, sc_root_id(t, 1), "f");
	sc_down(t, 1);
	clock_sleep_ns(t->clk, SC_S / 4); /* the others have seen that it has left */
	simdev_pr_forget(t->medium, SC_NEXUS);
	sc_write(t, 0, f, 0, "x", 1); /* first of all it needs the lock */
	assert_int_equal(sc_stat(t, 0, f).st_size, 1);
	refused += t->v[0]->ats.stats.outcome[ATS_FENCED];
}

static void a_lock_is_taken_although_the_registration_has_just_got_lost(void **s)
{
	(void)s;
	refused = 0;
	sc_run_seeds(cold_lock_body, 8);
	assert_true(refused > 0);
}

static void zombie_body(struct simcluster *t)
{
	struct writer w[SC_HOSTS];
	struct task *task[SC_HOSTS];
	struct vattr va;

	with_pr(t);
	simdev_set_latency(t->medium, SC_S / 5000, SC_S / 500);
	start_writers(t, w, task);
	clock_sleep_ns(t->clk, sc_random(t, SC_S / 4));
	simclock_pause(t->clk, 1, clock_now_ns(t->clk) + 4 * SC_S);
	sc_join(t, task[1]);
	sc_join(t, task[2]);
	sc_join(t, task[0]);
	if (w[0].rc) { /* it had not ended its work before */
		assert_int_equal(w[0].rc, -EIO);
		assert_int_equal(vol_getattr(t->v[0], &sc_root, w[0].id, &va), -EIO);
	}
	if (host_state(vol_host(t->v[0])) == HOST_LOST) {
		assert_int_equal(key_of(t, 0), 0);
		assert_false(simdev_may_write(t->dev[0]));
		assert_int_equal(vol_unmount(t->v[0]), -EIO);
		t->v[0] = NULL;
		sc_up(t, 0); /* at once */
	}
	assert_true(key_of(t, 0) == host_nonce(vol_host(t->v[0])));
	check_data(t, 0, &w[1]);
	check_data(t, 0, &w[2]);
}

static void a_host_that_slept_through_its_recovery_is_refused_and_mounts_again(void **s)
{
	(void)s;
	sc_run_seeds(zombie_body, 8);
}

/* Its writes are still queued below when the same machine mounts again. */
static void queued_body(struct simcluster *t)
{
	struct simdev_fault late = {.kind = SIMDEV_LATE, .ops = SIMDEV_WRITE, .count = 1u << 30};
	struct writer w[SC_HOSTS];
	struct task *task[SC_HOSTS];

	with_pr(t);
	simdev_set_latency(t->medium, SC_S / 5000, SC_S / 500);
	start_writers(t, w, task);
	clock_sleep_ns(t->clk, sc_random(t, SC_S / 4));
	late.delay_ns = 6 * SC_S + sc_random(t, 6 * SC_S);
	simdev_inject(t->dev[0], &late);
	clock_sleep_ns(t->clk, sc_random(t, SC_S / 20));
	sc_kill(t, 0);
	sc_up(t, 0);
	sc_join(t, task[1]);
	sc_join(t, task[2]);
	for (unsigned n = 1; n < t->hosts; n++) {
		assert_int_equal(w[n].rc, 0);
		check_data(t, 0, &w[n]);
	}
	clock_sleep_ns(t->clk, 15 * SC_S);
	for (unsigned n = 1; n < t->hosts; n++)
		check_data(t, 0, &w[n]);
}

static void writes_of_a_dead_mount_never_land_after_the_next_one(void **s)
{
	(void)s;
	sc_run_seeds(queued_body, 8);
}

/* Every command of fencing itself meets faults, while hosts die, sleep and lose registrations. */
static void faults_body(struct simcluster *t)
{
	struct simdev_chaos chaos = {0};
	struct simdev_rate rate = {
	    .one_in = 6, .ops = SIMDEV_PR, .min_ns = SC_S / 100, .max_ns = SC_S};
	bool up[SC_HOSTS], killed;
	static const enum simdev_fault_kind kinds[] = {SIMDEV_FAIL,	  SIMDEV_DELAY,
						       SIMDEV_LOST_REPLY, SIMDEV_LOST_COMMAND,
						       SIMDEV_BUSY,	  SIMDEV_UNIT_ATTENTION};
	struct writer w[SC_HOSTS];
	struct task *task[SC_HOSTS];

	with_pr(t);
	simdev_set_latency(t->medium, SC_S / 5000, SC_S / 500);
	start_writers(t, w, task);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		chaos.rate[kinds[i]] = rate;
	simdev_chaos(t->medium, &chaos);
	clock_sleep_ns(t->clk, sc_random(t, SC_S / 5));
	killed = sc_random(t, 2);
	if (killed)
		sc_kill(t, 0);
	else
		simclock_pause(t->clk, 1, clock_now_ns(t->clk) + 3 * SC_S);
	clock_sleep_ns(t->clk, sc_random(t, 2 * SC_S));
	if (sc_random(t, 2))
		simdev_pr_reset(t->medium);
	if (!killed)
		sc_join(t, task[0]);
	sc_join(t, task[1]);
	sc_join(t, task[2]);
	clock_sleep_ns(t->clk, 4 * SC_S);
	simdev_chaos(t->medium, NULL);
	for (unsigned n = 0; n < t->hosts; n++) {
		up[n] = t->v[n] && host_wait_active(vol_host(t->v[n])) == 0;
		if (t->v[n] &&
		    !up[n]) /* what it could not register in time for cost it its place */
			assert_int_equal(vol_unmount(t->v[n]), -EIO);
		if (!up[n])
			sc_up(t, n);
	}
	for (unsigned n = 1; n < t->hosts; n++) {
		if (!up[n])
			continue;
		assert_int_equal(w[n].rc, 0);
		check_data(t, 0, &w[n]);
	}
}

static void faults_of_the_commands_of_fencing_do_no_harm(void **s)
{
	(void)s;
	sc_run_seeds(faults_body, 8);
}

static void last_one_out_body(struct simcluster *t)
{
	with_pr(t);
	for (unsigned n = 0; n < t->hosts; n++)
		sc_up(t, n);
	for (unsigned n = 0; n < t->hosts; n++) {
		assert_true(simdev_pr_reserved(t->medium));
		sc_down(t, n);
		assert_int_equal(key_of(t, n), 0);
	}
	assert_false(simdev_pr_reserved(t->medium));
}

static void the_last_one_out_leaves_no_key_and_no_reservation(void **s)
{
	(void)s;
	sc_run_seeds(last_one_out_body, 2);
}

static void paused_body(struct simcluster *t)
{
	with_pr(t);
	for (unsigned n = 0; n < t->hosts; n++)
		sc_up(t, n);
	sc_kill(t, 0); /* perhaps it only sleeps */
	while (key_of(t, 0))
		clock_sleep_ns(t->clk, SC_S / 10);
	clock_sleep_ns(t->clk, SC_S);
	for (unsigned n = 1; n < t->hosts; n++)
		sc_down(t, n);
	assert_true(simdev_pr_reserved(t->medium));
	sc_up(t, 0); /* it is back, and proves that nothing of it is left */
	sc_down(t, 0);
	for (unsigned n = 1; n < t->hosts; n++) {
		sc_up(t, n);
		sc_down(t, n);
	}
	assert_false(simdev_pr_reserved(t->medium));
}

static void who_was_fenced_stays_shut_out_when_everybody_else_has_left(void **s)
{
	(void)s;
	sc_run_seeds(paused_body, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(lost_registrations_fail_no_operation_and_lose_nothing),
	    cmocka_unit_test(a_lock_is_taken_although_the_registration_has_just_got_lost),
	    cmocka_unit_test(a_host_that_slept_through_its_recovery_is_refused_and_mounts_again),
	    cmocka_unit_test(writes_of_a_dead_mount_never_land_after_the_next_one),
	    cmocka_unit_test(faults_of_the_commands_of_fencing_do_no_harm),
	    cmocka_unit_test(the_last_one_out_leaves_no_key_and_no_reservation),
	    cmocka_unit_test(who_was_fenced_stays_shut_out_when_everybody_else_has_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
