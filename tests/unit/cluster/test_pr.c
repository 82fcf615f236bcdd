/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fencing: persistent reservations, their loss, what is refused, and the watchdog. */
#include "member.h"

#include "base/crc.h"
#include "cluster/pr.h"
#include "cluster/watchdog.h"

#include <stdio.h>

#define DEADLINE 400u
#define FOREIGN_KEY 0x5af5af5af5afull

static void with_pr(struct world *w)
{
	simdev_set_pr(w->medium, true, true);
}

static uint64_t key_of(struct member *m)
{
	return simdev_pr_key(m->w->medium, m->nexus);
}

static enum lunfs_fence_mode fence_of(struct world *w, unsigned slot)
{
	struct host_info hi;

	look(w, slot, &hi);
	return hi.fence;
}

/* A machine that starts anew, behind the same port. */
static void on_machine(struct member *m, uint8_t machine, uint8_t boot)
{
	memset(m->cfg.machine_id, machine, sizeof(m->cfg.machine_id));
	memset(m->cfg.boot_id, boot, sizeof(m->cfg.boot_id));
}

static void no_beats(struct member *m)
{
	struct simdev_fault f = {
	    .kind = SIMDEV_FAIL, .ops = SIMDEV_CAW, .count = UINT64_MAX, .error = -EIO};

	simdev_inject(m->dev, &f);
}

static int scribble(struct member *m)
{
	uint8_t *buf = dev_buf_alloc(4096);
	int r;

	memset(buf, 0xee, 4096);
	r = dev_write(m->dev, LUNFS_SCRATCH_OFF, 4096, buf);
	free(buf);
	return r;
}

static bool scribbled(struct world *w)
{
	uint8_t b[4096];

	simdev_peek(w->medium, LUNFS_SCRATCH_OFF, sizeof(b), b);
	return b[0] == 0xee;
}

/* Answers -ETIMEDOUT and lands after @ms, unless the device sees to it that it does not. */
static void scribble_late(struct member *m, uint64_t ms)
{
	struct simdev_fault late = {.kind = SIMDEV_LATE, .ops = SIMDEV_WRITE, .delay_ns = ms * MS};

	simdev_inject(m->dev, &late);
	assert_int_equal(scribble(m), -ETIMEDOUT);
}

/* ---- mount and unmount ------------------------------------------------------------------------
 */

TEST(the_key_is_the_nonce_and_the_device_is_reserved_while_anybody_is_mounted)
{
	struct member a = {0}, b = {0};

	with_pr(w);
	mount_host(&a, w, "a");
	assert_int_equal(host_fence(a.h), LUNFS_FENCE_PR);
	assert_int_equal(fence_of(w, 0), LUNFS_FENCE_PR);
	assert_true(key_of(&a) && key_of(&a) == host_nonce(a.h));
	assert_true(simdev_pr_reserved(w->medium));
	mount_host(&b, w, "b");
	assert_true(key_of(&b) == host_nonce(b.h));
	umount_host(&a);
	assert_int_equal(simdev_pr_key(w->medium, a.nexus), 0);
	assert_true(simdev_pr_reserved(w->medium));
	umount_host(&b);
	assert_int_equal(simdev_pr_key(w->medium, b.nexus), 0);
	assert_false(simdev_pr_reserved(w->medium));
}

TEST(nothing_is_written_before_the_key_is_registered)
{
	struct simdev_fault fail = {
	    .kind = SIMDEV_FAIL, .ops = SIMDEV_PR, .count = UINT64_MAX, .error = -EIO};
	struct simdev_counts n;
	struct member a = {.cfg = {.claim_wait_ms = 300}};

	with_pr(w);
	make(&a, w, "a");
	simdev_inject(a.dev, &fail);
	assert_int_equal(claim(&a), -EIO);
	simdev_counts(w->medium, &n);
	assert_int_equal(n.writes + n.caws, 0);
	unmake(&a);
}

TEST(lost_replies_to_the_registration_do_no_harm)
{
	struct simdev_fault lost = {.kind = SIMDEV_LOST_REPLY, .ops = SIMDEV_PR, .count = 1};
	struct simdev_fault busy = {
	    .kind = SIMDEV_FAIL, .ops = SIMDEV_PR, .nth = 4, .count = 2, .error = -EAGAIN};
	struct member a = {0};

	for (unsigned nth = 2; nth < 6; nth++) {
		with_pr(w);
		make(&a, w, "a");
		lost.nth = nth;
		simdev_inject(a.dev, &lost);
		simdev_inject(a.dev, &busy);
		assert_int_equal(claim(&a), 0);
		assert_int_equal(host_fence(a.h), LUNFS_FENCE_PR);
		assert_true(key_of(&a) == host_nonce(a.h));
		umount_host(&a);
		assert_int_equal(simdev_pr_key(w->medium, a.nexus), 0);
	}
}

TEST(a_device_without_aptpl_is_labelled_timer)
{
	struct member a = {0};

	simdev_set_pr(w->medium, true, false);
	mount_host(&a, w, "a");
	assert_int_equal(fence_of(w, 0), LUNFS_FENCE_TIMER);
	assert_int_equal(key_of(&a), 0);
	assert_false(simdev_pr_reserved(w->medium));
	umount_host(&a);
}

TEST(fence_pr_on_a_device_without_is_refused)
{
	struct member a = {.cfg = {.fence = FENCE_PR}};

	make(&a, w, "a");
	assert_int_equal(claim(&a), -EOPNOTSUPP);
	assert_non_null(strstr(a.why, "fence=pr"));
	unmake(&a);
	assert_int_equal(state_of(w, 0), LUNFS_SLOT_FREE);
}

