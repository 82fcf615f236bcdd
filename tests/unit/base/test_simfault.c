/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The simulated LUN's faults: that each kind does what it is named, and no more. */
#include "simbed.h"

#include <errno.h>

static void inject(struct dev *d, enum simdev_fault_kind kind, unsigned ops, uint64_t delay_ns)
{
	simdev_inject(d, &(struct simdev_fault){.kind = kind, .ops = ops, .delay_ns = delay_ns});
}

static void a_refused_command_has_no_effect_and_plain_io_is_sent_again(void **state)
{
	static const enum simdev_fault_kind kinds[] = {SIMDEV_BUSY, SIMDEV_TASK_SET_FULL,
						       SIMDEV_UNIT_ATTENTION};

	for (unsigned i = 0; i < 3; i++) {
		uint64_t before;
		BED;

		t.a->deadline_ms = 100;
		inject(t.a, kinds[i], SIMDEV_CAW, 0);
		assert_int_equal(caw(t.a, 0, t.z, t.x), -EAGAIN);
		assert_int_equal(at(&t, 0), 0);
		inject(t.a, kinds[i], SIMDEV_WRITE, 30 * MS);
		before = clock_now_ns(t.clk);
		assert_int_equal(wr(t.a, 0, 512, t.x), 0);
		assert_in_range(clock_now_ns(t.clk) - before, 30 * MS, 31 * MS);
		assert_int_equal(at(&t, 0), 'x');
		inject(t.a, kinds[i], SIMDEV_WRITE, 500 * MS);
		before = clock_now_ns(t.clk);
		assert_int_equal(wr(t.a, 0, 512, t.y), -ETIMEDOUT);
		assert_in_range(clock_now_ns(t.clk) - before, 100 * MS, 101 * MS);
		clock_sleep_ns(t.clk, 1000 * MS);
		assert_int_equal(at(&t, 0), 'x');
		bed_end(&t);
	}
}

static void a_blind_compare_and_write_overwrites_what_it_should_have_compared(void **state)
{
	BED;
	assert_int_equal(caw(t.a, 0, t.z, t.x), DEV_CAW_GOOD);
	inject(t.a, SIMDEV_LIE_BLIND, SIMDEV_CAW, 0);
	assert_int_equal(caw(t.a, 0, t.z, t.y), DEV_CAW_GOOD);
	assert_int_equal(at(&t, 0), 'y');
	bed_end(&t);
}

static void one_caw_of_b(void *arg)
{
	struct bed *t = arg;

	t->result = caw(t->b, 0, t->z, t->y);
}

static void split_race(void *arg)
{
	struct bed *t = arg;
	unsigned *both = t->ctx;
	struct task *task;

	inject(t->a, SIMDEV_LIE_SPLIT, SIMDEV_CAW, 2 * MS);
	task = go(t, one_caw_of_b);
	*both += caw(t->a, 0, t->z, t->x) == DEV_CAW_GOOD;
	join(t, task);
	*both += t->result == DEV_CAW_GOOD;
	*both -= 1; /* one of the two is right */
}

static void a_split_compare_and_write_lets_two_hosts_win(void **state)
{
	unsigned both = 0;

	(void)state;
	for_seeds(split_race, 40, &both);
	assert_true(both >= 10);
}

static void a_corrupt_read_differs_in_one_bit_and_the_next_is_right(void **state)
{
	unsigned bits = 0;
	BED;

	assert_int_equal(wr(t.a, 0, 4096, t.x), 0);
	inject(t.b, SIMDEV_CORRUPT, SIMDEV_READ, 0);
	assert_int_equal(rd(t.b, 0, 4096, t.z), 0);
	for (unsigned i = 0; i < 4096; i++)
		bits += (unsigned)__builtin_popcount(t.x[i] ^ t.z[i]);
	assert_int_equal(bits, 1);
	assert_int_equal(rd(t.b, 0, 4096, t.z), 0);
	assert_memory_equal(t.z, t.x, 4096);
	bed_end(&t);
}

static void a_stale_path_shows_the_past_to_its_handle_alone(void **state)
{
	struct simdev_snapshot *snap;
	BED;

	assert_int_equal(wr(t.a, 0, 8192, t.x), 0);
	inject(t.b, SIMDEV_STALE, SIMDEV_READ, 0);
	snap = simdev_snapshot(t.m);
	assert_int_equal(wr(t.a, 0, 8192, t.y), 0);
	assert_int_equal(rd(t.b, 0, 512, t.z), 0);
	assert_int_equal(t.z[0], 'x');
	assert_int_equal(rd(t.b, 0, 512, t.z), 0);
	assert_int_equal(t.z[0], 'y');
	simdev_set_stale(t.b, snap, 4096, 4096);
	assert_int_equal(rd(t.b, 4096, 512, t.z), 0);
	assert_int_equal(t.z[0], 'x');
	assert_int_equal(rd(t.b, 0, 512, t.z), 0);
	assert_int_equal(t.z[0], 'y');
	assert_int_equal(rd(t.a, 4096, 512, t.z), 0);
	assert_int_equal(t.z[0], 'y');
	simdev_set_stale(t.b, NULL, 0, 0);
	assert_int_equal(rd(t.b, 4096, 512, t.z), 0);
	assert_int_equal(t.z[0], 'y');
	simdev_snapshot_free(snap);
	bed_end(&t);
}

