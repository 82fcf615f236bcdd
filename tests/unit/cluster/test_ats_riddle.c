/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ATS riddle: each way in which a COMPARE AND WRITE does not simply succeed has its own
 * counter, its own rule for sending again, and one sentence that says what, where, whose, why and
 * what now.
 */
#include "bench.h"
#include "member.h"
#include "said.h"

/* ---- a device that answers as told ------------------------------------------------------------
 */

static struct { /* one at a time */
	const struct dev_ops *real;
	struct dev_ops ops;
	enum dev_cause cause;
	int result;
	unsigned times; /* so often, then the device itself */
	bool lands;	/* and carries it out all the same */
} told;

static void answer_as_told(struct dev *d, struct dev_caw_io *io, size_t n)
{
	if (!told.times || told.lands)
		told.real->caw_batch(d, io, n);
	if (!told.times)
		return;
	told.times--;
	for (size_t i = 0; i < n; i++) {
		io[i].result = told.result;
		io[i].cause = told.cause;
	}
}

static void tell_device(struct bench *b, int result, enum dev_cause cause, unsigned times)
{
	if (!told.real || b->dev->ops != &told.ops)
		told.real = b->dev->ops;
	told.ops = *told.real;
	told.ops.caw_batch = answer_as_told;
	told.result = result;
	told.cause = cause;
	told.times = times;
	told.lands = false;
	b->dev->ops = &told.ops;
}

static uint64_t caused(struct bench *b, enum dev_cause c)
{
	return atomic_load(&b->ats.stats.cause[c]);
}

static uint64_t ended(struct bench *b, enum ats_outcome o)
{
	return atomic_load(&b->ats.stats.outcome[o]);
}

static void begin(struct bench *b, struct world *w)
{
	said_forget();
	fresh(w, OFF, w->buf);
	bench_open(b, w, 7);
}

/* ---- rules for sending again ------------------------------------------------------------------
 */

TEST(what_the_device_rejects_for_good_is_sent_once_and_said_under_its_own_word)
{
	static const struct {
		int result;
		enum dev_cause cause;
		const char *event, *says;
	} row[] = {
	    {-EOPNOTSUPP, DEV_CAUSE_OPCODE, "ats-unsupported-opcode", "unknown command"},
	    {-EOPNOTSUPP, DEV_CAUSE_TRANSFER, "ats-oversized-transfer", "VPD page B0"},
	    {-EROFS, DEV_CAUSE_PROTECTED, "ats-write-protected", "write-protected"},
	    {-ENODEV, DEV_CAUSE_GONE, "ats-gone", "device is gone"},
	    {-ENOSPC, DEV_CAUSE_NO_SPACE, "ats-no-space", "thin LUN"},
	    {-EIO, DEV_CAUSE_FAILED, "ats-failed", "failed for good"},
	};
	struct bench b;
	int error;

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		begin(&b, w);
		tell_device(&b, row[i].result, row[i].cause, 1000);
		make_set(&b, 2);
		assert_int_equal(ats(&b.ats, &b.s, b.test, b.set, NULL, &error), ATS_ERROR);
		assert_int_equal(error, row[i].result);
		assert_int_equal(commands(&b), 1);
		assert_int_equal(caused(&b, row[i].cause), 1);
		assert_int_equal(said_n, 1);
		SAYS(row[i].event, row[i].says);
		bench_close(&b);
	}
}

TEST(a_reservation_conflict_is_fenced_sent_once_and_said)
{
	struct bench b;

	begin(&b, w);
	tell_device(&b, -EBADE, DEV_CAUSE_CONFLICT, 1000);
	assert_int_equal(put(&b, 2), ATS_FENCED);
	assert_int_equal(commands(&b), 1);
	assert_int_equal(ended(&b, ATS_FENCED), 1);
	assert_int_equal(caused(&b, DEV_CAUSE_CONFLICT), 1);
	SAYS("ats-fenced", "reservation conflict");
	SAYS("ats-fenced", "lunfs hosts");
	bench_close(&b);
}

/* How long it takes to overcome @times answers of one cause. */
static uint64_t overcome_ns(struct world *w, enum dev_cause cause, unsigned times)
{
	struct bench b;
	uint64_t t0, ns;

	begin(&b, w);
	tell_device(&b, -EAGAIN, cause, times);
	t0 = clock_now_ns(w->clk);
	assert_int_equal(put(&b, 2), ATS_DONE);
	ns = clock_now_ns(w->clk) - t0;
	assert_int_equal(commands(&b), times + 1);
	assert_int_equal(caused(&b, cause), times);
	assert_int_equal(atomic_load(&b.ats.stats.retries), times);
	assert_int_equal(said_n, 0);
	bench_close(&b);
	return ns;
}

