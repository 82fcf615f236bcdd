/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Leases, beats, recoveries and the hosts that die of them or live through them. */
#include "scen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- a lock wanted while its dead owner's slot is RECOVERING --------------------------------- */

struct slow_journal {
	struct simcluster *t;
	unsigned slot;
};

static void slow_reads(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
		       struct simdev_fault *out)
{
	struct slow_journal *s = ctx;

	(void)d;
	if (cmd->op != SIMDEV_READ || !in_journal(&s->t->geo, s->slot, cmd->off_bytes))
		return;
	out->kind = SIMDEV_DELAY;
	out->delay_ns = DEADLINE / 2;
}

/*
 * Both kinds of holding: f exclusively, with an image in the journal, and g shared. Nobody gets
 * either while the slot says RECOVERING.
 */
SCENARIO(a_lock_of_a_dead_host_holds_until_its_slot_is_free, 4)
{
	struct job reader = {.kind = JOB_READ, .len = 5}, writer = {.kind = JOB_WRITE, .len = 3};
	struct slow_journal sj = {.t = t};
	struct lunfs_lock_rec f, g;
	uint64_t dead, since = 0, now;
	struct nodeid root;

	scen_up(t, 3);
	root = sc_root_id(t, 0);
	writer.id = sc_mkfile(t, 1, root, "g");
	scen_fill(t, 1, writer.id, 'g', 5);
	EXPECT_EQ(t, scen_filled(t, 0, writer.id, 5), 'g');
	reader.id = sc_mkfile(t, 0, root, "f");
	scen_fill(t, 0, reader.id, 'f', 5);
	SC_OK(t, vol_fsync(t->v[0], &sc_root, reader.id, false));
	EXPECT_EQ(t, scen_filled(t, 0, writer.id, 5), 'g');

	dead = host_owner(host_of(t, 0));
	sj.slot = host_slot(host_of(t, 0));
	simdev_set_hook(t->medium, slow_reads, &sj);
	sc_kill(t, 0);
	job_start(t, 1, &reader);
	writer.fill = 'h';
	job_start(t, 2, &writer);
	while (scen_state(t, sj.slot) != LUNFS_SLOT_FREE) {
		if (scen_state(t, sj.slot) == LUNFS_SLOT_RECOVERING && !since)
			since = clock_now_ns(t->clk);
		scen_record(t, reader.id.ino, &f);
		scen_record(t, writer.id.ino, &g);
		EXPECT(t, !reader.ended && !writer.ended);
		EXPECT_EQ(t, rec_holds(&f, dead), LOCK_EX);
		EXPECT(t, rec_holds(&g, dead) >= LOCK_SH);
		rest(t, MS);
	}
	now = clock_now_ns(t->clk);
	EXPECT(t, since && now - since >= DEADLINE / 2);
	job_end(&reader);
	job_end(&writer);
	EXPECT_EQ(t, reader.rc, 0);
	EXPECT_EQ(t, reader.fill, 'f');
	EXPECT_EQ(t, writer.rc, 0);
}

/* ---- a recovering host that dies and is taken over ------------------------------------------- */

struct recoverer_dies {
	struct simcluster *t;
	unsigned slot; /* of the dead */
	uint64_t left; /* changes that the recoverer still makes */
	int victim;
};

static void kill_recoverer(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
			   struct simdev_fault *out)
{
	struct recoverer_dies *k = ctx;
	struct host_info hi;

	(void)out;
	if (cmd->op == SIMDEV_READ || in_board(&k->t->geo, cmd->off_bytes) || k->victim >= 0)
		return;
	scen_slot(k->t, k->slot, &hi);
	for (unsigned n = 1; n < k->t->hosts; n++) {
		if (!k->t->v[n] || d != k->t->dev[n] || hi.state != LUNFS_SLOT_RECOVERING ||
		    hi.recoverer != host_owner(host_of(k->t, n)))
			continue;
		/* Its own beats are no step of the recovery. */
		if (cmd->off_bytes == geo_slot_off(host_slot(host_of(k->t, n))) || --k->left)
			return;
		simdev_kill(d);
		k->victim = (int)n;
	}
}

static unsigned taken_over;

