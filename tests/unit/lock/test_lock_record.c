/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lock records and board sectors as bytes: what is refused, and what each step writes. */
#include "fixture.h"

#include "base/bitmap.h"
#include "base/crc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ADDR 4200ull
#define ME LUNFS_OWNER(7, 1)
#define YOU LUNFS_OWNER(9, 2)

static const struct rec_me me = {.owner = ME};

static struct geo small_geo(void)
{
	struct geo g = {.sector_bytes = 512, .cell_blks = 1, .payload_off = 512, .slots = 8};

	g.group0_blk = 4096;
	g.group_blks = 4096;
	g.groups = 1;
	g.end_blk = 8192;
	g.bitmap_cells = 1;
	g.board_row_bytes = 8192;
	return g;
}

static int decode(const struct geo *g, struct lunfs_lock_rec *r)
{
	struct lunfs_lock_rec out;

	crc_seal(r, sizeof(*r), offsetof(struct lunfs_ats_hdr, crc));
	return lock_rec_decode(g, r, ADDR, &out);
}

static void damaged_records_are_refused(void **state)
{
	struct geo g = small_geo();
	uint8_t *buf = dev_buf_alloc(4096);
	struct lunfs_lock_rec good, r;

	(void)state;
	lock_format(&g, ADDR, 5, buf);
	memcpy(&good, buf, sizeof(good));
	assert_int_equal(lock_rec_decode(&g, buf, ADDR, &r), 0);
	assert_int_equal(lock_rec_decode(&g, buf, ADDR + 1, &r), -EUCLEAN);
	buf[0x50] ^= 1;
	assert_int_equal(lock_rec_decode(&g, buf, ADDR, &r), -EUCLEAN);
	r = good;
	r.mode = le16_make(4);
	assert_int_equal(decode(&g, &r), -EUCLEAN);
	r = good;
	r.mode = le16_make(LUNFS_LOCK_EXCL); /* by nobody */
	assert_int_equal(decode(&g, &r), -EUCLEAN);
	r.owner = le64_make(LUNFS_OWNER(1, 77)); /* no such slot */
	assert_int_equal(decode(&g, &r), -EUCLEAN);
	r.owner = le64_make(ME);
	assert_int_equal(decode(&g, &r), 0);
	r = good;
	r.owner = le64_make(ME); /* free, yet owned */
	assert_int_equal(decode(&g, &r), -EUCLEAN);
	r = good;
	r.reserved1[3] = 1;
	assert_int_equal(decode(&g, &r), -EUCLEAN);
	r = good;
	r.entry[20] = le16_make(1);
	assert_int_equal(decode(&g, &r), -EUCLEAN);
	free(buf);
}

static struct lunfs_lock_rec shared_by(uint64_t a, uint64_t b)
{
	struct lunfs_lock_rec r;

	memset(&r, 0, sizeof(r));
	r.mode = le16_make(LUNFS_LOCK_SHARED);
	r.possession_seq = le64_make(3);
	rec_add_sharer(&r, a);
	rec_add_sharer(&r, b);
	return r;
}

static void possession_begins_only_with_an_exclusive_holding(void **state)
{
	struct lunfs_lock_rec r = shared_by(YOU, ME);

	(void)state;
	rec_join_sh(&r, &me);
	assert_int_equal(le64_get(r.possession_seq), 3);
	rec_leave(&r, &me);
	assert_int_equal(le64_get(r.possession_seq), 3);
	rec_take_ex(&r, &me);
	assert_int_equal(le64_get(r.possession_seq), 4);
	rec_downgrade(&r, &me, true);
	assert_int_equal(le64_get(r.possession_seq), 4);
	rec_take_ex(&r, &me);
	rec_grant_ex(&r, &me, YOU);
	assert_int_equal(le64_get(r.possession_seq), 6);
	assert_int_equal(rec_holds(&r, YOU), LOCK_EX);
	assert_int_equal(rec_holds(&r, ME), LOCK_NONE);
}

static void exclusive_holder_leaves_no_shared_entry(void **state)
{
	struct lunfs_lock_rec r = shared_by(YOU, ME);

	(void)state;
	rec_take_ex(&r, &me);
	for (unsigned i = 0; i < LUNFS_MAX_SLOTS; i++)
		assert_int_equal(le16_get(r.entry[i]), 0);
	r = shared_by(YOU, ME);
	rec_leave(&r, &me);
	assert_int_equal(le16_get(r.mode), LUNFS_LOCK_SHARED);
	assert_int_equal(rec_holds(&r, YOU), LOCK_SH);
	r = shared_by(ME, ME);
	rec_leave(&r, &me);
	assert_int_equal(le16_get(r.mode), LUNFS_LOCK_FREE);
}