TEST(fence_timer_uses_no_reservations)
{
	struct member a = {.cfg = {.fence = FENCE_TIMER}};

	with_pr(w);
	mount_host(&a, w, "a");
	assert_int_equal(fence_of(w, 0), LUNFS_FENCE_TIMER);
	assert_int_equal(key_of(&a), 0);
	umount_host(&a);
}

/* ---- who does not go together -----------------------------------------------------------------
 */

TEST(a_host_that_forbids_reservations_is_refused_where_one_lives_by_them)
{
	struct member a = {0}, b = {.cfg = {.fence = FENCE_TIMER}};

	with_pr(w);
	mount_host(&a, w, "a");
	make(&b, w, "b");
	assert_int_equal(claim(&b), -EBUSY);
	assert_non_null(strstr(b.why, "host a"));
	unmake(&b);
	assert_int_equal(state_of(w, 1), LUNFS_SLOT_FREE);
	umount_host(&a);
}

TEST(a_host_that_insists_on_reservations_is_refused_where_one_lives_without)
{
	struct member a = {.cfg = {.fence = FENCE_TIMER}}, b = {.cfg = {.fence = FENCE_PR}};

	with_pr(w);
	mount_host(&a, w, "a");
	make(&b, w, "b");
	assert_int_equal(claim(&b), -EBUSY);
	assert_non_null(strstr(b.why, "host a"));
	unmake(&b);
	assert_int_equal(simdev_pr_key(w->medium, b.nexus), 0);
	assert_false(simdev_pr_reserved(w->medium));
	rest(w, 2 * LEASE);
	assert_int_equal(a.suspended + a.lost, 0);
	umount_host(&a);
}

TEST(a_host_that_may_choose_does_as_those_that_live)
{
	struct member a = {.cfg = {.fence = FENCE_TIMER}}, b = {0};

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	assert_int_equal(host_fence(b.h), LUNFS_FENCE_TIMER);
	rest(w, 2 * LEASE);
	assert_int_equal(a.suspended + a.lost, 0);
	umount_host(&a);
	umount_host(&b);
	mount_host(&b, w, "b");
	assert_int_equal(host_fence(b.h), LUNFS_FENCE_PR);
	umount_host(&b);
}

struct racer {
	struct member m;
	unsigned wait_ms;
	int result;
};

static void race(void *arg)
{
	struct racer *r = arg;

	rest(r->m.w, r->wait_ms);
	r->result = claim(&r->m);
}

static void race_of_both_kinds(struct world *w, unsigned ahead_ms)
{
	struct racer r[2] = {{.m.cfg.fence = FENCE_TIMER},
			     {.m.cfg.fence = FENCE_PR, .wait_ms = ahead_ms}};
	struct task *t[2];
	static const char *const names[] = {"a", "b"};

	for (int i = 0; i < 2; i++)
		make(&r[i].m, w, names[i]);
	for (int i = 0; i < 2; i++)
		assert_int_equal(w->clk->ops->task_start(w->clk, "race", race, &r[i], &t[i]), 0);
	for (int i = 0; i < 2; i++)
		w->clk->ops->task_join(w->clk, t[i]);
	assert_true(r[0].result || r[1].result);
	rest(w, LEASE); /* and the one that is keeps its place */
	for (int i = 0; i < 2; i++) {
		if (r[i].result) {
			unmake(&r[i].m);
			continue;
		}
		assert_int_equal(r[i].m.suspended, 0);
		umount_host(&r[i].m);
	}
}

TEST(hosts_of_both_kinds_that_claim_at_once_are_never_mounted_together)
{
	with_pr(w);
	simdev_set_latency(w->medium, 1 * MS, 20 * MS);
	for (unsigned ahead_ms = 0; ahead_ms < 80; ahead_ms += 5)
		race_of_both_kinds(w, ahead_ms);
}

/* ---- fencing ----------------------------------------------------------------------------------
 */

TEST(a_late_write_of_the_dead_never_lands_once_it_was_fenced)
{
	struct simdev_counts n;
	struct member a = {0}, b = {0};

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	scribble_late(&a, 5 * LEASE);
	die(&a);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	rest(w, 6 * LEASE);
	assert_false(scribbled(w));
	simdev_counts(w->medium, &n);
	assert_true(n.aborted + n.conflicts > 0);
	umount_host(&b);
	unmake(&a);
}

static struct member *the_dead;

static int when_the_dead_cannot_write(struct member *m)
{
	assert_int_equal(key_of(the_dead), 0);
	assert_false(simdev_may_write(the_dead->dev));
	rest(m->w, 3 * LEASE); /* what is late is due by now */
	return 0;
}

TEST(no_replay_begins_before_the_dead_is_fenced)
{
	struct member a = {0}, b = {0};

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	the_dead = &a;
	b.at_replay = when_the_dead_cannot_write;
	scribble_late(&a, 2 * LEASE);
	no_beats(&a);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	assert_int_equal(b.replays, 1);
	assert_false(scribbled(w));
	umount_host(&b);
	host_abandon(a.h);
	unmake(&a);
}

