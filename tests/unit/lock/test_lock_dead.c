/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Locks of hosts that are gone, and commands whose fate is unknown. */
#include "fixture.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SH LOCK_SH
#define EX LOCK_EX
#define LSH LOCAL_SHARED
#define LEX LOCAL_EXCL

/* ---- the dead ------------------------------------------------------------------------------- */

static void body_unmounted(struct fix *f)
{
	struct lock *l;

	fix_up(f, 0);
	fix_up(f, 1);
	fix_touch(&f->box[0], 1, EX);
	fix_touch(&f->box[0], 2, SH);
	assert_int_equal(fix_pin(&f->box[0], 3, EX, LSH, 0, NULL, &l), 0);
	fix_unpin(&f->box[0], l, EX, LSH); /* nothing changed: the version is still as recorded */
	fix_down(f, 0);
	fix_sleep_ms(f, 2 * FIX_BEAT_MS);
	fix_io_reset(f);
	fix_touch(&f->box[1], 1, EX);
	assert_int_equal(f->box[1].val[1].value, 1 + 1);
	assert_int_equal(f->io.cell_caws, 1);
	assert_int_equal(f->box[1].loaded, 1); /* newer than recorded, but nobody can change it */
	fix_touch(&f->box[1], 3, EX);
	assert_int_equal(f->box[1].loaded, 2);
	fix_touch(&f->box[1], 2, EX);
	assert_int_equal(f->io.cell_caws, 3);
}

static void lock_of_an_unmounted_host_is_taken_by_one_ats(void **state)
{
	(void)state;
	fix_run(body_unmounted, 512, 13);
}

static void body_killed(struct fix *f)
{
	struct lunfs_lock_rec r;
	uint64_t began;

	fix_up(f, 0);
	fix_up(f, 1);
	fix_touch(&f->box[0], 1, EX);
	fix_touch(&f->box[0], 2, SH);
	fix_kill(f, 0);
	began = clock_now_ns(f->clk);
	fix_touch(&f->box[1], 1, EX);
	assert_true(clock_now_ns(f->clk) >= began + (FIX_LEASE_MS - FIX_BEAT_MS) * 1000000ull);
	assert_true(clock_now_ns(f->clk) < began + 3 * FIX_LEASE_MS * 1000000ull);
	assert_int_equal(f->box[1].replayed, 1);
	fix_touch(&f->box[1], 2, EX);
	fix_record(f, 1, &r);
	assert_int_equal(le64_get(r.owner), host_owner(f->box[1].host));
}

static void lock_of_a_dead_host_waits_for_its_recovery(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_killed, 512, seed);
}

static void body_dead_pending(struct fix *f)
{
	struct fix_job j = {.b = &f->box[0], .cell = 1, .mode = EX};
	struct lunfs_lock_rec r;
	struct lock *l;

	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	assert_int_equal(fix_pin(&f->box[1], 1, SH, LSH, 0, NULL, &l), 0);
	fix_task(f, 0, fix_pinner, &j);
	fix_sleep_ms(f, 50);
	fix_record(f, 1, &r);
	assert_int_equal(le64_get(r.ex_pending), host_owner(f->box[0].host));
	fix_kill(f, 0);
	fix_touch(&f->box[2], 1, SH); /* as soon as the other is known to be dead */
	fix_unpin(&f->box[1], l, SH, LSH);
}

static void pending_mark_of_a_dead_host_is_ignored(void **state)
{
	(void)state;
	fix_run(body_dead_pending, 512, 14);
}

static void body_renew(struct fix *f)
{
	struct guard_renew g[4];
	struct lunfs_lock_rec before, after;
	uint64_t dead;
	struct lock *l;

	fix_up(f, 0);
	fix_up(f, 1);
	for (unsigned i = 0; i < 3; i++)
		fix_touch(&f->box[0], i, EX);
	fix_touch(&f->box[1], 2, EX); /* handed over: not the dead host's any more */
	dead = host_owner(f->box[0].host);
	memset(g, 0, sizeof(g));
	for (unsigned i = 0; i < 4; i++) {
		g[i].addr = fix_addr(f, i);
		g[i].possession = 1;
	}
	g[1].possession = 9; /* another possession of the same lock */
	fix_record(f, 0, &before);
	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(locks_renew_guards(f->box[1].ls, dead, g, 4), 0);
		assert_true(g[0].live);
		assert_false(g[1].live);
		assert_false(g[2].live);
		assert_false(g[3].live);
		assert_int_equal(g[2].recorded_version, 2);
	}
	fix_record(f, 0, &after);
	assert_int_equal(le64_get(after.hdr.image_seq), le64_get(before.hdr.image_seq) + 2);
	assert_int_equal(le64_get(after.possession_seq), 1);
	assert_int_equal(le64_get(after.owner), dead);
	assert_int_equal(lock_pin(f->box[1].ls, fix_addr(f, 2), EX, LSH, 0, NULL, &l), 0);
	lock_unpin(f->box[1].ls, l, LSH);
}

