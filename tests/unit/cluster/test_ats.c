/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every outcome of one atomic test and set, on a simulated LUN with faults. */
#include "bench.h"

TEST(a_plain_success_is_done_with_one_command)
{
	struct bench b;

	fresh(w, OFF, w->buf);
	bench_open(&b, w, 7);
	assert_int_equal(put(&b, 2), ATS_DONE);
	assert_true(stands(&b, b.set));
	assert_int_equal(ats_check(&b.ats, b.set, LUNFS_ATS_SCRATCH, OFF), 0);
	assert_int_equal(commands(&b), 1);
	assert_int_equal(atomic_load(&b.ats.stats.outcome[ATS_DONE]), 1);
	bench_close(&b);
}

TEST(another_owners_record_is_a_lost_race_and_is_shown)
{
	struct bench a, b;

	fresh(w, OFF, w->buf);
	bench_open(&a, w, 7);
	bench_open(&b, w, 8);
	assert_int_equal(put(&a, 2), ATS_DONE);
	assert_int_equal(put(&b, 3), ATS_LOST_RACE);
	assert_memory_equal(b.found, a.set, w->geo.sector_bytes);
	assert_true(stands(&b, a.set));
	bench_close(&a);
	bench_close(&b);
}

TEST(lost_reply_that_landed_is_done_late)
{
	struct bench b;

	fresh(w, OFF, w->buf);
	bench_open(&b, w, 7);
	fault(&b, SIMDEV_LOST_REPLY, SIMDEV_CAW, 1);
	assert_int_equal(put(&b, 2), ATS_DONE_LATE);
	assert_true(stands(&b, b.set));
	assert_int_equal(b.s.unresolved, 0);
	assert_int_equal(commands(&b), 1);
	bench_close(&b);
}

TEST(command_resent_below_us_that_miscompares_with_itself_is_done_late)
{
	struct bench b;

	fresh(w, OFF, w->buf);
	bench_open(&b, w, 7);
	fault(&b, SIMDEV_RESENT, SIMDEV_CAW, 1);
	assert_int_equal(put(&b, 2), ATS_DONE_LATE);
	assert_true(stands(&b, b.set));
	bench_close(&b);
}

TEST(lost_command_is_sent_again_and_done)
{
	struct bench b;

	fresh(w, OFF, w->buf);
	bench_open(&b, w, 7);
	fault(&b, SIMDEV_LOST_COMMAND, SIMDEV_CAW, 1);
	b.dev->deadline_ms = 2000;
	assert_true(ats_ok(put(&b, 2)));
	assert_true(stands(&b, b.set));
	assert_int_equal(commands(&b), 2);
	assert_int_equal(atomic_load(&b.ats.stats.retries), 1);
	assert_int_equal(b.s.unresolved, 0);
	bench_close(&b);
}

TEST(unknown_stays_unresolved_until_an_ats_of_a_fresh_image)
{
	struct bench b;
	int error = 0;

	fresh(w, OFF, w->buf);
	bench_open(&b, w, 7);
	fault(&b, SIMDEV_LOST_COMMAND, SIMDEV_CAW, 1000);
	make_set(&b, 2);
	assert_int_equal(ats(&b.ats, &b.s, b.test, b.set, b.found, &error), ATS_UNKNOWN);
	assert_int_equal(error, -ETIMEDOUT);
	assert_int_equal(b.s.unresolved, 1);
	simdev_inject_clear(b.dev);
	assert_int_equal(put(&b, 3), ATS_DONE);
	assert_true(stands(&b, b.set));
	assert_int_equal(b.s.unresolved, 0);
	bench_close(&b);
}

TEST(two_images_after_the_same_one_never_share_a_number)
{
	struct bench b;
	uint64_t first;

	fresh(w, OFF, w->buf);
	bench_open(&b, w, 7);
	fault(&b, SIMDEV_LOST_COMMAND, SIMDEV_CAW, 1000);
	assert_int_equal(put(&b, 2), ATS_UNKNOWN);
	first = le64_get(((struct lunfs_ats_hdr *)b.set)->image_seq);
	simdev_inject_clear(b.dev);
	assert_int_equal(put(&b, 3), ATS_DONE);
	assert_true(le64_get(((struct lunfs_ats_hdr *)b.set)->image_seq) > first);
	bench_close(&b);
}