TEST(a_zombie_is_refused_by_the_device_and_knows_who_recovers_it)
{
	struct member a = {0}, b = {0};

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	b.replay_blocks = true;
	no_beats(&a);
	UNTIL(w, b.replays);
	assert_int_equal(scribble(&a), -EBADE);
	assert_int_not_equal(host_state(a.h), HOST_ACTIVE);
	UNTIL(w, a.lost);
	assert_non_null(strstr(a.lost_why, "being fenced and recovered by host b (slot 1"));
	assert_int_equal(host_write_gate(a.h), -EIO);
	b.replay_blocks = false;
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	assert_false(scribbled(w));
	assert_int_equal(host_release(a.h), -EIO);
	umount_host(&b);
	unmake(&a);
}

TEST(a_zombie_that_wakes_after_its_recovery_knows_who_did_it)
{
	struct member a = {0}, b = {0};

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	fail_all(&a, -ETIMEDOUT);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	simdev_inject_clear(a.dev);
	assert_int_equal(scribble(&a), -EBADE);
	UNTIL(w, a.lost);
	assert_non_null(strstr(a.lost_why, "was fenced and recovered by host b (slot 1"));
	assert_false(scribbled(w));
	host_abandon(a.h);
	umount_host(&b);
	unmake(&a);
}

TEST(a_fenced_host_mounts_again_at_once)
{
	struct member a = {0}, again = {0}, b = {0};

	with_pr(w);
	on_machine(&a, 1, 1);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	no_beats(&a);
	UNTIL(w, a.lost);
	host_abandon(a.h);
	unmake(&a);
	again.nexus = a.nexus;
	on_machine(&again, 1, 1);
	mount_host(&again, w, "a");
	assert_int_equal(host_fence(again.h), LUNFS_FENCE_PR);
	assert_int_equal(scribble(&again), 0);
	umount_host(&again);
	umount_host(&b);
}

static struct member *both_dead[2];

static int when_both_are_fenced(struct member *m)
{
	(void)m;
	for (int i = 0; i < 2; i++)
		assert_int_equal(key_of(both_dead[i]), 0);
	return 0;
}

TEST(a_recoverer_that_dies_is_fenced_before_its_recovery_is_taken_over)
{
	struct simdev_fault fail = {
	    .kind = SIMDEV_FAIL, .ops = SIMDEV_PR, .count = 2, .error = -EIO};
	struct member a = {0}, b = {0}, c = {0}, *first, *second;

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	mount_host(&c, w, "c");
	b.replay_blocks = c.replay_blocks = true;
	die(&a);
	UNTIL(w, b.replays + c.replays);
	first = b.replays ? &b : &c;
	second = b.replays ? &c : &b;
	both_dead[0] = &a;
	both_dead[1] = first;
	second->replay_blocks = false;
	second->at_replay = when_both_are_fenced;
	simdev_inject(second->dev, &fail); /* so that it comes to the first dead first */
	scribble_late(first, 4 * LEASE);   /* as its replay might have */
	die(first);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	rest(w, 6 * LEASE);
	assert_int_equal(second->replays, 2);
	assert_false(scribbled(w));
	umount_host(second);
	unmake(first);
	unmake(&a);
}

TEST(a_key_that_is_gone_already_needs_no_preempting)
{
	struct member a = {0}, b = {0};

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	die(&a);
	simdev_pr_forget(w->medium, a.nexus);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	assert_int_equal(b.replays, 1);
	assert_int_equal(b.lost, 0);
	umount_host(&b);
	unmake(&a);
}

static struct member *to_forget;

static void forget_at_pr(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
			 struct simdev_fault *out)
{
	(void)out;
	if (!to_forget || d != to_forget->dev || cmd->op != SIMDEV_PR || key_of(the_dead) == 0)
		return;
	if (state_of(to_forget->w, 0) != LUNFS_SLOT_RECOVERING)
		return;
	simdev_pr_forget(ctx, to_forget->nexus);
	to_forget = NULL;
}

TEST(that_preempt_is_refused_is_no_proof_that_the_dead_is_fenced)
{
	struct member a = {0}, b = {0};

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	the_dead = &a;
	to_forget = &b;
	b.at_replay = when_the_dead_cannot_write;
	simdev_set_hook(w->medium, forget_at_pr, w->medium);
	die(&a);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	simdev_set_hook(w->medium, NULL, NULL);
	assert_null(to_forget);
	assert_int_equal(b.lost, 0);
	assert_true(key_of(&b) == host_nonce(b.h));
	umount_host(&b);
	unmake(&a);
}

TEST(answers_that_get_lost_on_the_way_do_not_stop_fencing)
{
	struct simdev_fault lost = {.kind = SIMDEV_LOST_REPLY, .ops = SIMDEV_PR, .count = 3};
	struct member a = {0}, b = {0};

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	simdev_inject(b.dev, &lost);
	die(&a);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	assert_int_equal(key_of(&a), 0);
	assert_int_equal(b.lost, 0);
	umount_host(&b);
	unmake(&a);
}

static struct dev *back_door;
static uint64_t back_key;

static int key_comes_back(struct member *m)
{
	if (m->replays == 1)
		assert_int_equal(back_door->ops->pr->register_key(back_door, 0, back_key), 0);
	return 0;
}

TEST(a_key_that_comes_back_during_the_replay_is_fenced_and_replayed_again)
{
	struct member a = {0}, b = {0};

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	back_door = simdev_attach_nexus(w->medium, a.nexus);
	back_key = host_nonce(a.h);
	b.at_replay = key_comes_back;
	die(&a);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	assert_int_equal(b.replays, 2);
	assert_int_equal(key_of(&a), 0);
	umount_host(&b);
	unmake(&a);
	dev_close(back_door);
}

static int target_is_reset(struct member *m)
{
	if (m->replays == 1)
		simdev_pr_reset(m->w->medium);
	return 0;
}