static void guards_of_the_same_possession_are_renewed_and_live(void **state)
{
	(void)state;
	fix_run(body_renew, 512, 15);
}

/* Host 0 shares cell 1 with host 2, and its slot fails its checks from now on. */
static void damage_sharer(struct fix *f, struct lunfs_slot_rec *was)
{
	uint8_t junk[16];

	memset(junk, 0xff, sizeof(junk));
	fix_touch(&f->box[0], 1, SH);
	fix_touch(&f->box[2], 1, SH);
	fix_kill(f, 0);
	simdev_peek(f->medium, geo_slot_off(0), sizeof(*was), was);
	simdev_poke(f->medium, geo_slot_off(0) + 0x60, sizeof(junk), junk);
}

/* Who joins after that finds the lock as it was. */
static void joins(struct box *b)
{
	struct lunfs_lock_rec r;

	fix_touch(b, 1, SH);
	fix_record(b->f, 1, &r);
	assert_int_equal(le64_get(r.ex_pending), 0);
	assert_int_equal(le16_get(r.mode), LUNFS_LOCK_SHARED);
}

static void body_dark_sharer(struct fix *f)
{
	struct fix_job j = {.b = &f->box[1], .cell = 1, .mode = EX};
	struct lunfs_slot_rec was;
	struct task *t;

	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	damage_sharer(f, &was);
	t = fix_task(f, 1, fix_pinner, &j);
	fix_sleep_ms(f, 2 * FIX_LEASE_MS);
	assert_false(j.done);
	fix_sleep_ms(f, FIX_LEASE_MS);
	assert_true(j.done);
	fix_join(f, t);
	assert_int_equal(j.rc, -EIO);
	assert_int_equal(lock_held(f->box[2].ls, fix_addr(f, 1)), LOCK_NONE); /* it was asked */
	joins(&f->box[1]);
}

static void sharer_whose_slot_stays_damaged_is_an_error_not_a_hang(void **state)
{
	(void)state;
	fix_run(body_dark_sharer, 512, 33);
	fix_run(body_dark_sharer, 4096, 34);
}

static void body_dark_for_a_while(struct fix *f)
{
	struct fix_job j = {.b = &f->box[1], .cell = 1, .mode = EX};
	struct lunfs_slot_rec was;
	struct task *t;

	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	damage_sharer(f, &was);
	t = fix_task(f, 1, fix_pinner, &j);
	fix_sleep_ms(f, 3 * FIX_LEASE_MS / 2);
	assert_false(j.done);
	simdev_poke(f->medium, geo_slot_off(0), sizeof(was), &was);
	fix_join(f, t);
	assert_int_equal(j.rc, 0);
	assert_int_equal(f->box[1].replayed + f->box[2].replayed, 1);
}

static void sharer_whose_slot_is_sound_again_is_recovered(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_dark_for_a_while, 512, seed);
}

/* The newcomer knows no generation of that slot, and the tag in the record is that of number 0. */
static void body_dark_newcomer(struct fix *f)
{
	struct fix_job j = {.b = &f->box[1], .cell = 1, .mode = EX};
	struct lunfs_slot_rec was;
	struct lunfs_lock_rec r;
	struct task *t;

	fix_up(f, 0);
	fix_up(f, 2);
	damage_sharer(f, &was);
	fix_record(f, 1, &r);
	r.entry[0] = le16_make(LUNFS_ENT_SHARED);
	fix_poke_record(f, 1, &r);
	fix_up(f, 1);
	t = fix_task(f, 1, fix_pinner, &j);
	fix_sleep_ms(f, 3 * FIX_LEASE_MS);
	assert_true(j.done);
	fix_join(f, t);
	assert_int_equal(j.rc, -EIO);
}

