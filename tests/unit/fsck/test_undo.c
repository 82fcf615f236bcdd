/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Undo files: what is put back, beside whom, and after what it is refused. */
#include "unit.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static char path[64];

static void damage_file(struct fu *u)
{
	struct lunfs_inode_pl pl;

	fu_get_inode(u, FU_PLAIN, &pl);
	pl.nlink = le32_make(5);
	fu_put(u, u->id[FU_PLAIN].ino, &pl);
}

static uint32_t links(struct fu *u)
{
	struct lunfs_inode_pl pl;

	fu_get_inode(u, FU_PLAIN, &pl);
	return le32_get(pl.nlink);
}

/* Whoever mounts next does so in one of them. */
static void damage_slots(struct fu *u)
{
	for (unsigned i = 0; i < u->t->geo.slots; i++)
		if (u->t->geo.journal_blk[i])
			fu_damage_slot(u, i);
}

static void repair_with_undo(struct fu *u)
{
	unlink(path);
	u->undo = path;
	fu_fsck(u, MODE_YES);
	u->undo = NULL;
	SC_CHECK(u->t, u->rc == 0 && u->left == 0, "the repair failed");
	assert_int_equal(links(u), 1);
}

static void expect_put_back(struct fu *u)
{
	fu_put_back(u, path);
	SC_CHECK(u->t, u->rc == 0, "%s", u->why);
	SC_CHECK(u->t, u->given_up == 0, "it took its own claim from itself");
	assert_int_equal(links(u), 5);
}

static void expect_repairable(struct fu *u)
{
	fu_fsck(u, MODE_YES);
	SC_CHECK(u->t, u->rc == 0 && u->left == 0, "it cannot be repaired again");
	fu_verify(u, 0);
	unlink(path);
}

/* ---- its own claim --------------------------------------------------------------------------- */

static void claim_body(struct fu *u)
{
	fu_damage_slot(u, fu_spare(u));
	damage_file(u);
	repair_with_undo(u);
	expect_put_back(u);
	expect_repairable(u);
}

static void what_is_put_back_leaves_its_own_claim_alone(void **s)
{
	(void)s;
	fu_run(claim_body, 512);
	fu_run(claim_body, 4096);
}

/* ---- hosts ----------------------------------------------------------------------------------- */

static void mount_and_write(struct fu *u)
{
	sc_up(u->t, 0);
	sc_mkfile(u->t, 0, sc_root_id(u->t, 0), "since");
	sc_down(u->t, 0);
}

static void expect_refused(struct fu *u)
{
	fu_put_back(u, path);
	SC_CHECK(u->t, u->rc == -ESTALE, "what was written since is torn: %d %s", u->rc, u->why);
	assert_int_equal(links(u), 1);
	fu_fsck(u, MODE_CHECK);
	SC_CHECK(u->t, u->rc == 0 && u->total == 0, "the refusal has changed something");
	unlink(path);
	fu_restore(u);
}

static void mounted_body(struct fu *u)
{
	damage_file(u);
	repair_with_undo(u);
	mount_and_write(u);
	expect_refused(u);

	damage_file(u);
	damage_slots(u);
	repair_with_undo(u);
	mount_and_write(u);
	expect_refused(u);
}

static void mount_in_any_slot_refuses_what_is_to_be_put_back(void **s)
{
	(void)s;
	fu_run(mounted_body, 512);
}

/* Of the host nothing is left but what it wrote. */
static void hidden_body(struct fu *u)
{
	damage_file(u);
	repair_with_undo(u);
	mount_and_write(u);
	damage_slots(u);
	fu_fsck(u, MODE_YES);
	expect_refused(u);
}

static void slot_that_is_made_anew_hides_no_mount(void **s)
{
	(void)s;
	fu_run(hidden_body, 512);
}

/* ---- slots that the repair itself has made anew ---------------------------------------------- */

