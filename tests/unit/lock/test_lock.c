/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One promise of the lock layer after the other, on two or three hosts and a simulated LUN. */
#include "fixture.h"

#include "base/crc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SH LOCK_SH
#define EX LOCK_EX
#define LSH LOCAL_SHARED
#define LEX LOCAL_EXCL

static void touch(struct box *b, unsigned cell, enum lock_mode mode)
{
	enum lock_local local = mode == EX ? LEX : LSH;
	struct lock *l;

	assert_int_equal(fix_pin(b, cell, mode, local, 0, NULL, &l), 0);
	if (mode == EX)
		fix_add(b, l);
	else
		fix_get(b, l);
	fix_unpin(b, l, mode, local);
}

/* Polling for revokes must not slow down: wait until @host answers within a few ms. */
static void warm(struct fix *f, unsigned host)
{
	board_heat(f->box[host].ls);
	fix_sleep_ms(f, 5);
}

/* ---- counting ------------------------------------------------------------------------------------ */

static void body_cold(struct fix *f)
{
	struct box *a = &f->box[0];

	fix_up(f, 0);
	for (unsigned mode = SH; mode <= EX; mode++) {
		fix_io_reset(f);
		touch(a, mode, (enum lock_mode)mode);
		assert_int_equal(f->io.cell_reads, 1);
		assert_int_equal(f->io.cell_caws, 1);
		assert_int_equal(a->loaded, mode);
	}
	fix_io_reset(f);
	touch(a, EX, EX);
	assert_int_equal(f->io.cell_reads + f->io.cell_caws, 0);
}

static void cold_lock_is_one_read_and_one_ats(void **state)
{
	(void)state;
	fix_run(body_cold, 512, 1);
	fix_run(body_cold, 4096, 2);
}

static void body_not_current(struct fix *f)
{
	struct lunfs_lock_rec r;
	struct lock *l;

	fix_record(f, 1, &r);
	r.payload_version = le64_make(7); /* the payload on disk is version 1 */
	fix_poke_record(f, 1, &r);
	fix_up(f, 0);
	assert_int_equal(lock_pin(f->box[0].ls, fix_addr(f, 1), EX, LSH, 0, NULL, &l), 0);
	assert_int_equal(f->box[0].loaded, 0);
	assert_int_equal(lock_recorded_version(l), 7);
	lock_unpin(f->box[0].ls, l, LSH);
}

static void payload_of_another_version_is_not_passed_up(void **state)
{
	(void)state;
	fix_run(body_not_current, 512, 3);
}

static void body_hand_over(struct fix *f)
{
	struct lunfs_lock_rec before, after;

	fix_up(f, 0);
	fix_up(f, 1);
	touch(&f->box[0], 1, EX);
	fix_record(f, 1, &before);
	warm(f, 0);
	fix_io_reset(f);
	touch(&f->box[1], 1, EX);
	assert_int_equal(f->io.cell_caws, 1);
	assert_int_equal(f->io.cell_writes, 1);
	assert_int_equal(f->box[1].val[1].value, 2);
	fix_record(f, 1, &after);
	assert_int_equal(le64_get(after.owner), host_owner(f->box[1].host));
	assert_int_equal(le64_get(after.possession_seq), le64_get(before.possession_seq) + 1);
	assert_int_equal(le64_get(after.payload_version), 2);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 1)), LOCK_NONE);
}

static void contended_lock_moves_with_one_ats(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 20; seed++)
		fix_run(body_hand_over, seed & 1 ? 512 : 4096, seed);
}

static void body_hand_over_payload(struct fix *f)
{
	fix_up(f, 0);
	fix_up(f, 1);
	touch(&f->box[0], 1, EX);
	assert_int_equal(f->box[1].loaded, 0);
	touch(&f->box[1], 1, EX);
	assert_int_equal(f->box[1].loaded, 1);
}

static void handed_over_payload_comes_with_the_lock(void **state)
{
	(void)state;
	fix_run(body_hand_over_payload, 512, 5);
}

