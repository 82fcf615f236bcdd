/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The simulated LUN: what it keeps, what it may lose, and that each fault does what it is named. */
#include "simbed.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static void what_one_handle_wrote_the_other_reads_even_at_63_tib(void **state)
{
	BED;
	assert_int_equal(wr(t.a, 63ull << 40, 4096, t.x), 0);
	assert_int_equal(rd(t.b, (63ull << 40) - 4096, 12288, t.z), 0);
	assert_int_equal(t.z[0], 0);
	assert_memory_equal(t.z + 4096, t.x, 4096);
	assert_int_equal(t.z[8192], 0);
	assert_int_equal(rd(t.a, 64ull << 40, 512, t.z), -EIO);
	bed_end(&t);
}

static void compare_and_write_swaps_only_what_is_equal(void **state)
{
	BED;
	assert_int_equal(caw(t.a, 512, t.z, t.x), DEV_CAW_GOOD);
	assert_int_equal(caw(t.b, 512, t.z, t.y), DEV_CAW_MISCOMPARE);
	assert_int_equal(at(&t, 512), 'x');
	assert_int_equal(at(&t, 1024), 0);
	assert_int_equal(caw(t.b, 512, t.x, t.y), DEV_CAW_GOOD);
	simdev_power_cut(t.m, 1);
	assert_int_equal(at(&t, 512), 'y');
	bed_end(&t);
}

static void flushed_writes_survive_a_power_cut_and_unflushed_ones_tear(void **state)
{
	unsigned lost = 0, kept = 0;

	for (uint64_t seed = 0; seed < 20; seed++) {
		BED;
		assert_int_equal(wr(t.a, 0, 4096, t.x), 0);
		assert_int_equal(t.b->ops->flush(t.b), 0);
		assert_int_equal(simdev_unflushed(t.m), 0);
		assert_int_equal(wr(t.a, 4096, 4096, t.y), 0);
		assert_int_equal(simdev_unflushed(t.m), 8);
		simdev_power_cut(t.m, seed);
		for (uint64_t off = 0; off < 4096; off += 512)
			assert_int_equal(at(&t, off), 'x');
		for (uint64_t off = 4096; off < 8192; off += 512)
			*(at(&t, off) == 'y' ? &kept : &lost) += 1;
		bed_end(&t);
	}
	assert_in_range(lost, 40, 120);
	assert_in_range(kept, 40, 120);
}

static void a_killed_handle_answers_enodev_and_the_other_goes_on(void **state)
{
	BED;
	simdev_kill(t.a);
	assert_int_equal(wr(t.a, 0, 512, t.x), -ENODEV);
	assert_int_equal(rd(t.a, 0, 512, t.z), -ENODEV);
	assert_int_equal(t.a->ops->flush(t.a), -ENODEV);
	assert_int_equal(caw(t.a, 0, t.z, t.x), -ENODEV);
	assert_int_equal(at(&t, 0), 0);
	assert_int_equal(wr(t.b, 0, 512, t.x), 0);
	bed_end(&t);
}

static void a_fault_hits_the_nth_command_of_its_kind_and_place(void **state)
{
	struct simdev_fault f = {.kind = SIMDEV_FAIL,
				 .ops = SIMDEV_WRITE,
				 .nth = 2,
				 .count = 2,
				 .off_bytes = 8192,
				 .len_bytes = 4096,
				 .error = -EROFS};
	BED;

	simdev_inject(t.a, &f);
	assert_int_equal(wr(t.a, 0, 4096, t.x), 0);
	assert_int_equal(wr(t.a, 8192, 4096, t.x), 0);
	assert_int_equal(rd(t.a, 8192, 4096, t.z), 0);
	assert_int_equal(wr(t.b, 8192, 4096, t.x), 0);
	assert_int_equal(wr(t.a, 11776, 1024, t.y), -EROFS);
	assert_int_equal(wr(t.a, 8192, 512, t.y), -EROFS);
	assert_int_equal(wr(t.a, 8192, 512, t.y), 0);
	assert_int_equal(at(&t, 11776), 'x');
	bed_end(&t);
}

