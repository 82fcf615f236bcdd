/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A repair that dies at any of its writes: the next one brings the volume to the same end. */
#include "unit.h"
#include <stdio.h>

#define ONLY(file) (1u << (file))
#define COMMANDS_MAX 2000u

/* Something for every pass: rebuilt trees, copies, lost+found, maps. */
static void damage(struct fu *u)
{
	struct lunfs_inode_pl pl, other;

	fu_get_inode(u, FU_FRAGGED, &pl);
	fu_head(pl.data_fork)->items = le16_make(0);
	fu_put(u, u->id[FU_FRAGGED].ino, &pl);
	fu_get_inode(u, FU_PLAIN, &pl);
	fu_get_inode(u, FU_OTHER, &other);
	fu_extent(other.data_fork, 0)->blk = fu_extent(pl.data_fork, 0)->blk;
	fu_put(u, u->id[FU_OTHER].ino, &other);
	fu_get_inode(u, FU_ROOT, &pl);
	fu_dirent(pl.data_fork, "d", NULL)->generation = le64_make(77);
	fu_put(u, u->id[FU_ROOT].ino, &pl);
	fu_get_inode(u, FU_ATTRS_FILE, &pl);
	memset(pl.xattr_fork, 0xee, sizeof(pl.xattr_fork));
	fu_put(u, u->id[FU_ATTRS_FILE].ino, &pl);
}

static void check_end(struct fu *u)
{
	char path[64];

	fu_fsck(u, MODE_YES);
	SC_CHECK(u->t, u->rc == 0 && u->left == 0, "the run after the killed one failed: %s",
		 u->why);
	fu_fsck(u, MODE_CHECK);
	SC_CHECK(u->t, u->rc == 0 && u->total == 0, "it is not clean after that");
	fu_verify(u, ONLY(FU_OTHER) | ONLY(FU_DIR) | ONLY(FU_SUB) | ONLY(FU_DEEP) | ONLY(FU_HARD));
	sc_up(u->t, 0);
	snprintf(path, sizeof(path), "lost+found/#%llu/sub/deep",
		 (unsigned long long)u->id[FU_DIR].ino);
	assert_true(fu_at(u, path).ino == u->id[FU_DEEP].ino);
	sc_down(u->t, 0);
}

static void check_clean_end(struct fu *u, unsigned n)
{
	fu_fsck(u, MODE_YES);
	SC_CHECK(u->t, u->rc == 0 && u->left == 0, "killed at %u: the next run failed", n);
	SC_CHECK(u->t, u->given_up == 0, "killed at %u: the next run lost its claim", n);
	fu_fsck(u, MODE_CHECK);
	SC_CHECK(u->t, u->rc == 0 && u->total == 0, "killed at %u: it is not clean", n);
}

static void kill_body(struct fu *u, bool cut)
{
	unsigned n = 1;

	for (bool killed = true; killed && n < COMMANDS_MAX; n++) {
		fu_restore(u);
		damage(u);
		killed = fu_fsck_killed(u, n, cut);
		check_end(u);
	}
	assert_true(n < COMMANDS_MAX);
	print_message("%u commands\n", n - 2);
	assert_true(n > 20);
}

static void killed_body(struct fu *u)
{
	kill_body(u, false);
}

static void cut_body(struct fu *u)
{
	kill_body(u, true);
}

static void killed_repair_is_finished_by_the_next_one(void **s)
{
	(void)s;
	fu_run(killed_body, 512);
}

static void repair_is_finished_after_a_power_cut(void **s)
{
	(void)s;
	fu_run(cut_body, 512);
	fu_run(cut_body, 4096);
}

/* ---- in the slot that the log makes anew ----------------------------------------------------- */

static void spare_body(struct fu *u)
{
	bool killed = true;

	for (unsigned n = 1; killed; n++) {
		fu_restore(u);
		damage(u);
		fu_damage_slot(u, fu_spare(u));
		killed = fu_fsck_killed(u, n, false);
		check_clean_end(u, n);
	}
}

static void log_leaves_the_claim_of_who_finishes_it_alone(void **s)
{
	(void)s;
	fu_run(spare_body, 512);
	fu_run(spare_body, 4096);
}