static void body_wishes_withdrawn(struct fix *f)
{
	fix_up(f, 0);
	fix_up(f, 1);
	touch(&f->box[0], 1, EX);
	touch(&f->box[1], 1, EX);
	fix_sleep_ms(f, 20);
	assert_int_equal(fix_wishes(f, host_slot(f->box[0].host), host_slot(f->box[1].host)), 0);
}

static void granted_wish_is_withdrawn(void **state)
{
	(void)state;
	fix_run(body_wishes_withdrawn, 512, 6);
}

/* ---- shared ---------------------------------------------------------------------------------------- */

static void body_downgrade(struct fix *f)
{
	struct lunfs_lock_rec r;

	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	touch(&f->box[0], 1, EX);
	warm(f, 0);
	fix_io_reset(f);
	touch(&f->box[1], 1, SH);
	assert_int_equal(f->io.cell_caws, 1);
	assert_int_equal(f->box[1].val[1].value, 1);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 1)), SH);
	assert_true(f->box[0].val[1].valid);
	touch(&f->box[2], 1, SH);
	assert_int_equal(f->io.cell_caws, 2);
	fix_record(f, 1, &r);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(rec_holds(&r, host_owner(f->box[i].host)), SH);
}

static void used_lock_is_shared_by_one_ats(void **state)
{
	(void)state;
	fix_run(body_downgrade, 512, 7);
}

static void body_unused_downgrade(struct fix *f)
{
	fix_up(f, 0);
	fix_up(f, 1);
	touch(&f->box[0], 1, EX);
	fix_sleep_ms(f, 2000);
	touch(&f->box[1], 1, SH);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 1)), LOCK_NONE);
}

static void unused_lock_is_given_to_a_reader_whole(void **state)
{
	(void)state;
	fix_run(body_unused_downgrade, 512, 8);
}

static void body_writer(struct fix *f)
{
	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	for (unsigned i = 0; i < 3; i++)
		touch(&f->box[i], 1, SH);
	touch(&f->box[2], 1, EX);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 1)), LOCK_NONE);
	assert_int_equal(lock_held(f->box[1].ls, fix_addr(f, 1)), LOCK_NONE);
	touch(&f->box[0], 1, SH);
	assert_int_equal(f->box[0].val[1].value, 1);
}

static void writer_shuts_out_all_readers(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 10; seed++)
		fix_run(body_writer, 512, seed);
}

static void body_alone(struct fix *f)
{
	struct lunfs_lock_rec before, after;

	fix_up(f, 0);
	touch(&f->box[0], 1, SH);
	fix_record(f, 1, &before);
	fix_io_reset(f);
	touch(&f->box[0], 1, EX);
	assert_int_equal(f->io.cell_caws, 1);
	assert_int_equal(f->io.cell_reads, 0);
	fix_record(f, 1, &after);
	assert_int_equal(le64_get(after.possession_seq), le64_get(before.possession_seq) + 1);
}

static void lone_sharer_upgrades_in_one_ats(void **state)
{
	(void)state;
	fix_run(body_alone, 512, 9);
}

struct job {
	struct box *b;
	unsigned cell, rounds;
	enum lock_mode mode;
	struct lock_intr intr;
	int rc;
	bool done;
};

static void upgrader(void *arg)
{
	struct job *j = arg;

	touch(j->b, 1, SH);
	fix_sleep_ms(j->b->f, 20);
	touch(j->b, 1, EX);
	j->done = true;
}

static void body_upgraders(struct fix *f)
{
	struct job j[3];
	struct task *t[3];

	memset(j, 0, sizeof(j));
	for (unsigned i = 0; i < 3; i++) {
		fix_up(f, i);
		j[i].b = &f->box[i];
	}
	for (unsigned i = 0; i < 3; i++)
		t[i] = fix_task(f, i, upgrader, &j[i]);
	for (unsigned i = 0; i < 3; i++)
		fix_join(f, t[i]);
	touch(&f->box[0], 1, SH);
	assert_int_equal(f->box[0].val[1].value, 3);
}

static void upgraders_do_not_block_each_other(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 40; seed++)
		fix_run(body_upgraders, 512, seed);
}