static void a_rotten_sector_cannot_be_read_until_it_is_rewritten(void **state)
{
	BED;
	assert_int_equal(wr(t.a, 0, 4096, t.x), 0);
	simdev_rot(t.m, 1024, 1024);
	assert_int_equal(rd(t.b, 0, 1024, t.z), 0);
	assert_int_equal(rd(t.b, 0, 4096, t.z), -EIO);
	assert_int_equal(caw(t.a, 1024, t.x, t.y), -EIO);
	assert_int_equal(wr(t.a, 1024, 512, t.y), 0);
	assert_int_equal(rd(t.b, 1024, 512, t.z), 0);
	assert_int_equal(rd(t.b, 1536, 512, t.z), -EIO);
	assert_int_equal(t.a->ops->discard(t.a, 1536, 512), 0);
	assert_int_equal(rd(t.b, 0, 4096, t.z), 0);
	inject(t.b, SIMDEV_ROT, SIMDEV_READ, 0);
	assert_int_equal(rd(t.b, 0, 512, t.z), -EIO);
	assert_int_equal(rd(t.a, 0, 512, t.z), -EIO);
	bed_end(&t);
}

static void a_truncated_write_lands_in_part_and_its_fate_is_unknown(void **state)
{
	unsigned partly = 0;

	for (uint64_t seed = 0; seed < 20; seed++) {
		unsigned landed;
		BED;

		simdev_seed(t.m, seed);
		inject(t.a, SIMDEV_TRUNCATE, SIMDEV_WRITE, 0);
		assert_int_equal(wr(t.a, 0, 4096, t.x), -ETIMEDOUT);
		landed = sectors_of(&t, 'x', 8);
		assert_int_not_equal(landed, 0xff);
		partly += landed != 0;
		bed_end(&t);
	}
	assert_int_equal(partly, 20);
}

/* ---- outages --------------------------------------------------------------------------------- */

static void a_silent_outage_lets_every_command_time_out_and_then_ends(void **state)
{
	uint64_t begun;
	BED;

	t.a->deadline_ms = 100;
	begun = clock_now_ns(t.clk);
	simdev_outage(t.a, begun + 1000 * MS, SIMDEV_OUTAGE_SILENT);
	assert_int_equal(wr(t.a, 0, 512, t.x), -ETIMEDOUT);
	assert_in_range(clock_now_ns(t.clk) - begun, 100 * MS, 101 * MS);
	assert_int_equal(caw(t.a, 0, t.z, t.x), -ETIMEDOUT);
	assert_int_equal(rd(t.a, 0, 512, t.z), -ETIMEDOUT);
	assert_int_equal(t.a->ops->drain(t.a), -ETIMEDOUT);
	assert_int_equal(wr(t.b, 512, 512, t.x), 0);
	t.clk->ops->sleep_until(t.clk, begun + 1000 * MS);
	assert_int_equal(at(&t, 0), 0);
	assert_int_equal(t.a->ops->drain(t.a), 0);
	assert_int_equal(wr(t.a, 0, 512, t.x), 0);
	bed_end(&t);
}

static void an_outage_with_errors_answers_at_once_on_all_handles_of_the_array(void **state)
{
	uint64_t begun;
	BED;

	begun = clock_now_ns(t.clk);
	simdev_outage_all(t.m, begun + 1000 * MS, SIMDEV_OUTAGE_ERROR);
	assert_int_equal(wr(t.a, 0, 512, t.x), -ETIMEDOUT);
	assert_int_equal(rd(t.b, 0, 512, t.z), -ETIMEDOUT);
	assert_int_equal(t.b->ops->drain(t.b), -EIO);
	assert_true(clock_now_ns(t.clk) - begun < 10 * MS);
	t.clk->ops->sleep_until(t.clk, begun + 1000 * MS);
	assert_int_equal(wr(t.b, 0, 512, t.x), 0);
	bed_end(&t);
}

