/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Getting a lock: what it costs, who shares it, who waits for it. */
#include "fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SH LOCK_SH
#define EX LOCK_EX
#define LSH LOCAL_SHARED
#define LEX LOCAL_EXCL

/* ---- counting ------------------------------------------------------------------------------- */

static void body_cold(struct fix *f)
{
	struct box *a = &f->box[0];

	fix_up(f, 0);
	for (unsigned mode = SH; mode <= EX; mode++) {
		fix_io_reset(f);
		fix_touch(a, mode, (enum lock_mode)mode);
		assert_int_equal(f->io.cell_reads, 1);
		assert_int_equal(f->io.cell_caws, 1);
		assert_int_equal(a->loaded, mode);
	}
	fix_io_reset(f);
	fix_touch(a, EX, EX);
	assert_int_equal(f->io.cell_reads + f->io.cell_caws, 0);
}

static void cold_lock_is_one_read_and_one_ats(void **state)
{
	(void)state;
	fix_run(body_cold, 512, 1);
	fix_run(body_cold, 4096, 2);
}

static void body_not_current(struct fix *f)
{
	struct lunfs_lock_rec r;
	struct lock *l;

	fix_record(f, 1, &r);
	r.payload_version = le64_make(7); /* the payload on disk is version 1 */
	fix_poke_record(f, 1, &r);
	fix_up(f, 0);
	assert_int_equal(lock_pin(f->box[0].ls, fix_addr(f, 1), EX, LSH, 0, NULL, &l), 0);
	assert_int_equal(f->box[0].loaded, 0);
	assert_int_equal(lock_recorded_version(l), 7);
	lock_unpin(f->box[0].ls, l, LSH);
}

static void payload_of_another_version_is_not_passed_up(void **state)
{
	(void)state;
	fix_run(body_not_current, 512, 3);
}

/* What was only read may not be durable yet; what the device said is done, is. */
static void body_proven(struct fix *f)
{
	struct locks *a, *b;

	fix_up(f, 0);
	fix_up(f, 1);
	a = f->box[0].ls;
	b = f->box[1].ls;
	fix_touch(&f->box[0], 1, EX);
	fix_touch(&f->box[0], 2, SH);
	assert_int_equal(locks_unproven(a), 0);
	fix_touch(&f->box[1], 1, EX); /* handed over */
	assert_int_equal(locks_unproven(b), 1);
	fix_touch(&f->box[0], 1, SH); /* shared: nothing is written under it */
	assert_int_equal(locks_unproven(a), 0);
	simdev_inject(f->box[0].dev,
		      &(struct simdev_fault){.kind = SIMDEV_LOST_REPLY,
					     .ops = SIMDEV_CAW,
					     .off_bytes = geo_blk_off(fix_addr(f, 3)),
					     .len_bytes = 512});
	fix_touch(&f->box[0], 3, EX); /* done late */
	assert_int_equal(locks_unproven(a), 1);
	assert_int_equal(locks_unproven(b), 1);
}

static void a_lock_that_was_only_seen_to_be_ours_is_counted(void **state)
{
	(void)state;
	fix_run(body_proven, 512, 21);
}

static void body_hand_over(struct fix *f)
{
	struct lunfs_lock_rec before, after;

	fix_up(f, 0);
	fix_up(f, 1);
	fix_touch(&f->box[0], 1, EX);
	fix_record(f, 1, &before);
	fix_warm(f, 0);
	fix_io_reset(f);
	fix_touch(&f->box[1], 1, EX);
	assert_int_equal(f->io.cell_caws, 1);
	assert_int_equal(f->io.cell_writes, 1);
	assert_int_equal(f->box[1].val[1].value, 2);
	fix_record(f, 1, &after);
	assert_int_equal(le64_get(after.owner), host_owner(f->box[1].host));
	assert_int_equal(le64_get(after.possession_seq), le64_get(before.possession_seq) + 1);
	assert_int_equal(le64_get(after.payload_version), 2);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 1)), LOCK_NONE);
}

static void contended_lock_moves_with_one_ats(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 20; seed++)
		fix_run(body_hand_over, seed & 1 ? 512 : 4096, seed);
}

static void body_hand_over_payload(struct fix *f)
{
	fix_up(f, 0);
	fix_up(f, 1);
	fix_touch(&f->box[0], 1, EX);
	assert_int_equal(f->box[1].loaded, 0);
	fix_touch(&f->box[1], 1, EX);
	assert_int_equal(f->box[1].loaded, 1);
}

