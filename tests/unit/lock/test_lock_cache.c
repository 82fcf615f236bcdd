/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Locks that are kept, and the upcalls when they are given up. */
#include "fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SH LOCK_SH
#define EX LOCK_EX
#define LSH LOCAL_SHARED
#define LEX LOCAL_EXCL

/* ---- born, open, dropped, evicted ----------------------------------------------------------- */

static void write_born(struct fix *f, struct box *b, unsigned from, unsigned n)
{
	uint8_t *buf = dev_buf_alloc(4096);

	for (unsigned i = from; i < from + n; i++) {
		lock_born_image(b->ls, fix_addr(f, i), buf);
		simdev_poke(f->medium, geo_blk_off(fix_addr(f, i)), f->geo.sector_bytes, buf);
	}
	free(buf);
	lock_adopt_born(b->ls, fix_addr(f, from), n);
}

static void body_born(struct fix *f)
{
	struct lock *l;

	fix_up(f, 0);
	fix_up(f, 1);
	write_born(f, &f->box[0], 10, 300);
	fix_io_reset(f);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 9)), LOCK_NONE);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 309)), EX);
	assert_int_equal(fix_pin(&f->box[0], 300, EX, LEX, LOCK_TRY | LOCK_CACHED, NULL, &l), 0);
	assert_int_equal(lock_possession(l), 1);
	assert_int_equal(f->io.cell_reads + f->io.cell_caws, 0);
	fix_unpin(&f->box[0], l, EX, LEX);
	fix_touch(&f->box[1], 11, EX);	/* never used here */
	fix_touch(&f->box[1], 300, EX); /* used here */
	assert_int_equal(f->io.cell_caws, 2);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 11)), LOCK_NONE);
	fix_touch(&f->box[0], 11, EX); /* comes back by a hand-over, not as born */
	assert_int_equal(f->io.cell_caws, 3);
}

static void born_cells_are_held_without_io(void **state)
{
	(void)state;
	fix_run(body_born, 512, 16);
	fix_run(body_born, 4096, 17);
}

static void body_evict(struct fix *f)
{
	struct box *a = &f->box[0];
	struct lunfs_lock_rec r;
	unsigned held = 0;

	fix_up(f, 0);
	fix_up(f, 1);
	write_born(f, a, 300, 100);
	a->ls->cache_max = 40;
	for (unsigned i = 0; i < 200; i++)
		fix_touch(a, i, EX);
	for (unsigned i = 300; i < 400; i++)
		fix_touch(a, i, EX);
	fix_sleep_ms(f, 3000);
	assert_true(atomic_load(&a->ls->cached) <= 40);
	fix_record(f, 0, &r);
	assert_int_equal(le16_get(r.mode), LUNFS_LOCK_FREE);
	assert_int_equal(le64_get(r.payload_version), 2);
	for (unsigned i = 300; i < 400; i++) {
		held += lock_held(a->ls, fix_addr(f, i)) == EX;
		fix_record(f, i, &r);
		assert_int_equal(le64_get(r.hdr.image_seq), 1); /* put away without an ATS */
	}
	assert_int_equal(held, 100);
	for (unsigned i = 0; i < 400; i += 7) {
		fix_touch(&f->box[1], i, EX);
		assert_int_equal(f->box[1].val[i].value, i < 200 || i >= 300 ? 2 : 1);
	}
}

static void unused_locks_go_when_there_are_too_many(void **state)
{
	(void)state;
	fix_run(body_evict, 512, 18);
}

static void body_born_shared(struct fix *f)
{
	struct lunfs_lock_rec r;

	fix_up(f, 0);
	fix_up(f, 1);
	write_born(f, &f->box[0], 300, 2);
	fix_touch(&f->box[0], 300, EX);
	fix_touch(&f->box[1], 300, SH);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 300)), SH);
	f->box[0].ls->cache_max = 0;
	fix_sleep_ms(f, 3000);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 300)), LOCK_NONE);
	fix_record(f, 300, &r);
	assert_int_equal(rec_holds(&r, host_owner(f->box[0].host)), LOCK_NONE);
	assert_int_equal(rec_holds(&r, host_owner(f->box[1].host)), SH);
}

static void born_lock_that_was_shared_is_no_longer_born(void **state)
{
	(void)state;
	fix_run(body_born_shared, 512, 31);
}

static struct fix_job late_job;
static struct task *late_task;

static void pin_arrives(struct box *b, uint64_t addr)
{
	(void)addr;
	b->on_invalidate = NULL;
	late_job = (struct fix_job){.b = b, .cell = 300, .mode = EX};
	assert_int_equal(
	    b->f->clk->ops->task_start(b->f->clk, "late", fix_pinner, &late_job, &late_task), 0);
	fix_sleep_ms(b->f, 5);
}

