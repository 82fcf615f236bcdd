/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A lock that hosts hand to and fro: what it costs the device, and what they learn from it. */
#include "fixture.h"

#include <string.h>

#define SH LOCK_SH
#define EX LOCK_EX

#define TURNS 200u
#define TURNS_END_NS 90000000u /* sooner than in a beat */
#define PASSED_ON_NS 12000000u /* sooner than it is asked for on the board */
#define NEWCOMER_TURNS 100u

static uint64_t all_ios(struct fix *f)
{
	struct simdev_counts c;

	simdev_counts(f->medium, &c);
	return c.reads + c.writes + c.caws + c.flushes;
}

/* By turns, as a program with a handle on each of two hosts does it. */
static void take_turns(struct fix *f, unsigned hosts, unsigned turns, enum lock_mode first)
{
	for (unsigned i = 0; i < turns; i++) {
		struct box *b = &f->box[i % hosts];

		if (first == SH)
			fix_touch(b, 1, SH);
		fix_touch(b, 1, EX);
	}
}

/* Payload and flush are the data here. */
static void count_turns(struct fix *f, enum lock_mode first, double most)
{
	uint64_t before, since;
	double each;

	fix_up(f, 0);
	fix_up(f, 1);
	take_turns(f, 2, 40, first);
	fix_io_reset(f);
	before = all_ios(f);
	since = clock_now_ns(f->clk);
	take_turns(f, 2, TURNS, first);
	each = (double)(all_ios(f) - before) / TURNS - 2;
	print_message(
	    "a hand-over: %.2f I/Os (%.2f ATS, %.2f reads of the cell, %.2f writes of the "
	    "board) in %.2f ms\n",
	    each, (double)f->io.cell_caws / TURNS, (double)f->io.cell_reads / TURNS,
	    (double)f->io.board_writes / TURNS,
	    (double)(clock_now_ns(f->clk) - since) / TURNS / 1e6);
	assert_int_equal(f->io.cell_caws, TURNS);
	assert_in_range(f->io.board_writes, 0, TURNS / 10); /* it is sent back unasked */
	assert_true(each <= most);
}

static void body_turns(struct fix *f)
{
	count_turns(f, EX, 3);
}

static void a_hand_over_to_and_fro_costs_three_device_ios_at_most(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_turns, seed & 1 ? 512 : 4096, seed);
}

static void body_upgrading_turns(struct fix *f)
{
	count_turns(f, SH, 3);
}

static void what_was_soon_upgraded_is_asked_for_exclusively_the_next_time(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_upgrading_turns, 512, seed);
}

/* And once it is only read, it is shared again. */
static void body_no_more_upgrades(struct fix *f)
{
	fix_up(f, 0);
	fix_up(f, 1);
	take_turns(f, 2, 20, SH);
	for (unsigned i = 0; i < 4; i++) {
		fix_touch(&f->box[0], 1, SH);
		fix_touch(&f->box[1], 1, SH);
	}
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 1)), SH);
	assert_int_equal(lock_held(f->box[1].ls, fix_addr(f, 1)), SH);
	fix_io_reset(f);
	for (unsigned i = 0; i < 20; i++)
		fix_touch(&f->box[i % 2], 1, SH);
	assert_int_equal(f->io.cell_caws, 0);
}

static void who_no_longer_upgrades_shares_again(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_no_more_upgrades, 512, seed);
}

/* The guess whom to ask is wrong: a third host has it. */
static void body_third(struct fix *f)
{
	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	take_turns(f, 2, 20, EX);
	for (unsigned i = 0; i < 20; i++) {
		uint64_t since;

		fix_touch(&f->box[0], 1, EX);
		fix_touch(&f->box[2], 1, EX);
		since = clock_now_ns(f->clk);
		fix_touch(&f->box[i % 2], 1, EX);
		assert_true(clock_now_ns(f->clk) - since < 60000000);
	}
	assert_int_equal(f->box[1].val[1].valid ? f->box[1].val[1].value : f->box[0].val[1].value,
			 80);
}