TEST(older_unresolved_image_that_landed_is_replaced_by_the_new_one)
{
	struct simdev_fault late = {.kind = SIMDEV_LATE, .ops = SIMDEV_CAW, .delay_ns = 1000};
	struct bench b;

	fresh(w, OFF, w->buf);
	bench_open(&b, w, 7);
	simdev_inject(b.dev, &late);
	fault(&b, SIMDEV_FAIL, SIMDEV_READ, 1000);
	fault(&b, SIMDEV_LOST_COMMAND, SIMDEV_CAW, 1000);
	assert_int_equal(put(&b, 2), ATS_UNKNOWN);
	simdev_inject_clear(b.dev);
	assert_true(b.s.unresolved > 0);
	assert_int_equal(put(&b, 3), ATS_DONE_LATE);
	assert_true(stands(&b, b.set));
	assert_int_equal(b.set[100], 3);
	bench_close(&b);
}

/* A lock record that names @owner, as the image after b->test. */
static void make_lock(struct bench *b, uint64_t owner)
{
	struct lunfs_lock_rec *r = (void *)b->set;

	memcpy(b->set, b->test, b->w->geo.sector_bytes);
	r->owner = le64_make(owner);
	ats_stamp(&b->ats, &r->hdr, (void *)b->test, LUNFS_ATS_LOCK, OFF);
}

/*
 * A hand-over whose command had no answer, and landed: whom it names may hold the lock by now. What
 * was made from the record before must not replace it.
 */
TEST(an_own_image_that_gave_the_lock_away_is_found_and_not_replaced)
{
	struct simdev_fault late = {.kind = SIMDEV_LATE, .ops = SIMDEV_CAW, .delay_ns = 1000};
	struct bench b;

	fresh(w, OFF, w->buf);
	ats_hdr_format(&w->geo, w->buf, LUNFS_ATS_LOCK, OFF, 0x1234);
	simdev_poke(w->medium, OFF, w->geo.sector_bytes, w->buf);
	bench_open(&b, w, 7);
	simdev_inject(b.dev, &late);
	fault(&b, SIMDEV_FAIL, SIMDEV_READ, 1000);
	fault(&b, SIMDEV_LOST_COMMAND, SIMDEV_CAW, 1000);
	make_lock(&b, 0x201);
	assert_int_equal(ats(&b.ats, &b.s, b.test, b.set, b.found, NULL), ATS_UNKNOWN);
	simdev_inject_clear(b.dev);
	make_lock(&b, 0);
	assert_int_equal(ats(&b.ats, &b.s, b.test, b.set, b.found, NULL), ATS_LOST_RACE);
	assert_int_equal(le64_get(((struct lunfs_lock_rec *)b.found)->owner), 0x201);
	assert_true(stands(&b, b.found));
	assert_int_equal(b.s.unresolved, 0);
	bench_close(&b);
}

TEST(late_command_cannot_undo_the_image_that_settled_it)
{
	struct simdev_fault late = {
	    .kind = SIMDEV_LATE, .ops = SIMDEV_CAW, .delay_ns = 3000000000ull};
	struct bench b;
	struct simdev_counts n;

	fresh(w, OFF, w->buf);
	bench_open(&b, w, 7);
	b.dev->deadline_ms = 2000;
	simdev_inject(b.dev, &late);
	assert_true(ats_ok(put(&b, 2)));
	advance(&b);
	assert_int_equal(put(&b, 3), ATS_DONE);
	clock_sleep_ns(w->clk, 4000000000ull);
	assert_int_equal(dev_read(b.dev, OFF, w->geo.sector_bytes, b.found), 0);
	simdev_counts(w->medium, &n);
	assert_int_equal(n.late, 1);
	assert_memory_equal(b.found, b.set, w->geo.sector_bytes);
	bench_close(&b);
}

TEST(a_miscompare_of_a_landed_command_that_cannot_be_read_stays_unresolved)
{
	struct bench b;
	uint8_t first[4096];

	fresh(w, OFF, w->buf);
	bench_open(&b, w, 7);
	fault(&b, SIMDEV_RESENT, SIMDEV_CAW, 1);
	fault(&b, SIMDEV_FAIL, SIMDEV_READ, 100000);
	assert_int_equal(put(&b, 2), ATS_UNKNOWN);
	assert_int_equal(b.s.unresolved, 1);
	assert_true(stands(&b, b.set));
	memcpy(first, b.set, w->geo.sector_bytes);
	simdev_inject_clear(b.dev);
	assert_int_equal(put(&b, 2), ATS_DONE_LATE);
	assert_true(stands(&b, b.set));
	assert_memory_not_equal(b.set, first, w->geo.sector_bytes);
	bench_close(&b);
}

static int keep(void *ctx, const void *now, void *set)
{
	(void)now;
	(void)set;
	return *(int *)ctx;
}

