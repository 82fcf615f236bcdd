/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Slots, beat, lease, suspension, recovery: several hosts on one simulated LUN and clock. */
#include "member.h"

#include "base/crc.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- claim, beat, release -----------------------------------------------------------------------
 */

TEST(a_claimed_slot_beats_and_is_free_after_release)
{
	struct member a = {0};
	struct host_info hi;
	uint64_t seq;

	mount_host(&a, w, "a");
	assert_int_equal(host_state(a.h), HOST_ACTIVE);
	look(w, host_slot(a.h), &hi);
	assert_int_equal(hi.state, LUNFS_SLOT_LIVE);
	assert_int_equal(hi.generation, 1);
	assert_string_equal(hi.hostname, "a");
	assert_true(hi.nonce == host_nonce(a.h));
	seq = hi.beat_seq;
	rest(w, 5 * BEAT);
	look(w, host_slot(a.h), &hi);
	assert_in_range(hi.beat_seq, seq + 3, seq + 6);
	umount_host(&a);
	look(w, 0, &hi);
	assert_int_equal(hi.state, LUNFS_SLOT_FREE);
	assert_int_equal(hi.generation, 1);
}

TEST(a_host_gets_the_slot_it_used_last_with_the_next_generation)
{
	struct member a = {0}, b = {0};

	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	assert_int_equal(host_slot(b.h), 1);
	umount_host(&a);
	umount_host(&b);
	mount_host(&b, w, "b");
	assert_int_equal(host_slot(b.h), 1);
	assert_true(host_owner(b.h) == LUNFS_OWNER(2, 1));
	umount_host(&b);
}

TEST(a_beating_host_is_never_suspended_nor_recovered)
{
	struct member m[3] = {0};
	static const char *const names[] = {"a", "b", "c"};

	simdev_set_latency(w->medium, 0, 40 * MS);
	for (int i = 0; i < 3; i++)
		mount_host(&m[i], w, names[i]);
	rest(w, 20 * LEASE);
	for (int i = 0; i < 3; i++) {
		assert_true(host_lease_ok(m[i].h));
		assert_int_equal(m[i].replays + m[i].suspended + m[i].lost, 0);
	}
	for (int i = 0; i < 3; i++)
		umount_host(&m[i]);
}

struct racer {
	struct member m;
	int result;
};

static void race(void *arg)
{
	struct racer *r = arg;

	r->result = claim(&r->m);
}

TEST(hosts_that_claim_at_once_get_different_slots)
{
	struct racer r[3] = {0};
	struct task *t[3];
	static const char *const names[] = {"a", "b", "c"};
	unsigned slots = 0;

	simdev_set_latency(w->medium, 1 * MS, 5 * MS);
	for (int i = 0; i < 3; i++)
		make(&r[i].m, w, names[i]);
	for (int i = 0; i < 3; i++)
		assert_int_equal(w->clk->ops->task_start(w->clk, "race", race, &r[i], &t[i]), 0);
	for (int i = 0; i < 3; i++)
		w->clk->ops->task_join(w->clk, t[i]);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(r[i].result, 0);
		slots |= 1u << host_slot(r[i].m.h);
	}
	assert_int_equal(slots, 7);
	for (int i = 0; i < 3; i++)
		umount_host(&r[i].m);
}

TEST(who_loses_the_race_for_a_slot_does_not_wait_for_the_next)
{
	struct racer r[3] = {0};
	struct task *t[3];
	static const char *const names[] = {"a", "b", "c"};
	uint64_t from;

	simdev_set_latency(w->medium, MS / 4, MS / 4);
	for (int i = 0; i < 3; i++)
		make(&r[i].m, w, names[i]);
	from = clock_now_ns(w->clk);
	for (int i = 0; i < 3; i++)
		assert_int_equal(w->clk->ops->task_start(w->clk, "race", race, &r[i], &t[i]), 0);
	for (int i = 0; i < 3; i++)
		w->clk->ops->task_join(w->clk, t[i]);
	assert_true(clock_now_ns(w->clk) - from < BEAT * MS / 4);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(r[i].result, 0);
		umount_host(&r[i].m);
	}
}

TEST(a_second_live_host_of_the_same_name_is_refused)
{
	struct member a = {0}, b = {0};

	mount_host(&a, w, "a");
	make(&b, w, "a");
	assert_int_equal(claim(&b), -EEXIST);
	assert_non_null(strstr(b.why, "host a (slot 0"));
	host_abandon(b.h);
	unmake(&b);
	assert_int_equal(state_of(w, 1), LUNFS_SLOT_FREE);
	umount_host(&a);
}

TEST(two_hosts_of_one_name_that_claim_at_once_are_never_both_mounted)
{
	struct racer r[2] = {0};
	struct task *t[2];

	simdev_set_latency(w->medium, 1 * MS, 5 * MS);
	for (int i = 0; i < 2; i++)
		make(&r[i].m, w, "a");
	for (int i = 0; i < 2; i++)
		assert_int_equal(w->clk->ops->task_start(w->clk, "race", race, &r[i], &t[i]), 0);
	for (int i = 0; i < 2; i++)
		w->clk->ops->task_join(w->clk, t[i]);
	assert_true(r[0].result || r[1].result);
	for (int i = 0; i < 2; i++) {
		if (r[i].result)
			host_abandon(r[i].m.h);
		else
			assert_int_equal(host_release(r[i].m.h), 0);
		unmake(&r[i].m);
	}
}

