/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads and overwrites that no thread waits for (first writes: test_first.c): what they promise
 * while the device has not answered, and when it answers something else than yes. The simulated
 * device gets a queue of one transfer that the test itself completes.
 */
#include "unit.h"

#include <stdlib.h>
#include <sys/stat.h>

#define PAGE 4096u
#define FILE_BYTES (16 * PAGE)

struct bench {
	struct simcluster *t;
	struct dev_lane lane;
	struct dev_async *on_way; /* the transfer that was started */
	unsigned started;
	struct vol_io x;
	unsigned ended;
	struct nodeid id;
	uint8_t *buf;
	bool other_done;
};

static struct bench *bench; /* a lane has no context of its own */

static int hold(struct dev_lane *l, struct dev_async *a)
{
	(void)l;
	if (bench->on_way)
		return -EAGAIN;
	bench->on_way = a;
	bench->started++;
	return 0;
}

static const struct dev_lane_ops lane_ops = {.start = hold};

static void ended(struct vol_io *x)
{
	(void)x;
	bench->ended++;
}

/* The device carries it out, if @result is 0, and answers that. */
static void answer(struct bench *b, int result)
{
	struct dev_async *a = b->on_way;

	if (result == 0 && a->io.op == DEV_WRITE)
		result = a->dev->ops->write(a->dev, a->io.off_bytes, a->io.len_bytes, a->io.buf);
	else if (result == 0)
		result = a->dev->ops->read(a->dev, a->io.off_bytes, a->io.len_bytes, a->io.buf);
	a->io.result = result;
	b->on_way = NULL;
	dev_started_done(a);
}

static void set_up(struct simcluster *t, struct bench *b)
{
	*b = (struct bench){.t = t};
	bench = b;
	sc_up(t, 0);
	b->buf = dev_buf_alloc(FILE_BYTES);
	b->id = sc_mkfile(t, 0, sc_root_id(t, 0), "f");
	memset(b->buf, 'o', FILE_BYTES);
	sc_write(t, 0, b->id, 0, b->buf, FILE_BYTES);
	b->lane = (struct dev_lane){.dev = t->dev[0], .ops = &lane_ops};
	dev_lane_use(&b->lane);
	SC_OK(t, vol_open(t->v[0], &sc_root, b->id));
}

static void tear_down(struct bench *b)
{
	vol_release(b->t->v[0], b->id);
	free(b->buf);
	sc_down(b->t, 0); /* while its operations are still there */
	bench = NULL;
}

static bool start(struct bench *b, bool write, uint64_t off, size_t len, unsigned flags)
{
	b->x = (struct vol_io){.write = write,
			       .flags = flags,
			       .c = &sc_root,
			       .id = b->id,
			       .off_bytes = off,
			       .len_bytes = len,
			       .buf = b->buf,
			       .ended = ended};
	return vol_io_start(b->t->v[0], &b->x);
}

/* ---- all is well ----------------------------------------------------------------------------- */

static void good_body(struct simcluster *t)
{
	struct stat before, after;
	struct bench b;
	size_t done;
	int rc;

	set_up(t, &b);
	before = sc_stat(t, 0, b.id);
	clock_sleep_ns(t->clk, 2 * SC_S);
	memset(b.buf, 'n', FILE_BYTES);
	assert_true(start(&b, true, PAGE, 2 * PAGE, 0));
	assert_int_equal(b.ended, 0);
	answer(&b, 0);
	assert_int_equal(b.ended, 1);
	rc = vol_io_end(&b.x, false, &done);
	assert_int_equal(rc, VOL_IO_WAITS); /* the time stamps are to be set */
	assert_int_equal(vol_io_end(&b.x, true, &done), 0);
	assert_int_equal(done, 2 * PAGE);
	after = sc_stat(t, 0, b.id);
	assert_true(after.st_mtim.tv_sec > before.st_mtim.tv_sec);
	memset(b.buf, 0, FILE_BYTES);
	assert_true(start(&b, false, 0, 4 * PAGE, 0));
	answer(&b, 0);
	assert_int_equal(vol_io_end(&b.x, false, &done), 0);
	assert_int_equal(done, 4 * PAGE);
	assert_int_equal(b.buf[0], 'o');
	assert_int_equal(b.buf[PAGE], 'n');
	assert_int_equal(b.buf[3 * PAGE - 1], 'n');
	assert_int_equal(b.buf[3 * PAGE], 'o');
	tear_down(&b);
}

static void a_started_overwrite_is_read_back_and_sets_the_time_stamps(void **s)
{
	(void)s;
	sc_run(good_body, NULL);
}

static void other_task(void *arg)
{
	struct bench *b = arg;
	uint8_t c;

	assert_int_equal(sc_read(b->t, 1, b->id, 0, &c, 1), 1);
	assert_int_equal(c, 'n');
	b->other_done = true;
}

