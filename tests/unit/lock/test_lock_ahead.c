/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Many cold locks at once, before they are wanted. */
#include "fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SH LOCK_SH
#define EX LOCK_EX
#define LSH LOCAL_SHARED
#define LEX LOCAL_EXCL
#define MANY LOCK_AHEAD_MAX
#define SLOW_NS 5000000ull

/* @n cells from @first on, in an order of their own. */
static size_t get(struct box *b, unsigned first, unsigned n)
{
	uint64_t addr[MANY];

	for (unsigned k = 0; k < n; k++)
		addr[k] = fix_addr(b->f, first + (k * 7 + 3) % n);
	return lock_get_ahead(b->ls, addr, n, SH);
}

static unsigned held(struct box *b, unsigned first, unsigned n)
{
	unsigned sum = 0;

	for (unsigned k = first; k < first + n; k++)
		sum += lock_held(b->ls, fix_addr(b->f, k)) != LOCK_NONE;
	return sum;
}

/* What it is used for: each in a moment, with neither I/O nor anybody to wait for. */
static void use_all(struct box *b, unsigned first, unsigned n, uint64_t value)
{
	for (unsigned k = first; k < first + n; k++) {
		struct lock *l;

		assert_int_equal(fix_pin(b, k, SH, LSH, LOCK_TRY | LOCK_CACHED, NULL, &l), 0);
		assert_true(b->val[k].valid);
		assert_int_equal(fix_get(b, l), value);
		fix_unpin(b, l, SH, LSH);
	}
}

/* ---- what it costs -------------------------------------------------------------------------- */

static void body_together(struct fix *f)
{
	struct box *b = &f->box[0];
	uint64_t began;

	fix_up(f, 0);
	fix_up(f, 1);
	simdev_set_latency(f->medium, SLOW_NS, SLOW_NS);
	fix_io_reset(f);
	began = clock_now_ns(f->clk);
	assert_int_equal(get(b, 10, MANY - 1), MANY - 1);
	assert_in_range(clock_now_ns(f->clk) - began, 2 * SLOW_NS, 4 * SLOW_NS);
	assert_int_equal(f->io.cell_reads, 1); /* they are neighbours */
	assert_int_equal(f->io.cell_caws, MANY - 1);
	assert_int_equal(b->loaded, MANY - 1);
	assert_int_equal(lock_ahead(b->ls, fix_addr(f, 11)), AHEAD_UNUSED);
	use_all(b, 10, MANY - 1, 0);
	assert_int_equal(lock_ahead(b->ls, fix_addr(f, 11)), AHEAD_USED);
	assert_int_equal(f->io.cell_reads + f->io.cell_caws, MANY);
	assert_int_equal(atomic_load(&locks_stats(b->ls)->ahead), MANY - 1);
	assert_int_equal(get(b, 10, MANY - 1), 0);
	assert_int_equal(f->io.cell_reads + f->io.cell_caws, MANY);
	simdev_set_latency(f->medium, 50000, 400000);
	assert_int_equal(get(&f->box[1], 20, 20), 20); /* shared by both */
	fix_touch(&f->box[1], 25, EX);		       /* and given back when asked for */
	fix_touch(b, 25, SH);
	assert_int_equal(b->val[25].value, 1);
}

static void many_cost_the_time_of_a_read_and_a_test_and_set(void **state)
{
	(void)state;
	fix_run(body_together, 512, 1);
	fix_run(body_together, 4096, 2);
}

/* Its last holder has left, with its payloads newer than their records say. */
static void body_left(struct fix *f)
{
	struct box *b = &f->box[1];

	fix_up(f, 0);
	fix_up(f, 1);
	for (unsigned k = 0; k < 20; k++)
		fix_touch(&f->box[0], k, EX);
	fix_down(f, 0);
	fix_sleep_ms(f, 2 * FIX_BEAT_MS); /* that is seen */
	fix_io_reset(f);
	assert_int_equal(get(b, 0, 10), 10);
	assert_int_equal(f->io.cell_reads, 1);
	use_all(b, 0, 10, 1);
	fix_touch(b, 15, SH);
	assert_int_equal(b->val[15].value, 1);
	assert_int_equal(f->io.cell_reads, 2);
	assert_int_equal(f->io.cell_caws, 11);
}

static void what_a_host_left_behind_is_not_read_twice(void **state)
{
	(void)state;
	fix_run(body_left, 512, 3);
	fix_run(body_left, 4096, 4);
}