TEST(resolving_an_unknown_gives_what_stands_there_a_fresh_image)
{
	struct bench b;
	int refuse = 0, error = 0;

	fresh(w, OFF, w->buf);
	bench_open(&b, w, 7);
	fault(&b, SIMDEV_LOST_COMMAND, SIMDEV_CAW, 1000);
	assert_int_equal(put(&b, 2), ATS_UNKNOWN);
	simdev_inject_clear(b.dev);
	assert_int_equal(ats_resolve(&b.ats, &b.s, keep, &refuse, b.found, &error), ATS_DONE);
	assert_int_equal(b.s.unresolved, 0);
	assert_true(stands(&b, b.found));
	assert_int_equal(b.found[100], 1);
	bench_close(&b);
}

TEST(refused_resolution_leaves_the_sector_unknown)
{
	struct bench b;
	int refuse = -EBUSY, error = 0;

	fresh(w, OFF, w->buf);
	bench_open(&b, w, 7);
	fault(&b, SIMDEV_LOST_COMMAND, SIMDEV_CAW, 1000);
	assert_int_equal(put(&b, 2), ATS_UNKNOWN);
	simdev_inject_clear(b.dev);
	assert_int_equal(ats_resolve(&b.ats, &b.s, keep, &refuse, b.found, &error), ATS_UNKNOWN);
	assert_int_equal(error, -EBUSY);
	assert_int_equal(b.s.unresolved, 1);
	bench_close(&b);
}

TEST(one_false_miscompare_is_overcome_by_a_retry)
{
	struct bench b;

	fresh(w, OFF, w->buf);
	bench_open(&b, w, 7);
	fault(&b, SIMDEV_LIE_MISCOMPARE, SIMDEV_CAW, 1);
	assert_int_equal(put(&b, 2), ATS_DONE);
	assert_false(b.ats.unreliable);
	bench_close(&b);
}

TEST(a_device_that_keeps_lying_is_unexplained_then_unreliable)
{
	struct bench b;

	fresh(w, OFF, w->buf);
	bench_open(&b, w, 7);
	fault(&b, SIMDEV_LIE_MISCOMPARE, SIMDEV_CAW, 1000);
	assert_int_equal(put(&b, 2), ATS_UNEXPLAINED);
	assert_int_equal(commands(&b), 5);
	assert_false(b.ats.unreliable);
	assert_int_equal(put(&b, 2), ATS_UNEXPLAINED);
	assert_int_equal(put(&b, 2), ATS_UNEXPLAINED);
	assert_true(b.ats.unreliable);
	bench_close(&b);
}

TEST(an_older_image_of_our_own_means_the_device_went_back)
{
	struct bench b;

	fresh(w, OFF, w->buf);
	bench_open(&b, w, 7);
	assert_int_equal(put(&b, 2), ATS_DONE);
	advance(&b);
	fault(&b, SIMDEV_LIE_DONE, SIMDEV_CAW, 1);
	assert_int_equal(put(&b, 3), ATS_DONE);
	simdev_inject_clear(b.dev);
	advance(&b);
	assert_int_equal(put(&b, 4), ATS_WENT_BACK);
	assert_true(b.ats.unreliable);
	bench_close(&b);
}

TEST(a_newer_image_of_our_own_is_a_lost_race)
{
	struct bench a, b;

	fresh(w, OFF, w->buf);
	bench_open(&a, w, 7);
	bench_open(&b, w, 7);
	assert_int_equal(put(&a, 2), ATS_DONE);
	assert_int_equal(put(&b, 3), ATS_LOST_RACE);
	assert_memory_equal(b.found, a.set, w->geo.sector_bytes);
	bench_close(&a);
	bench_close(&b);
}

TEST(a_record_that_fails_its_checks_is_damaged)
{
	struct bench b;

	fresh(w, OFF, w->buf);
	bench_open(&b, w, 7);
	w->buf[200] ^= 0x55;
	simdev_poke(w->medium, OFF, w->geo.sector_bytes, w->buf);
	assert_int_equal(put(&b, 2), ATS_DAMAGED);
	assert_true(stands(&b, w->buf));
	bench_close(&b);
}

TEST(a_busy_device_is_asked_again)
{
	struct simdev_fault busy = {
	    .kind = SIMDEV_FAIL, .ops = SIMDEV_CAW, .count = 3, .error = -EAGAIN};
	struct bench b;

	fresh(w, OFF, w->buf);
	bench_open(&b, w, 7);
	simdev_inject(b.dev, &busy);
	assert_int_equal(put(&b, 2), ATS_DONE);
	assert_int_equal(commands(&b), 4);
	bench_close(&b);
}