static void body_fold_race(struct fix *f)
{
	struct lunfs_lock_rec r;

	fix_up(f, 0);
	write_born(f, &f->box[0], 300, 1);
	fix_touch(&f->box[0], 300, EX);
	f->box[0].on_invalidate = pin_arrives;
	f->box[0].ls->cache_max = 0;
	while (!late_job.done)
		fix_sleep_ms(f, 10);
	fix_join(f, late_task);
	assert_int_equal(late_job.rc, 0);
	fix_record(f, 300, &r);
	assert_int_equal(le64_get(r.hdr.image_seq), 1);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 300)), EX);
}

static void born_lock_asked_for_while_put_away_stays(void **state)
{
	(void)state;
	memset(&late_job, 0, sizeof(late_job));
	fix_run(body_fold_race, 512, 32);
}

/* Pages that the kernel did not write back in time are not left to be written back later. */
static void body_in_vain(struct fix *f)
{
	struct box *a = &f->box[0], *b = &f->box[1];
	struct fix_job job = {.b = b, .cell = 1, .mode = EX};
	uint64_t addr = fix_addr(f, 1);
	struct task *task;

	fix_up(f, 0);
	fix_up(f, 1);
	fix_touch(a, 1, EX);
	a->in_vain = 5;
	assert_int_equal(f->clk->ops->task_start(f->clk, "b", fix_pinner, &job, &task), 0);
	while (a->in_vain) {
		assert_int_equal(lock_held(a->ls, addr), EX);
		assert_false(job.done);
		fix_touch(a, 1, EX); /* who wants it here is served in between */
		fix_sleep_ms(f, 1);
	}
	fix_join(f, task);
	assert_int_equal(job.rc, 0);
	assert_true(a->invalidated > 5);
	assert_int_equal(lock_held(a->ls, addr), LOCK_NONE);
}

static void a_lock_stays_while_the_kernel_has_pages_under_it(void **state)
{
	(void)state;
	fix_run(body_in_vain, 512, 33);
}

static void body_drop(struct fix *f)
{
	struct box *a = &f->box[0];
	struct lunfs_lock_rec r;
	struct lock *l;

	fix_up(f, 0);
	fix_touch(a, 1, EX);
	assert_int_equal(fix_pin(a, 2, EX, LSH, 0, NULL, &l), 0);
	lock_drop(a->ls, fix_addr(f, 1));
	lock_drop(a->ls, fix_addr(f, 2));
	fix_sleep_ms(f, 1000);
	fix_record(f, 1, &r);
	assert_int_equal(le16_get(r.mode), LUNFS_LOCK_FREE);
	assert_int_equal(lock_held(a->ls, fix_addr(f, 1)), LOCK_NONE);
	assert_int_equal(lock_held(a->ls, fix_addr(f, 2)), EX);
	fix_unpin(a, l, EX, LSH);
	fix_sleep_ms(f, 1000);
	assert_int_equal(lock_held(a->ls, fix_addr(f, 2)), LOCK_NONE);
}

static void dropped_lock_is_released_once_unpinned(void **state)
{
	(void)state;
	fix_run(body_drop, 512, 19);
}

static bool open_seen(struct box *b, unsigned cell)
{
	struct lock *l;
	bool open;

	assert_int_equal(fix_pin(b, cell, EX, LEX, 0, NULL, &l), 0);
	open = lock_open_elsewhere(b->ls, l);
	fix_unpin(b, l, EX, LEX);
	return open;
}

static void body_open(struct fix *f)
{
	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	fix_touch(&f->box[0], 1, SH);
	f->box[0].open[1] = true;
	assert_true(open_seen(&f->box[1], 1));
	assert_true(open_seen(&f->box[2], 1)); /* kept through others' hands */
	f->box[0].open[1] = false;
	fix_touch(&f->box[0], 1, EX);
	assert_false(open_seen(&f->box[1], 1));
	fix_touch(&f->box[0], 1, EX);
	f->box[0].open[1] = true;
	assert_true(open_seen(&f->box[1], 1));
	fix_down(f, 0);
	fix_sleep_ms(f, 2 * FIX_BEAT_MS);
	assert_false(open_seen(&f->box[1], 1));
	assert_false(open_seen(&f->box[2], 1));
}

static void open_entry_stands_until_closed_or_over(void **state)
{
	(void)state;
	fix_run(body_open, 512, 20);
}

/* ---- upcalls -------------------------------------------------------------------------------- */

static void body_flush_fails(struct fix *f)
{
	fix_up(f, 0);
	fix_up(f, 1);
	fix_touch(&f->box[0], 1, EX);
	f->box[0].fail_flush = 3;
	fix_touch(&f->box[1], 1, EX);
	assert_int_equal(f->box[1].val[1].value, 2);
	assert_int_equal(f->box[0].fail_flush, 0);
}

static void lock_is_kept_while_its_flush_fails(void **state)
{
	(void)state;
	fix_run(body_flush_fails, 512, 21);
}

static struct fix_job drain_job, plain_job;
static struct task *plain_task;

static void drainer(void *arg)
{
	struct fix_job *j = arg;
	struct lock *l;

	j->rc = lock_pin(j->b->ls, fix_addr(j->b->f, j->cell), EX, LSH, LOCK_DRAIN, NULL, &l);
	if (!j->rc)
		lock_unpin(j->b->ls, l, LSH);
	j->done = true;
}

