/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When the simulated LUN's commands take effect: any order between flushes, late, in parts, after
 * the death or during the pause of their host; and that it is told of as it happens.
 */
#include "simbed.h"

#include <errno.h>
#include <stdio.h>

/* ---- order and tearing ----------------------------------------------------------------------- */

static void write_x(void *arg)
{
	struct bed *t = arg;

	assert_int_equal(wr(t->a, 0, 512, t->x), 0);
}

static void write_both(void *arg)
{
	struct bed *t = arg;
	unsigned *last = t->ctx;
	struct task *task = go(t, write_x);

	assert_int_equal(wr(t->b, 0, 512, t->y), 0);
	join(t, task);
	last[at(t, 0) == 'y']++;
}

static void two_writes_in_flight_land_in_either_order(void **state)
{
	unsigned last[2] = {0, 0};

	(void)state;
	for_seeds(write_both, 60, last);
	assert_true(last[0] > 10 && last[1] > 10);
}

static void batch_of_two(void *arg)
{
	struct bed *t = arg;
	unsigned *last = t->ctx;
	struct dev_io io[2] = {{DEV_WRITE, 0, 512, t->x, 1}, {DEV_WRITE, 0, 512, t->y, 1}};

	t->a->ops->batch(t->a, io, 2);
	assert_int_equal(io[0].result | io[1].result, 0);
	last[at(t, 0) == 'y']++;
}

static void a_batch_has_no_order(void **state)
{
	unsigned last[2] = {0, 0};

	(void)state;
	for_seeds(batch_of_two, 60, last);
	assert_true(last[0] > 10 && last[1] > 10);
}

static void a_power_cut_keeps_any_set_of_unflushed_sectors(void **state)
{
	bool seen[16] = {false};

	for (uint64_t seed = 0; seed < 200; seed++) {
		BED;
		assert_int_equal(wr(t.a, 0, 2048, t.x), 0);
		simdev_power_cut(t.m, seed);
		seen[sectors_of(&t, 'x', 4)] = true;
		bed_end(&t);
	}
	for (unsigned i = 0; i < 16; i++)
		assert_true(seen[i]);
}

static void a_power_cut_may_keep_the_later_write_and_lose_the_earlier(void **state)
{
	unsigned out_of_order = 0;

	for (uint64_t seed = 0; seed < 50; seed++) {
		BED;
		assert_int_equal(wr(t.a, 0, 512, t.x), 0);
		assert_int_equal(wr(t.a, 4096, 512, t.x), 0);
		simdev_power_cut(t.m, seed);
		out_of_order += at(&t, 0) == 0 && at(&t, 4096) == 'x';
		bed_end(&t);
	}
	assert_true(out_of_order > 3);
}

static void a_power_cut_may_leave_a_version_between_the_flushed_and_the_last(void **state)
{
	unsigned between = 0;

	for (uint64_t seed = 0; seed < 100; seed++) {
		BED;
		simdev_seed(t.m, seed);
		assert_int_equal(wr(t.a, 0, 512, t.x), 0);
		assert_int_equal(wr(t.a, 0, 512, t.y), 0);
		simdev_power_cut(t.m, seed);
		between += at(&t, 0) == 'x';
		bed_end(&t);
	}
	assert_true(between > 3);
}

static void watch_torn(void *arg)
{
	struct bed *t = arg;

	t->result = wr(t->a, 0, 2048, t->x);
}

static void cut_while_writing(void *arg)
{
	struct bed *t = arg;
	bool *seen = t->ctx;
	struct task *task = go(t, watch_torn);
	uint64_t end = clock_now_ns(t->clk) + MS;

	while (clock_now_ns(t->clk) < end) {
		seen[sectors_of(t, 'x', 4)] = true;
		clock_sleep_ns(t->clk, MS / 20);
	}
	join(t, task);
	assert_int_equal(t->result, 0);
	assert_int_equal(sectors_of(t, 'x', 4), 0xf);
}