static void sharer_of_a_generation_not_known_is_not_over(void **state)
{
	(void)state;
	fix_run(body_dark_newcomer, 512, 35);
}

static void body_hopeless_sharer(struct fix *f)
{
	struct fix_job j = {.b = &f->box[1], .cell = 1, .mode = EX};
	struct task *t;

	fix_up(f, 0);
	fix_up(f, 1);
	f->box[1].replay_rc = -EUCLEAN;
	fix_touch(&f->box[0], 1, SH);
	fix_kill(f, 0);
	t = fix_task(f, 1, fix_pinner, &j);
	fix_sleep_ms(f, 4 * FIX_LEASE_MS);
	assert_true(j.done);
	fix_join(f, t);
	assert_int_equal(j.rc, -EIO);
	joins(&f->box[1]);
}

static void sharer_whose_journal_is_damaged_is_an_error_not_a_hang(void **state)
{
	(void)state;
	fix_run(body_hopeless_sharer, 512, 36);
}

/* ---- unknown fates -------------------------------------------------------------------------- */

static void body_fates(struct fix *f)
{
	static const enum simdev_fault_kind kinds[] = {
	    SIMDEV_LOST_REPLY, SIMDEV_LOST_COMMAND, SIMDEV_LATE, SIMDEV_RESENT, SIMDEV_DELAY,
	};

	fix_up(f, 0);
	fix_up(f, 1);
	for (unsigned k = 0; k < 5; k++) {
		struct simdev_fault fault = {
		    .kind = kinds[k],
		    .ops = SIMDEV_CAW,
		    .off_bytes = geo_blk_off(fix_addr(f, 0)),
		    .len_bytes = 64 * LUNFS_BLOCK_BYTES,
		    .delay_ns = 30000000,
		};

		simdev_inject(f->box[0].dev, &fault); /* the cold acquire */
		fix_touch(&f->box[0], 1 + k, EX);
		simdev_inject(f->box[0].dev, &fault); /* the hand-over */
		fix_touch(&f->box[1], 1 + k, EX);
		simdev_inject_clear(f->box[0].dev);
		fix_touch(&f->box[0], 1 + k, SH);
		assert_int_equal(f->box[0].val[1 + k].value, 2);
	}
}

static void ats_of_unknown_fate_is_settled_before_anything_else(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 20; seed++)
		fix_run(body_fates, 512, seed);
}

static void body_no_answers(struct fix *f)
{
	struct simdev_fault fault = {
	    .kind = SIMDEV_LOST_COMMAND,
	    .ops = SIMDEV_CAW,
	    .count = 1000,
	    .off_bytes = geo_blk_off(fix_addr(f, 1)),
	    .len_bytes = 512,
	};
	struct lock *l;

	fix_up(f, 0);
	fix_up(f, 1);
	simdev_inject(f->box[0].dev, &fault);
	assert_int_equal(fix_pin(&f->box[0], 1, EX, LSH, LOCK_TRY, NULL, &l), -EAGAIN);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 1)), LOCK_NONE);
	simdev_inject_clear(f->box[0].dev);
	fix_touch(&f->box[1], 1, EX);
	fix_touch(&f->box[0], 1, EX);
	assert_int_equal(f->box[0].val[1].value, 2);
}

static void unknown_fate_counts_as_neither_held_nor_free(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_no_answers, 512, seed);
}

/* Whoever wants it hears -EIO in time, it is neither held nor free, and can be had afterwards. */
static void fails_nobody_for_ever(struct fix *f)
{
	struct fix_job j = {.b = &f->box[0], .cell = 1, .mode = EX};
	struct task *t;

	for (unsigned i = 0; i < 2; i++) {
		j.done = false;
		t = fix_task(f, 0, fix_pinner, &j);
		fix_sleep_ms(f, 10 * FIX_DEADLINE_MS);
		assert_true(j.done);
		fix_join(f, t);
		assert_int_equal(j.rc, -EIO);
		assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 1)), LOCK_NONE);
	}
}