/* The kernel waits for a READ in flight before its pages go. */
static void invalidate_waits_for_io(struct box *b, uint64_t addr)
{
	struct fix *f = b->f;
	struct task *drain;

	(void)addr;
	memset(&plain_job, 0, sizeof(plain_job));
	memset(&drain_job, 0, sizeof(drain_job));
	plain_job = (struct fix_job){.b = b, .cell = 1, .mode = EX};
	drain_job = (struct fix_job){.b = b, .cell = 1, .mode = EX};
	b->on_invalidate = NULL;
	assert_int_equal(
	    f->clk->ops->task_start(f->clk, "plain", fix_pinner, &plain_job, &plain_task), 0);
	assert_int_equal(f->clk->ops->task_start(f->clk, "drain", drainer, &drain_job, &drain), 0);
	f->clk->ops->task_join(f->clk, drain);
	assert_true(drain_job.done);
	assert_false(plain_job.done);
}

static void body_drain(struct fix *f)
{
	fix_up(f, 0);
	fix_up(f, 1);
	fix_touch(&f->box[0], 1, EX);
	f->box[0].on_invalidate = invalidate_waits_for_io;
	fix_touch(&f->box[1], 1, EX);
	assert_int_equal(drain_job.rc, 0);
	fix_join(f, plain_task);
	assert_int_equal(plain_job.rc, 0);
}

static void drain_pins_pass_while_caches_are_invalidated(void **state)
{
	(void)state;
	fix_run(body_drain, 512, 22);
}

/* Before that: a pin is admitted, and what it left is dropped by the one invalidation. */
static void pin_comes_and_goes(struct box *b, uint64_t addr)
{
	struct fix_job j = {.b = b, .cell = 1};

	(void)addr;
	assert_int_equal(b->invalidated, 0);
	drainer(&j);
	assert_int_equal(j.rc, 0);
}

static void body_prepare(struct fix *f)
{
	struct box *b = &f->box[0];

	fix_up(f, 0);
	fix_up(f, 1);
	fix_touch(b, 1, EX);
	b->on_prepare = pin_comes_and_goes;
	fix_touch(&f->box[1], 1, EX);
	assert_int_equal(b->prepared, 1);
	assert_int_equal(b->invalidated, 1);
	b->prepared = b->invalidated = 0;
	b->on_prepare = NULL;
	b->on_invalidate = invalidate_waits_for_io;
	fix_touch(b, 1, EX);
	fix_touch(&f->box[1], 1, EX); /* one that comes later makes for a second one */
	fix_join(f, plain_task);
	assert_true(b->invalidated >= 2);
	assert_true(b->prepared < b->invalidated);
}

static void what_comes_before_an_invalidation_makes_for_no_other(void **state)
{
	(void)state;
	for (uint64_t seed = 30; seed < 40; seed++)
		fix_run(body_prepare, 512, seed);
}

/* ---- a busy device -------------------------------------------------------------------------- */

static void body_busy(struct fix *f)
{
	struct simdev_fault busy = {.kind = SIMDEV_FAIL,
				    .ops = SIMDEV_CAW,
				    .count = UINT64_MAX,
				    .off_bytes = geo_blk_off(fix_addr(f, 20)),
				    .len_bytes = f->geo.sector_bytes,
				    .error = -EAGAIN};
	struct fix_job job = {.cell = 20, .mode = EX};
	struct task *t;

	fix_up(f, 0);
	job.b = &f->box[0];
	simdev_inject(f->box[0].dev, &busy);
	t = fix_task(f, 0, fix_pinner, &job);
	fix_sleep_ms(f, 3 * FIX_DEADLINE_MS);
	assert_false(job.done);
	simdev_inject_clear(f->box[0].dev);
	fix_join(f, t);
	assert_true(job.done);
	assert_int_equal(job.rc, 0);
}

static void a_device_that_is_busy_for_several_deadlines_fails_no_lock(void **state)
{
	(void)state;
	for (uint64_t seed = 60; seed < 64; seed++)
		fix_run(body_busy, 512, seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_device_that_is_busy_for_several_deadlines_fails_no_lock),
	    cmocka_unit_test(born_cells_are_held_without_io),
	    cmocka_unit_test(unused_locks_go_when_there_are_too_many),
	    cmocka_unit_test(born_lock_that_was_shared_is_no_longer_born),
	    cmocka_unit_test(born_lock_asked_for_while_put_away_stays),
	    cmocka_unit_test(a_lock_stays_while_the_kernel_has_pages_under_it),
	    cmocka_unit_test(dropped_lock_is_released_once_unpinned),
	    cmocka_unit_test(open_entry_stands_until_closed_or_over),
	    cmocka_unit_test(lock_is_kept_while_its_flush_fails),
	    cmocka_unit_test(drain_pins_pass_while_caches_are_invalidated),
	    cmocka_unit_test(what_comes_before_an_invalidation_makes_for_no_other),
	};

	return cmocka_run_group_tests_name("lock-cache", tests, NULL, NULL);
}