static void handed_over_payload_comes_with_the_lock(void **state)
{
	(void)state;
	fix_run(body_hand_over_payload, 512, 5);
}

static void body_wishes_withdrawn(struct fix *f)
{
	fix_up(f, 0);
	fix_up(f, 1);
	fix_touch(&f->box[0], 1, EX);
	fix_touch(&f->box[1], 1, EX);
	fix_sleep_ms(f, FIX_BEAT_MS);
	assert_int_equal(fix_wishes(f, host_slot(f->box[0].host), host_slot(f->box[1].host)), 0);
}

static void granted_wish_is_withdrawn(void **state)
{
	(void)state;
	fix_run(body_wishes_withdrawn, 512, 6);
}

/* ---- shared --------------------------------------------------------------------------------- */

static void body_downgrade(struct fix *f)
{
	struct lunfs_lock_rec r;

	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	fix_touch(&f->box[0], 1, EX);
	fix_warm(f, 0);
	fix_io_reset(f);
	fix_touch(&f->box[1], 1, SH);
	assert_int_equal(f->io.cell_caws, 1);
	assert_int_equal(f->box[1].val[1].value, 1);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 1)), SH);
	assert_true(f->box[0].val[1].valid);
	fix_touch(&f->box[2], 1, SH);
	assert_int_equal(f->io.cell_caws, 2);
	fix_record(f, 1, &r);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(rec_holds(&r, host_owner(f->box[i].host)), SH);
}

static void used_lock_is_shared_by_one_ats(void **state)
{
	(void)state;
	fix_run(body_downgrade, 512, 7);
}

static void body_unused_downgrade(struct fix *f)
{
	fix_up(f, 0);
	fix_up(f, 1);
	fix_touch(&f->box[0], 1, EX);
	fix_sleep_ms(f, 2000);
	fix_touch(&f->box[1], 1, SH);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 1)), LOCK_NONE);
}

static void unused_lock_is_given_to_a_reader_whole(void **state)
{
	(void)state;
	fix_run(body_unused_downgrade, 512, 8);
}

static void body_writer(struct fix *f)
{
	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	for (unsigned i = 0; i < 3; i++)
		fix_touch(&f->box[i], 1, SH);
	fix_touch(&f->box[2], 1, EX);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 1)), LOCK_NONE);
	assert_int_equal(lock_held(f->box[1].ls, fix_addr(f, 1)), LOCK_NONE);
	fix_touch(&f->box[0], 1, SH);
	assert_int_equal(f->box[0].val[1].value, 1);
}

static void writer_shuts_out_all_readers(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 10; seed++)
		fix_run(body_writer, 512, seed);
}

static void body_alone(struct fix *f)
{
	struct lunfs_lock_rec before, after;

	fix_up(f, 0);
	fix_touch(&f->box[0], 1, SH);
	fix_record(f, 1, &before);
	fix_io_reset(f);
	fix_touch(&f->box[0], 1, EX);
	assert_int_equal(f->io.cell_caws, 1);
	assert_int_equal(f->io.cell_reads, 0);
	fix_record(f, 1, &after);
	assert_int_equal(le64_get(after.possession_seq), le64_get(before.possession_seq) + 1);
}

static void lone_sharer_upgrades_in_one_ats(void **state)
{
	(void)state;
	fix_run(body_alone, 512, 9);
}

static void upgrader(void *arg)
{
	struct fix_job *j = arg;

	fix_touch(j->b, 1, SH);
	fix_sleep_ms(j->b->f, 20);
	fix_touch(j->b, 1, EX);
	j->done = true;
}

static void body_upgraders(struct fix *f)
{
	struct fix_job j[3];
	struct task *t[3];

	memset(j, 0, sizeof(j));
	for (unsigned i = 0; i < 3; i++) {
		fix_up(f, i);
		j[i].b = &f->box[i];
	}
	for (unsigned i = 0; i < 3; i++)
		t[i] = fix_task(f, i, upgrader, &j[i]);
	for (unsigned i = 0; i < 3; i++)
		fix_join(f, t[i]);
	fix_touch(&f->box[0], 1, SH);
	assert_int_equal(f->box[0].val[1].value, 3);
}

static void upgraders_do_not_block_each_other(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 40; seed++)
		fix_run(body_upgraders, 512, seed);
}