TEST(when_all_slots_are_live_the_claim_is_refused)
{
	struct member m[4] = {0}, x = {0};
	static const char *const names[] = {"a", "b", "c", "d"};

	for (int i = 0; i < 4; i++)
		mount_host(&m[i], w, names[i]);
	make(&x, w, "x");
	assert_int_equal(claim(&x), -EBUSY);
	assert_non_null(strstr(x.why, "All 4 slots"));
	host_abandon(x.h);
	unmake(&x);
	for (int i = 0; i < 4; i++)
		umount_host(&m[i]);
}

TEST(a_read_only_device_is_refused_with_a_sentence)
{
	struct member a = {0};

	make(&a, w, "a");
	a.dev->id.read_only = true;
	assert_int_equal(claim(&a), -EROFS);
	assert_non_null(strstr(a.why, "read-only"));
	unmake(&a);
}

TEST(a_damaged_slot_is_left_alone)
{
	struct member a = {0};
	uint8_t junk = 0xff;

	simdev_poke(w->medium, geo_slot_off(0) + 0x60, 1, &junk);
	mount_host(&a, w, "a");
	assert_int_equal(host_slot(a.h), 1);
	umount_host(&a);
}

TEST(a_lost_reply_to_the_claim_is_our_slot)
{
	struct simdev_fault f = {.kind = SIMDEV_LOST_REPLY, .ops = SIMDEV_CAW};
	struct member a = {0};

	make(&a, w, "a");
	simdev_inject(a.dev, &f);
	assert_int_equal(claim(&a), 0);
	assert_int_equal(host_slot(a.h), 0);
	assert_true(host_owner(a.h) == LUNFS_OWNER(1, 0));
	umount_host(&a);
}

TEST(no_slot_is_freed_while_a_command_of_its_owner_is_on_its_way)
{
	struct simdev_fault late = {
	    .kind = SIMDEV_LATE, .ops = SIMDEV_WRITE, .delay_ns = 4 * LEASE * MS};
	uint8_t *buf = dev_buf_alloc(4096);
	struct member a = {0};
	uint8_t now[4096];

	mount_host(&a, w, "a");
	simdev_inject(a.dev, &late);
	memset(buf, 0xee, 4096);
	assert_int_equal(dev_write(a.dev, LUNFS_SCRATCH_OFF, 4096, buf), -ETIMEDOUT);
	umount_host(&a);
	memset(buf, 0, 4096);
	simdev_poke(w->medium, LUNFS_SCRATCH_OFF, 4096, buf);
	rest(w, 6 * LEASE);
	simdev_peek(w->medium, LUNFS_SCRATCH_OFF, 4096, now);
	assert_memory_equal(now, buf, 4096);

	mount_host(&a, w, "a");
	simdev_set_drain(w->medium, false);
	simdev_inject(a.dev, &late);
	assert_int_equal(dev_write(a.dev, LUNFS_SCRATCH_OFF, 4096, buf), -ETIMEDOUT);
	assert_int_equal(host_release(a.h), -EIO);
	assert_int_equal(state_of(w, 0), LUNFS_SLOT_LIVE);
	unmake(&a);
	free(buf);
}

/* ---- maintenance --------------------------------------------------------------------------------
 */

static void set_maint(struct world *w, uint64_t holder, uint32_t flags)
{
	struct lunfs_maint_rec *rec = (void *)w->buf;

	maint_format(&w->geo, w->buf, 5);
	rec->holder = le64_make(holder);
	rec->flags = le32_make(flags);
	crc_seal(w->buf, 512, offsetof(struct lunfs_ats_hdr, crc));
	simdev_poke(w->medium, LUNFS_MAINT_OFF, w->geo.sector_bytes, w->buf);
}

TEST(a_volume_under_repair_by_a_live_host_is_not_mounted)
{
	struct member fsck = {.cfg = {.spare = true}}, a = {0};

	mount_host(&fsck, w, "fsck");
	assert_int_equal(host_slot(fsck.h), 4);
	set_maint(w, host_owner(fsck.h), 0);
	make(&a, w, "a");
	assert_int_equal(claim(&a), -ESHUTDOWN);
	assert_int_equal(state_of(w, 0), LUNFS_SLOT_FREE);
	umount_host(&fsck);
	assert_int_equal(claim(&a), 0);
	umount_host(&a);
}

TEST(a_repair_whose_host_died_is_recovered_and_the_mount_goes_on)
{
	struct member fsck = {.cfg = {.spare = true}}, a = {0};

	mount_host(&fsck, w, "fsck");
	set_maint(w, host_owner(fsck.h), 0);
	die(&fsck);
	mount_host(&a, w, "a");
	assert_int_equal(state_of(w, 4), LUNFS_SLOT_FREE);
	assert_int_equal(a.replays, 0);
	umount_host(&a);
	unmake(&fsck);
}

TEST(an_unfinished_repair_must_be_finished_first)
{
	struct member a = {0};

	set_maint(w, 0, LUNFS_MAINT_MUST_FSCK);
	make(&a, w, "a");
	assert_int_equal(claim(&a), -EUCLEAN);
	unmake(&a);
}

/* ---- death and recovery -------------------------------------------------------------------------
 */

TEST(of_three_hosts_a_dead_one_is_recovered_exactly_once)
{
	struct member a = {0}, b = {0}, c = {0};
	uint64_t owner, nonce;

	simdev_set_latency(w->medium, 0, 5 * MS);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	mount_host(&c, w, "c");
	owner = host_owner(a.h);
	nonce = host_nonce(a.h);
	die(&a);
	assert_int_equal(owner_state(&b, owner), OWNER_ALIVE);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE && b.recovered && c.recovered);
	rest(w, 2 * LEASE);
	assert_int_equal(b.replays + c.replays, 1);
	assert_true((b.replays ? b.replay_nonce : c.replay_nonce) == nonce);
	assert_int_equal(b.recovered, 1);
	assert_int_equal(c.recovered, 1);
	assert_int_equal(owner_state(&b, owner), OWNER_OVER);
	assert_int_equal(owner_state(&c, owner), OWNER_OVER);
	umount_host(&b);
	umount_host(&c);
	unmake(&a);
}

