/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands that land when nobody expects them any more, and devices that go away or go bad. */
#include "scen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- a late data write against reuse of its blocks by another host --------------------------- */

#define FILE_BYTES (64u * 4096u)
#define LATE (5 * SC_S)
#define STRIPE (256u * 4096u)

struct late {
	struct simcluster *t;
	uint64_t delay_ns;
	uint64_t sent; /* writes of host 0 to the groups that were late */
	unsigned max;
};

static void be_late(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
		    struct simdev_fault *out)
{
	struct late *l = ctx;

	if (d != l->t->dev[0] || cmd->op != SIMDEV_WRITE || l->sent == l->max ||
	    !in_groups(&l->t->geo, cmd->off_bytes))
		return;
	l->sent++;
	out->kind = SIMDEV_LATE;
	out->delay_ns = l->delay_ns ? l->delay_ns : LATE;
}

/* The file is emptied, and host 1 fills the volume: it gets those blocks, too. */
static struct nodeid reuse(struct simcluster *t, unsigned emptier, struct nodeid f, uint64_t *len)
{
	struct nodeid g = sc_mkfile(t, 1, sc_root_id(t, 1), "all");
	uint8_t *buf = dev_buf_alloc(STRIPE);
	size_t done;
	int rc = 0;

	SC_OK(t, sc_truncate(t, emptier, f, 0));
	sc_settle(t, emptier);
	scen_sync(t, emptier);
	memset(buf, 'B', STRIPE);
	for (*len = 0; rc == 0; *len += done)
		rc = vol_write(t->v[1], &sc_root, g, *len, STRIPE, buf, 0, &done, NULL);
	EXPECT_EQ(t, rc, -ENOSPC);
	free(buf);
	return g;
}

static void all_b(struct simcluster *t, struct nodeid g, uint64_t len)
{
	uint8_t *buf = dev_buf_alloc(STRIPE);
	size_t n;

	for (uint64_t at = 0; at < len; at += n) {
		n = sc_read(t, 1, g, at, buf, STRIPE);
		EXPECT(t, n);
		for (size_t i = 0; i < n; i += 512)
			SC_CHECK(t, buf[i] == 'B', "byte %llu of the new file is 0x%02x",
				 (unsigned long long)(at + i), buf[i]);
	}
	free(buf);
}

static struct nodeid first_file(struct simcluster *t)
{
	struct nodeid f;

	scen_up(t, 2);
	f = sc_mkfile(t, 0, sc_root_id(t, 0), "f");
	scen_fill(t, 0, f, 'a', FILE_BYTES);
	scen_sync(t, 0);
	return f;
}

/* The writer is told only when the late copy can land no more, so nothing of it meets the new file.
 */
SCENARIO(a_late_data_write_does_not_meet_the_blocks_next_owner, 4)
{
	struct late l = {.t = t, .max = 1 + (unsigned)sc_random(t, 3)};
	struct job w = {.kind = JOB_WRITE, .len = FILE_BYTES, .fill = 'A'};
	struct nodeid g;
	uint64_t len;

	w.id = first_file(t);
	simdev_set_hook(t->medium, be_late, &l);
	job_start(t, 0, &w);
	job_end(&w);
	EXPECT_EQ(t, w.rc, 0); /* late, not failed */
	EXPECT_EQ(t, l.sent, l.max);
	EXPECT_EQ(t, scen_filled(t, 1, w.id, FILE_BYTES), 'A');
	g = reuse(t, 0, w.id, &len);
	rest(t, 2 * LATE);
	all_b(t, g, len);
}

/* The host dies with the write on its way. Who recovers it has the device abort that first. */
SCENARIO(a_late_data_write_of_a_dead_host_does_not_meet_the_blocks_next_owner, 4)
{
	struct late l = {.t = t, .max = 1000};
	struct job w = {.kind = JOB_WRITE, .len = FILE_BYTES, .fill = 'A'};
	struct nodeid g;
	uint64_t len;

	simdev_set_pr(t->medium, true, true);
	w.id = first_file(t);
	simdev_set_hook(t->medium, be_late, &l);
	job_start(t, 0, &w);
	UNTIL(t, l.sent);
	sc_kill(t, 0);
	simdev_set_hook(t->medium, NULL, NULL);
	g = reuse(t, 1, w.id, &len);
	rest(t, 2 * LATE);
	all_b(t, g, len);
}