static void lock_body(struct simcluster *t)
{
	struct task *task;
	struct bench b;
	size_t done;

	set_up(t, &b);
	sc_up(t, 1);
	memset(b.buf, 'n', FILE_BYTES);
	assert_true(start(&b, true, 0, PAGE, 0));
	task = sc_task(t, 1, other_task, &b);
	clock_sleep_ns(t->clk, 5 * SC_S);
	assert_false(b.other_done);
	answer(&b, 0);
	clock_sleep_ns(t->clk, 5 * SC_S);
	assert_false(b.other_done); /* nobody has heard of the answer yet */
	if (vol_io_end(&b.x, false, &done) == VOL_IO_WAITS)
		SC_OK(t, vol_io_end(&b.x, true, &done));
	sc_join(t, task);
	assert_true(b.other_done);
	tear_down(&b);
}

static void the_lock_stays_here_while_a_started_write_is_on_its_way(void **s)
{
	(void)s;
	sc_run(lock_body, NULL);
}

/* ---- what is not for it -----------------------------------------------------------------------
 */

static void refused_body(struct simcluster *t)
{
	struct stat st = {.st_mode = 06755};
	struct vattr va;
	struct bench b;

	set_up(t, &b);
	assert_false(start(&b, true, FILE_BYTES, PAGE, 0));	       /* grows */
	assert_false(start(&b, true, FILE_BYTES - PAGE, 2 * PAGE, 0)); /* ends beyond the end */
	assert_false(start(&b, true, 100, PAGE, 0));
	assert_false(start(&b, false, 0, 100, 0));
	assert_false(start(&b, false, FILE_BYTES - PAGE, 2 * PAGE, 0));
	SC_OK(t, vol_fallocate(t->v[0], &sc_root, b.id, 0, FILE_BYTES, FILE_BYTES));
	assert_false(start(&b, false, FILE_BYTES, PAGE, 0));	       /* not written yet */
	assert_false(start(&b, true, FILE_BYTES - PAGE, 2 * PAGE, 0)); /* one of them is */
	SC_OK(t, vol_setattr(t->v[0], &sc_root, b.id, &st, VSET_MODE, &va));
	assert_false(start(&b, true, 0, PAGE, VWRITE_KILL_SUIDGID));
	SC_OK(t, vol_setxattr(t->v[0], &sc_root, b.id, "security.capability", "x", 1, 0));
	st.st_mode = 0644;
	SC_OK(t, vol_setattr(t->v[0], &sc_root, b.id, &st, VSET_MODE, &va));
	assert_false(start(&b, true, 0, PAGE, 0)); /* whoever writes */
	b.id = sc_mkfile(t, 0, sc_root_id(t, 0), "small");
	sc_write(t, 0, b.id, 0, "inline", 6);
	assert_false(start(&b, false, 0, PAGE, 0));
	assert_int_equal(b.started, 0);
	tear_down(&b);
}

static void known_body(struct simcluster *t)
{
	struct bench b;
	size_t done;

	set_up(t, &b);
	SC_OK(t, vol_setxattr(t->v[0], &sc_root, b.id, "user.x", "x", 1, 0));
	assert_false(start(&b, true, 0, PAGE, 0)); /* there may be others */
	sc_write(t, 0, b.id, 0, b.buf, PAGE);
	assert_true(start(&b, true, 0, PAGE, VWRITE_KILL_SUIDGID));
	answer(&b, 0);
	SC_OK(t, vol_io_end(&b.x, true, &done));
	tear_down(&b);
}

static void that_a_file_has_no_privileges_is_known_after_a_write(void **s)
{
	(void)s;
	sc_run(known_body, NULL);
}

static void only_whole_written_blocks_are_started_and_no_privilege_outlives_a_write(void **s)
{
	(void)s;
	sc_run(refused_body, NULL);
}

static void take_task(void *arg)
{
	struct bench *b = arg;

	sc_write(b->t, 1, b->id, 0, "theirs", 6);
}

static void not_held_body(struct simcluster *t)
{
	struct bench b;

	set_up(t, &b);
	sc_up(t, 1);
	sc_join(t, sc_task(t, 1, take_task, &b));
	assert_false(start(&b, false, 0, PAGE, 0)); /* and nobody waits for the other host */
	assert_int_equal(b.started, 0);
	assert_int_equal(sc_read(t, 0, b.id, 0, b.buf, PAGE), PAGE);
	assert_true(start(&b, false, 0, PAGE, 0));
	answer(&b, 0);
	{
		size_t done;

		SC_OK(t, vol_io_end(&b.x, true, &done));
	}
	tear_down(&b);
}

static void nothing_is_started_under_a_lock_that_is_not_held(void **s)
{
	(void)s;
	sc_run(not_held_body, NULL);
}