static void a_lost_reply_landed_and_a_lost_command_did_not(void **state)
{
	struct simdev_fault f = {.kind = SIMDEV_LOST_REPLY, .ops = SIMDEV_CAW};
	uint64_t before;
	BED;

	t.a->deadline_ms = 100;
	simdev_inject(t.a, &f);
	before = clock_now_ns(t.clk);
	assert_int_equal(caw(t.a, 0, t.z, t.x), -ETIMEDOUT);
	assert_true(clock_now_ns(t.clk) - before >= 100 * MS);
	assert_int_equal(at(&t, 0), 'x');
	f.kind = SIMDEV_LOST_COMMAND;
	simdev_inject(t.a, &f);
	assert_int_equal(caw(t.a, 0, t.x, t.y), -ETIMEDOUT);
	assert_int_equal(at(&t, 0), 'x');
	bed_end(&t);
}

static void a_late_command_lands_after_its_time_out(void **state)
{
	struct simdev_fault f = {.kind = SIMDEV_LATE, .ops = SIMDEV_WRITE, .delay_ns = 50 * MS};
	BED;

	t.a->deadline_ms = 100;
	simdev_inject(t.a, &f);
	assert_int_equal(wr(t.a, 0, 512, t.x), -ETIMEDOUT);
	assert_int_equal(at(&t, 0), 0);
	clock_sleep_ns(t.clk, 60 * MS);
	assert_int_equal(at(&t, 0), 'x');
	bed_end(&t);
}

static void after_a_drain_no_command_is_on_its_way(void **state)
{
	struct simdev_fault f = {.kind = SIMDEV_LATE, .ops = SIMDEV_WRITE, .delay_ns = 50 * MS};
	char now;
	BED;

	simdev_inject(t.a, &f);
	assert_int_equal(wr(t.a, 0, 512, t.x), -ETIMEDOUT);
	simdev_set_drain(t.m, false);
	assert_int_equal(t.a->ops->drain(t.a), -EOPNOTSUPP);
	simdev_set_drain(t.m, true);
	assert_int_equal(t.a->ops->drain(t.a), 0);
	now = at(&t, 0);
	clock_sleep_ns(t.clk, 100 * MS);
	assert_int_equal(at(&t, 0), now);
	bed_end(&t);
}

static void a_delay_within_the_deadline_is_only_slow_and_beyond_it_a_time_out(void **state)
{
	struct simdev_fault f = {.kind = SIMDEV_DELAY, .ops = SIMDEV_CAW, .delay_ns = 30 * MS};
	BED;

	t.a->deadline_ms = 100;
	simdev_inject(t.a, &f);
	assert_int_equal(caw(t.a, 0, t.z, t.x), DEV_CAW_GOOD);
	f.delay_ns = 130 * MS;
	simdev_inject(t.a, &f);
	assert_int_equal(caw(t.a, 0, t.x, t.y), -ETIMEDOUT);
	assert_int_equal(at(&t, 0), 'x');
	clock_sleep_ns(t.clk, 50 * MS);
	assert_int_equal(at(&t, 0), 'y');
	bed_end(&t);
}

static void a_lying_compare_and_write_lies_as_told(void **state)
{
	struct simdev_fault f = {.kind = SIMDEV_LIE_DONE, .ops = SIMDEV_CAW};
	BED;

	simdev_inject(t.a, &f);
	assert_int_equal(caw(t.a, 0, t.z, t.x), DEV_CAW_GOOD);
	assert_int_equal(at(&t, 0), 0);
	f.kind = SIMDEV_LIE_MISCOMPARE;
	simdev_inject(t.a, &f);
	assert_int_equal(caw(t.a, 0, t.z, t.x), DEV_CAW_MISCOMPARE);
	assert_int_equal(at(&t, 0), 0);
	f.kind = SIMDEV_RESENT;
	simdev_inject(t.a, &f);
	assert_int_equal(caw(t.a, 0, t.z, t.x), DEV_CAW_MISCOMPARE);
	assert_int_equal(at(&t, 0), 'x');
	bed_end(&t);
}