TEST(each_refusal_for_now_has_a_pause_of_its_own)
{
	uint64_t attention = overcome_ns(w, DEV_CAUSE_UNIT_ATTENTION, 4);
	uint64_t busy = overcome_ns(w, DEV_CAUSE_BUSY, 4);
	uint64_t full = overcome_ns(w, DEV_CAUSE_TASK_SET_FULL, 4);
	uint64_t waking = overcome_ns(w, DEV_CAUSE_NOT_READY, 4);

	assert_true(attention < 1 * MS); /* at once: what it told is known now */
	assert_true(busy > 10 * MS);
	assert_true(full > 2 * busy);
	assert_true(waking > full);
	overcome_ns(w, DEV_CAUSE_NOT_SENT, 4);
}

TEST(what_is_refused_for_too_long_had_no_effect_and_is_said)
{
	static const struct {
		enum dev_cause cause;
		const char *event, *says;
	} row[] = {
	    {DEV_CAUSE_BUSY, "ats-busy", "refused as busy until its time was up"},
	    {DEV_CAUSE_TASK_SET_FULL, "ats-task-set-full", "TASK SET FULL"},
	    {DEV_CAUSE_UNIT_ATTENTION, "ats-unit-attention", "unit attentions"},
	    {DEV_CAUSE_NOT_READY, "ats-not-ready", "fail-over"},
	    {DEV_CAUSE_NOT_SENT, "ats-not-sent", "could not be sent"},
	};
	uint64_t t0;
	struct bench b;
	int error;

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		begin(&b, w);
		tell_device(&b, -EAGAIN, row[i].cause, 100000);
		t0 = clock_now_ns(w->clk);
		make_set(&b, 2);
		assert_int_equal(ats(&b.ats, &b.s, b.test, b.set, NULL, &error), ATS_ERROR);
		assert_int_equal(error, -EBUSY);
		assert_true(clock_now_ns(w->clk) - t0 >= 400 * MS);
		assert_true(clock_now_ns(w->clk) - t0 < 1000 * MS);
		assert_int_equal(b.s.unresolved, 0);
		SAYS(row[i].event, row[i].says);
		SAYS(row[i].event, "it had no effect");
		bench_close(&b);
	}
}

TEST(a_command_of_unknown_fate_that_landed_is_done_late_and_says_why)
{
	static const struct {
		enum dev_cause cause;
		const char *says;
	} row[] = {
	    {DEV_CAUSE_NO_ANSWER, "had no answer within the I/O deadline of 400 ms"},
	    {DEV_CAUSE_ABORTED, "was aborted by the device or by somebody's reset"},
	    {DEV_CAUSE_TRANSPORT, "was cut off when the path to the device went away"},
	    {DEV_CAUSE_NOT_DURABLE, "was carried out but not flushed"},
	    {DEV_CAUSE_UNCLEAR, "was failed by the device, maybe behind its write"},
	};
	struct bench b;

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		begin(&b, w);
		tell_device(&b, -ETIMEDOUT, row[i].cause, 1);
		told.lands = true;
		assert_int_equal(put(&b, 2), ATS_DONE_LATE);
		assert_int_equal(caused(&b, row[i].cause), 1);
		SAYS("ats-done-late", row[i].says);
		SAYS("ats-done-late", "a re-read shows this host's own image");
		bench_close(&b);
	}
}

TEST(an_older_update_that_landed_after_all_is_said_to_have)
{
	struct simdev_fault late = {.kind = SIMDEV_LATE, .ops = SIMDEV_CAW, .delay_ns = 1000};
	struct bench b;

	begin(&b, w);
	simdev_inject(b.dev, &late);
	fault(&b, SIMDEV_FAIL, SIMDEV_READ, 1000);
	fault(&b, SIMDEV_LOST_COMMAND, SIMDEV_CAW, 1000);
	assert_int_equal(put(&b, 2), ATS_UNKNOWN);
	simdev_inject_clear(b.dev);
	assert_int_equal(put(&b, 3), ATS_DONE_LATE);
	SAYS("ats-done-late", "after an earlier one of this host whose fate had been unknown");
	bench_close(&b);
}

TEST(an_aborted_command_is_sent_again_at_once_and_its_end_is_one)
{
	struct bench b;
	uint64_t t0;

	begin(&b, w);
	tell_device(&b, -ETIMEDOUT, DEV_CAUSE_ABORTED, 1);
	t0 = clock_now_ns(w->clk);
	assert_int_equal(put(&b, 2), ATS_DONE);
	assert_true(clock_now_ns(w->clk) - t0 < 2 * MS);
	assert_int_equal(commands(&b), 2);
	bench_close(&b);
}