static void a_long_write_lands_piece_by_piece_cut_at_any_sector(void **state)
{
	bool seen[16] = {false};

	(void)state;
	for_seeds(cut_while_writing, 300, seen);
	for (unsigned i = 0; i < 16; i++)
		if (!seen[i])
			fail_msg("never seen: sectors %x of a write", i);
}

static void sets_once(void *arg)
{
	struct bed *t = arg;

	t->result = t->a->ops->compare_and_write(t->a, 0, t->z, t->x);
	*(bool *)t->ctx = true;
}

struct lasting {
	unsigned lost, kept; /* by a power cut after they were seen and before they were answered */
};

/* What the power leaves of it at this moment, on a copy. */
static bool survives(struct bed *t, uint64_t seed)
{
	struct simdev_medium *copy = simdev_medium_clone(t->m);
	char c;

	simdev_power_cut(copy, seed);
	simdev_peek(copy, 0, 1, &c);
	simdev_medium_put(copy);
	return c == 'x';
}

static void cut_while_setting(void *arg)
{
	struct bed *t = arg;
	struct lasting *l = t->ctx;
	bool answered = false;
	struct task *task;

	t->ctx = &answered;
	simdev_set_caw_cached(t->m, true);
	simdev_set_latency(t->m, 2 * MS, 2 * MS);
	task = go(t, sets_once);
	while (!answered) {
		if (at(t, 0) == 'x')
			*(survives(t, t->seed) ? &l->kept : &l->lost) += 1;
		clock_sleep_ns(t->clk, MS / 10);
	}
	join(t, task);
	assert_int_equal(t->result, DEV_CAW_GOOD);
	assert_true(survives(t, t->seed));
	t->ctx = l;
}

static void
a_cached_test_and_set_is_seen_before_it_lasts_and_lasts_when_it_is_answered(void **state)
{
	struct lasting l = {0};

	(void)state;
	for_seeds(cut_while_setting, 100, &l);
	assert_true(l.lost > 20 && l.kept > 20);
}

/* ---- hosts that die or stand still ----------------------------------------------------------- */

struct fates {
	unsigned none, part, all, later;
};

static void host_writes(void *arg)
{
	struct bed *t = arg;

	simclock_set_group(t->clk, 1);
	t->result = wr(t->a, 0, 4096, t->x);
}

static void note_fate(struct bed *t, struct fates *f)
{
	unsigned landed = sectors_of(t, 'x', 8);

	if (landed == 0)
		f->none++;
	else
		*(landed == 0xff ? &f->all : &f->part) += 1;
}

static void host_dies(void *arg)
{
	struct bed *t = arg;
	struct fates *f = t->ctx;
	unsigned soon;

	simdev_set_latency(t->m, 2 * MS, 2 * MS);
	simdev_set_linger(t->m, 100 * MS);
	go(t, host_writes);
	clock_sleep_ns(t->clk, MS);
	simdev_kill(t->a);
	simclock_kill(t->clk, 1);
	clock_sleep_ns(t->clk, 3 * MS);
	soon = sectors_of(t, 'x', 8);
	clock_sleep_ns(t->clk, 100 * MS);
	f->later += sectors_of(t, 'x', 8) != soon;
	note_fate(t, f);
	soon = sectors_of(t, 'x', 8);
	clock_sleep_ns(t->clk, 1000 * MS);
	assert_int_equal(sectors_of(t, 'x', 8), soon);
}

static void a_dead_host_s_write_lands_wholly_partly_or_not_and_maybe_later(void **state)
{
	struct fates f = {0};

	(void)state;
	for_seeds(host_dies, 150, &f);
	assert_true(f.none > 5 && f.part > 5 && f.all > 5 && f.later > 5);
}

static void host_pauses(void *arg)
{
	struct bed *t = arg;
	struct fates *f = t->ctx;
	struct task *task;

	simdev_set_latency(t->m, 2 * MS, 2 * MS);
	task = go(t, host_writes);
	clock_sleep_ns(t->clk, MS / 2);
	simclock_pause(t->clk, 1, clock_now_ns(t->clk) + 1000 * MS);
	clock_sleep_ns(t->clk, 900 * MS);
	note_fate(t, f);
	join(t, task);
	assert_int_equal(t->result, 0);
	assert_int_equal(sectors_of(t, 'x', 8), 0xff);
}