TEST(a_target_reset_during_the_replay_is_noticed_and_all_is_done_again)
{
	struct member a = {0}, b = {0};

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	b.at_replay = target_is_reset;
	die(&a);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	assert_int_equal(b.replays, 2);
	assert_true(key_of(&b) == host_nonce(b.h));
	assert_true(simdev_pr_reserved(w->medium));
	assert_int_equal(b.lost, 0);
	umount_host(&b);
	unmake(&a);
}

static int reset_and_put_right(struct member *m)
{
	if (m->replays > 1)
		return 0;
	simdev_pr_reset(m->w->medium);
	UNTIL(m->w, key_of(m) == host_nonce(m->h) && host_lease_ok(m->h));
	return 0;
}

TEST(a_registration_made_anew_during_the_replay_means_replaying_again)
{
	struct member a = {0}, b = {0};

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	b.at_replay = reset_and_put_right;
	die(&a);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	assert_int_equal(b.replays, 2);
	umount_host(&b);
	unmake(&a);
}

TEST(without_reservations_of_its_own_a_host_gives_the_writes_of_the_dead_their_deadline)
{
	struct member a = {0}, b = {.cfg = {.fence = FENCE_TIMER}};
	uint64_t dead_ns;

	with_pr(w);
	mount_host(&a, w, "a");
	rest(w, LEASE);
	dead_ns = clock_now_ns(w->clk);
	die(&a);
	simdev_pr_reset(w->medium);
	simdev_set_pr(w->medium, false, false);
	mount_host(&b, w, "b");
	UNTIL(w, b.replays);
	assert_true(b.replay_ns >= dead_ns - BEAT * MS + (LEASE + DEADLINE) * MS);
	umount_host(&b);
	unmake(&a);
}

TEST(writes_may_start_until_the_lease_ends_where_the_device_refuses_the_dead)
{
	struct member a = {0};
	unsigned late = 0;

	with_pr(w);
	mount_host(&a, w, "a");
	rest(w, LEASE);
	no_beats(&a);
	while (host_lease_left_ns(a.h)) {
		uint64_t left = host_lease_left_ns(a.h), now = clock_now_ns(w->clk);

		if (left < DEADLINE * MS && left > 5 * MS) {
			assert_int_equal(host_write_gate(a.h), 0);
			assert_true(clock_now_ns(w->clk) <= now + 1 * MS);
			late++;
		}
		rest(w, 2);
	}
	assert_true(late > 10);
	host_abandon(a.h);
	unmake(&a);
}

/* ---- a registration that got lost --------------------------------------------------------------
 */

TEST(a_registration_that_got_lost_is_made_anew_and_nothing_dies)
{
	struct member a = {0}, b = {0};
	uint64_t owner;

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	owner = host_owner(a.h);
	simdev_pr_forget(w->medium, a.nexus);
	assert_int_equal(scribble(&a), -EBADE);
	assert_int_not_equal(host_state(a.h), HOST_ACTIVE); /* at once */
	assert_int_equal(host_write_gate(a.h), 0);
	assert_true(key_of(&a) == host_nonce(a.h));
	assert_int_equal(scribble(&a), 0);
	assert_true(host_owner(a.h) == owner);
	UNTIL(w, a.resumed == a.suspended);
	assert_int_equal(a.lost + b.lost + b.suspended, 0);
	umount_host(&a);
	umount_host(&b);
}

/* Between its last beat and the command that frees its slot. */
TEST(a_host_leaves_cleanly_although_its_registration_got_lost)
{
	struct member a = {0}, b = {0};

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	simdev_pr_reset(w->medium);
	umount_host(&a);
	assert_int_equal(state_of(w, 0), LUNFS_SLOT_FREE);
	rest(w, 3 * LEASE);
	assert_int_equal(a.lost + b.lost + b.replays, 0);
	umount_host(&b);
}

TEST(a_target_reset_that_nobody_noticed_is_put_right)
{
	struct member a = {0}, b = {0};

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	simdev_pr_reset(w->medium);
	UNTIL(w, key_of(&a) && key_of(&b) && simdev_pr_reserved(w->medium));
	assert_true(key_of(&a) == host_nonce(a.h));
	assert_true(key_of(&b) == host_nonce(b.h));
	rest(w, 3 * LEASE);
	assert_int_equal(a.lost + b.lost, 0);
	assert_int_equal(host_write_gate(a.h) | host_write_gate(b.h), 0);
	umount_host(&a);
	umount_host(&b);
	assert_false(simdev_pr_reserved(w->medium));
}

static void reserved_at_every_command(void *medium, struct dev *d, const struct simdev_cmd *cmd,
				      struct simdev_fault *out)
{
	(void)d;
	(void)cmd;
	(void)out;
	assert_true(simdev_pr_reserved(medium));
}

/* A path of several without the key, as one that comes back: only some commands are refused. */
TEST(the_reservation_stands_while_the_only_host_registers_its_paths_anew)
{
	struct simdev_fault refuse = {.kind = SIMDEV_FAIL, .ops = SIMDEV_WRITE, .error = -EBADE};
	struct member a = {0};

	with_pr(w);
	mount_host(&a, w, "a");
	simdev_set_hook(w->medium, reserved_at_every_command, w->medium);
	for (int i = 0; i < 2; i++) {
		simdev_inject(a.dev, &refuse);
		assert_int_equal(scribble(&a), -EBADE);
		assert_int_equal(host_write_gate(a.h), 0);
	}
	simdev_set_hook(w->medium, NULL, NULL);
	assert_true(key_of(&a) == host_nonce(a.h));
	assert_int_equal(a.lost, 0);
	umount_host(&a);
	assert_false(simdev_pr_reserved(w->medium));
}