TEST(nobody_is_recovered_before_its_lease_is_over)
{
	struct member a = {0}, b = {0};
	uint64_t dead_ns;

	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	rest(w, 3 * LEASE);
	dead_ns = clock_now_ns(w->clk);
	die(&a);
	UNTIL(w, b.replays);
	assert_true(b.replay_ns >= dead_ns - BEAT * MS + LEASE * MS);
	assert_true(b.replay_ns <= dead_ns + (LEASE + 3 * BEAT) * MS);
	umount_host(&b);
	unmake(&a);
}

TEST(locks_of_a_dead_host_hold_until_its_replay_has_ended)
{
	struct member a = {0}, b = {0};
	uint64_t owner;

	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	owner = host_owner(a.h);
	b.replay_blocks = true;
	die(&a);
	UNTIL(w, b.replays);
	rest(w, LEASE);
	assert_int_equal(owner_state(&b, owner), OWNER_RECOVERING);
	assert_true(host_tag_owner(b.h, 0, 1) == owner);
	b.replay_blocks = false;
	UNTIL(w, owner_state(&b, owner) == OWNER_OVER);
	assert_true(host_tag_owner(b.h, 0, 1) == 0);
	umount_host(&b);
	unmake(&a);
}

TEST(a_failed_replay_is_tried_again)
{
	struct member a = {0}, b = {0};

	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	b.replay_fails = 2;
	die(&a);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	assert_int_equal(b.replays, 3);
	umount_host(&b);
	unmake(&a);
}

/*
 * Two hosts die; of two others each means to recover both, and one is still busy with the first
 * when the second is FREE again, has come back, and is dead once more.
 */
TEST(a_host_that_came_back_and_died_again_is_recovered_as_what_it_was_then)
{
	struct member first = {0}, again = {0}, b = {0}, c = {0}, *busy, *other;
	uint64_t nonce;

	mount_host(&first, w, "first");
	mount_host(&again, w, "again");
	mount_host(&b, w, "b");
	mount_host(&c, w, "c");
	b.replay_blocks = c.replay_blocks = true;
	die(&first);
	die(&again);
	UNTIL(w, b.replays && c.replays);
	busy = b.replayed_slot[0] == 0 ? &b : &c;
	other = busy == &b ? &c : &b;
	assert_int_equal(other->replayed_slot[0], 1);
	other->replay_blocks = false;
	UNTIL(w, state_of(w, 1) == LUNFS_SLOT_FREE);
	unmake(&again);
	mount_host(&again, w, "again");
	assert_int_equal(host_slot(again.h), 1);
	nonce = host_nonce(again.h);
	umount_host(other);
	die(&again);
	UNTIL(w, host_looks_dead(busy->h, 1));
	busy->replay_blocks = false;
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE && state_of(w, 1) == LUNFS_SLOT_FREE);
	assert_int_equal(busy->replays, 2);
	assert_true(busy->replay_nonce == nonce);
	umount_host(busy);
	unmake(&first);
	unmake(&again);
}

TEST(when_the_recovering_host_dies_a_third_takes_over_both)
{
	struct member a = {0}, b = {0}, c = {0};
	struct host_info hi;
	uint64_t b_owner;

	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	mount_host(&c, w, "c");
	b_owner = host_owner(b.h);
	b.replay_blocks = c.replay_blocks = true;
	die(&a);
	UNTIL(w, b.replays + c.replays);
	if (c.replays) { /* the names do not matter: b is the one that recovers */
		c.replay_blocks = b.replay_blocks = false;
		UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	} else {
		look(w, 0, &hi);
		assert_true(hi.recoverer == b_owner);
		c.replay_blocks = false;
		die(&b);
		UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE && state_of(w, 1) == LUNFS_SLOT_FREE);
		assert_int_equal(c.replays, 2);
		assert_int_equal(b.replays, 1);
	}
	umount_host(&c);
	if (host_state(b.h) == HOST_LOST)
		unmake(&b);
	else
		umount_host(&b);
	unmake(&a);
}

TEST(a_late_beat_of_the_dead_cannot_undo_its_recovery)
{
	struct simdev_fault late = {
	    .kind = SIMDEV_LATE, .ops = SIMDEV_CAW, .count = 1000, .delay_ns = 6000 * MS};
	struct simdev_counts n;
	struct member a = {0}, b = {0};

	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	simdev_inject(a.dev, &late);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	UNTIL(w, a.lost == 1);
	rest(w, 10000);
	simdev_counts(w->medium, &n);
	assert_true(n.late > 0);
	assert_int_equal(state_of(w, 0), LUNFS_SLOT_FREE);
	assert_int_equal(host_release(a.h), -EIO);
	umount_host(&b);
	unmake(&a);
}

TEST(a_host_that_remounts_after_a_crash_gets_its_recovered_slot)
{
	struct member a = {0}, again = {0};

	mount_host(&a, w, "a");
	die(&a);
	mount_host(&again, w, "a");
	assert_int_equal(again.replays, 1);
	assert_true(host_owner(again.h) == LUNFS_OWNER(2, 0));
	assert_int_equal(state_of(w, 4), LUNFS_SLOT_FREE);
	UNTIL(w, again.recovered);
	umount_host(&again);
	unmake(&a);
}

