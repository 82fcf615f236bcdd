/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Distributions tell no quantile too low, and a warning comes before trouble, under the word of
 * what is to blame, and not without reason. What hosts say of each other is so.
 */
#include "member.h"
#include "said.h"

#include "base/crc.h"
#include "base/dist.h"

#define DEADLINE 400u
#define WINDOW (21 * BEAT) /* a little more than one */

static struct health *new_health(struct world *w)
{
	struct env env = {.dev = w->dev0, .clk = w->clk, .geo = &w->geo};
	struct health *h = calloc(1, sizeof(*h));

	assert_non_null(h);
	health_init(h, &env);
	said_forget();
	return h;
}

/* A beat that was due now: sent @late_ms later, back @took_ms after that. */
static void beat(struct health *h, uint64_t late_ms, uint64_t took_ms)
{
	uint64_t now = clock_now_ns(h->clk) + LONG;
	struct health_beat b = {.due_ns = now,
				.sent_ns = now + late_ms * MS,
				.returned_ns = now + (late_ms + took_ms) * MS,
				.lease_end_ns = now + 650 * MS,
				.beat_ms = BEAT,
				.deadline_ms = DEADLINE,
				.stands = true};

	health_beat(h, &b);
}

/* The window ends with a beat that is as it should be. */
static void end_window(struct world *w, struct health *h)
{
	rest(w, WINDOW);
	beat(h, 0, 1);
}

static uint64_t warned(struct health *h, enum health_warning x)
{
	return atomic_load(&h->warnings[x]);
}

static uint64_t warned_of_anything(struct health *h)
{
	uint64_t n = 0;

	for (unsigned x = 0; x < HEALTH_WARNINGS; x++)
		n += warned(h, (enum health_warning)x);
	return n;
}

/* ---- distributions ----------------------------------------------------------------------------
 */

TEST(a_quantile_is_never_too_low_and_at_most_a_quarter_too_high)
{
	for (uint64_t us = 1; us < 200000000; us = us * 9 / 8 + 1) {
		struct dist d = {0};
		struct dist_copy c;
		uint64_t q;

		dist_add(&d, us * 1000);
		dist_read(&d, &c);
		q = dist_quantile_us(&c, 990);
		assert_int_equal(c.n, 1);
		assert_true(q > us);
		assert_true(q <= us + us / 4 + 1);
		assert_true(dist_top_us(&c) <= us);
		assert_int_equal(atomic_load(&d.max_us), us);
	}
	(void)w;
}

TEST(the_p99_of_a_hundred_is_the_second_slowest)
{
	struct dist d = {0};
	struct dist_copy c;

	for (unsigned i = 0; i < 98; i++)
		dist_add(&d, 1 * MS);
	dist_add(&d, 50 * MS);
	dist_add(&d, 900 * MS);
	dist_read(&d, &c);
	assert_in_range(dist_quantile_us(&c, 500), 1000, 1250);
	assert_in_range(dist_quantile_us(&c, 990), 50000, 62500);
	assert_in_range(dist_quantile_us(&c, 1000), 900000, 1125000);
	(void)w;
}

TEST(what_came_since_is_what_is_new)
{
	struct dist d = {0};
	struct dist_copy before = {0}, c;

	dist_add(&d, 5 * MS);
	dist_since(&d, &before, &c);
	assert_int_equal(c.n, 1);
	dist_since(&d, &before, &c);
	assert_int_equal(c.n, 0);
	assert_int_equal(dist_quantile_us(&c, 990), 0);
	dist_add(&d, 7000 * MS * 1000);
	dist_since(&d, &before, &c);
	assert_int_equal(c.n, 1);
	assert_true(dist_top_us(&c) >= 400000000); /* beyond the last bound: in the last bucket */
	(void)w;
}

/* ---- a beat -----------------------------------------------------------------------------------
 */

TEST(a_beat_within_half_the_deadline_is_no_reason_to_say_anything)
{
	struct health *h = new_health(w);

	health_count(h, HEALTH_BEAT, 0, 199 * MS);
	beat(h, 0, 199);
	beat(h, 90, 90);
	assert_int_equal(warned_of_anything(h), 0);
	assert_int_equal(said_n, 0);
	free(h);
}

TEST(a_beat_that_the_device_kept_is_its_fault)
{
	struct health *h = new_health(w);

	health_count(h, HEALTH_BEAT, 0, 240 * MS);
	beat(h, 10, 250);
	assert_int_equal(warned(h, HEALTH_BEAT_LATE), 1);
	assert_int_equal(warned_of_anything(h), 1);
	SAYS("beat-late",
	     "came back from sim after 260 ms, later than half the I/O deadline of 400 ms");
	SAYS("beat-late", "390 ms of the lease were left");
	SAYS("beat-late", "queue depth and path states of the disk");
	free(h);
}