/* ---- a journal that was given up ------------------------------------------------------------- */

static bool calls_for_replay(struct fu *u)
{
	uint8_t buf[LUNFS_BLOCK_BYTES];
	struct host_info hi;

	for (unsigned i = 0; i < u->t->geo.slots; i++) {
		simdev_peek(u->t->medium, geo_slot_off(i), sizeof(buf), buf);
		assert_int_equal(slot_decode(&u->t->geo, buf, i, &hi), 0);
		if (u->t->geo.journal_blk[i] && hi.state != LUNFS_SLOT_FREE)
			return true;
	}
	return false;
}

static void given_up_body(struct fu *u)
{
	struct maint_info mi;
	unsigned logs = 0;
	bool killed = true;

	for (unsigned n = 1; killed; n++) {
		uint8_t lock[512];

		fu_restore(u);
		fu_lose_replay(u, lock);
		killed = fu_fsck_killed(u, n, false);
		if (fu_log(u, &mi)) {
			logs++;
			SC_CHECK(u->t, !calls_for_replay(u),
				 "killed at %u: a journal would be replayed under a log", n);
		} else if (killed && calls_for_replay(u)) {
			simdev_poke(u->t->medium, geo_blk_off(u->id[FU_SMALL].ino), sizeof(lock),
				    lock);
		}
		check_clean_end(u, n);
		fu_verify(u, ONLY(FU_SMALL));
	}
	assert_true(logs > 1);
}

static void journal_that_was_given_up_is_never_replayed_beside_a_log(void **s)
{
	(void)s;
	fu_run(given_up_body, 512);
	fu_run(given_up_body, 4096);
}

/* ---- more than one log holds ----------------------------------------------------------------- */

#define LATE 600u     /* names in /late */
#define FILLERS 300u  /* inodes that stand before it */
#define SECOND_LOG 5u /* the test and set of the maintenance sector that names it */
#define NAME "a-name-that-takes-some-room-%04u"

static void make_late(struct fu *u)
{
	struct nodeid dir, root;
	struct vattr va;
	char name[64];

	sc_up(u->t, 0);
	root = sc_root_id(u->t, 0);
	for (unsigned i = 0; i < FILLERS; i++) {
		snprintf(name, sizeof(name), "filler%u", i);
		sc_mkfile(u->t, 0, root, name);
	}
	dir = sc_mkdir(u->t, 0, root, "late");
	for (unsigned i = 0; i < LATE; i++) {
		snprintf(name, sizeof(name), NAME, i);
		SC_OK(u->t, vol_link(u->t->v[0], &sc_root, u->id[FU_DEEP], dir, name, &va));
	}
	sc_down(u->t, 0);
}

static void check_late(struct fu *u, unsigned locks)
{
	struct nodeid dir, id;
	char name[64];

	sc_up(u->t, 0);
	dir = fu_at(u, "late");
	for (unsigned i = 0; i < LATE; i++) {
		snprintf(name, sizeof(name), NAME, i);
		SC_CHECK(u->t, sc_lookup(u->t, 0, dir, name, &id) == 0,
			 "with %u locks before it late/%s is gone", locks, name);
	}
	sc_down(u->t, 0);
}

/* So many locks are noise; and all names stand under another key, so that each moves. */
static void damage_much(struct fu *u, unsigned locks)
{
	struct geo *g = &u->t->geo, other = *g;
	uint8_t noise[512], sb[LUNFS_BLOCK_BYTES];

	memset(noise, 0xee, sizeof(noise));
	for (unsigned i = 0; i < locks; i++)
		simdev_poke(u->t->medium, geo_blk_off(g->root_ino + i * g->cell_blks),
			    sizeof(noise), noise);
	other.hash_key[3] ^= 1;
	sb_encode(&other, sb);
	simdev_poke(u->t->medium, LUNFS_SB_OFF, sizeof(sb), sb);
	simdev_poke(u->t->medium, sb_tail_off(g->dev_blks * LUNFS_BLOCK_BYTES), sizeof(sb), sb);
	for (uint64_t i = 1; i < g->groups; i++)
		if (sb_group_has_copy(i))
			simdev_poke(u->t->medium, geo_blk_off(geo_group_blk(g, i)), sizeof(sb), sb);
}

