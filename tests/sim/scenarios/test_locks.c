/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locks that change hands while commands get lost and hosts die. On the fixture of the lock layer's
 * own tests, whose oracle knows at every pin who else has one: hosts with the real ATS, host and
 * lock layers, one number a cell in place of transactions.
 */
#include "../../unit/lock/fixture.h"

#include "simrand.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SH LOCK_SH
#define EX LOCK_EX
#define LSH LOCAL_SHARED
#define LEX LOCAL_EXCL
#define MS 1000000ull
#define CELL 1u

static void run_seeds(void (*body)(struct fix *f), unsigned n)
{
	const char *one = getenv("LUNFS_SEED"), *many = getenv("LUNFS_SEEDS");
	uint64_t first = one ? strtoull(one, NULL, 0) : 1;

	if (many)
		n = (unsigned)atoi(many);
	else if (one)
		n = 1;
	for (uint64_t seed = first; seed < first + n; seed++) {
		if (one || many)
			fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
		fix_run(body, seed % 4 ? 512 : 4096, seed);
	}
}

#define SCENARIO(name, n)                                                                          \
	static void body_##name(struct fix *f);                                                    \
	static void name(void **state)                                                             \
	{                                                                                          \
		(void)state;                                                                       \
		run_seeds(body_##name, n);                                                         \
	}                                                                                          \
	static void body_##name(struct fix *f)

static uint64_t chance(struct fix *f, uint64_t below)
{
	return sim_rand_below(&f->rng, below);
}

/* A task that takes a lock again and again and keeps it for a while. */
struct user {
	struct box *b;
	enum lock_mode mode;
	unsigned rounds, max_hold_ms, max_pause_ms;
	atomic_bool stop;
	unsigned done;
	uint64_t slowest_ns;
	struct task *task;
};

static void use(void *arg)
{
	struct user *u = arg;
	struct fix *f = u->b->f;
	enum lock_local local = u->mode == EX ? LEX : LSH;

	for (; u->done < u->rounds && !atomic_load(&u->stop); u->done++) {
		uint64_t began = clock_now_ns(f->clk), took;
		struct lock *l;

		assert_int_equal(fix_pin(u->b, CELL, u->mode, local, 0, NULL, &l), 0);
		took = clock_now_ns(f->clk) - began;
		if (took > u->slowest_ns)
			u->slowest_ns = took;
		if (u->mode == EX)
			fix_add(u->b, l);
		else
			fix_get(u->b, l);
		fix_sleep_ms(f, chance(f, u->max_hold_ms + 1));
		fix_unpin(u->b, l, u->mode, local);
		fix_sleep_ms(f, chance(f, u->max_pause_ms + 1));
	}
}

static void user_start(struct fix *f, unsigned host, struct user *u)
{
	u->b = &f->box[host];
	u->done = 0;
	u->slowest_ns = 0;
	atomic_store(&u->stop, false);
	u->task = fix_task(f, host, use, u);
}

/* ---- a release that timed out, read back unchanged, then landed ------------------------------ */

/*
 * The release is answered with a time-out and lands up to 1.5 s later; some commands after it get
 * lost, so that for a while a read shows the lock in the old holder's name. Meanwhile both hosts
 * want it. Had the old holder believed what it read, both would have it once the release landed.
 */
SCENARIO(a_release_that_timed_out_and_lands_later_gives_the_lock_to_nobody_twice, 40)
{
	uint64_t off = geo_blk_off(fix_addr(f, CELL));
	struct simdev_fault late = {.kind = SIMDEV_LATE,
				    .ops = SIMDEV_CAW,
				    .off_bytes = off,
				    .len_bytes = 512,
				    .delay_ns = (1 + chance(f, 1500)) * MS};
	struct simdev_fault lost = {.kind = SIMDEV_LOST_COMMAND,
				    .ops = SIMDEV_CAW,
				    .off_bytes = off,
				    .len_bytes = 512,
				    .count = chance(f, 5)};
	struct user a = {.mode = EX, .rounds = 4, .max_hold_ms = 500, .max_pause_ms = 50}, b = a;

	fix_up(f, 0);
	fix_up(f, 1);
	fix_touch(&f->box[0], CELL, EX);
	simdev_inject(f->box[0].dev, &late);
	if (lost.count)
		simdev_inject(f->box[0].dev, &lost);
	fix_io_reset(f);
	lock_drop(f->box[0].ls, fix_addr(f, CELL));
	while (!f->io.cell_caws)
		fix_sleep_ms(f, 1);
	fix_sleep_ms(f, chance(f, 500));
	user_start(f, 0, &a);
	fix_sleep_ms(f, chance(f, 500));
	user_start(f, 1, &b);
	fix_join(f, a.task);
	fix_join(f, b.task);
	fix_sleep_ms(f, 2000);
	fix_touch(&f->box[0], CELL, SH);
	assert_int_equal(f->box[0].val[CELL].value, 1 + a.done + b.done);
}

/* ---- a stale shared entry in a slot claimed again -------------------------------------------- */

static bool is_free(struct fix *f, unsigned slot)
{
	struct host_info hi;
	uint8_t *buf = dev_buf_alloc(4096);

	simdev_peek(f->medium, geo_slot_off(slot), f->geo.sector_bytes, buf);
	assert_int_equal(slot_decode(&f->geo, buf, slot, &hi), 0);
	free(buf);
	return hi.state == LUNFS_SLOT_FREE;
}

SCENARIO(a_stale_shared_entry_in_a_slot_claimed_again_holds_nothing, 8)
{
	struct box *a = &f->box[0], *b = &f->box[1];
	unsigned slot;
	uint64_t dead;
	struct lunfs_lock_rec r;

	fix_up(f, 0);
	fix_up(f, 1);
	for (unsigned i = CELL; i < CELL + 2; i++) {
		fix_touch(a, i, SH);
		fix_touch(b, i, SH);
	}
	slot = host_slot(a->host);
	dead = host_owner(a->host);
	fix_kill(f, 0);
	while (!is_free(f, slot))
		fix_sleep_ms(f, 5);
	fix_up(f, 0);
	fix_sleep_ms(f, chance(f, 400)); /* the other may know of it by now, or not */
	assert_int_equal(host_slot(a->host), slot);
	assert_true(host_owner(a->host) != dead);
	fix_record(f, CELL, &r);
	assert_int_equal(rec_holds(&r, dead), SH); /* it still stands there */
	assert_int_equal(rec_holds(&r, host_owner(a->host)), LOCK_NONE);
	assert_int_equal(lock_held(a->ls, fix_addr(f, CELL)), LOCK_NONE);
	fix_io_reset(f);
	fix_touch(b, CELL, EX); /* nobody is asked */
	assert_int_equal(f->io.board_writes, 0);
	assert_int_equal(f->io.cell_caws, 1);
	fix_touch(a, CELL + 1, EX); /* only the one that shares it is */
	fix_sleep_ms(f, 2); /* it may have the lock before the other has heard that it gave it */
	assert_int_equal(lock_held(b->ls, fix_addr(f, CELL + 1)), LOCK_NONE);
	fix_touch(a, CELL, SH);
	assert_int_equal(a->val[CELL].value, 1);
}

/* 2^14 generations later the tag in an entry is that of the present one, which knows nothing. */
SCENARIO(an_aliased_tag_costs_a_question_and_no_more, 8)
{
	struct box *a = &f->box[0], *b = &f->box[1];
	struct lunfs_lock_rec r;
	uint64_t began;

	fix_up(f, 0);
	fix_up(f, 1);
	fix_touch(b, CELL, SH);
	fix_record(f, CELL, &r);
	r.entry[host_slot(a->host)] =
	    le16_make((uint16_t)(LUNFS_ENT_SHARED | rec_tag(host_owner(a->host))));
	fix_poke_record(f, CELL, &r);
	locks_stop(b->ls); /* it has read the record before: read it again */
	assert_int_equal(locks_start(b->ls), 0);
	began = clock_now_ns(f->clk);
	fix_touch(b, CELL, EX);
	assert_true(clock_now_ns(f->clk) < began + 2000 * MS);
	fix_touch(a, CELL, EX);
	assert_int_equal(a->val[CELL].value, 2);
}

/* ---- shared joiners starving a writer -------------------------------------------------------- */

SCENARIO(readers_of_three_hosts_that_never_pause_do_not_starve_a_writer, 10)
{
	struct user reader[6], writer = {.mode = EX, .rounds = 10, .max_pause_ms = 30};

	for (unsigned i = 0; i < FIX_HOSTS; i++)
		fix_up(f, i);
	for (unsigned i = 0; i < 6; i++) {
		reader[i] = (struct user){.mode = SH, .rounds = 1u << 30, .max_hold_ms = 8};
		user_start(f, 1 + i / 2, &reader[i]);
	}
	fix_sleep_ms(f, 100);
	user_start(f, 0, &writer);
	fix_join(f, writer.task);
	for (unsigned i = 0; i < 6; i++)
		atomic_store(&reader[i].stop, true);
	for (unsigned i = 0; i < 6; i++) {
		fix_join(f, reader[i].task);
		assert_true(reader[i].done > 10); /* nor does the writer starve them */
	}
	assert_true(writer.slowest_ns < 300 * MS);
}

/* ---- a hand-over to a host that has just died ------------------------------------------------ */

struct heir {
	struct fix *f;
	uint64_t dead;
	unsigned caws; /* of its slot: RECOVERING, FREE */
	bool handed;
};

/* Nobody takes the lock from the dead before its slot is free. */
static void taken_when_free(void *ctx, const struct simdev_landing *l)
{
	struct heir *h = ctx;
	const struct lunfs_lock_rec *test = (const void *)l->test, *set = (const void *)l->data;

	if (l->op != SIMDEV_CAW || l->off_bytes != geo_blk_off(fix_addr(h->f, CELL)))
		return;
	h->handed |= rec_holds(set, h->dead) == EX;
	if (rec_holds(test, h->dead) == EX)
		assert_true(is_free(h->f, LUNFS_OWNER_SLOT(h->dead)));
}

/* So that there is time to see it RECOVERING. */
static void free_late(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
		      struct simdev_fault *out)
{
	struct heir *h = ctx;
	unsigned slot = LUNFS_OWNER_SLOT(h->dead);

	(void)d;
	if (cmd->op != SIMDEV_CAW || cmd->off_bytes != geo_slot_off(slot) || h->caws++ != 1)
		return;
	out->kind = SIMDEV_DELAY;
	out->delay_ns = 200 * MS;
}

SCENARIO(a_lock_handed_to_a_host_that_has_just_died_comes_back_after_its_recovery, 12)
{
	struct fix_job heir = {.b = &f->box[1], .cell = CELL, .mode = EX};
	struct user next = {.mode = EX, .rounds = 1};
	struct heir h = {.f = f};
	uint64_t began;
	struct lock *l;

	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	assert_int_equal(fix_pin(&f->box[0], CELL, EX, LEX, 0, NULL, &l), 0);
	fix_add(&f->box[0], l);
	h.dead = host_owner(f->box[1].host);
	fix_task(f, 1, fix_pinner, &heir);
	while (!fix_wishes(f, host_slot(f->box[0].host), LUNFS_OWNER_SLOT(h.dead)))
		fix_sleep_ms(f, 1);
	fix_sleep_ms(f, chance(f, 30));
	began = clock_now_ns(f->clk);
	fix_kill(f, 1);
	simdev_set_monitor(f->medium, taken_when_free, &h);
	simdev_set_hook(f->medium, free_late, &h);
	fix_unpin(&f->box[0], l, EX, LEX);
	user_start(f, 2, &next);
	fix_join(f, next.task);
	assert_true(h.handed);
	assert_int_equal(f->box[0].replayed + f->box[2].replayed, 1);
	assert_true(clock_now_ns(f->clk) < began + 3000 * MS);
	fix_touch(&f->box[0], CELL, EX);
	assert_int_equal(f->box[0].val[CELL].value, 3);
	simdev_set_monitor(f->medium, NULL, NULL);
	simdev_set_hook(f->medium, NULL, NULL);
}

/* ---- a holder that dies in the middle of the hand-over --------------------------------------- */

struct dying {
	struct fix *f;
	struct dev *d;
	bool dead;
};

static void die_at_hand_over(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
			     struct simdev_fault *out)
{
	struct dying *y = ctx;

	if (d != y->d || cmd->op != SIMDEV_CAW ||
	    cmd->off_bytes != geo_blk_off(fix_addr(y->f, CELL)))
		return;
	if (chance(y->f, 2))
		simdev_kill(d); /* it is not sent any more */
	else
		out->kind = SIMDEV_LOST_REPLY; /* it lands, and then nobody is there */
	y->dead = true;
}

SCENARIO(a_holder_that_dies_in_its_hand_over_leaves_one_owner, 20)
{
	struct user a = {.mode = EX, .rounds = 3, .max_hold_ms = 20}, b = a;
	struct dying y = {.f = f, .d = NULL};
	uint64_t began;

	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	fix_touch(&f->box[0], CELL, EX);
	y.d = f->box[0].dev;
	simdev_set_hook(f->medium, die_at_hand_over, &y);
	user_start(f, 1, &a);
	user_start(f, 2, &b);
	while (!y.dead)
		simclock_yield(f->clk);
	fix_sleep_ms(f, chance(f, 3));
	fix_kill(f, 0);
	simdev_set_hook(f->medium, NULL, NULL);
	began = clock_now_ns(f->clk);
	fix_join(f, a.task);
	fix_join(f, b.task);
	assert_true(clock_now_ns(f->clk) < began + 4000 * MS);
	fix_touch(&f->box[1], CELL, SH);
	assert_int_equal(f->box[1].val[CELL].value, 1 + a.done + b.done);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(
		a_release_that_timed_out_and_lands_later_gives_the_lock_to_nobody_twice),
	    cmocka_unit_test(a_stale_shared_entry_in_a_slot_claimed_again_holds_nothing),
	    cmocka_unit_test(an_aliased_tag_costs_a_question_and_no_more),
	    cmocka_unit_test(readers_of_three_hosts_that_never_pause_do_not_starve_a_writer),
	    cmocka_unit_test(
		a_lock_handed_to_a_host_that_has_just_died_comes_back_after_its_recovery),
	    cmocka_unit_test(a_holder_that_dies_in_its_hand_over_leaves_one_owner),
	};

	if (getenv("LUNFS_SCENARIO")) /* this one only */
		cmocka_set_test_filter(getenv("LUNFS_SCENARIO"));
	return cmocka_run_group_tests_name("scenario-locks", tests, NULL, NULL);
}