static void unreadable(struct fix *f, int error)
{
	struct simdev_fault lost = {
	    .kind = SIMDEV_LOST_COMMAND,
	    .ops = SIMDEV_CAW,
	    .count = 1000000,
	    .off_bytes = geo_blk_off(fix_addr(f, 1)),
	    .len_bytes = 512,
	};
	struct simdev_fault bad = lost;

	bad.kind = SIMDEV_FAIL;
	bad.ops = SIMDEV_READ;
	bad.nth = 2; /* the first one fetches the record */
	bad.error = error;
	fix_up(f, 0);
	simdev_inject(f->box[0].dev, &lost);
	simdev_inject(f->box[0].dev, &bad);
	fails_nobody_for_ever(f);
	simdev_inject_clear(f->box[0].dev);
	fix_touch(&f->box[0], 1, EX);
	assert_int_equal(f->box[0].val[1].value, 1);
}

static void body_unreadable(struct fix *f)
{
	unreadable(f, -EIO);
}

static void body_gone(struct fix *f)
{
	unreadable(f, -ENODEV);
}

static struct {
	const struct dev_ops *real;
	struct dev_ops ops;
	uint64_t off_bytes;
} unwritable;

static void caws_of_one_sector_fail(struct dev *d, struct dev_caw_io *io, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (io[i].off_bytes == unwritable.off_bytes) {
			io[i].result = -ETIMEDOUT;
			io[i].cause = DEV_CAUSE_UNCLEAR;
		} else {
			unwritable.real->caw_batch(d, &io[i], 1);
		}
	}
}

/* It can be read, and each command fails: nobody can tell whether one will not land after all. */
static void body_unwritable(struct fix *f)
{
	struct dev *d;

	fix_up(f, 0);
	d = f->box[0].dev;
	unwritable.real = d->ops;
	unwritable.ops = *d->ops;
	unwritable.ops.caw_batch = caws_of_one_sector_fail;
	unwritable.off_bytes = geo_blk_off(fix_addr(f, 1));
	d->ops = &unwritable.ops;
	fails_nobody_for_ever(f);
	d->ops = unwritable.real;
	fix_touch(&f->box[0], 1, EX);
	assert_int_equal(f->box[0].val[1].value, 1);
}

static void unknown_fate_on_a_device_that_is_gone_is_an_error_not_a_hang(void **state)
{
	(void)state;
	fix_run(body_gone, 512, 37);
}

static void unknown_fate_in_a_bad_sector_is_an_error_not_a_hang(void **state)
{
	(void)state;
	fix_run(body_unreadable, 512, 31);
	fix_run(body_unwritable, 512, 32);
}

static void body_silence(struct fix *f)
{
	struct simdev_fault fault = {
	    .kind = SIMDEV_LOST_COMMAND,
	    .ops = SIMDEV_READ,
	    .count = 3,
	    .off_bytes = geo_blk_off(fix_addr(f, 1)),
	    .len_bytes = 512,
	};

	fix_up(f, 0);
	simdev_inject(f->box[0].dev, &fault);
	fix_touch(&f->box[0], 1, EX);
}

static void read_without_an_answer_is_tried_again(void **state)
{
	(void)state;
	fix_run(body_silence, 512, 24);
}

static void body_ahead(struct fix *f)
{
	struct lunfs_lock_rec r;
	struct lock *l;

	fix_up(f, 0);
	fix_record(f, 1, &r);
	r.mode = le16_make(LUNFS_LOCK_EXCL);
	r.owner = le64_make(LUNFS_OWNER(99, 5)); /* a generation that never was */
	fix_poke_record(f, 1, &r);
	assert_int_equal(fix_pin(&f->box[0], 1, EX, LSH, LOCK_TRY, NULL, &l), -EAGAIN);
	assert_int_equal(fix_pin(&f->box[0], 1, EX, LSH, 0, NULL, &l), -EIO);
}

static void owner_that_never_was_is_an_error_not_a_hang(void **state)
{
	(void)state;
	fix_run(body_ahead, 512, 25);
}