TEST(a_beat_that_waited_in_our_queue_is_not_the_devices_fault)
{
	struct health *h = new_health(w);

	health_count(h, HEALTH_BEAT, 200 * MS, 40 * MS);
	beat(h, 10, 240);
	assert_int_equal(warned(h, HEALTH_BEAT_QUEUED), 1);
	assert_int_equal(warned_of_anything(h), 1);
	SAYS("beat-queued", "waited 200 of 250 ms in lunfs's own queue");
	free(h);
}

TEST(a_beat_that_was_sent_late_is_this_machines_fault)
{
	struct health *h = new_health(w);

	health_count(h, HEALTH_BEAT, 0, 90 * MS);
	beat(h, 120, 90);
	assert_int_equal(warned(h, HEALTH_BEAT_UNSCHEDULED), 1);
	assert_int_equal(warned_of_anything(h), 1);
	SAYS("beat-unscheduled", "was sent 120 ms late, before sim had any part in it");
	free(h);
}

TEST(one_beats_times_are_not_the_next_ones)
{
	struct health *h = new_health(w);

	health_count(h, HEALTH_BEAT, 150 * MS, 10 * MS);
	beat(h, 0, 160);
	health_count(h, HEALTH_BEAT, 20 * MS, 190 * MS);
	beat(h, 0, 210);
	assert_int_equal(warned(h, HEALTH_BEAT_LATE), 1);
	assert_int_equal(warned_of_anything(h), 1);
	free(h);
}

TEST(late_beats_are_said_once_in_twenty_beats_and_counted_always)
{
	struct health *h = new_health(w);

	for (unsigned i = 0; i < 5; i++)
		beat(h, 0, 300);
	assert_int_equal(warned(h, HEALTH_BEAT_LATE), 5);
	assert_int_equal(said_count("beat-late"), 1);
	rest(w, WINDOW);
	beat(h, 0, 300);
	assert_int_equal(said_count("beat-late"), 2);
	SAYS("beat-late", "4 more like this since the last report");
	free(h);
}

TEST(the_least_that_was_left_of_the_lease_is_kept)
{
	struct health *h = new_health(w);
	struct dist_copy c;

	beat(h, 0, 10);
	beat(h, 0, 100);
	beat(h, 0, 20);
	assert_int_equal(atomic_load(&h->lease_left_min_us), 550000);
	dist_read(&h->lease_left, &c);
	assert_int_equal(c.n, 3);
	beat(h, 0, 5000); /* the lease was over */
	assert_int_equal(atomic_load(&h->lease_left_min_us), 0);
	free(h);
}

/* ---- windows ----------------------------------------------------------------------------------
 */

static void doubt(struct health *h, unsigned n)
{
	for (unsigned i = 0; i < 100; i++)
		health_note(h, HEALTH_COMMAND);
	while (n--)
		health_note(h, HEALTH_DOUBT);
}

TEST(rising_doubts_are_said_and_steady_ones_are_not)
{
	struct health *h = new_health(w);

	doubt(h, 3);
	end_window(w, h);
	assert_int_equal(warned(h, HEALTH_DOUBTS), 0); /* too few */
	doubt(h, 9);
	end_window(w, h);
	assert_int_equal(warned(h, HEALTH_DOUBTS), 1);
	SAYS("ats-doubts-rising", "Of 100 test and sets");
	SAYS("ats-doubts-rising", "9 were answered wrongly or not at all");
	SAYS("ats-doubts-rising", "against 3 in such a time before");
	for (unsigned i = 0; i < 6; i++) {
		doubt(h, 9);
		end_window(w, h);
	}
	assert_int_equal(warned(h, HEALTH_DOUBTS), 1);
	doubt(h, 40);
	end_window(w, h);
	assert_int_equal(warned(h, HEALTH_DOUBTS), 2);
	assert_int_equal(warned_of_anything(h), 2);
	free(h);
}

