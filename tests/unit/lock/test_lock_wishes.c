/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The column of the board that a host writes: what stands there, and that it goes on standing. */
#include "fixture.h"

#include <errno.h>
#include <string.h>

#define EX LOCK_EX
#define LSH LOCAL_SHARED

static uint64_t sector_of(struct fix *f, unsigned row, unsigned column)
{
	return geo_board_off(&f->geo, row, column);
}

static void wait_for_wishes(struct fix *f, unsigned row, unsigned n, uint64_t ms)
{
	uint64_t until = clock_now_ns(f->clk) + ms * 1000000;

	while (fix_wishes(f, row, 0) != n) {
		assert_true(clock_now_ns(f->clk) < until);
		fix_sleep_ms(f, 1);
	}
}

/*
 * Host 0's keeper writes slowly that a wish to host 2 is withdrawn. A wish to host 1 is put on the
 * board meanwhile, and a write of before, which lands late, takes it off again.
 */
static void body_meanwhile(struct fix *f)
{
	struct fix_job withdrawn = {.b = &f->box[0], .cell = 2, .mode = EX},
		       wanted = {.b = &f->box[0], .cell = 1, .mode = EX};
	static const uint8_t zeroes[512];
	struct task *tw, *t;
	struct lock *l[3];

	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	for (unsigned i = 1; i < 3; i++)
		assert_int_equal(fix_pin(&f->box[i], i, EX, LSH, 0, NULL, &l[i]), 0);
	tw = fix_task(f, 0, fix_pinner, &withdrawn);
	wait_for_wishes(f, 2, 1, 100);
	simdev_inject(f->box[0].dev, &(struct simdev_fault){.kind = SIMDEV_DELAY,
							    .ops = SIMDEV_WRITE,
							    .off_bytes = sector_of(f, 2, 0),
							    .len_bytes = sizeof(zeroes),
							    .delay_ns = 60000000});
	lock_intr_fire(f->box[0].ls, &withdrawn.intr);
	fix_join(f, tw);
	fix_sleep_ms(f, 10);
	assert_int_equal(fix_wishes(f, 2, 0), 1); /* its withdrawal is on the way */
	t = fix_task(f, 0, fix_pinner, &wanted);
	wait_for_wishes(f, 1, 1, 40);
	wait_for_wishes(f, 2, 0, 100);
	simdev_poke(f->medium, sector_of(f, 1, 0), sizeof(zeroes), zeroes);
	wait_for_wishes(f, 1, 1, 2 * FIX_BEAT_MS);
	for (unsigned i = 1; i < 3; i++)
		fix_unpin(&f->box[i], l[i], EX, LSH);
	fix_join(f, t);
	assert_int_equal(withdrawn.rc, -EINTR);
	assert_int_equal(wanted.rc, 0);
}

static void wish_is_shown_again_although_another_row_was_written_meanwhile(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 20; seed++)
		fix_run(body_meanwhile, 512, seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(wish_is_shown_again_although_another_row_was_written_meanwhile),
	};

	return cmocka_run_group_tests_name("lock-wishes", tests, NULL, NULL);
}