TEST(a_command_that_fails_each_time_stays_unknown_and_is_an_io_error)
{
	struct bench b;
	int error = 0;

	begin(&b, w);
	tell_device(&b, -ETIMEDOUT, DEV_CAUSE_UNCLEAR, 1000);
	make_set(&b, 2);
	assert_int_equal(ats(&b.ats, &b.s, b.test, b.set, b.found, &error), ATS_UNKNOWN);
	assert_int_equal(error, -EIO);
	assert_int_equal(b.s.unresolved, 1);
	tell_device(&b, -ETIMEDOUT, DEV_CAUSE_TRANSPORT, 1000);
	make_set(&b, 2);
	assert_int_equal(ats(&b.ats, &b.s, b.test, b.set, b.found, &error), ATS_UNKNOWN);
	assert_int_equal(error, -ETIMEDOUT);
	bench_close(&b);
}

TEST(a_command_without_an_answer_stays_unknown_whatever_the_next_one_meets)
{
	struct bench b;

	begin(&b, w);
	fault(&b, SIMDEV_LOST_COMMAND, SIMDEV_CAW, 1);
	fault(&b, SIMDEV_BUSY, SIMDEV_CAW, 100000);
	assert_int_equal(put(&b, 2), ATS_UNKNOWN);
	SAYS("ats-unknown",
	     "had no answer within the I/O deadline of 400 ms, so that nobody can tell");
	SAYS("ats-unknown", "it counts as neither done nor not done");
	bench_close(&b);
}

/* ---- as the simulator provokes them -----------------------------------------------------------
 */

TEST(the_simulators_refusals_are_counted_as_what_they_are)
{
	static const struct {
		enum simdev_fault_kind kind;
		enum dev_cause cause;
	} row[] = {{SIMDEV_BUSY, DEV_CAUSE_BUSY},
		   {SIMDEV_TASK_SET_FULL, DEV_CAUSE_TASK_SET_FULL},
		   {SIMDEV_UNIT_ATTENTION, DEV_CAUSE_UNIT_ATTENTION}};
	struct bench b;

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		begin(&b, w);
		fault(&b, row[i].kind, SIMDEV_CAW, 3);
		assert_int_equal(put(&b, 2), ATS_DONE);
		assert_int_equal(caused(&b, row[i].cause), 3);
		bench_close(&b);
	}
}

TEST(an_outage_is_a_lost_path_and_leaves_the_command_unknown)
{
	struct bench b;

	begin(&b, w);
	simdev_outage(b.dev, clock_now_ns(w->clk) + LONG, SIMDEV_OUTAGE_ERROR);
	assert_int_equal(put(&b, 2), ATS_UNKNOWN);
	assert_true(caused(&b, DEV_CAUSE_TRANSPORT) > 1);
	assert_true(commands(&b) < 100); /* it pauses */
	SAYS("ats-unknown", "was cut off when the path to the device went away");
	bench_close(&b);
}

TEST(a_false_miscompare_is_counted_and_only_said_when_it_stays)
{
	struct bench b;

	begin(&b, w);
	fault(&b, SIMDEV_LIE_MISCOMPARE, SIMDEV_CAW, 2);
	assert_int_equal(put(&b, 2), ATS_DONE);
	assert_int_equal(atomic_load(&b.ats.stats.miscompares), 2);
	assert_int_equal(atomic_load(&b.ats.stats.false_miscompares), 2);
	assert_int_equal(said_n, 0);
	advance(&b);
	fault(&b, SIMDEV_LIE_MISCOMPARE, SIMDEV_CAW, 1000);
	assert_int_equal(put(&b, 3), ATS_UNEXPLAINED);
	SAYS("ats-unexplained", "although the sector holds exactly what was expected");
	SAYS("ats-unexplained", "firmware");
	bench_close(&b);
}

TEST(a_lost_race_is_counted_and_not_said)
{
	struct bench a, b;

	begin(&a, w);
	bench_open(&b, w, 8);
	assert_int_equal(put(&a, 2), ATS_DONE);
	assert_int_equal(put(&b, 3), ATS_LOST_RACE);
	assert_int_equal(ended(&b, ATS_LOST_RACE), 1);
	assert_int_equal(atomic_load(&b.ats.stats.miscompares), 1);
	assert_int_equal(atomic_load(&b.ats.stats.false_miscompares), 0);
	assert_int_equal(said_n, 0);
	bench_close(&a);
	bench_close(&b);
}

