/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Undo files: what is put back, beside whom, and after what it is refused. */
#include "unit.h"
#include <stdio.h>
#include <string.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_is_put_back_leaves_its_own_claim_alone),
	};

	snprintf(path, sizeof(path), "/dev/shm/lunfs-test-undo.%d", (int)getpid());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