static void die_between(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
			struct simdev_fault *out)
{
	unsigned *n = ctx;

	(void)out;
	if (cmd->op == SIMDEV_CAW && cmd->off_bytes == LUNFS_MAINT_OFF && ++*n == SECOND_LOG)
		simdev_kill(d);
}

static void much_body(struct fu *u)
{
	struct simdev_snapshot *late;
	unsigned met = 0;

	make_late(u);
	late = simdev_snapshot(u->t->medium);
	for (unsigned locks = 200; locks < 250; locks += 3) {
		unsigned n = 0;

		simdev_roll_back(u->t->medium, late);
		damage_much(u, locks);
		simdev_set_hook(u->t->medium, die_between, &n);
		fu_fsck(u, MODE_YES);
		simdev_set_hook(u->t->medium, NULL, NULL);
		if (n < SECOND_LOG || u->rc == 0)
			continue;
		met++;
		check_clean_end(u, locks);
		check_late(u, locks);
	}
	print_message("%u times in two logs\n", met);
	assert_true(met > 3);
	simdev_snapshot_free(late);
}

static void no_name_is_lost_between_two_logs(void **s)
{
	(void)s;
	fu_run(much_body, 512);
}

/* ---- a log that cannot be read --------------------------------------------------------------- */

static bool die_with_log(struct fu *u, unsigned n, struct maint_info *mi)
{
	fu_restore(u);
	damage(u);
	fu_fsck_killed(u, n, false);
	return fu_log(u, mi);
}

/*
 * One block after another is lost, each with more of the log in place. What the dead run was just
 * writing is torn then, and nothing has it whole: where a directory is, its files lose their names.
 */
static void lost_body(struct fu *u)
{
	struct maint_info mi = {0};
	unsigned logs = 0;

	for (unsigned n = 1; n < COMMANDS_MAX && !(logs && !mi.flags); n++) {
		if (!die_with_log(u, n, &mi)) {
			mi.flags = 0;
			continue;
		}
		simdev_rot(u->t->medium, (mi.redo_blk + logs++ % mi.redo_blks) * LUNFS_BLOCK_BYTES,
			   512);
		fu_fsck(u, MODE_YES);
		assert_int_equal(u->log, -EUCLEAN);
		SC_CHECK(u->t, u->rc == 0 && u->left == 0, "killed at %u: no way on", n);
		fu_fsck(u, MODE_CHECK);
		SC_CHECK(u->t, u->rc == 0 && u->total == 0, "killed at %u: it is not clean", n);
		sc_up(u->t, 0);
		sc_down(u->t, 0);
	}
	assert_true(logs > 2);
}

static void log_that_the_medium_has_lost_holds_up_no_repair(void **s)
{
	(void)s;
	fu_run(lost_body, 512);
}

struct outage {
	struct maint_info mi;
	unsigned n, last; /* reads of the log; the last of them that fails */
	int error;
	bool all; /* nothing else can be read either, from the first of them on */
};

static void fail_log(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
		     struct simdev_fault *out)
{
	struct outage *o = ctx;
	uint64_t first = o->mi.redo_blk * LUNFS_BLOCK_BYTES,
		 end = first + o->mi.redo_blks * (uint64_t)LUNFS_BLOCK_BYTES;
	bool log = cmd->op == SIMDEV_READ && cmd->off_bytes >= first && cmd->off_bytes < end;

	(void)d;
	o->n += log;
	if ((log && o->n <= o->last) || (o->all && o->n && cmd->op == SIMDEV_READ))
		*out = (struct simdev_fault){.kind = SIMDEV_FAIL, .error = o->error};
}

static void finish_through(struct fu *u, struct outage *o)
{
	unsigned n = 1;

	while (!die_with_log(u, n, &o->mi))
		assert_true(++n < COMMANDS_MAX);
	simdev_set_hook(u->t->medium, fail_log, o);
	fu_fsck(u, MODE_YES);
	simdev_set_hook(u->t->medium, NULL, NULL);
	assert_true(o->n > 0);
}