TEST(a_device_beyond_the_deadline_is_slow_and_one_below_is_not)
{
	struct health *h = new_health(w);

	for (unsigned i = 0; i < 200; i++)
		health_count_io(h, HEALTH_WRITE, 20 * MS);
	health_count_io(h, HEALTH_WRITE, 350 * MS);
	end_window(w, h);
	assert_int_equal(warned_of_anything(h), 0);
	health_count_io(h, HEALTH_WRITE, 600 * MS);
	end_window(w, h);
	assert_int_equal(warned(h, HEALTH_SLOW), 1);
	SAYS("device-slow", "of 1 write commands the slowest took at least");
	SAYS("device-slow", "an I/O deadline of 400 ms");
	end_window(w, h);
	assert_int_equal(warned(h, HEALTH_SLOW), 1); /* that was then */
	for (unsigned i = 0; i < 50; i++)
		health_count(h, HEALTH_LOCK, 0, 250 * MS);
	end_window(w, h);
	assert_int_equal(warned(h, HEALTH_SLOW), 2); /* the p99 alone */
	assert_int_equal(warned_of_anything(h), 2);
	free(h);
}

TEST(a_queue_that_takes_longer_than_the_device_is_said)
{
	struct health *h = new_health(w);

	for (unsigned i = 0; i < 50; i++)
		health_count(h, HEALTH_LOCK, 20 * MS, 30 * MS);
	end_window(w, h);
	assert_int_equal(warned_of_anything(h), 0);
	for (unsigned i = 0; i < 50; i++)
		health_count(h, HEALTH_LOCK, 40 * MS, 20 * MS);
	end_window(w, h);
	assert_int_equal(warned(h, HEALTH_QUEUE), 1);
	SAYS("ats-queue-long", "40000 us on average");
	SAYS("ats-queue-long", "look at its queue depth.");
	assert_int_equal(warned_of_anything(h), 1);
	for (unsigned i = 0; i < 50; i++) /* longer, yet nothing to speak of */
		health_count(h, HEALTH_LOCK, 100000, 20000);
	end_window(w, h);
	assert_int_equal(warned_of_anything(h), 1);
	free(h);
}

TEST(a_device_that_refuses_one_in_ten_is_busy)
{
	struct health *h = new_health(w);

	for (unsigned i = 0; i < 1000; i++)
		health_note(h, HEALTH_COMMAND);
	for (unsigned i = 0; i < 60; i++)
		health_note(h, HEALTH_REFUSED);
	end_window(w, h);
	assert_int_equal(warned_of_anything(h), 0);
	for (unsigned i = 0; i < 100; i++)
		health_note(h, HEALTH_COMMAND);
	for (unsigned i = 0; i < 60; i++)
		health_note(h, HEALTH_REFUSED);
	end_window(w, h);
	assert_int_equal(warned(h, HEALTH_BUSY), 1);
	SAYS("device-busy", "refused 60 of 100 test and sets as busy");
	free(h);
}

/* ---- whole hosts ------------------------------------------------------------------------------
 */

TEST(a_healthy_host_is_never_warned)
{
	struct member a = {0};

	said_forget();
	mount_host(&a, w, "a");
	rest(w, 100 * BEAT);
	assert_int_equal(warned_of_anything(&a.ats.health), 0);
	assert_true(atomic_load(&a.ats.health.lease_left_min_us) > (LEASE - BEAT - 50) * 1000);
	umount_host(&a);
}

TEST(a_slow_device_is_said_before_the_lease_runs_out)
{
	struct simdev_fault slow = {
	    .kind = SIMDEV_DELAY, .ops = SIMDEV_CAW, .count = 3, .delay_ns = 250 * MS};
	struct member a = {0};

	said_forget();
	mount_host(&a, w, "a");
	simdev_inject(a.dev, &slow);
	UNTIL(w, warned(&a.ats.health, HEALTH_BEAT_LATE) >= 1);
	assert_int_equal(a.suspended, 0);
	assert_int_equal(host_state(a.h), HOST_ACTIVE);
	SAYS("beat-late", "later than half the I/O deadline");
	assert_int_equal(warned(&a.ats.health, HEALTH_BEAT_UNSCHEDULED), 0);
	assert_true(atomic_load(&a.ats.health.lease_left_min_us) < (LEASE - BEAT - 200) * 1000);
	umount_host(&a);
}

TEST(the_time_of_the_beat_that_ends_the_claim_is_not_that_of_the_next)
{
	struct simdev_fault slow = {
	    .kind = SIMDEV_DELAY, .ops = SIMDEV_CAW, .count = 3, .delay_ns = 250 * MS};
	struct member a = {0};

	said_forget();
	make(&a, w, "a");
	simdev_inject(a.dev, &slow);
	assert_int_equal(claim(&a), 0);
	UNTIL(w, warned(&a.ats.health, HEALTH_BEAT_LATE) == 1);
	SAYS("beat-late", "(250 ms in the test and set");
	umount_host(&a);
}