/* The seed says how many changes the recovering host makes before it dies. */
SCENARIO(a_recovery_is_taken_over_wherever_its_host_dies, 16)
{
	struct recoverer_dies k = {.t = t, .left = t->seed, .victim = -1};
	unsigned survivor, slot2 = 0;

	scen_up(t, 3);
	scen_files(t, 1, 3);
	scen_fill(t, 0, scen_find(t, 0, "f1"), 'b', SCEN_FILE_BYTES);
	scen_files(t, 0, 0);
	for (unsigned i = 3; i < 8; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%u", i);
		scen_fill(t, 0, sc_mkfile(t, 0, sc_root_id(t, 0), name), (uint8_t)('a' + i),
			  SCEN_FILE_BYTES);
		scen_sync(t, 0);
	}
	k.slot = host_slot(host_of(t, 0));
	simdev_set_hook(t->medium, kill_recoverer, &k);
	sc_kill(t, 0);
	UNTIL(t, k.victim >= 0 || scen_state(t, k.slot) == LUNFS_SLOT_FREE);
	survivor = k.victim == 1 ? 2 : 1;
	if (k.victim >= 0) {
		taken_over++;
		slot2 = host_slot(host_of(t, (unsigned)k.victim));
		sc_kill(t, (unsigned)k.victim);
		UNTIL(t, scen_state(t, slot2) == LUNFS_SLOT_FREE);
	}
	UNTIL(t, scen_state(t, k.slot) == LUNFS_SLOT_FREE);
	simdev_set_hook(t->medium, NULL, NULL);
	scen_check_files(t, survivor, 8);
}

static void enough_recoveries_were_cut_off(void **state)
{
	(void)state;
	assert_true(taken_over >= 8 || getenv("LUNFS_SEED") || getenv("LUNFS_SEEDS"));
}

/* ---- a beat submitted twice ------------------------------------------------------------------ */

struct beats {
	struct simcluster *t;
	uint64_t off; /* of the slot whose beats go astray */
	uint64_t last, n;
};

static void double_beats(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
			 struct simdev_fault *out)
{
	struct beats *b = ctx;

	(void)d;
	if (cmd->op != SIMDEV_CAW || cmd->off_bytes != b->off)
		return;
	out->kind = SIMDEV_RESENT;
	if (++b->n % 3)
		return;
	out->kind = b->n % 2 ? SIMDEV_LATE : SIMDEV_LOST_REPLY; /* one time-out a lease */
	out->delay_ns = simclock_random(b->t->clk) % (2 * LEASE);
}

static void beats_go_up(void *ctx, const struct simdev_landing *l)
{
	struct beats *b = ctx;
	const struct lunfs_slot_rec *rec = (const void *)l->data;

	if (l->off_bytes != b->off)
		return;
	EXPECT(b->t, l->op == SIMDEV_CAW);
	EXPECT(b->t, le16_get(rec->state) == LUNFS_SLOT_LIVE);
	EXPECT(b->t, le64_get(rec->hdr.image_seq) > b->last);
	b->last = le64_get(rec->hdr.image_seq);
}

/*
 * Sent again below lunfs, or by lunfs since its time ran out, or landing long after the next one:
 * an older beat never stands over a newer one, and the host neither dies of it nor believes that
 * somebody has taken its slot.
 */
SCENARIO(a_beat_that_reaches_the_device_twice_does_no_harm, 6)
{
	struct beats b = {.t = t};
	struct worker w;
	uint64_t owner;

	scen_up(t, 2);
	owner = host_owner(host_of(t, 0));
	b.off = geo_slot_off(host_slot(host_of(t, 0)));
	simdev_set_monitor(t->medium, beats_go_up, &b);
	simdev_set_hook(t->medium, double_beats, &b);
	worker_start(t, 0, &w, 0);
	for (unsigned i = 0; i < 400; i++) {
		rest(t, 20 * MS);
		EXPECT_EQ(t, host_state(host_of(t, 0)), HOST_ACTIVE);
	}
	simdev_set_hook(t->medium, NULL, NULL);
	worker_end(&w);
	EXPECT_EQ(t, w.rc, 0);
	EXPECT(t, w.done > 200);
	EXPECT_EQ(t, host_owner(host_of(t, 0)), owner);
	worker_check(t, 1, &w);
}