static void expect_log_kept(struct fu *u, int error, bool all)
{
	struct outage o = {.last = COMMANDS_MAX, .error = error, .all = all};
	struct maint_info mi;

	finish_through(u, &o);
	assert_int_equal(u->log, error);
	assert_int_equal(u->rc, error);
	assert_true(fu_log(u, &mi));
	fu_fsck(u, MODE_YES);
	assert_int_equal(u->log, 1);
	assert_int_equal(u->rc, 0);
}

static void outage_body(struct fu *u)
{
	struct outage once = {.last = 1, .error = -EIO};

	expect_log_kept(u, -ENODEV, false);
	expect_log_kept(u, -ETIMEDOUT, false);
	expect_log_kept(u, -EIO, true);
	finish_through(u, &once);
	assert_int_equal(u->log, 1);
	assert_true(u->rc == 0 && u->left == 0);
}

static void log_is_not_given_up_where_the_device_is_gone(void **s)
{
	(void)s;
	fu_run(outage_body, 512);
}

/* The power cut has torn a sector of 4096 bytes, of which the log has but the payload. */
static void torn_body(struct fu *u)
{
	uint64_t at = geo_payload_off(&u->t->geo, u->id[FU_PLAIN].ino);
	struct maint_info mi;
	unsigned logs = 0;
	bool killed = true;

	for (unsigned n = 1; killed; n++) {
		struct lunfs_inode_pl pl;

		fu_restore(u);
		fu_get_inode(u, FU_PLAIN, &pl);
		pl.nlink = le32_make(5);
		fu_put(u, u->id[FU_PLAIN].ino, &pl);
		killed = fu_fsck_killed(u, n, false);
		if (!fu_log(u, &mi))
			continue;
		logs++;
		simdev_rot(u->t->medium, at, LUNFS_BLOCK_BYTES);
		check_clean_end(u, n);
		fu_verify(u, 0);
	}
	assert_true(logs > 1);
}

static void log_mends_what_a_power_cut_has_torn(void **s)
{
	(void)s;
	fu_run(torn_body, 4096);
}

/* ---- the device goes while it is read -------------------------------------------------------- */

struct reader {
	unsigned nth, n;
	int error;
};

static void fail_reads(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
		       struct simdev_fault *out)
{
	struct reader *r = ctx;

	(void)d;
	/* Only metadata: the claim looks elsewhere. */
	if (cmd->op == SIMDEV_READ && cmd->off_bytes >= 4ull << 20 && ++r->n >= r->nth)
		*out = (struct simdev_fault){.kind = SIMDEV_FAIL, .error = r->error};
}

static void gone_body(struct fu *u)
{
	bool met = true;

	for (unsigned n = 1; met; n++) {
		struct reader r = {.nth = n, .error = n % 2 ? -ENODEV : -ETIMEDOUT};

		fu_restore(u);
		simdev_set_hook(u->t->medium, fail_reads, &r);
		fu_fsck(u, MODE_YES);
		simdev_set_hook(u->t->medium, NULL, NULL);
		met = r.n >= n;
		assert_true(met == (u->rc != 0));
		assert_int_equal(u->total, 0);
		fu_fsck(u, MODE_CHECK);
		assert_int_equal(u->total, 0);
	}
}

static void device_that_goes_is_not_taken_for_a_damaged_one(void **s)
{
	(void)s;
	fu_run(gone_body, 512);
}

#define GONE_BLKS 8u /* of /plain */

/*
 * An inode is beyond repair, and its blocks are free after the first round; in the second one it
 * turns out that a leaf which was lost has a block of another file.
 */
static uint64_t damage_two_rounds(struct fu *u)
{
	struct lunfs_inode_pl pl, other;
	struct lunfs_bt_pl leaf;
	uint64_t cell = fu_child(u, FU_FRAGGED, 0), blk;

	fu_get_inode(u, FU_PLAIN, &pl);
	blk = le64_get(fu_extent(pl.data_fork, 0)->blk);
	memset((uint8_t *)&pl + sizeof(pl.hdr), 0xee, sizeof(pl) - sizeof(pl.hdr));
	fu_put(u, u->id[FU_PLAIN].ino, &pl);
	fu_get_inode(u, FU_OTHER, &other);
	fu_get(u, cell, &leaf);
	fu_extent(leaf.area, 0)->blk = fu_extent(other.data_fork, 0)->blk;
	fu_put(u, cell, &leaf);
	fu_get_inode(u, FU_FRAGGED, &pl);
	fu_head(pl.data_fork)->items = le16_make(0);
	fu_put(u, u->id[FU_FRAGGED].ino, &pl);
	return blk;
}