static void cut_at(void *ctx, struct dev *d, const struct simdev_cmd *cmd, struct simdev_fault *out)
{
	(void)out;
	if (cmd->index == *(uint64_t *)ctx)
		simdev_kill(d);
}

static void a_hook_can_end_the_world_at_any_write(void **state)
{
	for (uint64_t end = 1; end <= 4; end++) {
		uint64_t done = 0;
		BED;

		simdev_set_hook(t.m, cut_at, &end);
		for (uint64_t i = 0; i < 4; i++)
			done += wr(t.a, i * 4096, 4096, t.x) == 0;
		assert_int_equal(done, end - 1);
		bed_end(&t);
	}
}

static void a_batch_does_all_and_reports_each(void **state)
{
	struct simdev_fault f = {
	    .kind = SIMDEV_FAIL, .ops = SIMDEV_WRITE, .off_bytes = 4096, .len_bytes = 512};
	struct simdev_counts n;
	struct dev_io io[3];
	BED;

	for (int i = 0; i < 3; i++)
		io[i] = (struct dev_io){DEV_WRITE, (uint64_t)i * 4096, 4096, t.x, 99};
	simdev_inject(t.a, &f);
	t.a->ops->batch(t.a, io, 3);
	assert_int_equal(io[0].result, 0);
	assert_int_equal(io[1].result, -EIO);
	assert_int_equal(io[2].result, 0);
	assert_int_equal(at(&t, 0), 'x');
	assert_int_equal(at(&t, 4096), 0);
	assert_int_equal(at(&t, 8192), 'x');
	simdev_counts(t.m, &n);
	assert_int_equal(n.writes, 2);
	assert_int_equal(n.faults, 1);
	bed_end(&t);
}

static void a_clone_and_a_saved_image_hold_the_same(void **state)
{
	char path[] = "/tmp/simdev-XXXXXX";
	struct simdev_medium *n;
	char c;
	int fd;
	BED;

	assert_int_equal(wr(t.a, 1 << 20, 4096, t.x), 0);
	n = simdev_medium_clone(t.m);
	assert_int_equal(wr(t.a, 1 << 20, 4096, t.y), 0);
	simdev_peek(n, (1 << 20) + 4095, 1, &c);
	assert_int_equal(c, 'x');
	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	t.clk->ops->sleep_until(t.clk, 0);
	simdev_poke(t.m, 5, 3, "abc");
	bed_end(&t);
	simdev_medium_put(n);

	t.clk = simclock_new();
	t.a = simdev_new(t.clk, 1 << 24, 4096, 4096);
	t.m = simdev_medium_of(t.a);
	simdev_poke(t.m, 70000, 3, "abc");
	assert_int_equal(simdev_save(t.m, path), 0);
	simdev_poke(t.m, 70000, 3, "xyz");
	assert_int_equal(simdev_load(t.m, path), 0);
	assert_int_equal(at(&t, 70001), 'b');
	t.a->ops->close(t.a);
	t.clk->ops->destroy(t.clk);
	unlink(path);
}

/* ---- persistent reservations ----------------------------------------------------------------- */

static int reg(struct dev *d, uint64_t old_key, uint64_t new_key)
{
	return d->ops->pr->register_key(d, old_key, new_key);
}

static int preempt(struct dev *d, uint64_t own, uint64_t victim)
{
	return d->ops->pr->preempt_abort(d, own, victim);
}

static void reserved_bed(struct bed *t)
{
	simdev_set_pr(t->m, true, true);
	assert_int_equal(reg(t->a, 0, 0xa), 0);
	assert_int_equal(reg(t->b, 0, 0xb), 0);
	assert_int_equal(t->a->ops->pr->reserve(t->a, 0xa), 0);
}