TEST(with_all_slots_taken_a_dead_host_is_recovered_from_a_spare_slot)
{
	struct member m[4] = {0}, x = {0};
	static const char *const names[] = {"a", "b", "c", "d"};

	for (int i = 0; i < 4; i++)
		mount_host(&m[i], w, names[i]);
	for (int i = 0; i < 4; i++)
		die(&m[i]);
	mount_host(&x, w, "x");
	assert_true(host_slot(x.h) < 4);
	assert_int_equal(state_of(w, 4), LUNFS_SLOT_FREE);
	UNTIL(w, x.replays >= 4);
	for (unsigned i = 0; i < 4; i++)
		UNTIL(w, i == host_slot(x.h) || state_of(w, i) == LUNFS_SLOT_FREE);
	umount_host(&x);
	for (int i = 0; i < 4; i++)
		unmake(&m[i]);
}

/* ---- suspension ---------------------------------------------------------------------------------
 */

TEST(a_host_without_its_device_is_suspended_and_resumes_with_everything)
{
	struct member a = {0};
	uint64_t owner;

	mount_host(&a, w, "a");
	owner = host_owner(a.h);
	rest(w, LEASE);
	fail_all(&a, -EIO);
	rest(w, LEASE + 10);
	assert_int_equal(host_state(a.h), HOST_SUSPENDED);
	assert_false(host_lease_ok(a.h));
	assert_int_equal(a.suspended, 1);
	rest(w, 5 * LEASE);
	assert_int_equal(a.resumed, 0);
	simdev_inject_clear(a.dev);
	assert_int_equal(host_write_gate(a.h), 0);
	assert_true(host_lease_left_ns(a.h) >= 400 * MS);
	UNTIL(w, a.resumed == 1);
	assert_int_equal(a.suspended, 1);
	assert_int_equal(a.lost, 0);
	assert_true(host_owner(a.h) == owner);
	umount_host(&a);
}

TEST(a_host_that_gives_up_beats_on_but_waits_for_no_device)
{
	struct member a = {0};

	mount_host(&a, w, "a");
	host_give_up(a.h);
	rest(w, 3 * LEASE);
	assert_int_equal(host_write_gate(a.h), 0);
	fail_all(&a, -EIO);
	rest(w, LEASE / 2);
	assert_true(host_lease_ok(a.h));
	assert_int_equal(host_write_gate(a.h),
			 -EIO); /* 400 ms of the lease are not left any more */
	assert_int_equal(host_state(a.h), HOST_LOST);
	host_abandon(a.h);
	assert_int_equal(a.suspended + a.lost, 0);
	unmake(&a);
}

TEST(threads_that_wait_for_the_end_of_an_outage_are_no_reason_to_stop_beating)
{
	struct member a = {0};

	mount_host(&a, w, "a");
	rest(w, LEASE);
	a.idle = true; /* they wait at the gate, and go on only after a beat */
	fail_all(&a, -EIO);
	rest(w, 8 * LEASE);
	simdev_inject_clear(a.dev);
	UNTIL(w, a.resumed == 1);
	a.idle = false;
	rest(w, 8 * LEASE);
	assert_int_equal(a.suspended, 1);
	umount_host(&a);
}

TEST(a_host_that_hangs_where_nobody_takes_over_goes_on_in_the_end)
{
	struct member a = {0};

	mount_host(&a, w, "a");
	a.idle = true;
	UNTIL(w, a.suspended == 1);
	UNTIL(w, a.resumed == 1);
	a.idle = false;
	rest(w, 8 * LEASE);
	assert_true(host_lease_ok(a.h));
	assert_int_equal(a.lost, 0);
	umount_host(&a);
}

TEST(a_suspended_host_that_was_recovered_is_lost)
{
	struct member a = {0}, b = {0};

	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	fail_all(&a, -ETIMEDOUT);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	assert_int_equal(host_state(a.h), HOST_SUSPENDED);
	simdev_inject_clear(a.dev);
	assert_int_equal(host_write_gate(a.h), -EIO);
	assert_int_equal(host_state(a.h), HOST_LOST);
	UNTIL(w, a.lost == 1);
	assert_int_equal(a.resumed, 0);
	assert_int_equal(host_release(a.h), -EIO);
	assert_int_equal(state_of(w, 0), LUNFS_SLOT_FREE);
	umount_host(&b);
	unmake(&a);
}

TEST(the_suspended_ends_its_writes_before_another_recovers_it)
{
	struct member a = {0}, b = {0};
	uint64_t last_ok = 0;

	simdev_set_latency(w->medium, 0, 20 * MS);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	fail_all(&a, -ETIMEDOUT);
	while (!b.replays) {
		if (host_lease_ok(a.h))
			last_ok = clock_now_ns(w->clk);
		rest(w, 1);
	}
	assert_true(last_ok && last_ok < b.replay_ns);
	host_abandon(a.h);
	umount_host(&b);
	unmake(&a);
}

struct zombie {
	struct member m;
	bool writing, mounted;
	unsigned writes;
};

static void write_on(void *arg)
{
	struct zombie *z = arg;
	uint8_t *buf = dev_buf_alloc(4096);

	simclock_set_group(z->m.w->clk, 1);
	mount_host(&z->m, z->m.w, "z");
	z->mounted = true;
	for (;;) {
		z->writing = true;
		if (host_write_gate(z->m.h))
			break;
		dev_write(z->m.dev, LUNFS_SCRATCH_OFF, 4096, buf);
		z->writing = false;
		z->writes++;
		rest(z->m.w, 7);
	}
	free(buf);
}