/* ---- try and interrupt ------------------------------------------------------------------------------- */

static void body_try(struct fix *f)
{
	struct box *a = &f->box[0], *b = &f->box[1];
	struct lock *l, *m;
	uint64_t began;

	fix_up(f, 0);
	fix_up(f, 1);
	assert_int_equal(fix_pin(b, 1, EX, LSH, LOCK_TRY | LOCK_CACHED, NULL, &l), -EAGAIN);
	assert_int_equal(fix_pin(b, 2, EX, LSH, LOCK_TRY, NULL, &l), 0);
	assert_int_equal(fix_pin(b, 2, EX, LEX, LOCK_TRY, NULL, &m), -EAGAIN);
	fix_unpin(b, l, EX, LSH);
	touch(a, 1, EX);
	fix_io_reset(f);
	began = clock_now_ns(f->clk);
	assert_int_equal(fix_pin(b, 1, SH, LSH, LOCK_TRY, NULL, &l), -EAGAIN);
	assert_true(clock_now_ns(f->clk) < began + 2000000);
	fix_sleep_ms(f, 500);
	assert_int_equal(f->io.board_writes, 0);
	assert_int_equal(f->io.cell_caws, 0);
	assert_int_equal(lock_held(a->ls, fix_addr(f, 1)), EX);
	assert_int_equal(fix_pin(a, 1, EX, LSH, LOCK_TRY | LOCK_CACHED, NULL, &l), 0);
	fix_unpin(a, l, EX, LSH);
}

static void try_neither_waits_nor_asks(void **state)
{
	(void)state;
	fix_run(body_try, 512, 10);
}

static void pinner(void *arg)
{
	struct job *j = arg;
	struct lock *l;

	j->rc = fix_pin(j->b, j->cell, j->mode, LSH, 0, &j->intr, &l);
	if (!j->rc)
		fix_unpin(j->b, l, j->mode, LSH);
	j->done = true;
}

static void body_interrupt(struct fix *f)
{
	struct job j = { .b = &f->box[1], .cell = 1, .mode = EX };
	struct lock *l;
	struct task *t;
	uint64_t began;

	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	assert_int_equal(fix_pin(&f->box[0], 1, EX, LSH, 0, NULL, &l), 0);
	t = fix_task(f, 1, pinner, &j);
	fix_sleep_ms(f, 100);
	assert_false(j.done);
	began = clock_now_ns(f->clk);
	lock_intr_fire(f->box[1].ls, &j.intr);
	fix_join(f, t);
	assert_int_equal(j.rc, -EINTR);
	assert_true(clock_now_ns(f->clk) < began + 20000000);
	fix_unpin(&f->box[0], l, EX, LSH);
	fix_sleep_ms(f, 300);
	touch(&f->box[2], 1, EX); /* wherever it went, it can be had */
	touch(&f->box[0], 1, EX);
}

static void interrupted_wait_ends_and_loses_nothing(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 20; seed++)
		fix_run(body_interrupt, 512, seed);
}

static void body_interrupt_pending(struct fix *f)
{
	struct job j = { .b = &f->box[1], .cell = 1, .mode = EX };
	struct lunfs_lock_rec r;
	struct lock *l;
	struct task *t;

	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	assert_int_equal(fix_pin(&f->box[0], 1, SH, LSH, 0, NULL, &l), 0);
	t = fix_task(f, 1, pinner, &j);
	fix_sleep_ms(f, 50);
	fix_record(f, 1, &r);
	assert_int_equal(le64_get(r.ex_pending), host_owner(f->box[1].host));
	lock_intr_fire(f->box[1].ls, &j.intr);
	fix_join(f, t);
	fix_record(f, 1, &r);
	assert_int_equal(le64_get(r.ex_pending), 0);
	touch(&f->box[2], 1, SH); /* joins while the first is pinned */
	fix_unpin(&f->box[0], l, SH, LSH);
}

static void interrupted_upgrade_lets_sharers_in_again(void **state)
{
	(void)state;
	fix_run(body_interrupt_pending, 512, 11);
}