static void a_paused_host_s_write_lands_in_time_or_when_it_goes_on(void **state)
{
	struct fates f = {0};

	(void)state;
	for_seeds(host_pauses, 60, &f);
	assert_true(f.none + f.part > 10 && f.all > 10);
}

static void victim_writes(void *arg)
{
	struct bed *t = arg;

	simclock_set_group(t->clk, 1);
	for (int i = 0; i < 20; i++) {
		memset(t->y, i, 4096);
		t->result = wr(t->b, 0, 4096, t->y);
	}
}

static void one_write_of_b(void *arg)
{
	struct bed *t = arg;

	t->result = wr(t->b, 0, 4096, t->y);
}

static void fence(void *arg)
{
	struct bed *t = arg;
	struct task *task;

	simdev_set_pr(t->m, true, true);
	assert_int_equal(t->a->ops->pr->register_key(t->a, 0, 0xa), 0);
	assert_int_equal(t->b->ops->pr->register_key(t->b, 0, 0xb), 0);
	assert_int_equal(t->a->ops->pr->reserve(t->a, 0xa), 0);
	t->b->deadline_ms = 20;
	task = go(t, victim_writes);
	clock_sleep_ns(t->clk, t->seed * MS / 8);
	assert_int_equal(t->a->ops->pr->preempt_abort(t->a, 0xa, 0xb), 0);
	simdev_peek(t->m, 0, 4096, t->x);
	if (t->seed % 2)
		simclock_pause(t->clk, 1, clock_now_ns(t->clk) + 100 * MS);
	join(t, task);
	simdev_peek(t->m, 0, 4096, t->z);
	assert_memory_equal(t->x, t->z, 4096);
	assert_int_equal(t->result, -EBADE);
}

static void old_process(void *arg)
{
	struct bed *t = arg;

	simclock_set_group(t->clk, 1);
	wr(t->a, 0, 4096, t->x);
}

static void start_again(void *arg)
{
	struct bed *t = arg;
	struct dev *again;

	simdev_set_latency(t->m, 5 * MS, 5 * MS);
	go(t, old_process);
	clock_sleep_ns(t->clk, MS);
	simclock_kill(t->clk, 1);
	simdev_set_latency(t->m, 0, 0);
	again = simdev_attach_nexus(t->m, simdev_nexus(t->a));
	assert_int_equal(again->ops->drain(again), 0);
	simdev_peek(t->m, 0, 4096, t->y);
	clock_sleep_ns(t->clk, 100 * MS);
	simdev_peek(t->m, 0, 4096, t->z);
	assert_memory_equal(t->y, t->z, 4096);
	dev_close(again);
}

static void draining_a_nexus_covers_what_a_process_before_sent_along_it(void **state)
{
	(void)state;
	for_seeds(start_again, 40, NULL);
}

/* The victim comes back at once under a new key: what it sent before must not ride on that. */
static void fence_and_come_back(void *arg)
{
	struct bed *t = arg;
	struct task *task;

	simdev_set_pr(t->m, true, true);
	assert_int_equal(t->a->ops->pr->register_key(t->a, 0, 0xa), 0);
	assert_int_equal(t->b->ops->pr->register_key(t->b, 0, 0xb), 0);
	assert_int_equal(t->a->ops->pr->reserve(t->a, 0xa), 0);
	simdev_set_latency(t->m, 5 * MS, 5 * MS);
	task = go(t, one_write_of_b);
	clock_sleep_ns(t->clk, MS / 2);
	simdev_set_latency(t->m, 0, MS / 2);
	assert_int_equal(t->a->ops->pr->preempt_abort(t->a, 0xa, 0xb), 0);
	simdev_peek(t->m, 0, 4096, t->x);
	assert_int_equal(t->b->ops->pr->register_key(t->b, 0, 0xbb), 0);
	join(t, task);
	simdev_peek(t->m, 0, 4096, t->z);
	assert_memory_equal(t->x, t->z, 4096);
	assert_int_equal(t->result, -ETIMEDOUT);
}