TEST(a_paused_host_that_wakes_after_its_recovery_writes_nothing_more)
{
	struct zombie z = {.m.w = w};
	struct member b = {0};
	struct task *t;
	unsigned writes;

	assert_int_equal(w->clk->ops->task_start(w->clk, "zombie", write_on, &z, &t), 0);
	UNTIL(w, z.mounted);
	mount_host(&b, w, "b");
	UNTIL(w, z.writes > 10);
	while (z.writing)
		rest(w, 1);
	writes = z.writes;
	simclock_pause(w->clk, 1, clock_now_ns(w->clk) + 5 * LEASE * MS);
	UNTIL(w, b.replays);
	w->clk->ops->task_join(w->clk, t);
	assert_int_equal(z.writes, writes);
	UNTIL(w, z.m.lost);
	host_abandon(z.m.h);
	unmake(&z.m);
	umount_host(&b);
}

TEST(lost_replies_to_beats_do_not_end_the_lease)
{
	struct simdev_fault f = {.kind = SIMDEV_LOST_REPLY, .ops = SIMDEV_CAW, .count = 20};
	struct member a = {0};

	mount_host(&a, w, "a");
	simdev_inject(a.dev, &f);
	rest(w, 10 * LEASE);
	assert_true(host_lease_ok(a.h));
	assert_int_equal(a.lost, 0);
	umount_host(&a);
}

TEST(the_lease_counts_from_the_first_submission_of_the_beat)
{
	struct simdev_fault slow = {
	    .kind = SIMDEV_DELAY, .ops = SIMDEV_CAW, .count = 100, .delay_ns = 300 * MS};
	struct member a = {0};
	uint64_t most = 0;

	mount_host(&a, w, "a");
	simdev_inject(a.dev, &slow);
	rest(w, LEASE);
	for (unsigned i = 0; i < 4 * LEASE; i++) {
		uint64_t left = host_lease_left_ns(a.h);

		most = left > most ? left : most;
		rest(w, 1);
	}
	assert_in_range(most / MS, LEASE - 350, LEASE - 300);
	umount_host(&a);
}

TEST(a_recoverer_renews_its_recoveries_after_a_suspension)
{
	struct member a = {0}, b = {0};
	struct host_info hi;
	uint64_t seq;

	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	b.replay_blocks = true;
	die(&a);
	UNTIL(w, b.replays);
	look(w, 0, &hi);
	seq = le64_get(((struct lunfs_ats_hdr *)w->buf)->image_seq);
	fail_all(&b, -EIO);
	rest(w, 2 * LEASE);
	simdev_inject_clear(b.dev);
	UNTIL(w, b.resumed);
	look(w, 0, &hi);
	assert_int_equal(hi.state, LUNFS_SLOT_RECOVERING);
	assert_true(le64_get(((struct lunfs_ats_hdr *)w->buf)->image_seq) > seq);
	b.replay_blocks = false;
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	assert_int_equal(b.replays, 1);
	umount_host(&b);
	unmake(&a);
}

TEST(a_recoverer_of_a_slot_that_is_damaged_in_a_suspension_is_lost)
{
	struct member a = {0}, b = {0};
	uint8_t junk = 0xee;

	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	b.replay_blocks = true;
	die(&a);
	UNTIL(w, b.replays);
	fail_all(&b, -EIO);
	rest(w, 2 * LEASE);
	simdev_poke(w->medium, geo_slot_off(0) + 0x60, 1, &junk);
	simdev_inject_clear(b.dev);
	UNTIL(w, b.lost == 1); /* else it would be suspended for as long as nobody runs fsck */
	b.replay_blocks = false;
	assert_int_equal(b.resumed, 0);
	assert_int_equal(host_release(b.h), -EIO);
	unmake(&a);
	unmake(&b);
}

TEST(a_host_that_makes_no_progress_stops_beating_and_is_recovered)
{
	struct member a = {0}, b = {0};

	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	a.idle = true;
	rest(w, 2 * LEASE);
	assert_true(host_lease_ok(a.h));
	UNTIL(w, a.lost);
	assert_int_equal(b.replays, 1);
	host_abandon(a.h);
	umount_host(&b);
	unmake(&a);
}

TEST(a_device_that_only_pretends_to_write_stops_the_host)
{
	struct simdev_fault f = {.kind = SIMDEV_LIE_DONE, .ops = SIMDEV_CAW};
	struct member a = {0};

	mount_host(&a, w, "a");
	simdev_inject(a.dev, &f);
	UNTIL(w, a.lost);
	assert_true(a.ats.unreliable);
	host_abandon(a.h);
	unmake(&a);
}

/* ---- what became of an owner --------------------------------------------------------------------
 */

TEST(a_generation_once_over_needs_no_read_and_one_ahead_is_read)
{
	struct member a = {0}, b = {0};
	enum owner_state st;
	unsigned long long reads;

	mount_host(&a, w, "a");
	umount_host(&a);
	mount_host(&b, w, "b");
	rest(w, BEAT / 2); /* the table was read once more at the start */
	reads = atomic_load(&b.dev->stats.reads);
	assert_int_equal(host_owner_state(b.h, LUNFS_OWNER(1, 0), true, &st), 0);
	assert_int_equal(st, OWNER_OVER);
	assert_int_equal(atomic_load(&b.dev->stats.reads), reads);
	mount_host(&a, w, "a");
	assert_int_equal(host_owner_state(b.h, LUNFS_OWNER(2, 0), false, &st), 0);
	assert_int_equal(st, OWNER_ALIVE);
	assert_true(host_tag_owner(b.h, 0, 2) == LUNFS_OWNER(2, 0));
	assert_true(host_tag_owner(b.h, 0, 1) == 0);
	assert_int_equal(host_owner_state(b.h, LUNFS_OWNER(9, 0), false, &st), -EIO);
	umount_host(&a);
	umount_host(&b);
}