/* The last beat of a host that dies is still on its way when its slot has long been free again. */
SCENARIO(a_beat_of_the_dead_that_lands_late_changes_nothing, 4)
{
	unsigned slot;
	struct simdev_fault late = {
	    .kind = SIMDEV_LATE, .ops = SIMDEV_CAW, .len_bytes = 512, .delay_ns = 4 * SC_S};
	struct host_info before, after;

	scen_up(t, 2);
	scen_files(t, 0, 2);
	slot = host_slot(host_of(t, 0));
	late.off_bytes = geo_slot_off(slot);
	simdev_inject(t->dev[0], &late);
	rest(t, 2 * BEAT);
	sc_kill(t, 0);
	UNTIL(t, scen_state(t, slot) == LUNFS_SLOT_FREE);
	scen_slot(t, slot, &before);
	rest(t, 6 * SC_S);
	scen_slot(t, slot, &after);
	EXPECT_EQ(t, after.state, LUNFS_SLOT_FREE);
	EXPECT_EQ(t, after.generation, before.generation);
	scen_check_files(t, 1, 2);
	sc_up(t, 0);
	EXPECT(t, LUNFS_OWNER_GEN(host_owner(host_of(t, 0))) == before.generation + 1);
}

/* ---- a process stopped for three leases and continued ---------------------------------------- */

struct no_landing {
	struct simcluster *t;
	struct dev *d;
	unsigned slot;
	uint64_t owner;
	bool until_free; /* it may still land while its recovery is not over */
};

static void nothing_after_recovery(void *ctx, const struct simdev_landing *l)
{
	struct no_landing *n = ctx;
	struct host_info hi;

	if (l->d != n->d)
		return;
	scen_slot(n->t, n->slot, &hi);
	SC_CHECK(n->t,
		 hi.generation == LUNFS_OWNER_GEN(n->owner) &&
		     (hi.state == LUNFS_SLOT_LIVE ||
		      (n->until_free && hi.state == LUNFS_SLOT_RECOVERING)),
		 "%s of a host that was recovered landed at byte %llu", simdev_op_name(l->op),
		 (unsigned long long)l->off_bytes);
}

static void expect_no_landing(struct simcluster *t, unsigned host, bool until_free,
			      struct no_landing *n)
{
	*n = (struct no_landing){.t = t,
				 .d = t->dev[host],
				 .slot = host_slot(host_of(t, host)),
				 .owner = host_owner(host_of(t, host)),
				 .until_free = until_free};
	simdev_set_monitor(t->medium, nothing_after_recovery, n);
}

struct stopped {
	struct simcluster *t;
	uint64_t nth;	   /* of the writes of host 0 */
	uint64_t until_ns; /* not 0: it was stopped */
};

/* The process is stopped between the last look at its lease and the command. */
static void stop_before_write(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
			      struct simdev_fault *out)
{
	struct stopped *s = ctx;

	(void)out;
	if (d != s->t->dev[0] || cmd->op != SIMDEV_WRITE || s->until_ns || --s->nth)
		return;
	s->until_ns = simclock_true_ns(s->t->clk) + 3 * LEASE;
	simclock_pause(s->t->clk, 1, s->until_ns);
	clock_sleep_ns(s->t->clk, MS);
}

static void stopped_host_is_refused(struct simcluster *t, struct stopped *s)
{
	struct no_landing none;
	struct worker w[3];
	struct vattr va;
	uint64_t old;

	simdev_set_pr(t->medium, true, true);
	scen_up(t, 3);
	old = host_nonce(host_of(t, 0));
	for (unsigned n = 0; n < 3; n++)
		worker_start(t, n, &w[n], n ? 200 : 0);
	simdev_set_hook(t->medium, stop_before_write, s);
	expect_no_landing(t, 0, true, &none);
	worker_end(&w[1]);
	worker_end(&w[2]);
	UNTIL(t, w[0].ended);
	worker_end(&w[0]);
	simdev_set_hook(t->medium, NULL, NULL);
	EXPECT(t, s->until_ns);
	EXPECT_EQ(t, w[0].rc, -EIO);
	EXPECT_EQ(t, host_state(host_of(t, 0)), HOST_LOST);
	EXPECT_EQ(t, vol_getattr(t->v[0], &sc_root, w[0].id, &va), -EIO);
	EXPECT_EQ(t, vol_unmount(t->v[0]), -EIO);
	t->v[0] = NULL;
	simdev_set_monitor(t->medium, NULL, NULL);
	sc_up(t, 0); /* without a reboot */
	EXPECT(t, host_nonce(host_of(t, 0)) != old);
	for (unsigned n = 0; n < 3; n++) {
		if (n)
			EXPECT_EQ(t, w[n].rc, 0);
		worker_check(t, 0, &w[n]);
	}
}

