// SPDX-License-Identifier: GPL-2.0-or-later
/* Which blocks a trim discards, and what happens to them meanwhile. */
#include "fixture.h"

#include "base/bitmap.h"
#include <errno.h>

static const struct fix_shape small = {512, 4096, 4, 1};
static const struct fix_shape small_4k = {4096, 4096, 4, 2};

struct watch { /* what is discarded */
	struct box *b;
	uint64_t first, len; /* of these blocks ... */
	uint64_t of_them;    /* ... so many were */
	uint64_t all;
	int rc;
};

static int discard(void *ctx, uint64_t off_bytes, uint64_t len_bytes)
{
	struct watch *w = ctx;
	struct fix *f = w->b->f;
	uint64_t blk = off_bytes / LUNFS_BLOCK_BYTES, n = len_bytes / LUNFS_BLOCK_BYTES;
	struct blk_res res;

	for (uint64_t i = blk; i < blk + n; i++) {
		assert_false(bit_get(f->owned, (size_t)(i - f->geo.group0_blk)));
		w->of_them += i >= w->first && i < w->first + w->len;
	}
	w->all += n;
	/* Nobody is given what is on its way to be discarded. */
	if (blk_reserve(w->b->a, (uint32_t)n, blk, ALLOC_RESERVE_OK, &res) == 0) {
		assert_true(res.blk >= blk + n || res.blk + res.len <= blk);
		blk_unreserve(w->b->a, &res);
	}
	return w->rc;
}

static int trim(struct box *b, struct watch *w, uint32_t min_blks)
{
	struct alloc_trim t;
	int rc = 0;

	alloc_trim_init(&t, 0, b->f->geo.end_blk);
	t.min_blks = min_blks;
	t.discard = discard;
	t.ctx = w;
	w->b = b;
	w->of_them = w->all = 0;
	while (rc == 0 && t.blk < t.end) {
		rc = alloc_trim(b->a, &t);
		if (rc == -EAGAIN) {
			fix_wait_for(b, t.want);
			rc = 0;
		}
	}
	assert_true(rc || t.done_blks == w->all);
	return rc;
}

static void what_is_freed_is_discarded_once_that_is_durable(struct fix *f)
{
	struct box *b = &f->box[0];
	struct watch w = {.len = 700};
	uint32_t len;

	fix_up(f, 0);
	assert_int_equal(fix_blk_alloc(b, 700, 0, 0, &w.first, &len), 0);
	assert_int_equal(len, 700);
	assert_int_equal(trim(b, &w, 0), 0);
	assert_int_equal(w.of_them, 0);
	assert_true(w.all > 2000);
	assert_int_equal(fix_blk_free(b, w.first, 700), 0);
	assert_int_equal(trim(b, &w, 0), 0);
	assert_int_equal(w.of_them, 0);
	assert_int_equal(alloc_settle_frees(b->a), 0);
	assert_int_equal(trim(b, &w, 0), 0);
	assert_int_equal(w.of_them, 700);
}

static void short_runs_stay(struct fix *f)
{
	struct box *b = &f->box[0];
	struct watch w = {.len = 10};
	uint64_t next;
	uint32_t len;

	fix_up(f, 0);
	assert_int_equal(fix_blk_alloc(b, 10, 0, 0, &w.first, &len), 0);
	assert_int_equal(fix_blk_alloc(b, 10, w.first + 10, 0, &next, &len), 0);
	assert_int_equal(next, w.first + 10);
	assert_int_equal(fix_blk_alloc(b, 4096, 0, 0, &next, &len), 0); /* none free before */
	assert_int_equal(fix_blk_free(b, w.first, 10), 0);
	fix_commit(b);
	clock_sleep_ns(f->clk, 10000000);
	assert_int_equal(trim(b, &w, 11), 0);
	assert_in_range(w.of_them, 0, 0);
	assert_int_equal(trim(b, &w, 10), 0);
	assert_int_equal(w.of_them, 10);
}

static void failed_discard_leaves_the_blocks_free(struct fix *f)
{
	struct box *b = &f->box[0];
	struct watch w = {.rc = -EIO};
	struct space before, after;

	fix_up(f, 0);
	assert_int_equal(alloc_statfs(b->a, &before), 0);
	assert_int_equal(trim(b, &w, 0), -EIO);
	w.rc = 0;
	assert_int_equal(trim(b, &w, 0), 0);
	assert_true(w.all > 2000);
	assert_int_equal(alloc_statfs(b->a, &after), 0);
	assert_int_equal(after.free_blks, before.free_blks);
}

static void group_of_another_host_is_asked_for(struct fix *f)
{
	struct watch w = {.len = 300};
	uint32_t len;

	fix_up(f, 0);
	fix_up(f, 1);
	assert_int_equal(fix_blk_alloc(&f->box[0], 300, 0, 0, &w.first, &len), 0);
	assert_int_equal(fix_blk_free(&f->box[0], w.first, 300), 0);
	assert_int_equal(trim(&f->box[1], &w, 0), 0); /* what it gives up is durable */
	assert_int_equal(w.of_them, 300);
}

static enum lock_mode held_soon(struct box *b, uint64_t blk, enum lock_mode wanted)
{
	uint64_t header = geo_group_header(&b->f->geo, geo_group_of(&b->f->geo, blk));

	for (unsigned i = 0; i < 100 && lock_held(b->ls, header) != wanted; i++)
		clock_sleep_ns(b->f->clk, 10000000);
	return lock_held(b->ls, header);
}

static void group_that_was_not_held_before_is_let_go(struct fix *f)
{
	struct box *b = &f->box[1];
	struct watch w = {.len = 300};
	uint32_t len;
	uint64_t own;

	fix_up(f, 0);
	fix_up(f, 1);
	assert_int_equal(fix_blk_alloc(&f->box[0], 300, 0, 0, &w.first, &len), 0);
	assert_int_equal(fix_blk_alloc(b, 300, 0, 0, &own, &len), 0);
	assert_int_equal(trim(b, &w, 0), 0);
	assert_int_equal(held_soon(b, w.first, LOCK_NONE), LOCK_NONE);
	assert_int_equal(held_soon(b, own, LOCK_EX), LOCK_EX);
}

#define RUN(name, shape)                                                                           \
	static void test_##name##_on_##shape(void **state)                                         \
	{                                                                                          \
		(void)state;                                                                       \
		fix_run(name, &shape);                                                             \
	}
RUN(what_is_freed_is_discarded_once_that_is_durable, small)
RUN(what_is_freed_is_discarded_once_that_is_durable, small_4k)
RUN(short_runs_stay, small)
RUN(failed_discard_leaves_the_blocks_free, small)
RUN(group_of_another_host_is_asked_for, small)
RUN(group_that_was_not_held_before_is_let_go, small)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_what_is_freed_is_discarded_once_that_is_durable_on_small),
	    cmocka_unit_test(test_what_is_freed_is_discarded_once_that_is_durable_on_small_4k),
	    cmocka_unit_test(test_short_runs_stay_on_small),
	    cmocka_unit_test(test_failed_discard_leaves_the_blocks_free_on_small),
	    cmocka_unit_test(test_group_of_another_host_is_asked_for_on_small),
	    cmocka_unit_test(test_group_that_was_not_held_before_is_let_go_on_small),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