TEST(a_tag_of_a_later_incarnation_is_found_by_reading_the_slot)
{
	struct member a = {0}, b = {0};

	mount_host(&b, w, "b");
	assert_true(host_tag_owner(b.h, 1, 1) == 0);
	mount_host(&a, w, "a");
	assert_true(host_tag_owner(b.h, host_slot(a.h), 1) == host_owner(a.h));
	assert_true(host_live_owner(b.h, host_slot(a.h)) == host_owner(a.h));
	assert_true(host_tag_owner(b.h, host_slot(b.h), 1) == host_owner(b.h));
	umount_host(&a);
	umount_host(&b);
}

/* ---- slots read from disk -----------------------------------------------------------------------
 */

TEST(a_slot_with_any_bit_changed_is_refused)
{
	struct member a = {0};
	struct host_info hi;
	uint8_t *sec = dev_buf_alloc(w->geo.sector_bytes);

	mount_host(&a, w, "a");
	simdev_peek(w->medium, geo_slot_off(0), w->geo.sector_bytes, sec);
	umount_host(&a);
	for (unsigned i = 0; i < w->geo.sector_bytes; i++) {
		sec[i] ^= 0x10;
		assert_int_equal(slot_decode(&w->geo, sec, 0, &hi), -EUCLEAN);
		sec[i] ^= 0x10;
	}
	assert_int_equal(slot_decode(&w->geo, sec, 0, &hi), 0);
	assert_int_equal(slot_decode(&w->geo, sec, 1, &hi), -EUCLEAN);
	free(sec);
}

TEST(a_sealed_slot_with_values_out_of_range_is_refused)
{
	struct member a = {0};
	struct lunfs_slot_rec good, bad[7];
	struct host_info hi;

	mount_host(&a, w, "a");
	simdev_peek(w->medium, geo_slot_off(0), sizeof(good), &good);
	umount_host(&a);
	for (int i = 0; i < 7; i++)
		bad[i] = good;
	bad[0].state = le16_make(3);
	bad[1].lease_ms = le32_make(0);
	bad[2].generation = le64_make(1ull << 56);
	bad[3].reserved[5] = 1;
	bad[4].recoverer = le64_make(LUNFS_OWNER(1, 1));
	bad[5].state = le16_make(LUNFS_SLOT_RECOVERING);
	bad[6].hdr.image_seq = le64_make(UINT64_MAX);
	for (int i = 0; i < 7; i++) {
		memset(w->buf, 0, w->geo.sector_bytes);
		memcpy(w->buf, &bad[i], sizeof(bad[i]));
		crc_seal(w->buf, 512, offsetof(struct lunfs_ats_hdr, crc));
		assert_int_equal(slot_decode(&w->geo, w->buf, 0, &hi), -EUCLEAN);
	}
}

/* ---- one machine --------------------------------------------------------------------------------
 */

/* What this process wrote into its slot, with the pid of a child instead. */
static void as_child(struct host_info *hi, pid_t pid)
{
	char path[64], buf[1024], *p;
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	assert_non_null(f);
	n = fread(buf, 1, sizeof(buf) - 1, f);
	fclose(f);
	buf[n] = '\0';
	p = strrchr(buf, ')');
	for (int i = 0; i < 20; i++)
		p = strchr(p + 1, ' ');
	hi->pid = (uint32_t)pid;
	hi->pid_start = strtoull(p + 1, NULL, 10);
}

static pid_t idle_child(void)
{
	pid_t pid = fork();

	if (!pid)
		for (;;)
			pause();
	assert_true(pid > 0);
	return pid;
}

TEST(only_a_process_that_is_gone_is_proven_gone)
{
	struct member a = {0};
	struct host_info hi, other;
	pid_t pid;

	mount_host(&a, w, "a");
	look(w, 0, &hi);
	umount_host(&a);
	assert_false(slot_owner_proven_gone(&hi)); /* ourselves */
	pid = idle_child();
	as_child(&hi, pid);
	assert_false(slot_owner_proven_gone(&hi));
	other = hi;
	other.pid_start--; /* the number was used again */
	assert_true(slot_owner_proven_gone(&other));
	other.boot_id[3] ^= 1; /* another boot: no proof */
	assert_false(slot_owner_proven_gone(&other));
	kill(pid, SIGKILL);
	waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT);
	assert_true(slot_owner_proven_gone(&hi)); /* not waited for: a zombie writes nothing */
	waitpid(pid, NULL, 0);
	assert_true(slot_owner_proven_gone(&hi));
}

/* Put a LIVE record of @pid into the slot that @m used. */
static void plant(struct world *w, struct member *m, pid_t pid)
{
	struct lunfs_slot_rec *rec = (void *)w->buf;
	struct host_info hi;

	mount_host(m, w, "paused");
	simdev_peek(w->medium, geo_slot_off(0), w->geo.sector_bytes, w->buf);
	die(m);
	as_child(&hi, pid);
	rec->pid = le32_make(hi.pid);
	rec->pid_start = le64_make(hi.pid_start);
	crc_seal(w->buf, 512, offsetof(struct lunfs_ats_hdr, crc));
	simdev_poke(w->medium, geo_slot_off(0), w->geo.sector_bytes, w->buf);
}