SCENARIO(a_process_stopped_for_three_leases_writes_nothing_when_it_goes_on, 12)
{
	struct stopped s = {.t = t, .nth = 1 + sc_random(t, 60)};

	stopped_host_is_refused(t, &s);
}

/* Without reservations, too: what it had not sent when it was stopped, it never sends. */
SCENARIO(a_process_stopped_while_idle_sends_nothing_that_lands_when_it_goes_on, 6)
{
	struct no_landing n;
	struct nodeid f;
	size_t done;

	scen_up(t, 2);
	scen_files(t, 0, 2);
	f = scen_find(t, 0, "f1");
	sc_mkfile(t, 0, sc_root_id(t, 0), "new"); /* not committed */
	expect_no_landing(t, 0, false, &n);
	simclock_pause(t->clk, 1, clock_now_ns(t->clk) + 3 * LEASE + sc_random(t, LEASE));
	EXPECT_EQ(t, sc_lookup(t, 1, sc_root_id(t, 1), "new", NULL), -ENOENT);
	UNTIL(t, host_state(host_of(t, 0)) == HOST_LOST);
	EXPECT_EQ(t, vol_write(t->v[0], &sc_root, f, 0, 1, "y", 0, &done, NULL), -EIO);
	rest(t, 8 * SC_S); /* the next commit would be due */
	simdev_set_monitor(t->medium, NULL, NULL);
	EXPECT_EQ(t, sc_lookup(t, 1, sc_root_id(t, 1), "new", NULL), -ENOENT);
	scen_check_files(t, 1, 2);
	EXPECT_EQ(t, vol_unmount(t->v[0]), -EIO);
	t->v[0] = NULL;
}

/* Nobody is there to recover it: it finds its slot as it left it and goes on with everything. */
SCENARIO(a_process_stopped_for_three_leases_alone_goes_on_with_everything, 6)
{
	struct worker w;
	uint64_t owner;

	sc_up(t, 0);
	owner = host_owner(host_of(t, 0));
	worker_start(t, 0, &w, 200);
	rest(t, 50 * MS + sc_random(t, SC_S / 2));
	simclock_pause(t->clk, 1, clock_now_ns(t->clk) + 3 * LEASE);
	UNTIL(t, w.ended);
	worker_end(&w);
	EXPECT_EQ(t, w.rc, 0);
	EXPECT_EQ(t, w.done, 200);
	EXPECT_EQ(t, host_owner(host_of(t, 0)), owner);
	w.synced = w.done;
	worker_check(t, 0, &w);
}

/* A paused virtual machine: its clock stood still, so it thinks that its lease is good. */
SCENARIO(a_paused_machine_whose_clock_stood_still_writes_nothing, 8)
{
	struct no_landing none;
	struct worker w[2];

	simdev_set_pr(t->medium, true, true);
	scen_up(t, 2);
	for (unsigned n = 0; n < 2; n++)
		worker_start(t, n, &w[n], 0);
	rest(t, 50 * MS + sc_random(t, SC_S / 2));
	expect_no_landing(t, 0, true, &none);
	simclock_freeze(t->clk, 1, clock_now_ns(t->clk) + 4 * LEASE);
	UNTIL(t, w[0].ended);
	rest(t, SC_S);
	worker_end(&w[0]);
	worker_end(&w[1]);
	EXPECT_EQ(t, w[0].rc, -EIO);
	EXPECT_EQ(t, w[1].rc, 0);
	EXPECT_EQ(t, vol_unmount(t->v[0]), -EIO);
	t->v[0] = NULL;
	worker_check(t, 1, &w[0]);
	worker_check(t, 1, &w[1]);
}

/*
 * The only one that could recover the other is the one that the other has recovered: it has to find
 * that out, and to come back.
 */