TEST(a_reservation_conflict_means_fenced_and_other_errors_are_passed_on)
{
	struct simdev_fault f = {.kind = SIMDEV_FAIL, .ops = SIMDEV_CAW, .error = -EBADE};
	struct bench b;
	int error = 0;

	fresh(w, OFF, w->buf);
	bench_open(&b, w, 7);
	simdev_inject(b.dev, &f);
	assert_int_equal(put(&b, 2), ATS_FENCED);
	f.error = -EOPNOTSUPP;
	simdev_inject(b.dev, &f);
	make_set(&b, 2);
	assert_int_equal(ats(&b.ats, &b.s, b.test, b.set, NULL, &error), ATS_ERROR);
	assert_int_equal(error, -EOPNOTSUPP);
	bench_close(&b);
}

#define BATCH 8u

TEST(a_batch_explains_each_of_its_elements)
{
	struct simdev_fault lost = {.kind = SIMDEV_LOST_REPLY,
				    .ops = SIMDEV_CAW,
				    .off_bytes = OFF + 3 * 4096,
				    .len_bytes = 512};
	struct ats_sector s[BATCH] = {0};
	struct ats_op op[BATCH] = {0};
	struct bench b;

	fresh(w, OFF, w->buf);
	bench_open(&b, w, 7);
	for (unsigned i = 0; i < BATCH; i++) {
		uint8_t *test = dev_buf_alloc(w->geo.sector_bytes);
		uint8_t *set = dev_buf_alloc(w->geo.sector_bytes);

		s[i].off_bytes = OFF + i * 4096;
		fresh(w, s[i].off_bytes, test);
		memcpy(set, test, w->geo.sector_bytes);
		set[100] = (uint8_t)(10 + i);
		ats_stamp(&b.ats, (void *)set, (void *)test, LUNFS_ATS_SCRATCH, s[i].off_bytes);
		op[i] = (struct ats_op){.s = &s[i], .test = test, .set = set};
		if (i != 5)
			continue;
		memcpy(w->buf, test, w->geo.sector_bytes);
		w->buf[100] = 99;
		ats_hdr_format(&w->geo, w->buf, LUNFS_ATS_SCRATCH, s[i].off_bytes, 0x777);
		simdev_poke(w->medium, s[i].off_bytes, w->geo.sector_bytes, w->buf);
		op[i].found = dev_buf_alloc(w->geo.sector_bytes);
	}
	simdev_inject(b.dev, &lost);
	ats_batch(&b.ats, op, BATCH);
	for (unsigned i = 0; i < BATCH; i++) {
		enum ats_outcome want = i == 3 ? ATS_DONE_LATE : i == 5 ? ATS_LOST_RACE : ATS_DONE;

		assert_int_equal(op[i].outcome, want);
	}
	assert_memory_equal(op[5].found, w->buf, w->geo.sector_bytes);
	assert_int_equal(commands(&b), BATCH);
	for (unsigned i = 0; i < BATCH; i++) {
		free((void *)op[i].test);
		free(op[i].set);
		free(op[i].found);
	}
	bench_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    UNIT(a_plain_success_is_done_with_one_command),
	    UNIT(another_owners_record_is_a_lost_race_and_is_shown),
	    UNIT(lost_reply_that_landed_is_done_late),
	    UNIT(command_resent_below_us_that_miscompares_with_itself_is_done_late),
	    UNIT(lost_command_is_sent_again_and_done),
	    UNIT(unknown_stays_unresolved_until_an_ats_of_a_fresh_image),
	    UNIT(two_images_after_the_same_one_never_share_a_number),
	    UNIT(older_unresolved_image_that_landed_is_replaced_by_the_new_one),
	    UNIT(an_own_image_that_gave_the_lock_away_is_found_and_not_replaced),
	    UNIT(late_command_cannot_undo_the_image_that_settled_it),
	    UNIT(a_miscompare_of_a_landed_command_that_cannot_be_read_stays_unresolved),
	    UNIT(resolving_an_unknown_gives_what_stands_there_a_fresh_image),
	    UNIT(refused_resolution_leaves_the_sector_unknown),
	    UNIT(one_false_miscompare_is_overcome_by_a_retry),
	    UNIT(a_device_that_keeps_lying_is_unexplained_then_unreliable),
	    UNIT(an_older_image_of_our_own_means_the_device_went_back),
	    UNIT(a_newer_image_of_our_own_is_a_lost_race),
	    UNIT(a_record_that_fails_its_checks_is_damaged),
	    UNIT(a_busy_device_is_asked_again),
	    UNIT(a_reservation_conflict_means_fenced_and_other_errors_are_passed_on),
	    UNIT(a_batch_explains_each_of_its_elements),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