/* The array forgets a hand-over: by its record this host, which knows of none any more, has it. */
static void body_back(struct fix *f)
{
	struct lunfs_lock_rec was;
	struct lock *l;

	fix_up(f, 0);
	fix_up(f, 1);
	fix_touch(&f->box[0], 1, EX);
	fix_record(f, 1, &was);
	fix_touch(&f->box[1], 1, EX);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 1)), LOCK_NONE);
	fix_poke_record(f, 1, &was);
	assert_int_equal(fix_pin(&f->box[0], 1, EX, LEX, LOCK_TRY, NULL, &l), -EIO);
	assert_int_equal(atomic_load(&f->box[0].ats.stats.outcome[ATS_WENT_BACK]), 1);
	fix_sleep_ms(f, 2 * FIX_BEAT_MS);
	assert_int_equal(host_state(f->box[0].host), HOST_LOST);
	locks_stop(f->box[0].ls);
	host_abandon(f->box[0].host);
	f->box[0].up = false;
	f->box[1].val[fix_cell(f, fix_addr(f, 1))].dirty = false;
}

static void a_record_from_before_a_hand_over_stops_who_gave_it(void **state)
{
	(void)state;
	fix_run(body_back, 512, 26);
	fix_run(body_back, 4096, 27);
}

/* A hand-over without an answer; when the record is read again the next holder has passed it on. */
static void body_passed_on(struct fix *f)
{
	struct simdev_fault lost = {.kind = SIMDEV_LOST_REPLY,
				    .ops = SIMDEV_CAW,
				    .off_bytes = geo_blk_off(fix_addr(f, 1)),
				    .len_bytes = 512};

	for (unsigned n = 0; n < 3; n++)
		fix_up(f, n);
	fix_touch(&f->box[0], 1, EX);
	simdev_inject(f->box[0].dev, &lost);
	fix_touch(&f->box[1], 1, EX);
	fix_touch(&f->box[2], 1, EX);
	fix_sleep_ms(f, 4 * FIX_DEADLINE_MS);
	assert_int_equal(f->box[2].val[1].value, 3);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 1)), LOCK_NONE);
	fix_touch(&f->box[0], 1, EX);
	assert_int_equal(f->box[0].val[1].value, 4);
}

/* The same, but it was executed twice: the answer of the second time is that nothing matched. */
static void body_passed_on_twice(struct fix *f)
{
	struct simdev_fault fault = {.kind = SIMDEV_RESENT,
				     .ops = SIMDEV_CAW,
				     .off_bytes = geo_blk_off(fix_addr(f, 1)),
				     .len_bytes = 512};

	log_open("test", LOG_LVL_WARN, 0);
	for (unsigned n = 0; n < 3; n++)
		fix_up(f, n);
	fix_touch(&f->box[0], 1, EX);
	simdev_inject(f->box[0].dev, &fault);
	fault.kind = SIMDEV_DELAY; /* the look at what stands there */
	fault.ops = SIMDEV_READ;
	fault.delay_ns = 3 * FIX_DEADLINE_MS / 4 * 1000000ull;
	simdev_inject(f->box[0].dev, &fault);
	fix_touch(&f->box[1], 1, EX);
	fix_touch(&f->box[2], 1, EX);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 1)),
			 LOCK_EX); /* it does not know yet */
	fix_sleep_ms(f, FIX_DEADLINE_MS);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 1)), LOCK_NONE);
	fix_touch(&f->box[0], 1, EX);
	assert_int_equal(f->box[0].val[1].value, 4);
}

/* Somebody takes it away from its holder, which gives it back right after. */
static void body_taken_away(struct fix *f)
{
	struct lunfs_lock_rec r;
	struct lock *l;

	fix_up(f, 0);
	assert_int_equal(fix_pin(&f->box[0], 1, EX, LSH, 0, NULL, &l), 0);
	fix_unpin(&f->box[0], l, EX, LSH);
	fix_record(f, 1, &r);
	r.mode = le16_make(LUNFS_LOCK_FREE);
	r.owner = le64_make(0);
	r.hdr.setter_nonce = le64_make(1);
	r.hdr.image_seq = le64_make(le64_get(r.hdr.image_seq) + 1);
	fix_poke_record(f, 1, &r);
	lock_drop(f->box[0].ls, fix_addr(f, 1));
	fix_sleep_ms(f, FIX_DEADLINE_MS);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 1)), LOCK_NONE);
}

struct said {
	bool lost, resent;
};