static void open_entries_of_others_survive_every_step(void **state)
{
	struct rec_me open = {.owner = ME, .open = true};
	struct lunfs_lock_rec r = shared_by(YOU, ME);
	uint16_t theirs = LUNFS_ENT_OPEN | 9, ours = LUNFS_ENT_OPEN | 7;

	(void)state;
	r.entry[2] = le16_make((uint16_t)(theirs | LUNFS_ENT_SHARED));
	rec_take_ex(&r, &open);
	assert_int_equal(le16_get(r.entry[2]), theirs);
	assert_int_equal(le16_get(r.entry[1]), ours);
	rec_downgrade(&r, &open, true);
	assert_int_equal(le16_get(r.entry[1]), ours | LUNFS_ENT_SHARED);
	rec_add_sharer(&r, YOU);
	assert_int_equal(le16_get(r.entry[2]), theirs | LUNFS_ENT_SHARED);
	rec_leave(&r, &me); /* closed meanwhile */
	assert_int_equal(le16_get(r.entry[1]), 0);
	rec_add_sharer(&r, LUNFS_OWNER(10, 2)); /* a later host in that slot */
	assert_int_equal(le16_get(r.entry[2]), LUNFS_ENT_SHARED | 10);
}

static void version_is_recorded_by_an_exclusive_holder_only_and_never_falls(void **state)
{
	struct rec_me v9 = {.owner = ME, .version = 9}, v5 = {.owner = ME, .version = 5};
	struct lunfs_lock_rec r = shared_by(YOU, ME);

	(void)state;
	rec_leave(&r, &v9);
	assert_int_equal(le64_get(r.payload_version), 0);
	rec_take_ex(&r, &me);
	rec_leave(&r, &v9);
	assert_int_equal(le64_get(r.payload_version), 9);
	rec_take_ex(&r, &me);
	rec_grant_ex(&r, &v5, YOU);
	assert_int_equal(le64_get(r.payload_version), 9);
}

static void pending_and_waiting_end_when_the_lock_is_got(void **state)
{
	struct lunfs_lock_rec r = shared_by(YOU, ME);

	(void)state;
	r.ex_pending = le64_make(ME);
	bit_set(r.waiters, 1);
	bit_set(r.waiters, 3);
	rec_take_ex(&r, &me);
	assert_int_equal(le64_get(r.ex_pending), 0);
	assert_false(rec_waits(&r, 1));
	assert_true(rec_waits(&r, 3));
}

static int check_board(const struct geo *g, struct lunfs_board_sec b)
{
	uint8_t *buf = dev_buf_alloc(4096);
	struct lunfs_board_sec out;
	int rc;

	board_encode(g, &b, buf);
	rc = board_decode(g, buf, 1, 2, &out);
	if (!rc) {
		buf[0x90] ^= 0x10;
		assert_int_equal(board_decode(g, buf, 1, 2, &out), -EUCLEAN);
	}
	free(buf);
	return rc;
}

static void hostile_board_sectors_hold_no_wishes(void **state)
{
	struct geo g = small_geo();
	struct lunfs_board_sec good, b;

	(void)state;
	memset(&good, 0, sizeof(good));
	good.row = le16_make(1);
	good.column = le16_make(2);
	good.asker = le64_make(YOU);
	good.asked = le64_make(ME);
	good.wishes = le16_make(1);
	good.wish[0].addr = le64_make(ADDR);
	good.wish[0].mode = le16_make(LUNFS_LOCK_SHARED);
	good.wish[0].cells = le32_make(1);
	assert_int_equal(check_board(&g, good), 0);
	b = good;
	b.wishes = le16_make(17);
	assert_int_equal(check_board(&g, b), -EUCLEAN);
	b = good;
	b.asker = le64_make(ME); /* not that column's */
	assert_int_equal(check_board(&g, b), -EUCLEAN);
	b = good;
	b.row = le16_make(3);
	assert_int_equal(check_board(&g, b), -EUCLEAN);
	b = good;
	b.wish[0].addr = le64_make(1ull << 60);
	assert_int_equal(check_board(&g, b), -EUCLEAN);
	b = good;
	b.wish[0].mode = le16_make(LUNFS_LOCK_FREE);
	assert_int_equal(check_board(&g, b), -EUCLEAN);
	b = good;
	b.wish[0].cells = le32_make(0);
	assert_int_equal(check_board(&g, b), -EUCLEAN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(damaged_records_are_refused),
	    cmocka_unit_test(possession_begins_only_with_an_exclusive_holding),
	    cmocka_unit_test(exclusive_holder_leaves_no_shared_entry),
	    cmocka_unit_test(open_entries_of_others_survive_every_step),
	    cmocka_unit_test(version_is_recorded_by_an_exclusive_holder_only_and_never_falls),
	    cmocka_unit_test(pending_and_waiting_end_when_the_lock_is_got),
	    cmocka_unit_test(hostile_board_sectors_hold_no_wishes),
	};

	return cmocka_run_group_tests_name("lock-record", tests, NULL, NULL);
}
