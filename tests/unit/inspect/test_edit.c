/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The language of edits in which recipes damage volumes. */
#include "unit.h"

#include "base/log.h"
#include "edit.h"

#include <stdio.h>
#include <string.h>

static char why[512];

static void edit(const struct insp *in, const char *line)
{
	if (edit_apply(in, line, why, sizeof(why)))
		fail_msg("%s: %s", line, why);
}

static void load(const struct insp *in, const char *what, struct insp_place *p, uint8_t *buf)
{
	if (insp_find(in, what, p, why, sizeof(why)))
		fail_msg("%s: %s", what, why);
	assert_int_equal(insp_read(in, p->off_bytes, p->len_bytes, buf), 0);
}

static bool sealed(const struct insp *in, const char *what)
{
	uint8_t buf[LUNFS_BLOCK_BYTES];
	struct insp_place p;

	load(in, what, &p, buf);
	return insp_seal_ok(&p, buf);
}

static uint64_t value(const struct insp *in, const char *what, const char *name)
{
	uint8_t buf[LUNFS_BLOCK_BYTES];
	struct insp_place p;
	struct insp_ref r;

	load(in, what, &p, buf);
	assert_int_equal(insp_field_find(&p, name, &r), 0);
	return insp_get(&r, buf);
}

static void fields_body(struct simcluster *t)
{
	struct insp in = insp_of(t);
	uint64_t free_blks;

	t->no_fsck = true;
	use_volume(t);
	sc_down(t, 0);
	free_blks = value(&in, "group:0", "free_blks");
	edit(&in, "inode:/f.nlink=7");
	assert_int_equal(value(&in, "inode:/f", "nlink"), 7);
	edit(&in, "group:0.free_blks += 3");
	assert_int_equal(value(&in, "group:0", "free_blks"), free_blks + 3);
	edit(&in, "inode:/f.mtime_s=-1");
	assert_int_equal(value(&in, "inode:/f", "mtime_s"), UINT64_MAX);
	edit(&in, "slot:1.state=LIVE");
	assert_int_equal(value(&in, "slot:1", "state"), LUNFS_SLOT_LIVE);
	edit(&in, "inode:/f.flags=ORPHAN|ORPHAN_DIR");
	assert_int_equal(value(&in, "inode:/f", "flags"), 3);
	edit(&in, "dirent:/d.ino=inode:/f");
	assert_int_equal(value(&in, "dirent:/d", "ino"), value(&in, "inode:/f", "addr"));
	edit(&in, "slot:1.generation=superblock.groups");
	assert_int_equal(value(&in, "slot:1", "generation"), t->geo.groups);
	edit(&in, "bitmap:0,0.bits[1234]^=1");
	edit(&in, "slot:0.hostname=\"a name\"");
	assert_int_equal(value(&in, "slot:0", "hostname[6]"), 0);
	edit(&in, "dirent:/small.name=hex:2f6161");
	assert_int_equal(value(&in, "inode:/f", "crc"), value(&in, "inode:/f", "hdr.crc"));
	assert_true(sealed(&in, "inode:/f") && sealed(&in, "group:0") && sealed(&in, "slot:1") &&
		    sealed(&in, "inode:/") && sealed(&in, "bitmap:0,0") && sealed(&in, "slot:0"));
}

static void edits_set_fields_and_checksums_stay_right(void **s)
{
	(void)s;
	sc_run(fields_body, NULL);
	sc_run(fields_body, &(struct sc_shape){.sector_bytes = 4096});
}

static void damage_body(struct simcluster *t)
{
	struct insp in = insp_of(t);
	uint8_t a[LUNFS_BLOCK_BYTES], b[LUNFS_BLOCK_BYTES];
	struct insp_place p;

	t->no_fsck = true;
	use_volume(t);
	sc_down(t, 0);
	edit(&in, "inode:/f.crc^=1");
	edit(&in, "nocrc inode:/small.uid=5");
	assert_false(sealed(&in, "inode:/f") || sealed(&in, "inode:/small"));
	edit(&in, "seal inode:/small");
	assert_true(sealed(&in, "inode:/small"));
	edit(&in, "copy lock:inode:/f lock:inode:/small");
	load(&in, "lock:inode:/f", &p, a);
	load(&in, "lock:inode:/small", &p, b);
	assert_memory_equal(a, b, p.len_bytes);
	edit(&in, "random slot:1 42");
	load(&in, "slot:1", &p, a);
	edit(&in, "zero slot:1");
	load(&in, "slot:1", &p, b);
	assert_memory_not_equal(a, b, p.len_bytes);
	edit(&in, "random slot:1 42");
	load(&in, "slot:1", &p, b);
	assert_memory_equal(a, b, p.len_bytes); /* the same seed is the same noise */
	edit(&in, "superblock:*.lease_ms+=1");
	for (unsigned i = 0; i < 2; i++) {
		char name[32];

		snprintf(name, sizeof(name), "superblock:%u", i);
		assert_int_equal(value(&in, name, "lease_ms"), t->geo.lease_ms + 1);
		assert_true(sealed(&in, name));
	}
	edit(&in, "zero dirent:/d/name-0001");
	assert_int_equal(insp_find(&in, "dirent:/d/name-0001", &p, why, sizeof(why)), -ENOENT);
	load(&in, "dirent:/d/name-0002", &p, a); /* the rest of its leaf is as it was */
}