/* The same cell and record, judged by whether that was known when the cell was read. */
static void body_known(struct fix *f)
{
	struct locks *ls;
	struct stripe *s;
	struct lock *l;
	uint8_t *cell = dev_buf_alloc(8192);
	bool current = true;

	fix_up(f, 0);
	fix_up(f, 1);
	ls = f->box[1].ls;
	fix_touch(&f->box[0], 3, EX);
	fix_down(f, 0);
	fix_sleep_ms(f, 2 * FIX_BEAT_MS);
	s = table_stripe(ls, fix_addr(f, 3));
	mtx_lock(&s->mtx);
	l = table_get(ls, s, fix_addr(f, 3));
	mtx_unlock(&s->mtx);
	assert_int_equal(lock_read(ls, l, cell), 0);
	assert_int_equal(lock_may_take(ls, l, SH, cell, 0, &current), 0);
	assert_false(current);
	assert_int_equal(lock_may_take(ls, l, SH, cell, clock_now_ns(f->clk), &current), 0);
	assert_true(current);
	l->known.payload_version = le64_make(9);
	assert_int_equal(lock_may_take(ls, l, SH, cell, clock_now_ns(f->clk), &current), 0);
	assert_false(current);
	mtx_lock(&s->mtx);
	table_put(s, l);
	mtx_unlock(&s->mtx);
	free(cell);
}

static void a_payload_read_before_its_holder_was_known_to_be_gone_does_not_count(void **state)
{
	(void)state;
	fix_run(body_known, 512, 5);
}

/* ---- what it leaves alone ------------------------------------------------------------------- */

static void body_alone(struct fix *f)
{
	struct box *a = &f->box[0], *b = &f->box[1];
	struct lunfs_lock_rec r;
	struct lock *l;

	fix_up(f, 0);
	fix_up(f, 1);
	fix_touch(a, 4, EX);
	fix_touch(b, 5, EX); /* goes to and fro: */
	fix_touch(a, 5, EX);
	fix_touch(b, 5, SH);
	lock_drop(b->ls, fix_addr(f, 5));
	fix_sleep_ms(f, 500);
	assert_int_equal(lock_held(b->ls, fix_addr(f, 5)), LOCK_NONE);
	assert_int_equal(fix_pin(a, 6, EX, LEX, 0, NULL, &l), 0);
	fix_io_reset(f);
	assert_int_equal(get(a, 5, 2), 0);
	assert_int_equal(f->io.cell_reads + f->io.cell_caws, 0);
	assert_int_equal(get(b, 0, 10), 7);
	assert_int_equal(f->io.board_writes, 0); /* nobody was asked */
	assert_int_equal(lock_held(a->ls, fix_addr(f, 4)), EX);
	assert_int_equal(lock_held(b->ls, fix_addr(f, 4)), LOCK_NONE);
	fix_record(f, 4, &r);
	assert_int_equal(le64_get(r.owner), a->ls->owner);
	fix_unpin(a, l, EX, LEX);
	fix_touch(b, 4, SH); /* asked for it is given */
	fix_touch(b, 6, SH);
	assert_int_equal(held(b, 0, 10), 9);
}

static void locks_of_others_are_left_to_them(void **state)
{
	(void)state;
	fix_run(body_alone, 512, 6);
	fix_run(body_alone, 4096, 7);
}

static void getter(void *arg)
{
	struct fix_job *j = arg;

	j->rc = (int)get(j->b, 0, 20);
	j->done = true;
}

/* Who comes for one of them meanwhile waits, and has it then without a command of its own. */
static void body_meet(struct fix *f)
{
	struct fix_job all = {.b = &f->box[0]}, one = {.b = &f->box[0], .cell = 7, .mode = SH};
	struct task *t[2];
	struct lock *l;

	fix_up(f, 0);
	simdev_set_latency(f->medium, SLOW_NS, SLOW_NS);
	fix_io_reset(f);
	t[0] = fix_task(f, 0, getter, &all);
	clock_sleep_ns(f->clk, SLOW_NS / 2);
	assert_int_equal(fix_pin(&f->box[0], 8, SH, LSH, LOCK_TRY, NULL, &l), -EAGAIN);
	t[1] = fix_task(f, 0, fix_pinner, &one);
	for (unsigned k = 0; k < 2; k++)
		fix_join(f, t[k]);
	assert_int_equal(all.rc, 20);
	assert_int_equal(one.rc, 0);
	assert_int_equal(f->io.cell_caws, 20);
	assert_int_equal(f->io.cell_reads, 1);
	fix_touch(&f->box[0], 7, EX);
}

static void who_comes_meanwhile_waits_for_it(void **state)
{
	(void)state;
	fix_run(body_meet, 512, 8);
}

/* ---- exclusively ---------------------------------------------------------------------------- */

static void body_ex(struct fix *f)
{
	struct box *a = &f->box[0], *b = &f->box[1];
	uint64_t addr[10];
	struct lock *l;

	fix_up(f, 0);
	fix_up(f, 1);
	for (unsigned k = 0; k < 10; k++)
		addr[k] = fix_addr(f, k);
	fix_touch(a, 3, SH);
	fix_touch(a, 4, EX);
	assert_int_equal(lock_get_ahead(b->ls, addr, 10, EX), 8);
	assert_int_equal(lock_held(b->ls, addr[3]), LOCK_NONE);
	assert_int_equal(lock_held(b->ls, addr[5]), EX);
	fix_io_reset(f);
	for (unsigned k = 5; k < 9; k++) {
		assert_int_equal(fix_pin(b, k, EX, LEX, LOCK_TRY | LOCK_CACHED, NULL, &l), 0);
		fix_add(b, l);
		fix_unpin(b, l, EX, LEX);
		fix_touch(b, k, EX);
	}
	assert_int_equal(f->io.cell_reads + f->io.cell_caws, 0);
	assert_int_equal(lock_ahead(b->ls, addr[5]), AHEAD_USED_EX);
	assert_int_equal(lock_ahead(b->ls, addr[9]), AHEAD_UNUSED);
	fix_touch(b, 9, SH);
	fix_touch(a, 9, EX); /* given away */
	fix_touch(a, 5, SH);
	assert_int_equal(a->val[5].value, 2);
	assert_int_equal(lock_ahead(b->ls, addr[9]), AHEAD_NOT);
	assert_int_equal(lock_ahead(b->ls, addr[4]), AHEAD_NOT);
}