static void count_wait(void *ctx)
{
	++*(unsigned *)ctx;
}

static void told_body(struct simcluster *t)
{
	unsigned waits = 0;
	struct bench b;
	size_t done;

	t->opt.cb.ctx = &waits;
	t->opt.cb.waits = count_wait;
	set_up(t, &b);
	waits = 0;
	assert_true(start(&b, false, 0, PAGE, 0));
	assert_int_equal(waits, 0);
	answer(&b, 0);
	SC_OK(t, vol_io_end(&b.x, false, &done));
	assert_int_equal(waits, 0);
	assert_int_equal(sc_read(t, 0, b.id, 0, b.buf, PAGE), PAGE);
	assert_int_equal(waits, 1);
	tear_down(&b);
	t->opt.cb.waits = NULL;
}

static void whoever_waits_for_the_device_says_so_before(void **s)
{
	(void)s;
	sc_run(told_body, NULL);
}

/* ---- other answers ----------------------------------------------------------------------------
 */

static void late_body(struct simcluster *t)
{
	struct bench b;
	size_t done;

	set_up(t, &b);
	memset(b.buf, 'n', FILE_BYTES);
	for (unsigned write = 0; write < 2; write++) {
		assert_true(start(&b, write, 0, PAGE, 0));
		answer(&b, -ETIMEDOUT);
		assert_int_equal(vol_io_end(&b.x, false, &done), VOL_IO_WAITS);
		assert_int_equal(vol_io_end(&b.x, false, &done), VOL_IO_WAITS);
		memset(b.buf, write ? 'w' : 0, PAGE);
		SC_OK(t, vol_io_end(&b.x, true, &done)); /* drained, and sent again */
		assert_int_equal(done, PAGE);
		if (!write)
			assert_int_equal(b.buf[0], 'o');
	}
	assert_int_equal(sc_read(t, 0, b.id, 0, b.buf, 1), 1);
	assert_int_equal(b.buf[0], 'w');
	tear_down(&b);
}

static void a_started_transfer_without_an_answer_is_drained_and_sent_again(void **s)
{
	(void)s;
	sc_run(late_body, NULL);
}

static void undrainable_body(struct simcluster *t)
{
	struct bench b;
	size_t done;

	set_up(t, &b);
	simdev_set_drain(t->medium, false);
	assert_true(start(&b, true, 0, PAGE, 0));
	answer(&b, -ETIMEDOUT);
	assert_int_equal(vol_io_end(&b.x, false, &done), VOL_IO_WAITS);
	assert_int_equal(vol_io_end(&b.x, true, &done), -EIO);
	assert_true(atomic_load(&t->v[0]->lost)); /* it may land at any time */
	assert_true(txn_failed(t->v[0]->txns));	  /* also on what somebody else is given */
	t->no_fsck = true;
	free(b.buf);
	sc_kill(t, 0);
	bench = NULL;
}

static void a_started_write_that_may_still_land_stops_the_volume(void **s)
{
	(void)s;
	sc_run(undrainable_body, NULL);
}

static void error_body(struct simcluster *t)
{
	struct bench b;
	size_t done = 1;

	set_up(t, &b);
	for (unsigned write = 0; write < 2; write++) {
		assert_true(start(&b, write, 0, PAGE, 0));
		answer(&b, -EIO);
		assert_int_equal(vol_io_end(&b.x, false, &done), -EIO);
		assert_int_equal(done, 0);
	}
	assert_int_equal(sc_read(t, 0, b.id, 0, b.buf, PAGE), PAGE); /* nothing is left pinned */
	assert_int_equal(sc_truncate(t, 0, b.id, 0), 0);
	tear_down(&b);
}

static void an_error_of_a_started_transfer_is_its_answer_and_lets_go_of_the_locks(void **s)
{
	(void)s;
	sc_run(error_body, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_started_overwrite_is_read_back_and_sets_the_time_stamps),
	    cmocka_unit_test(the_lock_stays_here_while_a_started_write_is_on_its_way),
	    cmocka_unit_test(
		only_whole_written_blocks_are_started_and_no_privilege_outlives_a_write),
	    cmocka_unit_test(that_a_file_has_no_privileges_is_known_after_a_write),
	    cmocka_unit_test(nothing_is_started_under_a_lock_that_is_not_held),
	    cmocka_unit_test(whoever_waits_for_the_device_says_so_before),
	    cmocka_unit_test(a_started_transfer_without_an_answer_is_drained_and_sent_again),
	    cmocka_unit_test(a_started_write_that_may_still_land_stops_the_volume),
	    cmocka_unit_test(an_error_of_a_started_transfer_is_its_answer_and_lets_go_of_the_locks),
	};

	return cmocka_run_group_tests_name("vol-async", tests, NULL, NULL);
}