static void only_registered_nexuses_write_to_a_reserved_device(void **state)
{
	struct dev *c;
	BED;

	reserved_bed(&t);
	assert_int_equal(t.b->ops->pr->reserve(t.b, 0xb), 0);
	c = simdev_attach(t.m);
	assert_int_equal(wr(c, 0, 512, t.x), -EBADE);
	assert_int_equal(caw(c, 0, t.z, t.x), -EBADE);
	assert_int_equal(c->ops->discard(c, 0, 512), -EBADE);
	assert_int_equal(c->ops->write_zeroes(c, 0, 512), -EBADE);
	assert_int_equal(rd(c, 0, 512, t.z), 0);
	assert_int_equal(at(&t, 0), 0);
	assert_int_equal(wr(t.a, 0, 512, t.x), 0);
	assert_int_equal(wr(t.b, 512, 512, t.x), 0);
	assert_int_equal(c->ops->pr->reserve(c, 0xc), -EBADE);
	dev_close(c);
	bed_end(&t);
}

static void a_nexus_registers_only_over_the_key_it_has(void **state)
{
	struct dev *again;
	BED;

	reserved_bed(&t);
	assert_int_equal(reg(t.a, 0, 0xaa), -EBADE);
	assert_int_equal(reg(t.a, 0xb, 0xaa), -EBADE);
	again = simdev_attach_nexus(t.m, simdev_nexus(t.a));
	assert_int_equal(wr(again, 0, 512, t.x), 0);
	assert_int_equal(reg(again, 0, 0xaa), -EBADE);
	assert_int_equal(reg(again, 0xa, 0xaa), 0);
	assert_int_equal(simdev_pr_key(t.m, simdev_nexus(t.a)), 0xaa);
	assert_int_equal(reg(again, 0xaa, 0), 0);
	assert_int_equal(wr(t.a, 0, 512, t.x), -EBADE);
	assert_int_equal(reg(t.b, 0xb, 0), 0);
	assert_false(simdev_pr_reserved(t.m)); /* went with the last registrant */
	assert_int_equal(wr(t.a, 0, 512, t.x), 0);
	dev_close(again);
	bed_end(&t);
}

static void reading_the_state_shows_each_key_and_the_generation(void **state)
{
	uint64_t keys[DEV_PR_KEYS_MAX];
	struct dev_pr_state s = {.keys = keys};
	uint32_t before;
	BED;

	reserved_bed(&t);
	assert_int_equal(t.b->ops->pr->read_state(t.b, &s), 0);
	assert_int_equal(s.nkeys, 2);
	assert_int_equal(keys[0] + keys[1], 0xa + 0xb);
	assert_true(s.reserved && s.type == DEV_PR_TYPE_WE_AR);
	before = s.generation;
	assert_int_equal(preempt(t.a, 0xa, 0xb), 0);
	assert_int_equal(t.b->ops->pr->read_state(t.b, &s), 0);
	assert_int_equal(s.nkeys, 1);
	assert_int_equal(s.generation, before + 1);
	bed_end(&t);
}

static void a_preempted_host_writes_no_more_and_what_it_sent_before_is_gone(void **state)
{
	struct simdev_fault late = {.kind = SIMDEV_LATE, .ops = SIMDEV_WRITE, .delay_ns = 50 * MS};
	BED;

	reserved_bed(&t);
	simdev_inject(t.b, &late);
	assert_int_equal(wr(t.b, 0, 512, t.x), -ETIMEDOUT);
	assert_int_equal(preempt(t.a, 0xa, 0xbb), -EBADE);
	assert_int_equal(preempt(t.a, 0xa, 0xb), 0);
	assert_int_equal(preempt(t.a, 0xa, 0xb), -EBADE);
	clock_sleep_ns(t.clk, 100 * MS);
	assert_int_equal(at(&t, 0), 0);
	assert_int_equal(caw(t.b, 0, t.z, t.x), -EAGAIN); /* unit attention: preempted */
	assert_int_equal(caw(t.b, 0, t.z, t.x), -EBADE);
	assert_int_equal(preempt(t.b, 0xb, 0xa), -EBADE);
	assert_int_equal(wr(t.a, 0, 512, t.x), 0);
	bed_end(&t);
}