static void where_paths_queue_plain_io_waits_for_the_end_of_an_outage(void **state)
{
	uint64_t begun;
	BED;

	t.a->deadline_ms = 100;
	begun = clock_now_ns(t.clk);
	simdev_outage(t.a, begun + 1000 * MS, SIMDEV_OUTAGE_QUEUED);
	assert_int_equal(caw(t.a, 0, t.z, t.x), -ETIMEDOUT);
	assert_int_equal(wr(t.a, 0, 512, t.x), 0);
	assert_in_range(clock_now_ns(t.clk) - begun, 1000 * MS, 1001 * MS);
	assert_int_equal(at(&t, 0), 'x');
	bed_end(&t);
}

struct fates {
	unsigned none, part, all, answered;
};

static void write_4k(void *arg)
{
	struct bed *t = arg;

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

static void cut_transport(void *arg)
{
	struct bed *t = arg;
	struct fates *f = t->ctx;
	struct task *task;
	uint64_t begun = clock_now_ns(t->clk);

	t->a->deadline_ms = 100;
	simdev_set_latency(t->m, 2 * MS, 2 * MS);
	task = go(t, write_4k);
	clock_sleep_ns(t->clk, MS);
	simdev_outage(t->a, clock_now_ns(t->clk) + 50 * MS, SIMDEV_OUTAGE_SILENT);
	join(t, task);
	assert_int_equal(t->result, -ETIMEDOUT);
	assert_true(clock_now_ns(t->clk) - begun >= 100 * MS);
	note_fate(t, f);
}

static void what_is_in_flight_when_the_transport_goes_lands_wholly_partly_or_not(void **state)
{
	struct fates f = {0};

	(void)state;
	for_seeds(cut_transport, 100, &f);
	assert_true(f.none > 5 && f.part > 5 && f.all > 5);
}

/* ---- the whole array ------------------------------------------------------------------------- */

static void a_rolled_back_array_holds_what_it_held_then(void **state)
{
	struct simdev_snapshot *snap;
	struct simdev_counts n;
	BED;

	simdev_set_pr(t.m, true, true);
	assert_int_equal(wr(t.a, 0, 512, t.x), 0);
	snap = simdev_snapshot(t.m);
	assert_int_equal(t.a->ops->pr->register_key(t.a, 0, 7), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(wr(t.a, 0, 512, t.y), 0);
		assert_int_equal(wr(t.a, 1 << 20, 512, t.y), 0);
		assert_int_equal(t.a->ops->flush(t.a), 0);
		simdev_roll_back(t.m, snap);
		assert_int_equal(at(&t, 0), 'x');
		assert_int_equal(at(&t, 1 << 20), 0);
	}
	assert_int_equal(simdev_unflushed(t.m), 1); /* as it was then */
	assert_int_equal(simdev_pr_key(t.m, simdev_nexus(t.a)), 7);
	simdev_snapshot_free(snap);
	simdev_counts(t.m, &n);
	assert_int_equal(n.roll_backs, 2);
	bed_end(&t);
}

static void after_a_power_cut_each_handle_hears_of_it_once(void **state)
{
	BED;
	simdev_power_cut(t.m, 1);
	assert_int_equal(caw(t.a, 0, t.z, t.x), -EAGAIN);
	assert_int_equal(caw(t.a, 0, t.z, t.x), DEV_CAW_GOOD);
	assert_int_equal(rd(t.b, 0, 512, t.z), 0); /* read again below */
	assert_int_equal(caw(t.b, 0, t.x, t.y), DEV_CAW_GOOD);
	bed_end(&t);
}

/* ---- chance ---------------------------------------------------------------------------------- */

static const struct simdev_chaos storm = {.rate = {
					      [SIMDEV_FAIL] = {40, 0, 0, 0},
					      [SIMDEV_DELAY] = {20, 0, MS, 40 * MS},
					      [SIMDEV_LOST_REPLY] = {40, 0, 0, 0},
					      [SIMDEV_LOST_COMMAND] = {40, 0, 0, 0},
					      [SIMDEV_LATE] = {40, 0, MS, 80 * MS},
					      [SIMDEV_LIE_DONE] = {40, 0, 0, 0},
					      [SIMDEV_LIE_MISCOMPARE] = {10, 0, 0, 0},
					      [SIMDEV_RESENT] = {10, 0, 0, 0},
					      [SIMDEV_BUSY] = {20, 0, MS, 40 * MS},
					      [SIMDEV_TASK_SET_FULL] = {20, 0, MS, 40 * MS},
					      [SIMDEV_UNIT_ATTENTION] = {20, 0, 0, 0},
					      [SIMDEV_LIE_BLIND] = {10, 0, 0, 0},
					      [SIMDEV_LIE_SPLIT] = {10, 0, MS, 4 * MS},
					      [SIMDEV_CORRUPT] = {10, 0, 0, 0},
					      [SIMDEV_STALE] = {10, 0, 0, 0},
					      [SIMDEV_ROT] = {40, 0, 0, 0},
					      [SIMDEV_OUTAGE] = {40, 0, MS, 80 * MS},
					      [SIMDEV_TRUNCATE] = {20, 0, 0, 0},
					  }};

static void in_the_storm(struct bed *t, uint64_t counts[SIMDEV_FAULT_KINDS])
{
	simdev_seed(t->m, 5);
	simdev_chaos(t->m, &storm);
	t->a->deadline_ms = 50;
	for (uint64_t i = 0; i < 500; i++) {
		wr(t->a, i % 7 * 4096, 4096, t->x);
		rd(t->a, i % 7 * 4096, 4096, t->z);
		caw(t->a, 1 << 20, i % 2 ? t->x : t->y, i % 2 ? t->y : t->x);
		t->a->ops->flush(t->a);
	}
	simdev_fault_counts(t->m, counts);
}

static void chaos_brings_every_kind_and_the_same_seed_the_same(void **state)
{
	uint64_t one[SIMDEV_FAULT_KINDS], two[SIMDEV_FAULT_KINDS], sum = 0;

	for (int i = 0; i < 2; i++) {
		BED;
		in_the_storm(&t, i ? two : one);
		bed_end(&t);
	}
	assert_memory_equal(one, two, sizeof(one));
	for (unsigned k = 1; k < SIMDEV_FAULT_KINDS; k++) {
		if (one[k] == 0)
			fail_msg("no %s in 2000 commands", simdev_fault_name(k));
		sum += one[k];
	}
	assert_int_equal(one[SIMDEV_OK], sum);
}

static void chaos_of_one_handle_spares_the_other_and_ends_when_told(void **state)
{
	const struct simdev_chaos c = {.rate[SIMDEV_FAIL] = {1, SIMDEV_WRITE, 0, 0}};
	const struct simdev_chaos calm = {.rate[SIMDEV_FAIL] = {0, 0, 0, 0}};
	BED;

	simdev_chaos_handle(t.a, &c);
	assert_int_equal(wr(t.a, 0, 512, t.x), -EIO);
	assert_int_equal(rd(t.a, 0, 512, t.z), 0);
	assert_int_equal(wr(t.b, 0, 512, t.x), 0);
	simdev_chaos_handle(t.a, NULL);
	assert_int_equal(wr(t.a, 0, 512, t.x), 0);
	simdev_chaos(t.m, &c);
	simdev_chaos_handle(t.a, &calm);
	assert_int_equal(wr(t.b, 0, 512, t.x), -EIO);
	assert_int_equal(wr(t.a, 0, 512, t.x), 0);
	simdev_chaos(t.m, NULL);
	assert_int_equal(wr(t.b, 0, 512, t.x), 0);
	bed_end(&t);
}

static void a_fault_that_makes_no_sense_for_a_command_is_none(void **state)
{
	uint64_t counts[SIMDEV_FAULT_KINDS];
	BED;

	inject(t.a, SIMDEV_LIE_MISCOMPARE, SIMDEV_ANY, 0);
	assert_int_equal(wr(t.a, 0, 512, t.x), 0);
	assert_int_equal(at(&t, 0), 'x');
	simdev_fault_counts(t.m, counts);
	assert_int_equal(counts[SIMDEV_OK], 0);
	bed_end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_refused_command_has_no_effect_and_plain_io_is_sent_again),
	    cmocka_unit_test(a_blind_compare_and_write_overwrites_what_it_should_have_compared),
	    cmocka_unit_test(a_split_compare_and_write_lets_two_hosts_win),
	    cmocka_unit_test(a_corrupt_read_differs_in_one_bit_and_the_next_is_right),
	    cmocka_unit_test(a_stale_path_shows_the_past_to_its_handle_alone),
	    cmocka_unit_test(a_rotten_sector_cannot_be_read_until_it_is_rewritten),
	    cmocka_unit_test(a_truncated_write_lands_in_part_and_its_fate_is_unknown),
	    cmocka_unit_test(a_silent_outage_lets_every_command_time_out_and_then_ends),
	    cmocka_unit_test(an_outage_with_errors_answers_at_once_on_all_handles_of_the_array),
	    cmocka_unit_test(where_paths_queue_plain_io_waits_for_the_end_of_an_outage),
	    cmocka_unit_test(what_is_in_flight_when_the_transport_goes_lands_wholly_partly_or_not),
	    cmocka_unit_test(a_rolled_back_array_holds_what_it_held_then),
	    cmocka_unit_test(after_a_power_cut_each_handle_hears_of_it_once),
	    cmocka_unit_test(chaos_brings_every_kind_and_the_same_seed_the_same),
	    cmocka_unit_test(chaos_of_one_handle_spares_the_other_and_ends_when_told),
	    cmocka_unit_test(a_fault_that_makes_no_sense_for_a_command_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