TEST(on_one_machine_a_process_whose_lease_is_over_is_killed_before_the_replay)
{
	struct member a = {0}, b = {0};
	pid_t pid = idle_child();
	int status = 0;

	plant(w, &a, pid);
	make(&b, w, "b");
	b.dev->id.one_machine = true;
	assert_int_equal(claim(&b), 0);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	rest(w, 4 * LEASE); /* it was sent the signal; how long it takes to end is not up to the
			       clock here */
	assert_int_equal(waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
	UNTIL(w, b.replays);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	umount_host(&b);
	unmake(&a);
}

TEST(on_one_machine_a_process_that_is_gone_is_recovered_without_waiting_for_its_lease)
{
	struct member a = {0}, b = {0};
	pid_t pid = idle_child();
	uint64_t start;

	plant(w, &a, pid);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	make(&b, w, "b");
	b.dev->id.one_machine = true;
	start = clock_now_ns(w->clk);
	assert_int_equal(claim(&b), 0);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	assert_true(clock_now_ns(w->clk) < start + LEASE * MS / 2);
	umount_host(&b);
	unmake(&a);
}

/* Stopped in the middle of a test and set of its own slot: while it is there, nobody's matches. */
struct holder {
	struct world *w;
	struct dev *other;
	pid_t pid;
	unsigned in_vain;
	uint64_t first_ns; /* since when it is in somebody's way */
	uint64_t beats_ns; /* so long after that it beats, and no read tells of it; 0: never */
	bool beaten, unreadable;
	bool mute; /* the other cannot beat */
};

static bool child_ended(pid_t pid)
{
	siginfo_t si = {0};

	return waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT | WNOHANG) || si.si_pid == pid;
}

/* The clock here knows nothing of how long a signal takes. */
static bool child_ends(pid_t pid, unsigned wait_ms)
{
	while (wait_ms-- && !child_ended(pid))
		usleep(1000);
	return child_ended(pid);
}

static void holder_beats(struct holder *o)
{
	struct world *w = o->w;
	struct lunfs_slot_rec *rec = (void *)w->buf;

	simdev_peek(w->medium, geo_slot_off(0), w->geo.sector_bytes, w->buf);
	rec->beat_seq = le64_make(le64_get(rec->beat_seq) + 1);
	rec->hdr.image_seq = le64_make(le64_get(rec->hdr.image_seq) + 1);
	crc_seal(w->buf, 512, offsetof(struct lunfs_ats_hdr, crc));
	simdev_poke(w->medium, geo_slot_off(0), w->geo.sector_bytes, w->buf);
	o->beaten = o->unreadable = true;
}

static void hold_slot(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
		      struct simdev_fault *out)
{
	struct holder *o = ctx;

	if (d != o->other)
		return;
	if (o->in_vain && o->beats_ns && !o->beaten &&
	    clock_now_ns(o->w->clk) >= o->first_ns + o->beats_ns)
		holder_beats(o);
	if (cmd->op == SIMDEV_READ && o->unreadable)
		*out = (struct simdev_fault){.kind = SIMDEV_FAIL, .error = -EIO};
	if (cmd->op == SIMDEV_CAW && cmd->off_bytes != geo_slot_off(0) && o->mute)
		*out = (struct simdev_fault){.kind = SIMDEV_FAIL, .error = -EIO};
	if (cmd->op != SIMDEV_CAW || cmd->off_bytes != geo_slot_off(0) || child_ended(o->pid))
		return;
	*out = (struct simdev_fault){.kind = SIMDEV_BUSY};
	if (!o->in_vain++)
		o->first_ns = clock_now_ns(o->w->clk);
}

static void mount_beside(struct holder *o, struct member *dead, struct member *b)
{
	o->pid = idle_child();
	plant(o->w, dead, o->pid);
	kill(o->pid, SIGSTOP);
	make(b, o->w, "b");
	b->dev->id.one_machine = true;
	o->other = b->dev;
	simdev_set_hook(o->w->medium, hold_slot, o);
	assert_int_equal(claim(b), 0);
}

TEST(on_one_machine_who_was_stopped_in_its_own_test_and_set_is_killed_and_recovered)
{
	struct holder o = {.w = w};
	struct member a = {0}, b = {0};

	mount_beside(&o, &a, &b);
	rest(w, LEASE / 2);
	assert_int_equal(o.in_vain, 0); /* not before its lease is over */
	assert_false(child_ended(o.pid));
	UNTIL(w, o.in_vain);
	rest(w, LEASE);
	assert_true(child_ends(o.pid, 10000));
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	assert_int_equal(b.replays, 1);
	waitpid(o.pid, NULL, 0);
	umount_host(&b);
	unmake(&a);
}

/* Nothing can be opened from here on. */
static void take_descriptors(struct rlimit *was)
{
	struct rlimit none;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, was), 0);
	none = (struct rlimit){.rlim_cur = 0, .rlim_max = was->rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
}