static void a_late_write_of_a_dead_handle_is_judged_when_it_lands(void **state)
{
	for (int registered = 0; registered < 2; registered++) {
		struct simdev_fault late = {
		    .kind = SIMDEV_LATE, .ops = SIMDEV_WRITE, .delay_ns = 50 * MS};
		BED;

		reserved_bed(&t);
		simdev_inject(t.b, &late);
		assert_int_equal(wr(t.b, 0, 512, t.x), -ETIMEDOUT);
		simdev_kill(t.b);
		if (!registered)
			simdev_pr_forget(t.m, simdev_nexus(t.b));
		clock_sleep_ns(t.clk, 100 * MS);
		assert_int_equal(at(&t, 0), registered ? 'x' : 0);
		bed_end(&t);
	}
}

static void registrations_survive_a_power_cut_with_aptpl_alone(void **state)
{
	for (int aptpl = 0; aptpl < 2; aptpl++) {
		char why[128] = "";
		BED;

		reserved_bed(&t);
		simdev_set_pr(t.m, true, aptpl);
		assert_int_equal(t.a->ops->pr->probe(t.a, why, sizeof(why)),
				 aptpl ? 0 : -EOPNOTSUPP);
		assert_true(aptpl || strlen(why) > 10);
		simdev_power_cut(t.m, 1);
		assert_int_equal(simdev_pr_key(t.m, simdev_nexus(t.a)), aptpl ? 0xa : 0);
		assert_int_equal(simdev_pr_reserved(t.m), aptpl);
		bed_end(&t);
	}
}

static void a_clone_keeps_registrations_and_a_fresh_handle_of_it_has_none(void **state)
{
	struct simdev_medium *n;
	struct dev *d, *again;
	BED;

	reserved_bed(&t);
	n = simdev_medium_clone(t.m);
	d = simdev_attach(n);
	again = simdev_attach_nexus(n, simdev_nexus(t.b));
	assert_int_equal(wr(d, 0, 512, t.x), -EBADE);
	assert_int_equal(wr(again, 0, 512, t.x), 0);
	simdev_medium_end(n);
	bed_end(&t);
}

static void reservations_are_refused_where_they_are_not_supported_and_fail_as_told(void **state)
{
	struct simdev_fault f = {.kind = SIMDEV_LOST_REPLY, .ops = SIMDEV_PR};
	char why[128];
	BED;

	assert_int_equal(reg(t.a, 0, 1), -EOPNOTSUPP);
	assert_int_equal(t.a->ops->pr->probe(t.a, why, sizeof(why)), -EOPNOTSUPP);
	simdev_set_pr(t.m, true, true);
	simdev_inject(t.a, &f);
	assert_int_equal(reg(t.a, 0, 1), -ETIMEDOUT);
	assert_int_equal(reg(t.a, 0, 1), -EBADE); /* it had landed */
	f.kind = SIMDEV_FAIL;
	simdev_inject(t.a, &f);
	assert_int_equal(t.a->ops->pr->reserve(t.a, 1), -EIO);
	assert_false(simdev_pr_reserved(t.m));
	bed_end(&t);
}

/* ---- several at once ------------------------------------------------------------------------- */

struct race {
	struct bed *t;
	struct dev *d;
	unsigned wins;
};

static void contend(void *arg)
{
	struct race *r = arg;
	uint8_t *now = aligned_alloc(4096, 4096), *set = aligned_alloc(4096, 4096);

	for (int i = 0; i < 20; i++) {
		assert_int_equal(rd(r->d, 0, 512, now), 0);
		memcpy(set, now, 512);
		(*(uint64_t *)(void *)set)++;
		r->wins += caw(r->d, 0, now, set) == DEV_CAW_GOOD;
	}
	free(now);
	free(set);
}