TEST(a_registration_is_not_made_anew_while_earlier_writes_are_on_their_way)
{
	struct member a = {0}, b = {0};

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	simdev_set_drain(w->medium, false);
	simdev_pr_forget(w->medium, a.nexus);
	assert_int_equal(scribble(&a), -EBADE);
	UNTIL(w, a.lost);
	assert_int_equal(key_of(&a), 0);
	assert_int_equal(host_release(a.h), -EIO);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	umount_host(&b);
	unmake(&a);
}

TEST(a_registration_is_not_made_anew_while_a_write_stands_between_gate_and_device)
{
	struct member a = {0}, b = {0};

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	assert_int_equal(host_write_begin(a.h), 0);
	simdev_pr_forget(w->medium, a.nexus);
	assert_int_equal(scribble(&a), -EBADE);
	rest(w, 2 * BEAT);
	assert_int_equal(key_of(&a), 0);
	host_write_end(a.h);
	UNTIL(w, key_of(&a) == host_nonce(a.h));
	UNTIL(w, a.suspended == 1 && a.resumed == 1);
	assert_int_equal(a.lost + b.lost, 0);
	umount_host(&a);
	umount_host(&b);
}

static struct dev *watched_dev;
static unsigned watched_prs;

static void count_prs(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
		      struct simdev_fault *out)
{
	(void)ctx;
	(void)out;
	watched_prs += d == watched_dev && cmd->op == SIMDEV_PR;
}

TEST(a_zombie_does_not_register_anew_when_it_was_fenced)
{
	struct member a = {0}, b = {0};

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	fail_all(&a, -ETIMEDOUT);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	watched_dev = a.dev;
	watched_prs = 0;
	simdev_set_hook(w->medium, count_prs, NULL);
	simdev_inject_clear(a.dev);
	scribble(&a);
	UNTIL(w, a.lost);
	simdev_set_hook(w->medium, NULL, NULL);
	assert_int_equal(watched_prs, 0);
	assert_int_equal(key_of(&a), 0);
	assert_false(simdev_may_write(a.dev));
	host_abandon(a.h);
	umount_host(&b);
	unmake(&a);
}

/* The LIVE image of another host, which claimed the slot as it was before @m did. */
static void claimed_by_another(struct member *m)
{
	struct world *w = m->w;
	struct lunfs_slot_rec *rec = (void *)w->buf;
	uint64_t off = geo_slot_off(host_slot(m->h));

	simdev_peek(w->medium, off, w->geo.sector_bytes, w->buf);
	rec->nonce = le64_make(~le64_get(rec->nonce));
	rec->hdr.setter_nonce = rec->nonce;
	crc_seal(w->buf, 512, offsetof(struct lunfs_ats_hdr, crc));
	simdev_poke(w->medium, off, w->geo.sector_bytes, w->buf);
}

TEST(a_host_does_not_register_anew_for_a_slot_of_another_incarnation_of_that_number)
{
	struct member a = {0}, b = {0};
	struct host_info hi;

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	rest(w, BEAT / 2);
	claimed_by_another(&a);
	look(w, 0, &hi);
	assert_true(hi.generation == LUNFS_OWNER_GEN(host_owner(a.h)));
	watched_dev = a.dev;
	watched_prs = 0;
	simdev_set_hook(w->medium, count_prs, NULL);
	simdev_pr_forget(w->medium, a.nexus);
	assert_int_equal(scribble(&a), -EBADE);
	UNTIL(w, a.lost);
	simdev_set_hook(w->medium, NULL, NULL);
	assert_int_equal(watched_prs, 0);
	assert_non_null(strstr(a.lost_why, "its slot now belongs to"));
	host_abandon(a.h);
	umount_host(&b);
	unmake(&a);
}

/* ---- left-over keys ---------------------------------------------------------------------------
 */

TEST(a_key_left_over_from_this_machine_is_replaced)
{
	struct member a = {0}, again = {0};

	with_pr(w);
	on_machine(&a, 1, 1);
	mount_host(&a, w, "a");
	die(&a);
	again.nexus = a.nexus;
	on_machine(&again, 1, 2);
	mount_host(&again, w, "a");
	assert_int_equal(host_fence(again.h), LUNFS_FENCE_PR);
	assert_int_equal(again.replays, 1);
	assert_true(key_of(&again) == host_nonce(again.h));
	umount_host(&again);
	assert_false(simdev_pr_reserved(w->medium));
	unmake(&a);
}

TEST(what_a_mount_before_still_had_on_its_way_never_lands_after_the_next)
{
	struct member a = {0}, again = {0};
	uint8_t zero[4096] = {0};

	with_pr(w);
	on_machine(&a, 1, 1);
	mount_host(&a, w, "a");
	scribble_late(&a, 6 * LEASE);
	die(&a);
	again.nexus = a.nexus;
	on_machine(&again, 1, 2);
	mount_host(&again, w, "a");
	simdev_poke(w->medium, LUNFS_SCRATCH_OFF, sizeof(zero), zero);
	rest(w, 8 * LEASE);
	assert_false(scribbled(w));
	umount_host(&again);
	unmake(&a);
}