TEST(on_one_machine_who_cannot_be_looked_at_for_want_of_descriptors_is_not_replayed)
{
	struct member a = {0}, b = {0};
	pid_t pid = idle_child();
	struct rlimit was;

	plant(w, &a, pid);
	kill(pid, SIGSTOP);
	make(&b, w, "b");
	b.dev->id.one_machine = true;
	assert_int_equal(claim(&b), 0);
	take_descriptors(&was);
	rest(w, 4 * LEASE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	assert_false(child_ended(pid)); /* so it may write as soon as it goes on */
	assert_int_equal(b.replays, 0);
	assert_int_equal(state_of(w, 0), LUNFS_SLOT_RECOVERING);
	rest(w, 4 * LEASE);
	assert_true(child_ends(pid, 10000));
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	assert_int_equal(b.replays, 1);
	waitpid(pid, NULL, 0);
	umount_host(&b);
	unmake(&a);
}

TEST(a_process_that_beats_while_its_slot_cannot_be_taken_is_not_killed)
{
	struct holder o = {.w = w, .beats_ns = 350 * MS}; /* of a deadline of 400 ms */
	struct member a = {0}, b = {0};

	mount_beside(&o, &a, &b);
	UNTIL(w, o.beaten);
	rest(w, LEASE / 2);
	assert_false(child_ends(o.pid, 50));
	o.unreadable = false;
	rest(w, LEASE / 2); /* alive for a lease from when that beat was seen */
	assert_false(child_ends(o.pid, 50));
	assert_int_equal(b.replays, 0);
	kill(o.pid, SIGKILL);
	waitpid(o.pid, NULL, 0);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	umount_host(&b);
	unmake(&a);
}

TEST(whose_own_lease_ends_while_a_slot_cannot_be_taken_kills_nobody)
{
	struct holder o = {.w = w};
	struct member a = {0}, b = {0};

	mount_beside(&o, &a, &b);
	rest(w, LEASE / 2);
	o.mute = true;
	UNTIL(w, b.suspended);
	assert_true(o.in_vain > 0);
	rest(w, LEASE);
	assert_false(child_ends(o.pid, 50));
	o.mute = false;
	UNTIL(w, b.resumed);
	rest(w, 2 * LEASE);
	assert_true(child_ends(o.pid, 10000));
	waitpid(o.pid, NULL, 0);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	umount_host(&b);
	unmake(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    UNIT(a_claimed_slot_beats_and_is_free_after_release),
	    UNIT(a_host_gets_the_slot_it_used_last_with_the_next_generation),
	    UNIT(a_beating_host_is_never_suspended_nor_recovered),
	    UNIT(hosts_that_claim_at_once_get_different_slots),
	    UNIT(who_loses_the_race_for_a_slot_does_not_wait_for_the_next),
	    UNIT(a_second_live_host_of_the_same_name_is_refused),
	    UNIT(two_hosts_of_one_name_that_claim_at_once_are_never_both_mounted),
	    UNIT(when_all_slots_are_live_the_claim_is_refused),
	    UNIT(a_read_only_device_is_refused_with_a_sentence),
	    UNIT(a_damaged_slot_is_left_alone),
	    UNIT(a_lost_reply_to_the_claim_is_our_slot),
	    UNIT(no_slot_is_freed_while_a_command_of_its_owner_is_on_its_way),
	    UNIT(a_volume_under_repair_by_a_live_host_is_not_mounted),
	    UNIT(a_repair_whose_host_died_is_recovered_and_the_mount_goes_on),
	    UNIT(an_unfinished_repair_must_be_finished_first),
	    UNIT(of_three_hosts_a_dead_one_is_recovered_exactly_once),
	    UNIT(nobody_is_recovered_before_its_lease_is_over),
	    UNIT(locks_of_a_dead_host_hold_until_its_replay_has_ended),
	    UNIT(a_failed_replay_is_tried_again),
	    UNIT(a_host_that_came_back_and_died_again_is_recovered_as_what_it_was_then),
	    UNIT(when_the_recovering_host_dies_a_third_takes_over_both),
	    UNIT(a_late_beat_of_the_dead_cannot_undo_its_recovery),
	    UNIT(a_host_that_remounts_after_a_crash_gets_its_recovered_slot),
	    UNIT(with_all_slots_taken_a_dead_host_is_recovered_from_a_spare_slot),
	    UNIT(a_host_without_its_device_is_suspended_and_resumes_with_everything),
	    UNIT(a_host_that_gives_up_beats_on_but_waits_for_no_device),
	    UNIT(threads_that_wait_for_the_end_of_an_outage_are_no_reason_to_stop_beating),
	    UNIT(a_host_that_hangs_where_nobody_takes_over_goes_on_in_the_end),
	    UNIT(a_suspended_host_that_was_recovered_is_lost),
	    UNIT(the_suspended_ends_its_writes_before_another_recovers_it),
	    UNIT(a_recoverer_of_a_slot_that_is_damaged_in_a_suspension_is_lost),
	    UNIT(a_paused_host_that_wakes_after_its_recovery_writes_nothing_more),
	    UNIT(lost_replies_to_beats_do_not_end_the_lease),
	    UNIT(the_lease_counts_from_the_first_submission_of_the_beat),
	    UNIT(a_recoverer_renews_its_recoveries_after_a_suspension),
	    UNIT(a_host_that_makes_no_progress_stops_beating_and_is_recovered),
	    UNIT(a_device_that_only_pretends_to_write_stops_the_host),
	    UNIT(a_generation_once_over_needs_no_read_and_one_ahead_is_read),
	    UNIT(a_tag_of_a_later_incarnation_is_found_by_reading_the_slot),
	    UNIT(a_slot_with_any_bit_changed_is_refused),
	    UNIT(a_sealed_slot_with_values_out_of_range_is_refused),
	    UNIT(only_a_process_that_is_gone_is_proven_gone),
	    UNIT(on_one_machine_a_process_whose_lease_is_over_is_killed_before_the_replay),
	    UNIT(on_one_machine_a_process_that_is_gone_is_recovered_without_waiting_for_its_lease),
	    UNIT(on_one_machine_who_was_stopped_in_its_own_test_and_set_is_killed_and_recovered),
	    UNIT(on_one_machine_who_cannot_be_looked_at_for_want_of_descriptors_is_not_replayed),
	    UNIT(a_process_that_beats_while_its_slot_cannot_be_taken_is_not_killed),
	    UNIT(whose_own_lease_ends_while_a_slot_cannot_be_taken_kills_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