/* What @body has its hosts say. */
static struct said listen(void (*body)(struct fix *f))
{
	FILE *log = tmpfile();
	int err = dup(STDERR_FILENO);
	struct said s = {false, false};
	char line[1024];

	assert_non_null(log);
	fflush(stderr);
	dup2(fileno(log), STDERR_FILENO);
	fix_run(body, 512, 31);
	fflush(stderr);
	dup2(err, STDERR_FILENO);
	close(err);
	rewind(log);
	while (fgets(line, sizeof(line), log)) {
		s.lost |= strstr(line, "lock-lost") != NULL;
		s.resent |= strstr(line, "lock-resent") != NULL;
	}
	fclose(log);
	return s;
}

static void a_hand_over_that_was_passed_on_before_its_answer_is_no_loss(void **state)
{
	(void)state;
	assert_false(listen(body_passed_on).lost);
}

static void a_hand_over_that_was_executed_twice_is_said_as_that(void **state)
{
	struct said s = listen(body_passed_on_twice);

	(void)state;
	assert_true(s.resent);
	assert_false(s.lost);
}

static void a_lock_that_was_taken_away_is_said_to_be_lost(void **state)
{
	struct said s = listen(body_taken_away);

	(void)state;
	assert_true(s.lost);
	assert_false(s.resent);
}

/* ---- the lease ------------------------------------------------------------------------------ */

static void body_lost(struct fix *f)
{
	struct lock *l;

	fix_up(f, 0);
	fix_up(f, 1);
	fix_touch(&f->box[0], 1, EX);
	simclock_pause(f->clk, 1, clock_now_ns(f->clk) + 10 * FIX_LEASE_MS * 1000000ull);
	fix_touch(&f->box[1], 1, EX);
	fix_sleep_ms(f, 11 * FIX_LEASE_MS);
	assert_int_equal(host_state(f->box[0].host), HOST_LOST);
	assert_int_equal(lock_pin(f->box[0].ls, fix_addr(f, 1), EX, LSH, 0, NULL, &l), -EIO);
	assert_int_equal(lock_pin(f->box[0].ls, fix_addr(f, 1), EX, LSH, LOCK_TRY, NULL, &l), -EIO);
	locks_stop(f->box[0].ls);
	host_abandon(f->box[0].host);
	f->box[0].up = false;
}

static void host_that_lost_its_lease_gets_no_pin(void **state)
{
	(void)state;
	fix_run(body_lost, 512, 23);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(lock_of_an_unmounted_host_is_taken_by_one_ats),
	    cmocka_unit_test(lock_of_a_dead_host_waits_for_its_recovery),
	    cmocka_unit_test(pending_mark_of_a_dead_host_is_ignored),
	    cmocka_unit_test(guards_of_the_same_possession_are_renewed_and_live),
	    cmocka_unit_test(sharer_whose_slot_stays_damaged_is_an_error_not_a_hang),
	    cmocka_unit_test(sharer_whose_slot_is_sound_again_is_recovered),
	    cmocka_unit_test(sharer_of_a_generation_not_known_is_not_over),
	    cmocka_unit_test(sharer_whose_journal_is_damaged_is_an_error_not_a_hang),
	    cmocka_unit_test(ats_of_unknown_fate_is_settled_before_anything_else),
	    cmocka_unit_test(unknown_fate_counts_as_neither_held_nor_free),
	    cmocka_unit_test(unknown_fate_in_a_bad_sector_is_an_error_not_a_hang),
	    cmocka_unit_test(unknown_fate_on_a_device_that_is_gone_is_an_error_not_a_hang),
	    cmocka_unit_test(read_without_an_answer_is_tried_again),
	    cmocka_unit_test(owner_that_never_was_is_an_error_not_a_hang),
	    cmocka_unit_test(a_record_from_before_a_hand_over_stops_who_gave_it),
	    cmocka_unit_test(a_hand_over_that_was_passed_on_before_its_answer_is_no_loss),
	    cmocka_unit_test(a_hand_over_that_was_executed_twice_is_said_as_that),
	    cmocka_unit_test(a_lock_that_was_taken_away_is_said_to_be_lost),
	    cmocka_unit_test(host_that_lost_its_lease_gets_no_pin),
	};

	return cmocka_run_group_tests_name("lock-dead", tests, NULL, NULL);
}