static void what_will_be_changed_is_taken_exclusively(void **state)
{
	(void)state;
	fix_run(body_ex, 512, 10);
	fix_run(body_ex, 4096, 11);
}

/* ---- what goes wrong ------------------------------------------------------------------------ */

/* Answers are lost, commands land late: what is not known is held by nobody until it is settled. */
static void body_faults(struct fix *f)
{
	fix_up(f, 0);
	fix_up(f, 1);
	f->one_in = 4;
	for (unsigned round = 0; round < 4; round++) {
		struct box *b = &f->box[round & 1];

		get(b, 40 * round, 40);
		for (unsigned k = 40 * round; k < 40 * round + 40; k++)
			fix_touch(b, k, k & 1 ? SH : EX);
	}
	f->one_in = 0;
	for (unsigned k = 0; k < 160; k++) {
		fix_touch(&f->box[1 - (k / 40 & 1)], k, SH);
		assert_int_equal(f->box[1 - (k / 40 & 1)].val[k].value, !(k & 1));
	}
}

static void faults_are_left_to_who_wants_the_lock(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++)
		fix_run(body_faults, seed % 4 ? 512 : 4096, seed);
}

struct ahead_job {
	struct box *b;
	size_t got;
	bool done;
};

static void get_some(void *arg)
{
	struct ahead_job *j = arg;

	j->got = get(j->b, 0, MANY);
	j->done = true;
}

/* It cannot beat; its lease lasts no longer than a write may take, so none may begin. */
static void body_late(struct fix *f)
{
	struct ahead_job j = {.b = &f->box[0]};
	struct task *t;

	fix_up(f, 0);
	simdev_inject(j.b->dev, &(struct simdev_fault){.kind = SIMDEV_LOST_COMMAND,
						       .ops = SIMDEV_CAW,
						       .off_bytes = LUNFS_HOST_TABLE_OFF,
						       .len_bytes = LUNFS_SLOT_STRIDE,
						       .count = 1000});
	while (host_lease_left_ns(j.b->host) > 300000000)
		fix_sleep_ms(f, 5);
	t = fix_task(f, 0, get_some, &j);
	fix_sleep_ms(f, 50);
	assert_true(host_lease_ok(j.b->host));
	assert_true(j.done);
	assert_int_equal(j.got, 0);
	fix_join(f, t);
	simdev_inject_clear(j.b->dev);
	while (host_lease_left_ns(j.b->host) < 500000000)
		fix_sleep_ms(f, 5);
	assert_int_equal(get(j.b, 0, MANY), MANY);
}

static void a_host_that_may_not_write_now_does_not_wait_to_take_them(void **state)
{
	(void)state;
	fix_run(body_late, 512, 11);
}

static void body_damaged(struct fix *f)
{
	uint8_t *bad = dev_buf_alloc(4096);
	struct lock *l;

	fix_up(f, 0);
	memset(bad, 0x5a, 4096);
	simdev_poke(f->medium, geo_blk_off(fix_addr(f, 3)), f->geo.sector_bytes, bad);
	assert_int_equal(get(&f->box[0], 0, 6), 5);
	use_all(&f->box[0], 0, 3, 0);
	assert_int_equal(fix_pin(&f->box[0], 3, SH, LSH, 0, NULL, &l), -EUCLEAN);
	assert_int_equal(lock_get_ahead(f->box[0].ls, (uint64_t[]){1, 0, UINT64_MAX}, 3, SH), 0);
	free(bad);
}

static void a_damaged_record_is_nobodys_business_but_its_own(void **state)
{
	(void)state;
	fix_run(body_damaged, 512, 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(many_cost_the_time_of_a_read_and_a_test_and_set),
	    cmocka_unit_test(what_a_host_left_behind_is_not_read_twice),
	    cmocka_unit_test(a_payload_read_before_its_holder_was_known_to_be_gone_does_not_count),
	    cmocka_unit_test(locks_of_others_are_left_to_them),
	    cmocka_unit_test(who_comes_meanwhile_waits_for_it),
	    cmocka_unit_test(what_will_be_changed_is_taken_exclusively),
	    cmocka_unit_test(faults_are_left_to_who_wants_the_lock),
	    cmocka_unit_test(a_host_that_may_not_write_now_does_not_wait_to_take_them),
	    cmocka_unit_test(a_damaged_record_is_nobodys_business_but_its_own),
	};

	return cmocka_run_group_tests_name("lock-ahead", tests, NULL, NULL);
}