SCENARIO(a_host_that_was_recovered_mounts_again_and_recovers_its_recoverer, 8)
{
	struct worker w[2];
	unsigned slot[2];

	simdev_set_pr(t->medium, true, true);
	scen_up(t, 2);
	for (unsigned n = 0; n < 2; n++) {
		slot[n] = host_slot(host_of(t, n));
		worker_start(t, n, &w[n], 0);
	}
	rest(t, 50 * MS + sc_random(t, SC_S / 2));
	simclock_pause(t->clk, 1, clock_now_ns(t->clk) + 4 * LEASE);
	UNTIL(t, scen_state(t, slot[0]) == LUNFS_SLOT_FREE);
	rest(t, sc_random(t, LEASE));
	sc_kill(t, 1);
	UNTIL(t, host_state(host_of(t, 0)) == HOST_LOST);
	worker_end(&w[0]);
	EXPECT_EQ(t, w[0].rc, -EIO);
	EXPECT_EQ(t, scen_state(t, slot[1]), LUNFS_SLOT_LIVE);
	EXPECT_EQ(t, vol_unmount(t->v[0]), -EIO);
	t->v[0] = NULL;
	sc_up(t, 0);
	UNTIL(t, scen_state(t, slot[1]) == LUNFS_SLOT_FREE || host_slot(host_of(t, 0)) == slot[1]);
	worker_check(t, 0, &w[0]);
	worker_check(t, 0, &w[1]);
}

/* ---- a fenced host that mounts again with old writes still queued below ---------------------- */

struct queued {
	struct simcluster *t;
	uint64_t off; /* of the block that both hosts write */
	uint64_t until_ns;
	bool sent;
};

/*
 * Stopped before its write of that block; when it goes on the write is sent, so after it was
 * fenced, and stays below for seconds: in a queue of this machine, where no abort at the target
 * reaches it.
 */
static void stop_then_queue(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
			    struct simdev_fault *out)
{
	struct queued *q = ctx;

	if (d != q->t->dev[0] || cmd->op != SIMDEV_WRITE || q->sent ||
	    !in_groups(&q->t->geo, cmd->off_bytes))
		return;
	q->sent = true;
	q->off = cmd->off_bytes;
	q->until_ns = simclock_true_ns(q->t->clk) + 3 * LEASE;
	simclock_pause(q->t->clk, 1, q->until_ns);
	clock_sleep_ns(q->t->clk, MS);
	out->kind = SIMDEV_LATE;
	out->delay_ns = 6 * SC_S;
}

static void fenced_host_mounts_again(struct simcluster *t, void (*meanwhile)(struct simcluster *t))
{
	struct job old = {.kind = JOB_WRITE, .len = 8192, .fill = 'o'};
	struct queued q = {.t = t};
	struct nodeid f;

	scen_up(t, 2);
	f = old.id = sc_mkfile(t, 0, sc_root_id(t, 0), "f");
	scen_fill(t, 0, f, '1', 8192);
	scen_sync(t, 0);
	simdev_set_hook(t->medium, stop_then_queue, &q);
	job_start(t, 0, &old); /* in place */
	UNTIL(t, q.sent);
	EXPECT_EQ(t, scen_filled(t, 1, f, 8192), '1');
	scen_fill(t, 1, f, '2', 8192);
	job_end(&old);
	EXPECT_EQ(t, old.rc, -EIO);
	simdev_set_hook(t->medium, NULL, NULL);
	EXPECT_EQ(t, vol_unmount(t->v[0]), -EIO);
	t->v[0] = NULL;
	if (meanwhile)
		meanwhile(t);
	sc_up(t, 0); /* the same machine, path and name */
	EXPECT(t, simdev_may_write(t->dev[0]));
	EXPECT_EQ(t, scen_filled(t, 0, f, 8192), '2');
	rest(t, 8 * SC_S);
	EXPECT_EQ(t, scen_filled(t, 1, f, 8192), '2');
	EXPECT_EQ(t, scen_filled(t, 0, f, 8192), '2');
}

SCENARIO(a_fenced_host_mounts_again_and_its_old_writes_never_land, 8)
{
	simdev_set_pr(t->medium, true, true);
	fenced_host_mounts_again(t, NULL);
}