static void structures_are_copied_zeroed_and_filled_with_noise(void **s)
{
	(void)s;
	sc_run(damage_body, NULL);
}

static void refused_body(struct simcluster *t)
{
	static const char *const bad[] = {
	    "",
	    "inode:/f",
	    "inode:/f.nosuch=1",
	    "inode:/f.nlink",
	    "inode:/f.nlink=x",
	    "inode:/f.nlink=\"longer than it is\"",
	    "inode:/nosuch.nlink=1",
	    "inode:/f.vol_id=7",
	    "inode:/f.vol_id=hex:0",
	    "inode:/f.vol_id+=hex:00",
	    "slot:1.state=DEAD",
	    "zero",
	    "zero nosuch",
	    "copy slot:0",
	    "copy slot:0 inode:/f",
	    "random slot:0 x",
	    "dirent:/d.ino=dirent:/f",
	    "nocrc",
	};
	struct insp in = insp_of(t);
	uint8_t before[LUNFS_BLOCK_BYTES], after[LUNFS_BLOCK_BYTES];
	struct insp_place p;

	use_volume(t);
	sc_down(t, 0);
	load(&in, "inode:/f", &p, before);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (edit_apply(&in, bad[i], why, sizeof(why)) == 0)
			fail_msg("'%s' was carried out", bad[i]);
	load(&in, "inode:/f", &p, after);
	assert_memory_equal(before, after, p.len_bytes);
}

static void an_edit_that_makes_no_sense_changes_nothing(void **s)
{
	(void)s;
	sc_run(refused_body, NULL);
}

/* ---- journals -------------------------------------------------------------------------------- */

static void journal_body(struct simcluster *t)
{
	struct insp in = insp_of(t);
	struct insp_txn x;
	unsigned n = 0;

	t->no_fsck = true;
	use_volume(t);
	sc_kill(t, 0);
	while (insp_journal_txn(&in, 0, n, &x) == 0 && x.valid)
		n++;
	assert_true(n > 0);
	edit(&in, "journal:0:0:image:0.version+=1000");
	assert_int_equal(insp_journal_txn(&in, 0, 0, &x), 0);
	assert_true(x.valid);
	edit(&in, "journal:0:0.entry[0].version+=1000");
	edit(&in, "journal:0:0:desc:0.entry[0].kind=REVOKE");
	assert_int_equal(insp_journal_txn(&in, 0, 0, &x), 0);
	assert_true(x.valid && sealed(&in, "journal:0:0"));
	edit(&in, "nocrc journal:0:0:image:0.version+=1");
	assert_int_equal(insp_journal_txn(&in, 0, 0, &x), 0);
	assert_false(x.valid);
	edit(&in, "seal journal:0:0:image:0");
	edit(&in, "journal:0:0:commit.body_crc^=1");
	assert_int_equal(insp_journal_txn(&in, 0, 0, &x), 0);
	assert_true(!x.valid && sealed(&in, "journal:0:0:commit"));
}

static void edits_inside_a_transaction_leave_it_valid(void **s)
{
	(void)s;
	sc_run(journal_body, NULL);
	sc_run(journal_body, &(struct sc_shape){.sector_bytes = 4096});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(edits_set_fields_and_checksums_stay_right),
	    cmocka_unit_test(structures_are_copied_zeroed_and_filled_with_noise),
	    cmocka_unit_test(an_edit_that_makes_no_sense_changes_nothing),
	    cmocka_unit_test(edits_inside_a_transaction_leave_it_valid),
	};

	log_open("test", LOG_LVL_ERR, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
