/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pins of one host among themselves: who works side by side, who waits, in which order. */
#include "fixture.h"
#include "simrand.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct order { /* tasks note when they were admitted */
	struct box *b;
	enum lock_mode mode;
	enum lock_local local;
	unsigned *next, got;
	uint64_t hold_ms;
};

static void ordered(void *arg)
{
	struct order *o = arg;
	struct lock *l;

	assert_int_equal(fix_pin(o->b, 1, o->mode, o->local, 0, NULL, &l), 0);
	o->got = ++*o->next;
	fix_sleep_ms(o->b->f, o->hold_ms);
	fix_unpin(o->b, l, o->mode, o->local);
}

static void body_side_by_side(struct fix *f)
{
	struct box *b = &f->box[0];
	struct lock *a, *c, *x;

	fix_up(f, 0);
	assert_int_equal(fix_pin(b, 1, LOCK_EX, LOCAL_SHARED, 0, NULL, &a), 0);
	assert_int_equal(fix_pin(b, 1, LOCK_EX, LOCAL_SHARED, LOCK_TRY, NULL, &c), 0);
	assert_ptr_equal(a, c);
	assert_int_equal(fix_pin(b, 1, LOCK_SH, LOCAL_EXCL, LOCK_TRY, NULL, &x), -EAGAIN);
	fix_unpin(b, a, LOCK_EX, LOCAL_SHARED);
	fix_unpin(b, c, LOCK_EX, LOCAL_SHARED);
	assert_int_equal(fix_pin(b, 1, LOCK_SH, LOCAL_EXCL, LOCK_TRY, NULL, &x), 0);
	assert_int_equal(fix_pin(b, 1, LOCK_SH, LOCAL_SHARED, LOCK_TRY, NULL, &a), -EAGAIN);
	fix_unpin(b, x, LOCK_SH, LOCAL_EXCL);
}

static void local_exclusive_shuts_out_local_shared(void **state)
{
	(void)state;
	fix_run(body_side_by_side, 512, 1);
}

/* reader holds; writer waits; a later reader does not pass the writer. */
static void body_order(struct fix *f)
{
	unsigned next = 0;
	struct order o[4];
	struct task *t[4];

	fix_up(f, 0);
	for (unsigned i = 0; i < 4; i++) {
		o[i] = (struct order){&f->box[0], LOCK_EX, i == 1 ? LOCAL_EXCL : LOCAL_SHARED,
				      &next,	  0,	   30};
		t[i] = fix_task(f, 0, ordered, &o[i]);
		fix_sleep_ms(f, 5);
	}
	for (unsigned i = 0; i < 4; i++)
		fix_join(f, t[i]);
	assert_int_equal(o[0].got, 1);
	assert_int_equal(o[1].got, 2);
}

static void later_readers_do_not_pass_a_waiting_writer(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 10; seed++)
		fix_run(body_order, 512, seed);
}

#define CROWD 24u

/* Everybody goes as soon as whoever stood before is done: nobody is woken by a time-out only. */
static void body_crowd(struct fix *f)
{
	struct order o[CROWD];
	struct task *t[CROWD];
	uint64_t began, longest = 10;
	unsigned next = 0;
	struct lock *l;

	fix_up(f, 0);
	assert_int_equal(fix_pin(&f->box[0], 1, LOCK_EX, LOCAL_EXCL, 0, NULL, &l), 0);
	for (unsigned i = 0; i < CROWD; i++) {
		o[i] = (struct order){&f->box[0],
				      sim_rand_below(&f->rng, 2) ? LOCK_EX : LOCK_SH,
				      sim_rand_below(&f->rng, 3) ? LOCAL_EXCL : LOCAL_SHARED,
				      &next,
				      0,
				      1 + sim_rand_below(&f->rng, 3)};
		longest += o[i].hold_ms;
		t[i] = fix_task(f, 0, ordered, &o[i]);
	}
	fix_sleep_ms(f, 20);
	began = clock_now_ns(f->clk);
	fix_unpin(&f->box[0], l, LOCK_EX, LOCAL_EXCL);
	for (unsigned i = 0; i < CROWD; i++)
		fix_join(f, t[i]);
	assert_in_range((clock_now_ns(f->clk) - began) / 1000000, 1, longest);
}

static void nobody_sleeps_through_its_turn(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 40; seed++)
		fix_run(body_crowd, 512, seed);
}

static void body_ghost(struct fix *f)
{
	struct locks *ls;
	unsigned row;
	uint64_t lives, ghost;
	struct wish w = {.addr = fix_addr(f, 1), .mode = LOCK_EX};

	fix_up(f, 0);
	fix_up(f, 1);
	ls = f->box[0].ls;
	row = host_slot(f->box[1].host);
	for (unsigned i = 0; i < 100 && !host_live_owner(f->box[0].host, row); i++)
		fix_sleep_ms(f, FIX_BEAT_MS);
	lives = host_live_owner(f->box[0].host, row);
	assert_true(lives);
	ghost = LUNFS_OWNER(LUNFS_OWNER_GEN(lives) + LUNFS_ENT_TAG_MASK, row);
	wish_ask(ls, &w, &ghost, 1);
	assert_int_equal(ls->out.row[row].asked, ghost);
	wish_ask(ls, &w, &lives, 1);
	assert_int_equal(ls->out.row[row].asked, lives);
	wish_ask(ls, &w, &ghost, 1);
	assert_int_equal(ls->out.row[row].asked, lives);
	wish_cancel(ls, &w, 0);
}

/* One may come of a tag whose slot cannot be read. */
static void owner_that_never_was_does_not_keep_a_wish_from_the_one_that_lives(void **state)
{
	(void)state;
	fix_run(body_ghost, 512, 1);
}