/* Nothing in the host table tells of its earlier life any more. */
static void take_its_slot(struct simcluster *t)
{
	sc_up(t, 2);
	sc_up(t, 3);
	for (unsigned n = 2; n < 4; n++)
		if (host_slot(host_of(t, n)) != 0)
			sc_down(t, n);
	EXPECT_EQ(t, scen_state(t, 0), LUNFS_SLOT_LIVE);
}

SCENARIO(a_fenced_host_mounts_again_although_another_has_its_old_slot, 8)
{
	simdev_set_pr(t->medium, true, true);
	fenced_host_mounts_again(t, take_its_slot);
}

/* ---- a daemon that beats but no longer works ------------------------------------------------- */

struct stuck {
	struct simcluster *t;
	bool on, seen, over;
};

static void hang(struct stuck *s)
{
	s->seen = true;
	while (!s->over)
		clock_sleep_ns(s->t->clk, 10 * MS);
}

static int hang_invalidation(void *ctx, uint64_t ino)
{
	struct stuck *s = ctx;

	(void)ino;
	if (s->on && simclock_group(s->t->clk) == 1)
		hang(s);
	return 0;
}

static void hang_journal(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
			 struct simdev_fault *out)
{
	struct stuck *s = ctx;

	(void)out;
	if (s->on && d == s->t->dev[0] && cmd->op == SIMDEV_WRITE &&
	    in_journal(&s->t->geo, host_slot(host_of(s->t, 0)), cmd->off_bytes))
		hang(s);
}

static void stuck_host_gives_way(struct simcluster *t, struct stuck *s)
{
	struct job want = {.kind = JOB_WRITE, .len = 100, .fill = 'n'};
	unsigned slot = host_slot(host_of(t, 0));
	uint64_t began;

	want.id = sc_mkfile(t, 0, sc_root_id(t, 0), "f");
	scen_fill(t, 0, want.id, 'o', 100);
	scen_sync(t, 0);
	scen_fill(t, 0, want.id, 'p', 100);
	s->on = true;
	began = clock_now_ns(t->clk);
	job_start(t, 1, &want);
	UNTIL(t, s->seen);
	UNTIL(t, scen_state(t, slot) != LUNFS_SLOT_LIVE);
	UNTIL(t, want.ended);
	job_end(&want);
	EXPECT_EQ(t, want.rc, 0);
	EXPECT(t, want.ended_ns - began < 16 * LEASE);
	EXPECT(t, want.ended_ns - began > LEASE);
	UNTIL(t, host_state(host_of(t, 0)) == HOST_LOST);
	s->over = true;
	rest(t, SC_S);
	simdev_set_hook(t->medium, NULL, NULL);
	EXPECT_EQ(t, vol_unmount(t->v[0]), -EIO);
	t->v[0] = NULL;
	EXPECT_EQ(t, scen_filled(t, 1, want.id, 100), 'n');
}

SCENARIO(a_daemon_whose_revokes_hang_is_recovered_although_it_beats, 3)
{
	struct stuck s = {.t = t};

	simdev_set_pr(t->medium, true, true);
	t->opt.cb.ctx = &s;
	t->opt.cb.invalidate = hang_invalidation;
	scen_up(t, 2);
	stuck_host_gives_way(t, &s);
	memset(&t->opt.cb, 0, sizeof(t->opt.cb));
	t->v[1]->cb = t->opt.cb;
}

SCENARIO(a_daemon_whose_journal_write_hangs_is_recovered_although_it_beats, 3)
{
	struct stuck s = {.t = t};

	simdev_set_pr(t->medium, true, true);
	scen_up(t, 2);
	simdev_set_hook(t->medium, hang_journal, &s);
	stuck_host_gives_way(t, &s);
}

/* ---- an array outage of several leases that ends --------------------------------------------- */