TEST(going_back_and_damage_are_said_with_what_to_do)
{
	struct bench b;

	begin(&b, w);
	assert_int_equal(put(&b, 2), ATS_DONE);
	advance(&b);
	fault(&b, SIMDEV_LIE_DONE, SIMDEV_CAW, 1);
	assert_int_equal(put(&b, 3), ATS_DONE);
	advance(&b);
	assert_int_equal(put(&b, 4), ATS_WENT_BACK);
	SAYS("ats-went-back", "an older image of this host that had been replaced");
	SAYS("ats-went-back", "this host stops using the volume");
	bench_close(&b);
	begin(&b, w);
	w->buf[200] ^= 0x55;
	simdev_poke(w->medium, OFF, w->geo.sector_bytes, w->buf);
	assert_int_equal(put(&b, 2), ATS_DAMAGED);
	SAYS("ats-damaged", "fails its checks");
	SAYS("ats-damaged", "run fsck.lunfs");
	bench_close(&b);
}

/* ---- how much is said -------------------------------------------------------------------------
 */

TEST(a_storm_is_one_sentence_that_counts_and_hides_no_other_kind)
{
	struct bench b;

	begin(&b, w);
	tell_device(&b, -EIO, DEV_CAUSE_FAILED, 1000);
	for (unsigned i = 0; i < 10; i++)
		put(&b, 2);
	assert_int_equal(said_count("ats-failed"), 1);
	tell_device(&b, -EROFS, DEV_CAUSE_PROTECTED, 1000);
	put(&b, 2);
	assert_int_equal(said_count("ats-write-protected"), 1);
	clock_sleep_ns(w->clk, 6000 * MS);
	tell_device(&b, -EIO, DEV_CAUSE_FAILED, 1000);
	put(&b, 2);
	assert_int_equal(said_count("ats-failed"), 2);
	SAYS("ats-failed", "9 more like this since the last report");
	assert_int_equal(ended(&b, ATS_ERROR), 12);
	bench_close(&b);
}

/* ---- what it is about -------------------------------------------------------------------------
 */

/* A lock record at @addr that the host with id @owner holds; a false miscompare that stays on it.
 */
static void lie_about_lock(struct bench *b, uint64_t addr, uint64_t owner)
{
	struct world *w = b->w;
	uint64_t off = addr * LUNFS_BLOCK_BYTES;
	struct lunfs_lock_rec *r = (void *)b->test;

	memset(b->test, 0, w->geo.sector_bytes);
	r->mode = le16_make(owner ? LUNFS_LOCK_EXCL : LUNFS_LOCK_FREE);
	r->owner = le64_make(owner);
	ats_hdr_format(&w->geo, b->test, LUNFS_ATS_LOCK, off, 0x99);
	simdev_poke(w->medium, off, w->geo.sector_bytes, b->test);
	memcpy(b->set, b->test, w->geo.sector_bytes);
	ats_stamp(&b->ats, (void *)b->set, (void *)b->test, LUNFS_ATS_LOCK, off);
	b->s = (struct ats_sector){.off_bytes = off, .kind = "lock", .addr = addr};
	fault(b, SIMDEV_LIE_MISCOMPARE, SIMDEV_CAW, 5);
	clock_sleep_ns(w->clk, 6000 * MS);
	said_forget();
	assert_int_equal(ats(&b->ats, &b->s, b->test, b->set, b->found, NULL), ATS_UNEXPLAINED);
}

TEST(a_sentence_names_the_sector_and_the_lock)
{
	char where[64];
	struct bench b;

	begin(&b, w);
	w->geo.group0_blk = 2000;
	w->geo.group_blks = 512;
	w->geo.bitmap_cells = 1;
	lie_about_lock(&b, 2600, 0);
	SAYS("ats-unexplained", "The update of the lock of inode (or chunk) 2600 (byte 10649600, ");
	snprintf(where, sizeof(where), "sector %u of sim; ", 10649600u / w->geo.sector_bytes);
	SAYS("ats-unexplained", where);
	SAYS("ats-unexplained", "now free, last set by nobody");
	lie_about_lock(&b, geo_group_header(&w->geo, 1), LUNFS_OWNER(9, 3));
	SAYS("ats-unexplained", "the lock of group 1 (");
	SAYS("ats-unexplained", "now held by slot 3, generation 9");
	lie_about_lock(&b, geo_anchor_cell(LUNFS_ANCHOR_VOLUME), 0);
	SAYS("ats-unexplained", "The update of the volume lock (");
	bench_close(&b);
}