static void reset_body(struct fu *u)
{
	damage_file(u);
	damage_slots(u);
	repair_with_undo(u);
	expect_put_back(u);
	expect_put_back(u); /* they are damaged again: as they were then */
	expect_repairable(u);
}

static unsigned live_slot(struct fu *u)
{
	uint8_t buf[LUNFS_BLOCK_BYTES];
	struct host_info hi;

	for (unsigned i = 0; i < u->t->geo.slots; i++) {
		simdev_peek(u->t->medium, geo_slot_off(i), sizeof(buf), buf);
		if (slot_decode(&u->t->geo, buf, i, &hi) == 0 && hi.state == LUNFS_SLOT_LIVE)
			return i;
	}
	return LUNFS_NO_SLOT;
}

static void dead_body(struct fu *u)
{
	uint8_t noise[LUNFS_BLOCK_BYTES];
	unsigned slot;

	sc_up(u->t, 0);
	sc_kill(u->t, 0);
	slot = live_slot(u);
	assert_true(slot != LUNFS_NO_SLOT);
	memset(noise, 0xee, sizeof(noise));
	simdev_poke(u->t->medium, geo_blk_off(u->t->geo.journal_blk[slot]), sizeof(noise), noise);
	damage_file(u);
	repair_with_undo(u);
	assert_true(u->count[PROBLEM_HOST_NOT_FREE] > 0);
	expect_put_back(u);
	expect_repairable(u);
}

static void slot_that_the_repair_has_made_anew_is_no_mount(void **s)
{
	(void)s;
	fu_run(reset_body, 512);
	fu_run(reset_body, 4096);
	fu_run(dead_body, 512);
}

/* No other slot is fit for a claim. */
static void journal_body(struct fu *u)
{
	damage_file(u);
	repair_with_undo(u);
	for (unsigned i = 0; i < geo_all_slots(&u->t->geo); i++)
		if (i >= u->t->geo.slots || !u->t->geo.journal_blk[i])
			fu_damage_slot(u, i);
	expect_put_back(u);
	expect_repairable(u);
}

static void claim_of_who_puts_back_is_no_mount(void **s)
{
	(void)s;
	fu_run(journal_body, 512);
}

/* @second: the run that finishes the log makes the undo file, not the one that dies. */
static unsigned finished_body_with(struct fu *u, bool second)
{
	struct maint_info mi;
	unsigned logs = 0;
	bool killed = true;

	for (unsigned n = 1; killed; n++) {
		fu_restore(u);
		damage_file(u);
		fu_damage_slot(u, 1);
		unlink(path);
		u->undo = second ? NULL : path;
		killed = fu_fsck_killed(u, n, false);
		u->undo = NULL;
		if (!fu_log(u, &mi))
			continue;
		logs++;
		if (second)
			repair_with_undo(u);
		else
			fu_fsck(u, MODE_YES);
		fu_put_back(u, path);
		SC_CHECK(u->t, u->rc == 0, "killed at %u: %s", n, u->why);
		fu_fsck(u, MODE_YES);
		SC_CHECK(u->t, u->rc == 0 && u->left == 0, "killed at %u: not repairable", n);
	}
	unlink(path);
	return logs;
}

static void finished_body(struct fu *u)
{
	assert_true(finished_body_with(u, false) > 1);
	assert_true(finished_body_with(u, true) > 1);
}

static void slot_that_a_log_has_made_anew_is_no_mount(void **s)
{
	(void)s;
	fu_run(finished_body, 512);
}

/* ---- the slot of a dead host whose journal was given up ---------------------------------------
 */

struct order { /* of the writes */
	const struct geo *g;
	unsigned slots, rest;
	bool unflushed, wrong;
};

static void look_at_order(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
			  struct simdev_fault *out)
{
	struct order *o = ctx;