static void lock_that_went_elsewhere_is_found_there(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_third, 512, seed);
}

static bool herd_stop;

static void herd_member(void *arg)
{
	struct fix_job *j = arg;

	while (!herd_stop)
		fix_touch(j->b, j->cell, EX);
}

static unsigned received(struct fix *f, unsigned host)
{
	return (unsigned)atomic_load(&locks_stats(f->box[host].ls)->received);
}

/* All hosts want it all the time. */
static void body_herd(struct fix *f)
{
	unsigned from[FIX_HOSTS], least = UINT32_MAX, sum = 0;
	struct fix_job j[FIX_HOSTS];
	struct task *t[FIX_HOSTS];
	uint64_t before;

	memset(j, 0, sizeof(j));
	herd_stop = false;
	for (unsigned i = 0; i < FIX_HOSTS; i++)
		fix_up(f, i);
	for (unsigned i = 0; i < FIX_HOSTS; i++) {
		j[i] = (struct fix_job){.b = &f->box[i], .cell = 1};
		t[i] = fix_task(f, i, herd_member, &j[i]);
	}
	fix_sleep_ms(f, 500);
	fix_io_reset(f);
	for (unsigned i = 0; i < FIX_HOSTS; i++)
		from[i] = received(f, i);
	before = all_ios(f);
	fix_sleep_ms(f, 1000);
	before = all_ios(f) - before;
	for (unsigned i = 0; i < FIX_HOSTS; i++) {
		unsigned n = received(f, i) - from[i];

		sum += n;
		least = n < least ? n : least;
	}
	print_message(
	    "four hosts that all want a lock: %u hand-overs a second, %u to the host that "
	    "got fewest; each %.2f I/Os (%.2f ATS, %.2f reads of the cell, %.2f writes of "
	    "the board)\n",
	    sum, least, (double)before / sum - 2, (double)f->io.cell_caws / sum,
	    (double)f->io.cell_reads / sum, (double)f->io.board_writes / sum);
	herd_stop = true;
	for (unsigned i = 0; i < FIX_HOSTS; i++)
		fix_join(f, t[i]);
	assert_true(least >= sum / FIX_HOSTS / 2);
	assert_true(f->io.cell_caws <= sum + sum / 10);
	assert_true(f->io.board_writes <= sum / 10); /* nobody has to ask */
	assert_true(f->io.cell_reads <= 6 * sum);
}

static void four_hosts_that_all_want_a_lock_neither_starve_nor_storm(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 4; seed++)
		fix_run(body_herd, 512, seed);
}

/* They took turns, and now only one of them goes on: it soon keeps the lock. */
static void body_one_stops(struct fix *f)
{
	uint64_t since;

	fix_up(f, 0);
	fix_up(f, 1);
	take_turns(f, 2, 40, EX);
	fix_io_reset(f);
	since = clock_now_ns(f->clk);
	for (unsigned i = 0; i < 200; i++)
		fix_touch(&f->box[0], 1, EX);
	assert_true(f->io.cell_caws <= 8);
	assert_true(f->io.board_writes <= 8);
	assert_true(clock_now_ns(f->clk) - since < 2500000000);
	assert_int_equal(f->box[0].val[1].value, 240);
}

static void lock_that_is_sent_back_in_vain_is_kept_by_who_uses_it(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_one_stops, 512, seed);
}

/* After turns one of them uses it more often than the other: it is not sent back after each use. */
static void body_uneven(struct fix *f)
{
	fix_up(f, 0);
	fix_up(f, 1);
	take_turns(f, 2, 40, EX);
	fix_io_reset(f);
	for (unsigned i = 0; i < 60; i++) {
		for (unsigned k = 0; k < 5; k++)
			fix_touch(&f->box[0], 1, EX);
		fix_touch(&f->box[1], 1, EX);
	}
	assert_in_range(f->io.cell_caws, 110, 126);
}