/* ---- try and interrupt ---------------------------------------------------------------------- */

static void body_try(struct fix *f)
{
	struct box *a = &f->box[0], *b = &f->box[1];
	struct lock *l, *m;
	uint64_t began;

	fix_up(f, 0);
	fix_up(f, 1);
	assert_int_equal(fix_pin(b, 1, EX, LSH, LOCK_TRY | LOCK_CACHED, NULL, &l), -EAGAIN);
	assert_int_equal(fix_pin(b, 2, EX, LSH, LOCK_TRY, NULL, &l), 0);
	assert_int_equal(fix_pin(b, 2, EX, LEX, LOCK_TRY, NULL, &m), -EAGAIN);
	fix_unpin(b, l, EX, LSH);
	fix_touch(a, 1, EX);
	fix_io_reset(f);
	began = clock_now_ns(f->clk);
	assert_int_equal(fix_pin(b, 1, SH, LSH, LOCK_TRY, NULL, &l), -EAGAIN);
	assert_true(clock_now_ns(f->clk) < began + 2000000);
	fix_sleep_ms(f, 500);
	assert_int_equal(f->io.board_writes, 0);
	assert_int_equal(f->io.cell_caws, 0);
	assert_int_equal(lock_held(a->ls, fix_addr(f, 1)), EX);
	assert_int_equal(fix_pin(a, 1, EX, LSH, LOCK_TRY | LOCK_CACHED, NULL, &l), 0);
	fix_unpin(a, l, EX, LSH);
}

static void try_neither_waits_nor_asks(void **state)
{
	(void)state;
	fix_run(body_try, 512, 10);
}

static void body_interrupt(struct fix *f)
{
	struct fix_job j = {.b = &f->box[1], .cell = 1, .mode = EX};
	struct lock *l;
	struct task *t;
	uint64_t began;

	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	assert_int_equal(fix_pin(&f->box[0], 1, EX, LSH, 0, NULL, &l), 0);
	t = fix_task(f, 1, fix_pinner, &j);
	fix_sleep_ms(f, 100);
	assert_false(j.done);
	began = clock_now_ns(f->clk);
	lock_intr_fire(f->box[1].ls, &j.intr);
	fix_join(f, t);
	assert_int_equal(j.rc, -EINTR);
	assert_true(clock_now_ns(f->clk) < began + 20000000);
	fix_unpin(&f->box[0], l, EX, LSH);
	fix_sleep_ms(f, 300);
	fix_touch(&f->box[2], 1, EX); /* wherever it went, it can be had */
	fix_touch(&f->box[0], 1, EX);
}

static void interrupted_wait_ends_and_loses_nothing(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 20; seed++)
		fix_run(body_interrupt, 512, seed);
}

/* It waits for a pin, and is asked for once more right before that goes. */
static void body_asked_twice(struct fix *f)
{
	struct fix_job j = {.b = &f->box[1], .cell = 1, .mode = EX};
	struct locks *ls;
	struct stripe *s;
	struct lock *l;
	struct task *t;

	for (unsigned i = 0; i < 2; i++)
		fix_up(f, i);
	ls = f->box[0].ls;
	assert_int_equal(fix_pin(&f->box[0], 1, EX, LSH, 0, NULL, &l), 0);
	t = fix_task(f, 1, fix_pinner, &j);
	fix_sleep_ms(f, 100);
	s = table_stripe(ls, l->addr);
	mtx_lock(&s->mtx);
	assert_true(l->parked && l->state == LST_REVOKE && !l->queued);
	work_queue(ls, l, WORK_REVOKE);
	mtx_unlock(&s->mtx);
	fix_unpin(&f->box[0], l, EX, LSH);
	fix_sleep_ms(f, 2000);
	assert_true(j.done);
	fix_join(f, t);
	assert_int_equal(j.rc, 0);
	fix_touch(&f->box[0], 1, EX);
}

static void revoke_that_is_asked_for_while_one_waits_for_a_pin_holds_up_nobody(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 20; seed++)
		fix_run(body_asked_twice, 512, seed);
}