TEST(lost_answers_to_beats_are_said_as_rising_doubts)
{
	struct simdev_fault lie = {.kind = SIMDEV_LIE_MISCOMPARE, .ops = SIMDEV_CAW, .count = 1};
	struct member a = {0};

	said_forget();
	mount_host(&a, w, "a");
	for (unsigned i = 0; i < 6; i++) {
		simdev_inject(a.dev, &lie);
		rest(w, 2 * BEAT);
	}
	UNTIL(w, warned(&a.ats.health, HEALTH_DOUBTS));
	SAYS("ats-doubts-rising", "miscompares of what is equal");
	assert_int_equal(atomic_load(&a.ats.stats.outcome[ATS_UNEXPLAINED]), 0);
	umount_host(&a);
}

static uint64_t beats_that_stood(struct member *m)
{
	struct dist_copy c;

	dist_read(&m->ats.health.lease_left, &c);
	return c.n;
}

TEST(a_host_that_stopped_beating_counts_no_beats)
{
	struct member a = {0};
	uint64_t stood;

	said_forget();
	mount_host(&a, w, "a");
	a.idle = true;
	UNTIL(w, said_count("host-stuck"));
	stood = beats_that_stood(&a);
	assert_true(stood > 0);
	UNTIL(w, a.suspended == 1);
	assert_int_equal(beats_that_stood(&a), stood);
	assert_true(atomic_load(&a.ats.health.lease_left_min_us) > (LEASE - 2 * BEAT) * 1000);
	a.idle = false;
	UNTIL(w, a.resumed == 1);
	assert_true(beats_that_stood(&a) > stood);
	umount_host(&a);
}

/* Dead, RECOVERING and FREE between two looks of the others: set free by another host. */
static void recovered_at_once(struct member *m)
{
	struct world *w = m->w;
	struct lunfs_slot_rec *rec = (void *)w->buf;
	uint64_t off = geo_slot_off(host_slot(m->h));

	die(m);
	simdev_peek(w->medium, off, w->geo.sector_bytes, w->buf);
	rec->state = le16_make(LUNFS_SLOT_FREE);
	rec->hdr.image_seq = le64_make(le64_get(rec->hdr.image_seq) + 2);
	rec->hdr.setter_owner = le64_make(LUNFS_OWNER(1, 3));
	crc_seal(w->buf, 512, offsetof(struct lunfs_ats_hdr, crc));
	simdev_poke(w->medium, off, w->geo.sector_bytes, w->buf);
}

TEST(who_was_recovered_between_two_looks_is_not_said_to_have_left)
{
	struct member a = {0}, b = {0}, c = {0};

	said_forget();
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	mount_host(&c, w, "c");
	rest(w, LEASE);
	recovered_at_once(&a);
	UNTIL(w, c.recovered == 1);
	assert_int_equal(said_count("host-left"), 0);
	SAYS("host-recovered", "host a (slot 0, generation 1) has been recovered");
	umount_host(&b);
	UNTIL(w, c.recovered == 2);
	assert_int_equal(said_count("host-left"), 1);
	SAYS("host-left", "host b (slot 1, generation 1) has left");
	umount_host(&c);
	unmake(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    UNIT(a_quantile_is_never_too_low_and_at_most_a_quarter_too_high),
	    UNIT(the_p99_of_a_hundred_is_the_second_slowest),
	    UNIT(what_came_since_is_what_is_new),
	    UNIT(a_beat_within_half_the_deadline_is_no_reason_to_say_anything),
	    UNIT(a_beat_that_the_device_kept_is_its_fault),
	    UNIT(a_beat_that_waited_in_our_queue_is_not_the_devices_fault),
	    UNIT(a_beat_that_was_sent_late_is_this_machines_fault),
	    UNIT(one_beats_times_are_not_the_next_ones),
	    UNIT(late_beats_are_said_once_in_twenty_beats_and_counted_always),
	    UNIT(the_least_that_was_left_of_the_lease_is_kept),
	    UNIT(rising_doubts_are_said_and_steady_ones_are_not),
	    UNIT(a_device_beyond_the_deadline_is_slow_and_one_below_is_not),
	    UNIT(a_queue_that_takes_longer_than_the_device_is_said),
	    UNIT(a_device_that_refuses_one_in_ten_is_busy),
	    UNIT(a_healthy_host_is_never_warned),
	    UNIT(a_slow_device_is_said_before_the_lease_runs_out),
	    UNIT(the_time_of_the_beat_that_ends_the_claim_is_not_that_of_the_next),
	    UNIT(lost_answers_to_beats_are_said_as_rising_doubts),
	    UNIT(a_host_that_stopped_beating_counts_no_beats),
	    UNIT(who_was_recovered_between_two_looks_is_not_said_to_have_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