TEST(a_key_left_over_after_a_clean_unmount_is_replaced)
{
	struct simdev_fault fail = {
	    .kind = SIMDEV_FAIL, .ops = SIMDEV_PR, .count = UINT64_MAX, .error = -EIO};
	struct member a = {0};

	with_pr(w);
	on_machine(&a, 1, 1);
	mount_host(&a, w, "a");
	simdev_inject(a.dev, &fail);
	umount_host(&a);
	assert_int_not_equal(simdev_pr_key(w->medium, a.nexus), 0);
	mount_host(&a, w, "a");
	assert_int_equal(host_fence(a.h), LUNFS_FENCE_PR);
	umount_host(&a);
	assert_false(simdev_pr_reserved(w->medium));
}

/* As one that was there at the mount, and is away. */
static struct dev *another_path(struct member *m)
{
	struct dev *path = simdev_attach(m->w->medium);

	assert_int_equal(path->ops->pr->register_key(path, 0, host_nonce(m->h)), 0);
	return path;
}

/* It would let a paused host write along that path after it was fenced. */
TEST(the_key_of_a_path_that_is_away_at_the_unmount_goes_too)
{
	struct member a = {0}, b = {0};
	struct dev *path;

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	path = another_path(&a);
	umount_host(&a);
	assert_int_equal(simdev_pr_key(w->medium, simdev_nexus(path)), 0);
	assert_int_equal(key_of(&a), 0);
	assert_true(simdev_pr_reserved(w->medium));
	umount_host(&b);
	assert_false(simdev_pr_reserved(w->medium));
	dev_close(path);
}

TEST(a_key_that_could_not_be_taken_off_at_the_unmount_goes_at_the_next_mount)
{
	struct simdev_fault fail = {
	    .kind = SIMDEV_FAIL, .ops = SIMDEV_PR, .nth = 2, .count = UINT64_MAX, .error = -EIO};
	struct member a = {0};
	struct dev *path;

	with_pr(w);
	on_machine(&a, 1, 1);
	mount_host(&a, w, "a");
	path = another_path(&a);
	simdev_inject(a.dev, &fail);
	umount_host(&a);
	assert_int_not_equal(simdev_pr_key(w->medium, simdev_nexus(path)), 0);
	mount_host(&a, w, "a");
	assert_int_equal(simdev_pr_key(w->medium, simdev_nexus(path)), 0);
	assert_int_equal(host_fence(a.h), LUNFS_FENCE_PR);
	assert_true(key_of(&a) == host_nonce(a.h));
	umount_host(&a);
	assert_false(simdev_pr_reserved(w->medium));
	dev_close(path);
}

static void hold_foreign(struct world *w, struct member *m)
{
	struct dev *d = simdev_attach(w->medium);

	m->nexus = simdev_nexus(d);
	assert_int_equal(d->ops->pr->register_key(d, 0, FOREIGN_KEY), 0);
	dev_close(d);
}

TEST(a_foreign_key_on_our_path_means_no_reservations)
{
	struct member a = {.cfg = {.fence = FENCE_PR}};

	with_pr(w);
	hold_foreign(w, &a);
	on_machine(&a, 1, 1);
	make(&a, w, "a");
	assert_int_equal(claim(&a), -EBADE);
	assert_non_null(strstr(a.why, "another program"));
	unmake(&a);
	assert_true(simdev_pr_key(w->medium, a.nexus) == FOREIGN_KEY);
	a.cfg.fence = FENCE_AUTO;
	mount_host(&a, w, "a");
	assert_int_equal(fence_of(w, 0), LUNFS_FENCE_TIMER);
	umount_host(&a);
	assert_true(simdev_pr_key(w->medium, a.nexus) == FOREIGN_KEY);
}

TEST(two_live_hosts_on_one_path_are_refused)
{
	struct member a = {0}, b = {0};

	with_pr(w);
	on_machine(&a, 1, 1);
	mount_host(&a, w, "a");
	b.nexus = a.nexus;
	on_machine(&b, 1, 1);
	make(&b, w, "b");
	assert_int_equal(claim(&b), -EBUSY);
	assert_non_null(strstr(b.why, "another program or host uses the same path"));
	unmake(&b);
	assert_true(key_of(&a) == host_nonce(a.h));
	umount_host(&a);
}

/* ---- tools ------------------------------------------------------------------------------------
 */

TEST(a_tool_writes_while_it_is_registered_and_leaves_nothing_behind)
{
	struct pr_temporary t;
	struct member a = {0};
	struct dev *d = simdev_attach(w->medium);
	char why[256];

	with_pr(w);
	mount_host(&a, w, "a");
	assert_false(simdev_may_write(d));
	assert_int_equal(pr_temporary_begin(&t, d, w->clk, why, sizeof(why)), 0);
	assert_true(simdev_may_write(d));
	assert_true(key_of(&a) == host_nonce(a.h));
	pr_temporary_end(&t);
	assert_false(simdev_may_write(d));
	umount_host(&a);
	dev_close(d);
}

TEST(mkfs_takes_all_left_over_keys_away_and_leaves_nothing_behind)
{
	struct pr_temporary t;
	struct member a = {0}, b = {0};
	struct dev *d;
	char why[256];

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	scribble_late(&b, 2 * LEASE);
	die(&a);
	die(&b);
	d = simdev_attach_nexus(w->medium, a.nexus);
	assert_int_equal(pr_temporary_take(&t, d, w->clk, why, sizeof(why)), 0);
	assert_int_equal(key_of(&b), 0);
	assert_true(key_of(&a) == t.key);
	rest(w, 3 * LEASE);
	assert_false(scribbled(w));
	pr_temporary_end(&t);
	assert_false(simdev_pr_reserved(w->medium));
	dev_close(d);
	unmake(&a);
	unmake(&b);
}