static void lock_that_is_used_unevenly_is_not_sent_back_in_vain_each_time(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 16; seed++)
		fix_run(body_uneven, 512, seed);
}

/* A third host stands in the queue and gives up: the others are not held up by what it is given. */
static void body_given_up(struct fix *f)
{
	struct fix_job j[3];
	struct task *t[3];
	unsigned least = UINT32_MAX;

	memset(j, 0, sizeof(j));
	herd_stop = false;
	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	for (unsigned i = 0; i < 2; i++) {
		j[i] = (struct fix_job){.b = &f->box[i], .cell = 1};
		t[i] = fix_task(f, i, herd_member, &j[i]);
	}
	fix_sleep_ms(f, 200);
	for (unsigned i = 0; i < 20; i++) {
		unsigned from;

		j[2] = (struct fix_job){.b = &f->box[2], .cell = 1, .mode = EX};
		t[2] = fix_task(f, 2, fix_pinner, &j[2]);
		fix_sleep_ms(f, 2 * i);
		lock_intr_fire(f->box[2].ls, &j[2].intr);
		fix_join(f, t[2]);
		from = received(f, 0) + received(f, 1);
		fix_sleep_ms(f, 150);
		from = received(f, 0) + received(f, 1) - from;
		least = from < least ? from : least;
	}
	herd_stop = true;
	fix_join(f, t[0]);
	fix_join(f, t[1]);
	print_message("in 150 ms after it gave up, %u hand-overs at the least\n", least);
	assert_true(least >= 3);
}

static void queue_goes_on_past_a_host_that_gave_up(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_given_up, 512, seed);
}

/* An operation that changes nothing. */
static void visit(struct box *b)
{
	struct lock *l;

	assert_int_equal(fix_pin(b, 1, EX, LOCAL_EXCL, 0, NULL, &l), 0);
	fix_unpin(b, l, EX, LOCAL_EXCL);
}

/* Two hosts take turns with operations that need no I/O, and a third one comes. */
static void body_newcomer(struct fix *f)
{
	unsigned most = 0;

	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	for (unsigned i = 0; i < 40; i++)
		visit(&f->box[i % 2]);
	for (unsigned i = 0; i < 20; i++) {
		struct fix_job j = {.b = &f->box[2], .cell = 1, .mode = i % 4 ? EX : SH};
		struct task *t = fix_task(f, 2, fix_pinner, &j);
		unsigned n = 0;

		while (!j.done && n < NEWCOMER_TURNS)
			visit(&f->box[n++ % 2]);
		assert_true(j.done);
		fix_join(f, t);
		most = n > most ? n : most;
		for (n = 0; n < 40; n++)
			visit(&f->box[n % 2]);
	}
	print_message("a newcomer is served after %u turns of two others at the most\n", most);
}

static void newcomer_is_not_passed_over_by_two_that_take_turns(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_newcomer, 512, seed);
}

struct next { /* one who wants it again and again */
	struct box *b;
	uint64_t had_ns; /* when it had it first since that was 0 */
};

static void herd_next(void *arg)
{
	struct next *x = arg;

	while (!herd_stop) {
		fix_touch(x->b, 1, EX);
		if (!x->had_ns)
			x->had_ns = clock_now_ns(x->b->f->clk);
	}
}