TEST(a_sentence_names_the_other_host_and_the_beat)
{
	struct member a = {0}, c = {0};
	struct bench b;

	begin(&b, w);
	mount_host(&a, w, "alpha");
	mount_host(&c, w, "gamma");
	UNTIL(w, host_live_owner(a.h, host_slot(c.h)));
	ats_set_names(&b.ats, a.ats.name_of, a.ats.name_ctx);
	lie_about_lock(&b, 2600, host_owner(c.h));
	SAYS("ats-unexplained", "now held by host gamma (slot 1, generation 1)");
	lie_about_lock(&b, 2600, host_owner(a.h));
	SAYS("ats-unexplained", "now held by this host (alpha, slot 0, generation 1)");
	said_forget();
	fail_all(&a, -EIO);
	UNTIL(w, said_count("ats-failed"));
	SAYS("ats-failed", "The beat of this host in slot 0 (byte 2097152, sector ");
	SAYS("ats-failed", "as last seen, of host alpha, generation 1)");
	SAYS("ats-failed", "this beat does not count");
	simdev_inject_clear(a.dev);
	UNTIL(w, host_state(a.h) == HOST_ACTIVE);
	umount_host(&a);
	umount_host(&c);
	bench_close(&b);
}

/* ---- how long it takes ------------------------------------------------------------------------
 */

static void wait_then_answer(struct dev *d, struct dev_caw_io *io, size_t n)
{
	told.real->caw_batch(d, io, n);
	for (size_t i = 0; i < n; i++) {
		io[i].wait_ns = (i + 1) * 10 * MS;
		io[i].device_ns = 3 * MS;
	}
}

TEST(what_the_backend_held_back_is_queue_time_and_not_the_devices)
{
	struct dist_copy queue, device;
	struct bench b;

	begin(&b, w);
	tell_device(&b, 0, DEV_CAUSE_NONE, 0);
	told.ops.caw_batch = wait_then_answer;
	assert_int_equal(put(&b, 2), ATS_DONE);
	dist_read(&b.ats.health.queue[HEALTH_OTHER], &queue);
	dist_read(&b.ats.health.device[HEALTH_OTHER], &device);
	assert_int_equal(queue.n, 1);
	assert_int_equal(device.n, 1);
	assert_in_range(queue.sum_us, 10000, 10100);
	assert_int_equal(device.sum_us, 3000);
	bench_close(&b);
}

TEST(locks_beats_and_slot_changes_are_timed_apart)
{
	struct member a = {0};
	struct dist_copy beat, slot, other;

	mount_host(&a, w, "a");
	rest(w, 10 * BEAT);
	dist_read(&a.ats.health.device[HEALTH_BEAT], &beat);
	dist_read(&a.ats.health.device[HEALTH_SLOT], &slot);
	dist_read(&a.ats.health.device[HEALTH_LOCK], &other);
	assert_in_range(beat.n, 8, 14);
	assert_int_equal(slot.n, 1); /* the claim */
	assert_int_equal(other.n, 0);
	assert_true(beat.sum_us / beat.n >= 10 && beat.sum_us / beat.n <= 210);
	umount_host(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    UNIT(what_the_device_rejects_for_good_is_sent_once_and_said_under_its_own_word),
	    UNIT(a_reservation_conflict_is_fenced_sent_once_and_said),
	    UNIT(each_refusal_for_now_has_a_pause_of_its_own),
	    UNIT(what_is_refused_for_too_long_had_no_effect_and_is_said),
	    UNIT(a_command_of_unknown_fate_that_landed_is_done_late_and_says_why),
	    UNIT(an_older_update_that_landed_after_all_is_said_to_have),
	    UNIT(a_command_that_fails_each_time_stays_unknown_and_is_an_io_error),
	    UNIT(an_aborted_command_is_sent_again_at_once_and_its_end_is_one),
	    UNIT(a_command_without_an_answer_stays_unknown_whatever_the_next_one_meets),
	    UNIT(the_simulators_refusals_are_counted_as_what_they_are),
	    UNIT(an_outage_is_a_lost_path_and_leaves_the_command_unknown),
	    UNIT(a_false_miscompare_is_counted_and_only_said_when_it_stays),
	    UNIT(a_lost_race_is_counted_and_not_said),
	    UNIT(going_back_and_damage_are_said_with_what_to_do),
	    UNIT(a_storm_is_one_sentence_that_counts_and_hides_no_other_kind),
	    UNIT(a_sentence_names_the_sector_and_the_lock),
	    UNIT(a_sentence_names_the_other_host_and_the_beat),
	    UNIT(what_the_backend_held_back_is_queue_time_and_not_the_devices),
	    UNIT(locks_beats_and_slot_changes_are_timed_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