/* ---- the watchdog -----------------------------------------------------------------------------
 */

struct fake {
	struct watchdog w; /* first */
	struct clock *clk;
	unsigned starts, stops, keepalives;
	uint64_t opens_ns;	       /* so long takes it until it is armed */
	uint64_t fires_ns, timeout_ns; /* 0: not armed */
};

static int fake_start(struct watchdog *w, unsigned timeout_s, unsigned *actual_s, char *why,
		      size_t why_len)
{
	struct fake *f = (struct fake *)w;

	(void)why;
	(void)why_len;
	assert_int_equal(f->fires_ns, 0);
	f->starts++;
	clock_sleep_ns(f->clk, f->opens_ns);
	*actual_s = timeout_s;
	f->timeout_ns = timeout_s * 1000 * MS;
	f->fires_ns = clock_now_ns(f->clk) + f->timeout_ns;
	return 0;
}

static void fake_keepalive(struct watchdog *w)
{
	struct fake *f = (struct fake *)w;

	assert_true(f->fires_ns > clock_now_ns(f->clk));
	f->keepalives++;
	f->fires_ns = clock_now_ns(f->clk) + f->timeout_ns;
}

static void fake_stop(struct watchdog *w)
{
	struct fake *f = (struct fake *)w;

	f->stops++;
	f->fires_ns = 0;
}

#define WD_LEASE 2000u

static void watched(struct member *m, struct fake *f, struct world *w)
{
	*f = (struct fake){.w = {fake_start, fake_keepalive, fake_stop}, .clk = w->clk};
	m->cfg.fence = FENCE_WATCHDOG;
	m->cfg.wd = &f->w;
	m->cfg.lease_ms = WD_LEASE;
}

TEST(beats_keep_the_watchdog_quiet_and_a_clean_unmount_disarms_it)
{
	struct member a = {0};
	struct fake f;

	watched(&a, &f, w);
	mount_host(&a, w, "a");
	assert_int_equal(fence_of(w, 0), LUNFS_FENCE_WATCHDOG);
	for (unsigned i = 0; i < 20; i++) {
		rest(w, BEAT);
		assert_true(f.fires_ns > clock_now_ns(w->clk));
	}
	assert_true(f.keepalives >= 15);
	umount_host(&a);
	assert_int_equal(f.fires_ns, 0);
	assert_int_equal(f.starts, f.stops);
}