static void what_was_aborted_does_not_land_under_a_later_key(void **state)
{
	(void)state;
	for_seeds(fence_and_come_back, 40, NULL);
}

static void once_preempted_nothing_of_the_victim_lands(void **state)
{
	(void)state;
	for_seeds(fence, 40, NULL);
}

/* ---- being told ------------------------------------------------------------------------------ */

struct told {
	struct bed *t;
	unsigned calls, late, closed, dead;
	uint8_t before, data;
	uint32_t covered;
};

static void on_landing(void *ctx, const struct simdev_landing *l)
{
	struct told *w = ctx;

	w->calls++;
	w->late += l->late;
	w->closed += l->d == NULL;
	w->dead += l->dead;
	simdev_peek(w->t->m, l->off_bytes, 1, &w->before);
	w->data = l->data ? l->data[0] : 0;
	for (uint64_t i = 0; i < l->len_bytes / 512; i++) {
		uint32_t bit = 1u << (l->off_bytes / 512 + i);

		assert_false(w->covered & bit);
		w->covered |= bit;
	}
}

static void a_monitor_sees_each_write_just_before_it_lands(void **state)
{
	struct simdev_fault late = {.kind = SIMDEV_LATE, .ops = SIMDEV_WRITE, .delay_ns = 50 * MS};
	struct told w;
	BED;

	w = (struct told){.t = &t};
	simdev_set_monitor(t.m, on_landing, &w);
	assert_int_equal(caw(t.a, 0, t.z, t.x), DEV_CAW_GOOD);
	assert_int_equal(w.calls, 1);
	assert_int_equal(w.before, 0);
	assert_int_equal(w.data, 'x');
	assert_int_equal(caw(t.a, 0, t.z, t.x), DEV_CAW_MISCOMPARE);
	assert_int_equal(w.calls, 1);
	w.covered = 0;
	simdev_inject(t.b, &late);
	assert_int_equal(wr(t.b, 0, 512, t.y), -ETIMEDOUT);
	t.b->ops->close(t.b);
	assert_int_equal(w.calls, 1);
	clock_sleep_ns(t.clk, 60 * MS);
	assert_int_equal(at(&t, 0), 'y');
	assert_int_equal(w.calls, 2);
	assert_int_equal(w.before, 'x');
	assert_true(w.late == 1 && w.closed == 1 && w.dead == 1);
	t.b = simdev_attach(t.m);
	bed_end(&t);
}

static void monitored(void *arg)
{
	struct bed *t = arg;
	struct told w = {.t = t};

	simdev_set_monitor(t->m, on_landing, &w);
	assert_int_equal(wr(t->a, 0, 16384, t->x), 0);
	assert_int_equal(w.covered, 0xffffffff);
}

static void a_monitor_sees_each_sector_of_a_write_once(void **state)
{
	(void)state;
	for_seeds(monitored, 50, NULL);
}

struct lines {
	unsigned n;
	uint64_t at_ns;
	char text[16][160];
};

static void on_event(void *ctx, const struct simdev_event *e)
{
	struct lines *l = ctx;

	assert_true(e->at_ns >= l->at_ns);
	l->at_ns = e->at_ns;
	if (l->n < 16)
		simdev_event_format(e, 1000000000000ull, l->text[l->n++], 160);
}