/*
 * A device that cannot say whether the write will still land: the host stops with an error, and
 * its slot is left to the others, who fence it before they touch what it held.
 */
SCENARIO(where_the_fate_of_a_write_cannot_be_told_its_host_stops_and_is_fenced, 4)
{
	struct late l = {.t = t, .max = 1, .delay_ns = SC_S}; /* before the host is fenced */
	struct job w = {.kind = JOB_WRITE, .len = FILE_BYTES, .fill = 'A'};
	struct nodeid g;
	struct vattr va;
	uint64_t len;

	simdev_set_pr(t->medium, true, true);
	w.id = first_file(t);
	simdev_set_drain(t->medium, false);
	simdev_set_hook(t->medium, be_late, &l);
	job_start(t, 0, &w);
	job_end(&w);
	EXPECT_EQ(t, w.rc, -EIO);
	EXPECT_EQ(t, vol_getattr(t->v[0], &sc_root, w.id, &va), -EIO);
	g = reuse(t, 1, w.id, &len); /* waits for the recovery */
	rest(t, 2 * LATE);
	all_b(t, g, len);
	EXPECT_EQ(t, vol_unmount(t->v[0]), -EIO);
	t->v[0] = NULL;
	simdev_set_drain(t->medium, true);
}

/* ---- a journal write of unknown fate --------------------------------------------------------- */

static void late_journal(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
			 struct simdev_fault *out)
{
	struct late *l = ctx;

	if (d != l->t->dev[0] || cmd->op != SIMDEV_WRITE || l->sent == l->max ||
	    !in_journal(&l->t->geo, host_slot(host_of(l->t, 0)), cmd->off_bytes))
		return;
	l->sent++;
	out->kind = SIMDEV_LATE;
	out->delay_ns = l->delay_ns ? l->delay_ns : LATE;
}

struct settled {
	struct simcluster *t;
	bool acked;
};

static void nothing_late(void *ctx, const struct simdev_landing *l)
{
	struct settled *s = ctx;

	if (s->acked && l->late)
		SC_CHECK(s->t, !in_journal(&s->t->geo, host_slot(host_of(s->t, 0)), l->off_bytes),
			 "a write to the log landed after its commit was acknowledged");
}

/* It waits until that is settled; nothing of the late copy lands on what the log holds by then. */
SCENARIO(a_journal_write_of_unknown_fate_delays_its_commit_and_no_more, 6)
{
	struct late l = {.t = t, .max = 2};
	struct settled s = {.t = t};
	unsigned slot;

	scen_up(t, 2);
	slot = host_slot(host_of(t, 0));
	scen_files(t, 0, 1);
	simdev_set_hook(t->medium, late_journal, &l);
	scen_files(t, 0, 0); /* nothing to commit yet */
	for (unsigned k = 1; k < 4; k++) {
		char name[16];

		snprintf(name, sizeof(name), "f%u", k);
		scen_fill(t, 0, sc_mkfile(t, 0, sc_root_id(t, 0), name), (uint8_t)('a' + k),
			  SCEN_FILE_BYTES);
		scen_sync(t, 0);
	}
	EXPECT_EQ(t, l.sent, 2);
	s.acked = true;
	simdev_set_monitor(t->medium, nothing_late, &s);
	rest(t, t->seed % 2 ? 2 * LATE : 0);
	simdev_set_monitor(t->medium, NULL, NULL);
	sc_kill(t, 0);
	UNTIL(t, scen_state(t, slot) == LUNFS_SLOT_FREE);
	scen_check_files(t, 1, 4);
}

/* ---- the paths of one host ------------------------------------------------------------------- */

/* Shorter than its lease: a pause, and nobody else notices. */
SCENARIO(paths_lost_for_less_than_a_lease_are_a_pause, 6)
{
	struct worker w[2];
	uint64_t owner;

	scen_up(t, 2);
	owner = host_owner(host_of(t, 0));
	for (unsigned n = 0; n < 2; n++)
		worker_start(t, n, &w[n], 0);
	for (unsigned k = 0; k < 5; k++) {
		rest(t, SC_S);
		simdev_outage(t->dev[0], clock_now_ns(t->clk) + LEASE / 8 + sc_random(t, LEASE / 8),
			      SIMDEV_OUTAGE_ERROR);
	}
	rest(t, 2 * SC_S);
	for (unsigned n = 0; n < 2; n++) {
		worker_end(&w[n]);
		EXPECT_EQ(t, w[n].rc, 0);
		EXPECT(t, w[n].done > 50);
		w[n].synced = w[n].done;
		worker_check(t, 1 - n, &w[n]);
	}
	EXPECT_EQ(t, host_owner(host_of(t, 0)), owner);
}