static void body_unknown_owner(struct fix *f)
{
	struct lunfs_lock_rec r;

	fix_up(f, 0);
	fix_up(f, 1);
	fix_record(f, 1, &r); /* a hand-over to host 0, which gave up and forgot */
	r.mode = le16_make(LUNFS_LOCK_EXCL);
	r.owner = le64_make(host_owner(f->box[0].host));
	fix_poke_record(f, 1, &r);
	fix_record(f, 2, &r); /* and a forgotten pending mark */
	r.mode = le16_make(LUNFS_LOCK_SHARED);
	r.ex_pending = le64_make(host_owner(f->box[0].host));
	fix_poke_record(f, 2, &r);
	fix_record(f, 3, &r);
	r.mode = le16_make(LUNFS_LOCK_EXCL);
	r.owner = le64_make(host_owner(f->box[0].host));
	fix_poke_record(f, 3, &r);
	touch(&f->box[1], 1, EX);
	touch(&f->box[1], 2, SH);
	touch(&f->box[0], 3, EX);
	fix_io_reset(f);
	fix_record(f, 3, &r);
	assert_int_equal(le64_get(r.hdr.setter_owner), host_owner(f->box[0].host));
}

static void forgotten_possession_is_settled_by_an_ats(void **state)
{
	(void)state;
	fix_run(body_unknown_owner, 512, 12);
}

/* ---- the dead --------------------------------------------------------------------------------------- */

static void body_unmounted(struct fix *f)
{
	fix_up(f, 0);
	fix_up(f, 1);
	touch(&f->box[0], 1, EX);
	touch(&f->box[0], 2, SH);
	fix_down(f, 0);
	fix_sleep_ms(f, 2 * FIX_BEAT_MS);
	fix_io_reset(f);
	touch(&f->box[1], 1, EX);
	assert_int_equal(f->box[1].val[1].value, 1 + 1);
	assert_int_equal(f->io.cell_caws, 1);
	assert_int_equal(f->box[1].loaded, 0); /* newer than recorded: read again under the lock */
	touch(&f->box[1], 2, EX);
	assert_int_equal(f->io.cell_caws, 2);
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
	touch(&f->box[0], 1, EX);
	touch(&f->box[0], 2, SH);
	fix_kill(f, 0);
	began = clock_now_ns(f->clk);
	touch(&f->box[1], 1, EX);
	assert_true(clock_now_ns(f->clk) >= began + (FIX_LEASE_MS - FIX_BEAT_MS) * 1000000ull);
	assert_true(clock_now_ns(f->clk) < began + 3 * FIX_LEASE_MS * 1000000ull);
	assert_int_equal(f->box[1].replayed, 1);
	touch(&f->box[1], 2, EX);
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
	struct job j = { .b = &f->box[0], .cell = 1, .mode = EX };
	struct lunfs_lock_rec r;
	struct lock *l;

	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	assert_int_equal(fix_pin(&f->box[1], 1, SH, LSH, 0, NULL, &l), 0);
	fix_task(f, 0, pinner, &j);
	fix_sleep_ms(f, 50);
	fix_record(f, 1, &r);
	assert_int_equal(le64_get(r.ex_pending), host_owner(f->box[0].host));
	fix_kill(f, 0);
	touch(&f->box[2], 1, SH); /* as soon as the other is known to be dead */
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
		touch(&f->box[0], i, EX);
	touch(&f->box[1], 2, EX); /* handed over: not the dead host's any more */
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

/* ---- unknown fates ------------------------------------------------------------------------------------ */

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
		touch(&f->box[0], 1 + k, EX);
		simdev_inject(f->box[0].dev, &fault); /* the hand-over */
		touch(&f->box[1], 1 + k, EX);
		simdev_inject_clear(f->box[0].dev);
		touch(&f->box[0], 1 + k, SH);
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
	touch(&f->box[1], 1, EX);
	touch(&f->box[0], 1, EX);
	assert_int_equal(f->box[0].val[1].value, 2);
}

static void unknown_fate_counts_as_neither_held_nor_free(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_no_answers, 512, seed);
}

/* ---- born, open, dropped, evicted --------------------------------------------------------------------- */