static void body_one_ask(struct fix *f)
{
	struct fix_job j[5];
	struct task *t[5];
	struct lock *l;

	fix_up(f, 0);
	fix_up(f, 1);
	assert_int_equal(fix_pin(&f->box[1], 1, LOCK_EX, LOCAL_EXCL, 0, NULL, &l), 0);
	fix_io_reset(f);
	for (unsigned i = 0; i < 5; i++) {
		memset(&j[i], 0, sizeof(j[i]));
		j[i].b = &f->box[0];
		j[i].cell = 1;
		j[i].mode = LOCK_EX;
		t[i] = fix_task(f, 0, fix_pinner, &j[i]);
	}
	fix_sleep_ms(f, 30);
	assert_int_equal(fix_wishes(f, host_slot(f->box[1].host), host_slot(f->box[0].host)), 1);
	fix_unpin(&f->box[1], l, LOCK_EX, LOCAL_EXCL);
	for (unsigned i = 0; i < 5; i++)
		fix_join(f, t[i]);
	assert_int_equal(f->io.cell_caws, 1);
}

static void many_local_waiters_are_one_wish_and_one_hand_over(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 10; seed++)
		fix_run(body_one_ask, 512, seed);
}

static void body_many_wishes(struct fix *f)
{
	struct fix_job j[24];
	struct task *t[24];
	struct lock *l[24];

	fix_up(f, 0);
	fix_up(f, 1);
	memset(j, 0, sizeof(j));
	for (unsigned i = 0; i < 24; i++)
		assert_int_equal(fix_pin(&f->box[1], i, LOCK_EX, LOCAL_EXCL, 0, NULL, &l[i]), 0);
	for (unsigned i = 0; i < 24; i++) {
		j[i] = (struct fix_job){.b = &f->box[0], .cell = i, .mode = LOCK_EX};
		t[i] = fix_task(f, 0, fix_pinner, &j[i]);
	}
	fix_sleep_ms(f, 50);
	assert_int_equal(fix_wishes(f, host_slot(f->box[1].host), host_slot(f->box[0].host)), 16);
	/* The youngest are let go first, while the oldest 16 stay stuck: wishes take turns. */
	for (unsigned i = 24; i-- > 0;) {
		fix_unpin(&f->box[1], l[i], LOCK_EX, LOCAL_EXCL);
		fix_join(f, t[i]);
	}
}

static void more_wishes_than_fit_take_turns(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_many_wishes, 512, seed);
}

static void body_hostile(struct fix *f)
{
	struct lunfs_board_sec b = {.row = le16_make(0), .column = le16_make(3)};
	struct geo *g = &f->geo;
	uint8_t *buf = dev_buf_alloc(4096);

	fix_up(f, 0);
	fix_touch(&f->box[0], 1, LOCK_EX);
	b.wishes = le16_make(3);
	b.asked = le64_make(host_owner(f->box[0].host));
	b.asker = le64_make(LUNFS_OWNER(5, 3)); /* nobody */
	for (unsigned i = 0; i < 3; i++)
		b.wish[i] = (struct lunfs_wish){.addr = le64_make(fix_addr(f, i)),
						.mode = le16_make(LUNFS_LOCK_EXCL),
						.cells = le32_make(1),
						.seq = le64_make(i)};
	board_encode(g, &b, buf);
	simdev_poke(f->medium, geo_board_off(g, 0, 3), g->sector_bytes, buf);
	fix_io_reset(f);
	fix_sleep_ms(f, 1000);
	assert_int_equal(f->io.cell_caws, 0);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 1)), LOCK_EX);
	assert_false(lock_wanted(f->box[0].ls, fix_addr(f, 1)));
	free(buf);
}

static void wish_of_nobody_moves_no_lock(void **state)
{
	(void)state;
	fix_run(body_hostile, 512, 3);
}

static void body_wanted(struct fix *f)
{
	struct fix_job j = {.b = &f->box[1], .cell = 1, .mode = LOCK_EX};
	struct lock *l;
	struct task *t;

	fix_up(f, 0);
	fix_up(f, 1);
	assert_int_equal(fix_pin(&f->box[0], 1, LOCK_EX, LOCAL_EXCL, 0, NULL, &l), 0);
	assert_false(lock_wanted(f->box[0].ls, fix_addr(f, 1)));
	t = fix_task(f, 1, fix_pinner, &j);
	for (unsigned i = 0; i < 200 && !lock_wanted(f->box[0].ls, fix_addr(f, 1)); i++)
		fix_sleep_ms(f, 10);
	assert_true(lock_wanted(f->box[0].ls, fix_addr(f, 1)));
	assert_false(lock_wanted(f->box[0].ls, fix_addr(f, 2)));
	fix_unpin(&f->box[0], l, LOCK_EX, LOCAL_EXCL);
	fix_join(f, t);
}

static void holder_can_see_that_its_lock_is_wanted(void **state)
{
	(void)state;
	fix_run(body_wanted, 512, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(local_exclusive_shuts_out_local_shared),
	    cmocka_unit_test(later_readers_do_not_pass_a_waiting_writer),
	    cmocka_unit_test(nobody_sleeps_through_its_turn),
	    cmocka_unit_test(owner_that_never_was_does_not_keep_a_wish_from_the_one_that_lives),
	    cmocka_unit_test(many_local_waiters_are_one_wish_and_one_hand_over),
	    cmocka_unit_test(more_wishes_than_fit_take_turns),
	    cmocka_unit_test(wish_of_nobody_moves_no_lock),
	    cmocka_unit_test(holder_can_see_that_its_lock_is_wanted),
	};

	return cmocka_run_group_tests_name("lock-local", tests, NULL, NULL);
}