/* Longer: the others go on without it, and it finds that out when it has its paths again. */
SCENARIO(a_host_whose_paths_are_lost_for_long_is_recovered_and_says_so, 6)
{
	struct worker w[2];

	simdev_set_pr(t->medium, t->seed % 2, true);
	scen_up(t, 2);
	for (unsigned n = 0; n < 2; n++)
		worker_start(t, n, &w[n], 0);
	rest(t, SC_S + sc_random(t, SC_S));
	simdev_outage(t->dev[0], clock_now_ns(t->clk) + 5 * LEASE, SIMDEV_OUTAGE_SILENT);
	UNTIL(t, w[0].ended);
	rest(t, SC_S);
	for (unsigned n = 0; n < 2; n++)
		worker_end(&w[n]);
	EXPECT_EQ(t, w[0].rc, -EIO);
	EXPECT_EQ(t, w[1].rc, 0);
	EXPECT_EQ(t, host_state(host_of(t, 0)), HOST_LOST);
	EXPECT_EQ(t, vol_unmount(t->v[0]), -EIO);
	t->v[0] = NULL;
	for (unsigned n = 0; n < 2; n++)
		worker_check(t, 1, &w[n]);
	sc_up(t, 0);
	worker_check(t, 0, &w[0]);
}

/* ---- sectors that cannot be read ------------------------------------------------------------- */

/* Who cannot read the log cannot know what is in it: the locks stay held until it can. */
SCENARIO(a_journal_that_cannot_be_read_keeps_its_locks_until_it_can, 4)
{
	struct job reader = {.kind = JOB_READ, .len = SCEN_FILE_BYTES};
	uint8_t *log = dev_buf_alloc(16 * 4096);
	uint64_t off;
	unsigned slot;

	scen_up(t, 2);
	scen_files(t, 0, 3);
	reader.id = scen_find(t, 0, "f2");
	slot = host_slot(host_of(t, 0));
	off = geo_blk_off(t->geo.journal_blk[slot]);
	sc_kill(t, 0);
	simdev_peek(t->medium, off, 16 * 4096, log);
	simdev_rot(t->medium, off + 4096, 4096);
	job_start(t, 1, &reader);
	UNTIL(t, scen_state(t, slot) == LUNFS_SLOT_RECOVERING);
	rest(t, 6 * LEASE);
	EXPECT(t, !reader.ended);
	EXPECT_EQ(t, scen_state(t, slot), LUNFS_SLOT_RECOVERING);
	simdev_poke(t->medium, off, 16 * 4096, log); /* an admin restored it */
	UNTIL(t, reader.ended);
	job_end(&reader);
	EXPECT_EQ(t, reader.rc, 0);
	EXPECT_EQ(t, reader.fill, 'c');
	scen_check_files(t, 1, 3);
	free(log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_late_data_write_does_not_meet_the_blocks_next_owner),
	    cmocka_unit_test(a_late_data_write_of_a_dead_host_does_not_meet_the_blocks_next_owner),
	    cmocka_unit_test(where_the_fate_of_a_write_cannot_be_told_its_host_stops_and_is_fenced),
	    cmocka_unit_test(a_journal_write_of_unknown_fate_delays_its_commit_and_no_more),
	    cmocka_unit_test(paths_lost_for_less_than_a_lease_are_a_pause),
	    cmocka_unit_test(a_host_whose_paths_are_lost_for_long_is_recovered_and_says_so),
	    cmocka_unit_test(a_journal_that_cannot_be_read_keeps_its_locks_until_it_can),
	};

	if (getenv("LUNFS_SCENARIO")) /* this one only */
		cmocka_set_test_filter(getenv("LUNFS_SCENARIO"));
	return cmocka_run_group_tests_name("scenario-device", tests, NULL, NULL);
}