SCENARIO(after_an_outage_of_several_leases_all_hosts_go_on_and_nothing_is_lost, 12)
{
	static const enum simdev_outage_how how[] = {SIMDEV_OUTAGE_SILENT, SIMDEV_OUTAGE_ERROR,
						     SIMDEV_OUTAGE_QUEUED};
	struct worker w[3];
	uint64_t owner[3];

	if (t->seed % 2)
		simdev_set_pr(t->medium, true, true);
	scen_up(t, 3);
	for (unsigned n = 0; n < 3; n++) {
		owner[n] = host_owner(host_of(t, n));
		worker_start(t, n, &w[n], 0);
	}
	rest(t, 50 * MS + sc_random(t, SC_S / 2));
	simdev_outage_all(t->medium, clock_now_ns(t->clk) + 3 * LEASE + sc_random(t, 4 * LEASE),
			  how[t->seed % 3]);
	rest(t, 9 * LEASE);
	for (unsigned n = 0; n < 3; n++) {
		unsigned before = w[n].done;

		UNTIL(t, w[n].done > before + 10 || w[n].rc);
	}
	for (unsigned n = 0; n < 3; n++) {
		worker_end(&w[n]);
		SC_CHECK(t, w[n].rc == 0, "host %u: %s", n, strerror(-w[n].rc));
		EXPECT_EQ(t, host_state(host_of(t, n)), HOST_ACTIVE);
		EXPECT_EQ(t, host_owner(host_of(t, n)), owner[n]);
		w[n].synced = w[n].done;
		worker_check(t, (n + 1) % 3, &w[n]);
	}
}

/* ---- an array rolled back under running hosts ------------------------------------------------ */

static void mark_told(void *ctx, const char *why)
{
	(void)why;
	++*(unsigned *)ctx;
}

SCENARIO(an_array_rolled_back_under_running_hosts_stops_them_all, 4)
{
	struct simdev_snapshot *snap;
	unsigned told = 0;
	struct worker w[3];

	t->no_fsck = true;
	t->opt.cb.ctx = &told;
	t->opt.cb.lost = mark_told;
	scen_up(t, 3);
	for (unsigned n = 0; n < 3; n++)
		worker_start(t, n, &w[n], 0);
	rest(t, SC_S);
	snap = simdev_snapshot(t->medium);
	rest(t, SC_S + sc_random(t, SC_S));
	simdev_roll_back(t->medium, snap);
	simdev_snapshot_free(snap);
	rest(t, 3 * LEASE);
	for (unsigned n = 0; n < 3; n++) {
		EXPECT(t, w[n].ended);
		worker_end(&w[n]);
		EXPECT(t, w[n].rc == -EIO || w[n].rc == -EUCLEAN); /* old lock, new payload */
		EXPECT_EQ(t, vol_unmount(t->v[n]), -EIO);
		t->v[n] = NULL;
	}
	EXPECT_EQ(t, told, 3);
	memset(&t->opt.cb, 0, sizeof(t->opt.cb));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_lock_of_a_dead_host_holds_until_its_slot_is_free),
	    cmocka_unit_test(a_recovery_is_taken_over_wherever_its_host_dies),
	    cmocka_unit_test(enough_recoveries_were_cut_off),
	    cmocka_unit_test(a_beat_that_reaches_the_device_twice_does_no_harm),
	    cmocka_unit_test(a_beat_of_the_dead_that_lands_late_changes_nothing),
	    cmocka_unit_test(a_process_stopped_for_three_leases_writes_nothing_when_it_goes_on),
	    cmocka_unit_test(a_process_stopped_while_idle_sends_nothing_that_lands_when_it_goes_on),
	    cmocka_unit_test(a_process_stopped_for_three_leases_alone_goes_on_with_everything),
	    cmocka_unit_test(a_paused_machine_whose_clock_stood_still_writes_nothing),
	    cmocka_unit_test(a_host_that_was_recovered_mounts_again_and_recovers_its_recoverer),
	    cmocka_unit_test(a_fenced_host_mounts_again_and_its_old_writes_never_land),
	    cmocka_unit_test(a_fenced_host_mounts_again_although_another_has_its_old_slot),
	    cmocka_unit_test(a_daemon_whose_revokes_hang_is_recovered_although_it_beats),
	    cmocka_unit_test(a_daemon_whose_journal_write_hangs_is_recovered_although_it_beats),
	    cmocka_unit_test(after_an_outage_of_several_leases_all_hosts_go_on_and_nothing_is_lost),
	    cmocka_unit_test(an_array_rolled_back_under_running_hosts_stops_them_all),
	};

	if (getenv("LUNFS_SCENARIO")) /* this one only */
		cmocka_set_test_filter(getenv("LUNFS_SCENARIO"));
	return cmocka_run_group_tests_name("scenario-slots", tests, NULL, NULL);
}