static void body_interrupt_pending(struct fix *f)
{
	struct fix_job j = {.b = &f->box[1], .cell = 1, .mode = EX};
	struct lunfs_lock_rec r;
	struct lock *l;
	struct task *t;

	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	assert_int_equal(fix_pin(&f->box[0], 1, SH, LSH, 0, NULL, &l), 0);
	t = fix_task(f, 1, fix_pinner, &j);
	fix_sleep_ms(f, 50);
	fix_record(f, 1, &r);
	assert_int_equal(le64_get(r.ex_pending), host_owner(f->box[1].host));
	lock_intr_fire(f->box[1].ls, &j.intr);
	fix_join(f, t);
	fix_record(f, 1, &r);
	assert_int_equal(le64_get(r.ex_pending), 0);
	fix_touch(&f->box[2], 1, SH); /* joins while the first is pinned */
	fix_unpin(&f->box[0], l, SH, LSH);
}

static void interrupted_upgrade_lets_sharers_in_again(void **state)
{
	(void)state;
	fix_run(body_interrupt_pending, 512, 11);
}

static void body_unknown_owner(struct fix *f)
{
	struct lunfs_lock_rec r;

	fix_up(f, 0);
	fix_up(f, 1);
	fix_record(f, 1, &r); /* a hand-over to host 0, which gave up and forgot */
	r.mode = le16_make(LUNFS_LOCK_EXCL);
	r.owner = le64_make(host_owner(f->box[0].host));
	fix_poke_record(f, 1, &r);
	fix_record(f, 2, &r); /* and a forgotten pending mark */
	r.mode = le16_make(LUNFS_LOCK_SHARED);
	r.ex_pending = le64_make(host_owner(f->box[0].host));
	fix_poke_record(f, 2, &r);
	fix_record(f, 3, &r);
	r.mode = le16_make(LUNFS_LOCK_EXCL);
	r.owner = le64_make(host_owner(f->box[0].host));
	fix_poke_record(f, 3, &r);
	fix_touch(&f->box[1], 1, EX);
	fix_touch(&f->box[1], 2, SH);
	fix_touch(&f->box[0], 3, EX);
	fix_io_reset(f);
	fix_record(f, 3, &r);
	assert_int_equal(le64_get(r.hdr.setter_owner), host_owner(f->box[0].host));
}

static void forgotten_possession_is_settled_by_an_ats(void **state)
{
	(void)state;
	fix_run(body_unknown_owner, 512, 12);
}

/* ---- fairness ------------------------------------------------------------------------------- */

static bool hammer_stop;

static void hammer(void *arg)
{
	struct fix_job *j = arg;

	while (!hammer_stop) {
		fix_touch(j->b, j->cell, EX);
		j->rounds++;
	}
}

static void body_waiters(struct fix *f)
{
	struct fix_job j[2];
	struct task *t[2];
	struct lunfs_lock_rec r;
	struct lock *l;

	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	assert_int_equal(fix_pin(&f->box[0], 1, EX, LSH, 0, NULL, &l), 0);
	for (unsigned i = 0; i < 2; i++) {
		j[i] = (struct fix_job){.b = &f->box[i + 1], .cell = 1, .mode = EX};
		t[i] = fix_task(f, i + 1, fix_pinner, &j[i]);
		fix_sleep_ms(f, 400);
	}
	fix_unpin(&f->box[0], l, EX, LSH);
	while (!j[0].done) {
		fix_record(f, 1, &r);
		if (le64_get(r.owner) == host_owner(f->box[1].host))
			assert_true(rec_waits(&r, host_slot(f->box[2].host)));
		simclock_yield(f->clk);
	}
	assert_false(j[1].done);
	fix_join(f, t[0]);
	fix_join(f, t[1]);
}

static void oldest_wish_comes_first_and_the_others_are_noted(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_waiters, 512, seed);
}

static void body_fair(struct fix *f)
{
	struct fix_job j[6];
	struct task *t[6];
	unsigned sum = 0;
	unsigned long long asked = 0, received = 0, given = 0;

	memset(j, 0, sizeof(j));
	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	hammer_stop = false;
	for (unsigned i = 0; i < 6; i++) {
		j[i] = (struct fix_job){.b = &f->box[i / 2], .cell = 1};
		t[i] = fix_task(f, i / 2, hammer, &j[i]);
	}
	fix_io_reset(f);
	fix_sleep_ms(f, 1000);
	hammer_stop = true;
	for (unsigned i = 0; i < 6; i++) {
		fix_join(f, t[i]);
		sum += j[i].rounds;
	}
	for (unsigned i = 0; i < 6; i++)
		assert_true(j[i].rounds >= 10);
	fix_sleep_ms(f, 20); /* who gave it last has the answer, and counted it */
	for (unsigned i = 0; i < 3; i++) {
		asked += atomic_load(&locks_stats(f->box[i].ls)->asked);
		received += atomic_load(&locks_stats(f->box[i].ls)->received);
		given += atomic_load(&locks_stats(f->box[i].ls)->handed_over);
	}
	assert_true(received <= asked);
	assert_true(given <= received + 3); /* hardly ever to somebody who has it already */
	assert_true(f->io.cell_caws <= given + 3);
	fix_touch(&f->box[0], 1, SH);
	assert_int_equal(f->box[0].val[1].value, sum);
}