TEST(a_host_that_cannot_beat_is_reset_before_it_is_recovered)
{
	struct member a = {0}, b = {0};
	struct fake f;

	watched(&a, &f, w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	rest(w, LEASE);
	no_beats(&a);
	UNTIL(w, b.replays);
	assert_true(f.fires_ns && f.fires_ns < b.replay_ns);
	UNTIL(w, a.lost);
	umount_host(&b);
	host_abandon(a.h);
	unmake(&a);
}

TEST(a_beat_that_took_too_long_does_not_put_off_the_watchdog)
{
	struct simdev_fault slow = {
	    .kind = SIMDEV_DELAY, .ops = SIMDEV_CAW, .count = 2, .delay_ns = 1100 * MS};
	struct member a = {.cfg = {.deadline_ms = 1500}};
	struct fake f;
	uint64_t fires;

	watched(&a, &f, w);
	a.cfg.lease_ms = 2 * WD_LEASE; /* 3 s of watchdog */
	mount_host(&a, w, "a");
	rest(w, LEASE);
	simdev_inject(a.dev, &slow);
	fires = f.fires_ns;
	rest(w, 2200);
	assert_true(f.fires_ns == fires);
	assert_true(f.fires_ns <= clock_now_ns(w->clk) + host_lease_left_ns(a.h));
	UNTIL(w, f.fires_ns > fires);
	umount_host(&a);
}

TEST(who_finds_its_place_lost_at_the_unmount_leaves_no_watchdog_armed)
{
	struct member a = {0};
	struct fake f;

	watched(&a, &f, w);
	mount_host(&a, w, "a");
	claimed_by_another(&a);
	UNTIL(w, a.lost);
	assert_true(f.fires_ns > clock_now_ns(w->clk));
	assert_int_equal(host_release(a.h), -EIO);
	assert_int_equal(f.fires_ns, 0);
	unmake(&a);
}

TEST(an_outage_in_the_middle_of_a_mount_resets_nothing)
{
	struct member a = {0};
	struct fake f;

	watched(&a, &f, w);
	make(&a, w, "a");
	no_beats(&a);
	assert_int_not_equal(claim(&a), 0);
	assert_int_equal(f.starts, 0);
	unmake(&a);
}

TEST(a_watchdog_that_was_armed_too_late_to_fire_in_time_is_no_fence)
{
	struct member a = {0};
	struct fake f;

	watched(&a, &f, w);
	f.opens_ns = (WD_LEASE / 2 + 1) * MS; /* and fires a second after that */
	make(&a, w, "a");
	assert_int_equal(claim(&a), -ETIMEDOUT);
	assert_true(f.starts == 1 && f.stops == 1);
	unmake(&a);
}

TEST(a_lease_too_short_for_a_watchdog_is_refused)
{
	struct member a = {0};
	struct fake f;

	watched(&a, &f, w);
	a.cfg.lease_ms = LEASE;
	make(&a, w, "a");
	assert_int_equal(claim(&a), -EINVAL);
	assert_non_null(strstr(a.why, "watchdog"));
	unmake(&a);
}

/* ---- a daemon that hangs ----------------------------------------------------------------------
 */

TEST(a_host_whose_recovery_hangs_stops_beating_and_another_takes_over)
{
	struct member a = {0}, b = {0}, c = {0}, *stuck, *other;

	with_pr(w);
	mount_host(&a, w, "a");
	mount_host(&b, w, "b");
	mount_host(&c, w, "c");
	b.replay_blocks = c.replay_blocks = true;
	die(&a);
	UNTIL(w, b.replays + c.replays);
	stuck = b.replays ? &b : &c;
	other = b.replays ? &c : &b;
	other->replay_blocks = false;
	rest(w, 10 * LEASE);
	assert_int_equal(stuck->lost, 0);
	for (unsigned i = 0; i < 3 && !stuck->lost; i++)
		rest(w, 10 * LEASE);
	assert_int_equal(stuck->lost, 1);
	UNTIL(w, state_of(w, 0) == LUNFS_SLOT_FREE);
	assert_int_equal(other->replays, 2);
	umount_host(other);
	host_abandon(stuck->h);
	unmake(stuck);
	unmake(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    UNIT(a_host_leaves_cleanly_although_its_registration_got_lost),
	    UNIT(the_key_is_the_nonce_and_the_device_is_reserved_while_anybody_is_mounted),
	    UNIT(nothing_is_written_before_the_key_is_registered),
	    UNIT(lost_replies_to_the_registration_do_no_harm),
	    UNIT(a_device_without_aptpl_is_labelled_timer),
	    UNIT(fence_pr_on_a_device_without_is_refused),
	    UNIT(fence_timer_uses_no_reservations),
	    UNIT(a_host_that_forbids_reservations_is_refused_where_one_lives_by_them),
	    UNIT(a_host_that_insists_on_reservations_is_refused_where_one_lives_without),
	    UNIT(a_host_that_may_choose_does_as_those_that_live),
	    UNIT(hosts_of_both_kinds_that_claim_at_once_are_never_mounted_together),
	    UNIT(a_late_write_of_the_dead_never_lands_once_it_was_fenced),
	    UNIT(no_replay_begins_before_the_dead_is_fenced),
	    UNIT(a_zombie_is_refused_by_the_device_and_knows_who_recovers_it),
	    UNIT(a_zombie_that_wakes_after_its_recovery_knows_who_did_it),
	    UNIT(a_fenced_host_mounts_again_at_once),
	    UNIT(a_recoverer_that_dies_is_fenced_before_its_recovery_is_taken_over),
	    UNIT(a_key_that_is_gone_already_needs_no_preempting),
	    UNIT(that_preempt_is_refused_is_no_proof_that_the_dead_is_fenced),
	    UNIT(a_registration_made_anew_during_the_replay_means_replaying_again),
	    UNIT(what_a_mount_before_still_had_on_its_way_never_lands_after_the_next),
	    UNIT(answers_that_get_lost_on_the_way_do_not_stop_fencing),
	    UNIT(a_key_that_comes_back_during_the_replay_is_fenced_and_replayed_again),
	    UNIT(a_target_reset_during_the_replay_is_noticed_and_all_is_done_again),
	    UNIT(
		without_reservations_of_its_own_a_host_gives_the_writes_of_the_dead_their_deadline),
	    UNIT(writes_may_start_until_the_lease_ends_where_the_device_refuses_the_dead),
	    UNIT(a_registration_that_got_lost_is_made_anew_and_nothing_dies),
	    UNIT(a_target_reset_that_nobody_noticed_is_put_right),
	    UNIT(the_reservation_stands_while_the_only_host_registers_its_paths_anew),
	    UNIT(a_registration_is_not_made_anew_while_earlier_writes_are_on_their_way),
	    UNIT(a_registration_is_not_made_anew_while_a_write_stands_between_gate_and_device),
	    UNIT(a_zombie_does_not_register_anew_when_it_was_fenced),
	    UNIT(a_host_does_not_register_anew_for_a_slot_of_another_incarnation_of_that_number),
	    UNIT(a_key_left_over_from_this_machine_is_replaced),
	    UNIT(a_key_left_over_after_a_clean_unmount_is_replaced),
	    UNIT(the_key_of_a_path_that_is_away_at_the_unmount_goes_too),
	    UNIT(a_key_that_could_not_be_taken_off_at_the_unmount_goes_at_the_next_mount),
	    UNIT(a_foreign_key_on_our_path_means_no_reservations),
	    UNIT(two_live_hosts_on_one_path_are_refused),
	    UNIT(a_tool_writes_while_it_is_registered_and_leaves_nothing_behind),
	    UNIT(mkfs_takes_all_left_over_keys_away_and_leaves_nothing_behind),
	    UNIT(beats_keep_the_watchdog_quiet_and_a_clean_unmount_disarms_it),
	    UNIT(a_host_that_cannot_beat_is_reset_before_it_is_recovered),
	    UNIT(a_beat_that_took_too_long_does_not_put_off_the_watchdog),
	    UNIT(who_finds_its_place_lost_at_the_unmount_leaves_no_watchdog_armed),
	    UNIT(an_outage_in_the_middle_of_a_mount_resets_nothing),
	    UNIT(a_watchdog_that_was_armed_too_late_to_fire_in_time_is_no_fence),
	    UNIT(a_lease_too_short_for_a_watchdog_is_refused),
	    UNIT(a_host_whose_recovery_hangs_stops_beating_and_another_takes_over),
	};

	return cmocka_run_group_tests_name("pr", tests, NULL, NULL);
}