/* Until its log stands a repair has written nowhere but where nothing stood. */
static void untouched_body(struct fu *u)
{
	uint8_t was[GONE_BLKS * LUNFS_BLOCK_BYTES], is[sizeof(was)], buf[LUNFS_BLOCK_BYTES];
	struct maint_info mi = {0};
	unsigned before = 0;

	for (unsigned n = 1; n < COMMANDS_MAX && !mi.flags; n++) {
		uint64_t off;

		fu_restore(u);
		off = geo_blk_off(damage_two_rounds(u));
		simdev_peek(u->t->medium, off, sizeof(was), was);
		fu_fsck_killed(u, n, false);
		simdev_peek(u->t->medium, LUNFS_MAINT_OFF, sizeof(buf), buf);
		assert_int_equal(maint_decode(&u->t->geo, buf, &mi), 0);
		simdev_peek(u->t->medium, off, sizeof(is), is);
		SC_CHECK(u->t, memcmp(was, is, sizeof(is)) == 0,
			 "killed at %u: a file that is there still has other contents", n);
		before++;
	}
	assert_true(before > 3);
	fu_fsck(u, MODE_YES);
	assert_true(u->rc == 0 && u->left == 0 && u->count[PROBLEM_DOUBLE] > 0);
	assert_int_equal(u->count[PROBLEM_DOUBLE_LOST], 0);
}

static void copies_go_where_nothing_stood_before_the_repair(void **s)
{
	(void)s;
	fu_run(untouched_body, 512);
}

/* As a path that goes and comes back says it: all reads of some time fail like a lost sector's. */
static void fail_some(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
		      struct simdev_fault *out)
{
	struct reader *r = ctx;

	(void)d;
	if (cmd->op != SIMDEV_READ || (cmd->off_bytes < 4ull << 20 && r->n < r->nth))
		return;
	if (++r->n >= r->nth && r->n < r->nth + 20)
		*out = (struct simdev_fault){.kind = SIMDEV_FAIL, .error = r->error};
}

static void flap_body(struct fu *u)
{
	bool met = true;

	for (unsigned n = 1; met; n++) {
		struct reader r = {.nth = n, .error = -EIO};

		fu_restore(u);
		simdev_set_hook(u->t->medium, fail_some, &r);
		fu_fsck(u, MODE_YES);
		simdev_set_hook(u->t->medium, NULL, NULL);
		met = r.n >= n;
		SC_CHECK(u->t, u->total == 0, "from read %u on: %s", n, u->said);
		fu_fsck(u, MODE_YES); /* its claim may stand */
		SC_CHECK(u->t, u->rc == 0 && u->total == 0, "from read %u on: then %s", n, u->said);
	}
}

static void path_that_comes_back_is_not_taken_for_lost_sectors(void **s)
{
	(void)s;
	fu_run(flap_body, 512);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(killed_repair_is_finished_by_the_next_one),
	    cmocka_unit_test(repair_is_finished_after_a_power_cut),
	    cmocka_unit_test(log_leaves_the_claim_of_who_finishes_it_alone),
	    cmocka_unit_test(journal_that_was_given_up_is_never_replayed_beside_a_log),
	    cmocka_unit_test(log_that_the_medium_has_lost_holds_up_no_repair),
	    cmocka_unit_test(log_is_not_given_up_where_the_device_is_gone),
	    cmocka_unit_test(log_mends_what_a_power_cut_has_torn),
	    cmocka_unit_test(no_name_is_lost_between_two_logs),
	    cmocka_unit_test(copies_go_where_nothing_stood_before_the_repair),
	    cmocka_unit_test(path_that_comes_back_is_not_taken_for_lost_sectors),
	    cmocka_unit_test(device_that_goes_is_not_taken_for_a_damaged_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