static void a_trace_tells_who_sent_what_what_it_did_and_what_came_back(void **state)
{
	struct simdev_fault lost = {.kind = SIMDEV_LOST_REPLY, .ops = SIMDEV_CAW};
	struct lines l = {0};
	BED;

	simdev_set_label(t.a, "host2#1");
	simdev_set_trace(t.m, on_event, &l);
	t.a->deadline_ms = 100;
	simdev_inject(t.a, &lost);
	assert_int_equal(caw(t.a, 4096, t.z, t.x), -ETIMEDOUT);
	assert_int_equal(l.n, 3);
	assert_string_equal(l.text[0], "     0.000000 ms host2#1      sends      #1      caw     "
				       "0x1000+512                      lost-reply");
	assert_non_null(strstr(l.text[1], "lands      #1      caw     0x1000+512           GOOD"));
	assert_non_null(strstr(l.text[2], "   100.000000 ms host2#1      answer "));
	assert_non_null(strstr(l.text[2], "ETIMEDOUT  lost-reply"));
	simdev_set_pr(t.m, true, true);
	assert_int_equal(t.a->ops->pr->register_key(t.a, 0, 0xabc), 0);
	assert_non_null(strstr(l.text[3], "REGISTER 0 > abc"));
	simdev_power_cut(t.m, 1);
	assert_non_null(strstr(l.text[6], "array        *          power cut"));
	bed_end(&t);
}

struct busy {
	struct lines l;
	struct simdev_chaos chaos;
};

static void busy_host(void *arg)
{
	struct bed *t = arg;
	uint8_t *buf = aligned_alloc(4096, 4096);

	memset(buf, 'q', 4096);
	for (int i = 0; i < 30; i++)
		wr(t->b, (uint64_t)i * 512, 4096, buf);
	free(buf);
}

static void traced(void *arg)
{
	struct bed *t = arg;
	struct busy *b = t->ctx;
	struct task *task;

	memset(&b->l, 0, sizeof(b->l));
	t->a->deadline_ms = 20;
	t->b->deadline_ms = 20;
	simdev_set_trace(t->m, on_event, &b->l); /* asserts the order of moments */
	simdev_chaos(t->m, &b->chaos);
	task = go(t, busy_host);
	for (int i = 0; i < 30; i++)
		wr(t->a, (uint64_t)i * 512, 4096, t->x);
	join(t, task);
	t->a->ops->drain(t->a);
}

static void events_are_told_in_the_order_of_their_moments(void **state)
{
	struct busy b = {.chaos.rate = {[SIMDEV_LATE] = {5, 0, MS, 50 * MS},
					[SIMDEV_DELAY] = {5, 0, MS, 50 * MS},
					[SIMDEV_OUTAGE] = {20, 0, MS, 10 * MS}}};

	(void)state;
	for_seeds(traced, 20, &b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(two_writes_in_flight_land_in_either_order),
	    cmocka_unit_test(a_batch_has_no_order),
	    cmocka_unit_test(a_power_cut_keeps_any_set_of_unflushed_sectors),
	    cmocka_unit_test(a_power_cut_may_keep_the_later_write_and_lose_the_earlier),
	    cmocka_unit_test(a_power_cut_may_leave_a_version_between_the_flushed_and_the_last),
	    cmocka_unit_test(
		a_cached_test_and_set_is_seen_before_it_lasts_and_lasts_when_it_is_answered),
	    cmocka_unit_test(a_long_write_lands_piece_by_piece_cut_at_any_sector),
	    cmocka_unit_test(a_dead_host_s_write_lands_wholly_partly_or_not_and_maybe_later),
	    cmocka_unit_test(a_paused_host_s_write_lands_in_time_or_when_it_goes_on),
	    cmocka_unit_test(once_preempted_nothing_of_the_victim_lands),
	    cmocka_unit_test(what_was_aborted_does_not_land_under_a_later_key),
	    cmocka_unit_test(draining_a_nexus_covers_what_a_process_before_sent_along_it),
	    cmocka_unit_test(a_monitor_sees_each_write_just_before_it_lands),
	    cmocka_unit_test(a_monitor_sees_each_sector_of_a_write_once),
	    cmocka_unit_test(a_trace_tells_who_sent_what_what_it_did_and_what_came_back),
	    cmocka_unit_test(events_are_told_in_the_order_of_their_moments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