static void race(void *arg)
{
	struct bed *t = arg;
	struct race r[2] = {{t, t->a, 0}, {t, t->b, 0}};
	struct task *task[2];
	uint64_t sum;

	simdev_set_latency(t->m, 10000, 500000);
	for (int i = 0; i < 2; i++)
		t->clk->ops->task_start(t->clk, "racer", contend, &r[i], &task[i]);
	for (int i = 0; i < 2; i++)
		t->clk->ops->task_join(t->clk, task[i]);
	simdev_peek(t->m, 0, sizeof(sum), &sum);
	assert_int_equal(sum, r[0].wins + r[1].wins);
	assert_true(sum < 40); /* some lost */
}

static void no_increment_by_compare_and_write_is_lost(void **state)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		BED;
		simdev_seed(t.m, seed);
		simclock_run(t.clk, race, &t, seed);
		bed_end(&t);
	}
}

static void write_big(void *arg)
{
	struct bed *t = arg;

	assert_int_equal(wr(t->a, 0, 65536, t->x), 0);
}

static void look(void *arg)
{
	struct bed *t = arg;
	struct task *task;
	unsigned *torn = (void *)t->y;

	simdev_set_latency(t->m, 10000, 200000);
	t->clk->ops->task_start(t->clk, "writer", write_big, t, &task);
	for (int i = 0; i < 40; i++) {
		assert_int_equal(rd(t->b, 0, 65536, t->z), 0);
		*torn += t->z[0] != t->z[65535];
	}
	t->clk->ops->task_join(t->clk, task);
}

static void a_reader_may_see_half_of_a_long_write(void **state)
{
	unsigned torn = 0;

	for (uint64_t seed = 1; seed <= 20; seed++) {
		BED;
		memset(t.y, 0, 16);
		simdev_seed(t.m, seed);
		simclock_run(t.clk, look, &t, seed);
		torn += *(unsigned *)(void *)t.y;
		bed_end(&t);
	}
	assert_true(torn > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_one_handle_wrote_the_other_reads_even_at_63_tib),
	    cmocka_unit_test(compare_and_write_swaps_only_what_is_equal),
	    cmocka_unit_test(flushed_writes_survive_a_power_cut_and_unflushed_ones_tear),
	    cmocka_unit_test(a_killed_handle_answers_enodev_and_the_other_goes_on),
	    cmocka_unit_test(a_fault_hits_the_nth_command_of_its_kind_and_place),
	    cmocka_unit_test(a_lost_reply_landed_and_a_lost_command_did_not),
	    cmocka_unit_test(a_late_command_lands_after_its_time_out),
	    cmocka_unit_test(after_a_drain_no_command_is_on_its_way),
	    cmocka_unit_test(a_delay_within_the_deadline_is_only_slow_and_beyond_it_a_time_out),
	    cmocka_unit_test(a_lying_compare_and_write_lies_as_told),
	    cmocka_unit_test(a_hook_can_end_the_world_at_any_write),
	    cmocka_unit_test(a_batch_does_all_and_reports_each),
	    cmocka_unit_test(a_clone_and_a_saved_image_hold_the_same),
	    cmocka_unit_test(only_registered_nexuses_write_to_a_reserved_device),
	    cmocka_unit_test(a_nexus_registers_only_over_the_key_it_has),
	    cmocka_unit_test(reading_the_state_shows_each_key_and_the_generation),
	    cmocka_unit_test(a_preempted_host_writes_no_more_and_what_it_sent_before_is_gone),
	    cmocka_unit_test(a_late_write_of_a_dead_handle_is_judged_when_it_lands),
	    cmocka_unit_test(registrations_survive_a_power_cut_with_aptpl_alone),
	    cmocka_unit_test(
		reservations_are_refused_where_they_are_not_supported_and_fail_as_told),
	    cmocka_unit_test(a_clone_keeps_registrations_and_a_fresh_handle_of_it_has_none),
	    cmocka_unit_test(no_increment_by_compare_and_write_is_lost),
	    cmocka_unit_test(a_reader_may_see_half_of_a_long_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