static void write_born(struct fix *f, struct box *b, unsigned from, unsigned n)
{
	uint8_t *buf = dev_buf_alloc(4096);

	for (unsigned i = from; i < from + n; i++) {
		lock_born_image(b->ls, fix_addr(f, i), buf);
		simdev_poke(f->medium, geo_blk_off(fix_addr(f, i)), f->geo.sector_bytes, buf);
	}
	free(buf);
	assert_int_equal(lock_adopt_born(b->ls, fix_addr(f, from), n), 0);
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
	touch(&f->box[1], 11, EX);  /* never used here */
	touch(&f->box[1], 300, EX); /* used here */
	assert_int_equal(f->io.cell_caws, 2);
	assert_int_equal(lock_held(f->box[0].ls, fix_addr(f, 11)), LOCK_NONE);
	touch(&f->box[0], 11, EX); /* comes back by a hand-over, not as born */
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
		touch(a, i, EX);
	for (unsigned i = 300; i < 400; i++)
		touch(a, i, EX);
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
		touch(&f->box[1], i, EX);
		assert_int_equal(f->box[1].val[i].value, i < 200 || i >= 300 ? 2 : 1);
	}
}

static void unused_locks_go_when_there_are_too_many(void **state)
{
	(void)state;
	fix_run(body_evict, 512, 18);
}