static void three_hosts_that_all_want_a_lock_all_get_it(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 4; seed++)
		fix_run(body_fair, 512, seed);
}

static void visitor(void *arg)
{
	struct fix_job *j = arg;

	for (unsigned i = 0; i < 60; i++) {
		uint64_t ms = 1 + simclock_random(j->b->f->clk) % 14;

		fix_touch(j->b, 1, EX);
		fix_sleep_ms(j->b->f, ms);
	}
}

/* Whoever got the lock is not given it once more for a wish that it has withdrawn. */
static void body_visits(struct fix *f)
{
	unsigned long long received = 0, given = 0;
	struct fix_job j[3];
	struct task *t[3];

	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	memset(j, 0, sizeof(j));
	for (unsigned i = 0; i < 3; i++) {
		j[i].b = &f->box[i];
		t[i] = fix_task(f, i, visitor, &j[i]);
	}
	for (unsigned i = 0; i < 3; i++)
		fix_join(f, t[i]);
	for (unsigned i = 0; i < 3; i++) {
		received += atomic_load(&locks_stats(f->box[i].ls)->received);
		given += atomic_load(&locks_stats(f->box[i].ls)->handed_over);
	}
	assert_in_range(given, received, received + 2); /* sent back unasked at the end */
}

static void no_lock_is_given_for_a_withdrawn_wish(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_visits, 512, seed);
}

/* The holder polled rarely before it asked for the lock itself. */
static void body_next_asker(struct fix *f)
{
	uint64_t from = 0;

	for (unsigned h = 0; h < 3; h++)
		fix_up(f, h);
	for (unsigned cell = 0; cell < 3; cell++) {
		fix_touch(&f->box[0], cell, EX);
		fix_sleep_ms(f, 5000);
		fix_touch(&f->box[1], cell, EX);
		from = clock_now_ns(f->clk);
		fix_touch(&f->box[2], cell, EX);
		assert_in_range(clock_now_ns(f->clk) - from, 0, 15000000);
	}
}

static void lock_just_received_is_passed_on_at_once(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_next_asker, 512, seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(cold_lock_is_one_read_and_one_ats),
	    cmocka_unit_test(payload_of_another_version_is_not_passed_up),
	    cmocka_unit_test(a_lock_that_was_only_seen_to_be_ours_is_counted),
	    cmocka_unit_test(contended_lock_moves_with_one_ats),
	    cmocka_unit_test(handed_over_payload_comes_with_the_lock),
	    cmocka_unit_test(granted_wish_is_withdrawn),
	    cmocka_unit_test(used_lock_is_shared_by_one_ats),
	    cmocka_unit_test(unused_lock_is_given_to_a_reader_whole),
	    cmocka_unit_test(writer_shuts_out_all_readers),
	    cmocka_unit_test(lone_sharer_upgrades_in_one_ats),
	    cmocka_unit_test(upgraders_do_not_block_each_other),
	    cmocka_unit_test(try_neither_waits_nor_asks),
	    cmocka_unit_test(interrupted_wait_ends_and_loses_nothing),
	    cmocka_unit_test(interrupted_upgrade_lets_sharers_in_again),
	    cmocka_unit_test(revoke_that_is_asked_for_while_one_waits_for_a_pin_holds_up_nobody),
	    cmocka_unit_test(forgotten_possession_is_settled_by_an_ats),
	    cmocka_unit_test(oldest_wish_comes_first_and_the_others_are_noted),
	    cmocka_unit_test(no_lock_is_given_for_a_withdrawn_wish),
	    cmocka_unit_test(lock_just_received_is_passed_on_at_once),
	    cmocka_unit_test(three_hosts_that_all_want_a_lock_all_get_it),
	};

	return cmocka_run_group_tests_name("lock", tests, NULL, NULL);
}