/* One of two stops, after it has begun to take giving a lock away for slower than it was. */
static void body_stops_in_its_tenure(struct fix *f)
{
	struct next x = {.b = &f->box[1]};
	uint64_t most = 0;
	struct task *t;

	herd_stop = false;
	fix_up(f, 0);
	fix_up(f, 1);
	t = fix_task(f, 1, herd_next, &x);
	for (unsigned i = 0; i < 40; i++) {
		uint64_t until = clock_now_ns(f->clk) + 60000000;

		while (clock_now_ns(f->clk) < until)
			fix_touch(&f->box[0], 1, EX);
		fix_touch(&f->box[0], 1, EX);
		atomic_store(&f->box[0].ls->give_ns, TENURE_MAX_NS);
		until = clock_now_ns(f->clk);
		x.had_ns = 0;
		fix_sleep_ms(f, 40);
		most = x.had_ns - until > most ? x.had_ns - until : most;
		atomic_store(&f->box[0].ls->give_ns, 1);
	}
	print_message("given on %.2f ms after its last use at the most\n", (double)most / 1e6);
	assert_in_range(most, 1, PASSED_ON_NS);
	herd_stop = true;
	fix_join(f, t);
}

static void lock_is_given_on_although_nobody_here_uses_it(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_stops_in_its_tenure, 512, seed);
}

/* Two take turns and stop; one may be handed it and not know, while a third one waits. */
static void body_turns_end(struct fix *f)
{
	uint64_t most = 0;

	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	for (unsigned i = 0; i < 100; i++) {
		struct fix_job j = {.b = &f->box[2], .cell = 1, .mode = EX};
		struct task *t;
		uint64_t since;

		for (unsigned n = 0; n < 30; n++)
			visit(&f->box[n % 2]);
		t = fix_task(f, 2, fix_pinner, &j);
		for (unsigned n = 0; n < i % 23 && !j.done; n++)
			visit(&f->box[n % 2]);
		since = clock_now_ns(f->clk);
		fix_join(f, t);
		since = clock_now_ns(f->clk) - since;
		most = since > most ? since : most;
	}
	print_message("after the turns ended, %.1f ms at the most\n", (double)most / 1e6);
	assert_in_range(most, 0, TURNS_END_NS);
}

static void who_waits_is_served_soon_after_the_turns_of_others_end(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_turns_end, 512, seed);
}

/* What failed in a hand-over that nobody asked for is done all the same. */
static void body_failed_in_queue(struct fix *f)
{
	fix_up(f, 0);
	fix_up(f, 1);
	for (unsigned i = 0; i < 10; i++) {
		take_turns(f, 2, 40, EX);
		fix_touch(&f->box[0], 1, EX);
		f->box[1].fail_flush = 2;
		fix_touch(&f->box[1], 1, EX);
		fix_sleep_ms(f, 30);
		assert_int_equal(lock_held(f->box[1].ls, fix_addr(f, 1)), EX);
		fix_sleep_ms(f, 100);
		assert_int_equal(f->box[1].fail_flush, 0);
		assert_int_equal(lock_held(f->box[1].ls, fix_addr(f, 1)), LOCK_NONE);
	}
}

static void hand_over_that_failed_in_a_queue_is_tried_again(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_failed_in_queue, 512, seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_hand_over_to_and_fro_costs_three_device_ios_at_most),
	    cmocka_unit_test(what_was_soon_upgraded_is_asked_for_exclusively_the_next_time),
	    cmocka_unit_test(who_no_longer_upgrades_shares_again),
	    cmocka_unit_test(lock_that_went_elsewhere_is_found_there),
	    cmocka_unit_test(four_hosts_that_all_want_a_lock_neither_starve_nor_storm),
	    cmocka_unit_test(lock_that_is_sent_back_in_vain_is_kept_by_who_uses_it),
	    cmocka_unit_test(lock_that_is_used_unevenly_is_not_sent_back_in_vain_each_time),
	    cmocka_unit_test(queue_goes_on_past_a_host_that_gave_up),
	    cmocka_unit_test(lock_is_given_on_although_nobody_here_uses_it),
	    cmocka_unit_test(who_waits_is_served_soon_after_the_turns_of_others_end),
	    cmocka_unit_test(hand_over_that_failed_in_a_queue_is_tried_again),
	    cmocka_unit_test(newcomer_is_not_passed_over_by_two_that_take_turns),
	};

	return cmocka_run_group_tests_name("lock_turns", tests, NULL, NULL);
}