static void body_drop(struct fix *f)
{
	struct box *a = &f->box[0];
	struct lunfs_lock_rec r;
	struct lock *l;

	fix_up(f, 0);
	touch(a, 1, EX);
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
	touch(&f->box[0], 1, SH);
	f->box[0].open[1] = true;
	assert_true(open_seen(&f->box[1], 1));
	assert_true(open_seen(&f->box[2], 1)); /* kept through others' hands */
	f->box[0].open[1] = false;
	touch(&f->box[0], 1, EX);
	assert_false(open_seen(&f->box[1], 1));
	touch(&f->box[0], 1, EX);
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

/* ---- upcalls ----------------------------------------------------------------------------------------- */

static void body_flush_fails(struct fix *f)
{
	fix_up(f, 0);
	fix_up(f, 1);
	touch(&f->box[0], 1, EX);
	f->box[0].fail_flush = 3;
	touch(&f->box[1], 1, EX);
	assert_int_equal(f->box[1].val[1].value, 2);
	assert_int_equal(f->box[0].fail_flush, 0);
}

static void lock_is_kept_while_its_flush_fails(void **state)
{
	(void)state;
	fix_run(body_flush_fails, 512, 21);
}

static struct job drain_job, plain_job;
static struct task *plain_task;

static void drainer(void *arg)
{
	struct job *j = arg;
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
	plain_job = (struct job){ .b = b, .cell = 1, .mode = EX };
	drain_job = (struct job){ .b = b, .cell = 1, .mode = EX };
	b->on_invalidate = NULL;
	assert_int_equal(f->clk->ops->task_start(f->clk, "plain", pinner, &plain_job,
						  &plain_task), 0);
	assert_int_equal(f->clk->ops->task_start(f->clk, "drain", drainer, &drain_job, &drain), 0);
	f->clk->ops->task_join(f->clk, drain);
	assert_true(drain_job.done);
	assert_false(plain_job.done);
}

static void body_drain(struct fix *f)
{
	fix_up(f, 0);
	fix_up(f, 1);
	touch(&f->box[0], 1, EX);
	f->box[0].on_invalidate = invalidate_waits_for_io;
	touch(&f->box[1], 1, EX);
	assert_int_equal(drain_job.rc, 0);
	fix_join(f, plain_task);
	assert_int_equal(plain_job.rc, 0);
}

static void drain_pins_pass_while_caches_are_invalidated(void **state)
{
	(void)state;
	fix_run(body_drain, 512, 22);
}

/* ---- fairness and lease ------------------------------------------------------------------------------- */

static bool hammer_stop;

static void hammer(void *arg)
{
	struct job *j = arg;

	while (!hammer_stop) {
		touch(j->b, j->cell, EX);
		j->rounds++;
	}
}

static void body_fair(struct fix *f)
{
	struct job j[6];
	struct task *t[6];
	unsigned sum = 0;

	memset(j, 0, sizeof(j));
	for (unsigned i = 0; i < 3; i++)
		fix_up(f, i);
	hammer_stop = false;
	for (unsigned i = 0; i < 6; i++) {
		j[i] = (struct job){ .b = &f->box[i / 2], .cell = 1 };
		t[i] = fix_task(f, i / 2, hammer, &j[i]);
	}
	fix_sleep_ms(f, 2000);
	hammer_stop = true;
	for (unsigned i = 0; i < 6; i++) {
		fix_join(f, t[i]);
		sum += j[i].rounds;
	}
	for (unsigned i = 0; i < 6; i++)
		assert_true(j[i].rounds >= 20);
	touch(&f->box[0], 1, SH);
	assert_int_equal(f->box[0].val[1].value, sum);
}

static void three_hosts_that_all_want_a_lock_all_get_it(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		fix_run(body_fair, 512, seed);
}

static void body_lost(struct fix *f)
{
	struct lock *l;

	fix_up(f, 0);
	fix_up(f, 1);
	touch(&f->box[0], 1, EX);
	simclock_pause(f->clk, 1, clock_now_ns(f->clk) + 10 * FIX_LEASE_MS * 1000000ull);
	touch(&f->box[1], 1, EX);
	fix_sleep_ms(f, 11 * FIX_LEASE_MS);
	assert_int_equal(host_state(f->box[0].host), HOST_LOST);
	assert_int_equal(lock_pin(f->box[0].ls, fix_addr(f, 1), EX, LSH, 0, NULL, &l), -EIO);
	assert_int_equal(lock_pin(f->box[0].ls, fix_addr(f, 1), EX, LSH, LOCK_TRY, NULL, &l),
			 -EIO);
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
		cmocka_unit_test(cold_lock_is_one_read_and_one_ats),
		cmocka_unit_test(payload_of_another_version_is_not_passed_up),
		cmocka_unit_test(contended_lock_moves_with_one_ats),
		cmocka_unit_test(handed_over_payload_comes_with_the_lock),
		cmocka_unit_test(granted_wish_is_withdrawn),
		cmocka_unit_test(used_lock_is_shared_by_one_ats),
		cmocka_unit_test(unused_lock_is_given_to_a_reader_whole),
		cmocka_unit_test(writer_shuts_out_all_readers),
		cmocka_unit_test(lone_sharer_upgrades_in_one_ats),
		cmocka_unit_test(upgraders_do_not_block_each_other),
		cmocka_unit_test(try_neither_waits_nor_asks),
		cmocka_unit_test(interrupted_wait_ends_and_loses_nothing),
		cmocka_unit_test(interrupted_upgrade_lets_sharers_in_again),
		cmocka_unit_test(forgotten_possession_is_settled_by_an_ats),
		cmocka_unit_test(lock_of_an_unmounted_host_is_taken_by_one_ats),
		cmocka_unit_test(lock_of_a_dead_host_waits_for_its_recovery),
		cmocka_unit_test(pending_mark_of_a_dead_host_is_ignored),
		cmocka_unit_test(guards_of_the_same_possession_are_renewed_and_live),
		cmocka_unit_test(ats_of_unknown_fate_is_settled_before_anything_else),
		cmocka_unit_test(unknown_fate_counts_as_neither_held_nor_free),
		cmocka_unit_test(born_cells_are_held_without_io),
		cmocka_unit_test(unused_locks_go_when_there_are_too_many),
		cmocka_unit_test(dropped_lock_is_released_once_unpinned),
		cmocka_unit_test(open_entry_stands_until_closed_or_over),
		cmocka_unit_test(lock_is_kept_while_its_flush_fails),
		cmocka_unit_test(drain_pins_pass_while_caches_are_invalidated),
		cmocka_unit_test(three_hosts_that_all_want_a_lock_all_get_it),
		cmocka_unit_test(host_that_lost_its_lease_gets_no_pin),
	};

	return cmocka_run_group_tests_name("lock", tests, NULL, NULL);
}