	(void)d;
	(void)out;
	if (cmd->op == SIMDEV_FLUSH)
		o->unflushed = false;
	if (cmd->op != SIMDEV_WRITE)
		return;
	if (cmd->off_bytes >= geo_slot_off(0) &&
	    cmd->off_bytes < geo_slot_off(geo_all_slots(o->g))) {
		o->wrong |= o->unflushed;
		o->slots++;
	} else {
		o->wrong |= o->slots > 0;
		o->unflushed = true;
		o->rest++;
	}
}

static void dead_slot_body(struct fu *u)
{
	struct order o = {.g = &u->t->geo};
	uint8_t lock[512];

	damage_file(u);
	fu_lose_replay(u, lock);
	repair_with_undo(u);
	assert_int_equal(u->count[PROBLEM_HOST_NOT_FREE], 1);
	simdev_set_hook(u->t->medium, look_at_order, &o);
	expect_put_back(u);
	simdev_set_hook(u->t->medium, NULL, NULL);
	assert_true(o.slots > 0 && o.rest > 0 && !o.wrong);
	fu_fsck(u, MODE_YES);
	SC_CHECK(u->t, u->rc == 0 && u->left == 0, "it cannot be repaired again");
	assert_int_equal(u->count[PROBLEM_HOST_NOT_FREE], 1);
	unlink(path);
}

/* Or a run that comes after a death in between replays that over half of the rest. */
static void slot_is_put_back_when_all_else_is(void **s)
{
	(void)s;
	fu_run(dead_slot_body, 512);
}

/* ---- no room for the file -------------------------------------------------------------------- */

#define REC_BYTES (16u + LUNFS_BLOCK_BYTES)

static void repair_with_room_for(struct fu *u, unsigned blks)
{
	struct rlimit was, now;

	unlink(path);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	now = was;
	now.rlim_cur = LUNFS_BLOCK_BYTES + (rlim_t)blks * REC_BYTES;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &now), 0);
	u->undo = path;
	fu_fsck(u, MODE_YES);
	u->undo = NULL;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
}

static void room_body(struct fu *u)
{
	struct lunfs_inode_pl pl, other;
	unsigned blks = 0;

	for (bool done = false; !done; blks++) {
		fu_restore(u);
		damage_file(u);
		fu_get_inode(u, FU_PLAIN, &pl);
		fu_get_inode(u, FU_OTHER, &other);
		fu_extent(other.data_fork, 0)->blk = fu_extent(pl.data_fork, 0)->blk;
		fu_put(u, u->id[FU_OTHER].ino, &other);
		repair_with_room_for(u, blks);
		assert_int_equal(u->count[PROBLEM_DOUBLE_LOST], 0);
		done = u->rc == 0;
		if (done)
			continue;
		assert_int_equal(links(u), 5);
		sc_up(u->t, 0); /* nothing was begun, so nothing is to be finished */
		sc_down(u->t, 0);
	}
	assert_true(blks > 3 && u->left == 0);
	fu_put_back(u, path);
	SC_CHECK(u->t, u->rc == 0, "%s", u->why);
	unlink(path);
}

static void undo_file_that_is_full_changes_nothing(void **s)
{
	(void)s;
	signal(SIGXFSZ, SIG_IGN);
	fu_run(room_body, 512);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_is_put_back_leaves_its_own_claim_alone),
	    cmocka_unit_test(mount_in_any_slot_refuses_what_is_to_be_put_back),
	    cmocka_unit_test(slot_that_is_made_anew_hides_no_mount),
	    cmocka_unit_test(slot_that_the_repair_has_made_anew_is_no_mount),
	    cmocka_unit_test(claim_of_who_puts_back_is_no_mount),
	    cmocka_unit_test(slot_that_a_log_has_made_anew_is_no_mount),
	    cmocka_unit_test(slot_is_put_back_when_all_else_is),
	    cmocka_unit_test(undo_file_that_is_full_changes_nothing),
	};

	snprintf(path, sizeof(path), "/dev/shm/lunfs-test-undo.%d", (int)getpid());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
