/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What devices answer, and what it means.
 */
#include <errno.h>
#include <lunfs/dev.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "dev/scsi.h"

static int sense(uint8_t key, uint8_t asc, uint8_t ascq)
{
	struct sbc_sense_key s = {key, asc, ascq};

	return sbc_outcome(0x02, &s);
}

static void every_answer_has_its_own_meaning(void **state)
{
	const struct sbc_sense_key none = {0};

	(void)state;
	assert_int_equal(sbc_outcome(0x00, &none), 0);
	assert_int_equal(sbc_outcome(0x08, &none), -EAGAIN);
	assert_int_equal(sbc_outcome(0x28, &none), -EAGAIN);
	assert_int_equal(sbc_outcome(0x18, &none), -EBADE);
	assert_int_equal(sbc_outcome(0x40, &none), -ETIMEDOUT);
	assert_int_equal(sense(0x1, 0, 0), 0);
	assert_int_equal(sense(0x2, 0x04, 0x0a), -EAGAIN);
	assert_int_equal(sense(0x2, 0x3a, 0x00), -ENODEV);
	assert_int_equal(sense(0x3, 0x11, 0x00), -EIO);
	assert_int_equal(sense(0x5, 0x20, 0x00), -EOPNOTSUPP);
	assert_int_equal(sense(0x5, 0x24, 0x00), -EINVAL);
	assert_int_equal(sense(0x6, 0x29, 0x00), -EAGAIN);
	assert_int_equal(sense(0x7, 0x27, 0x00), -EROFS);
	assert_int_equal(sense(0x7, 0x27, 0x07), -ENOSPC);
	assert_int_equal(sense(0xb, 0x00, 0x00), -ETIMEDOUT);
	assert_int_equal(sense(0xe, 0x1d, 0x00), DEV_CAW_MISCOMPARE);
}

/* How a command ends on which the device says CHECK CONDITION. */
static int fate(const uint8_t *cdb, uint8_t key, uint8_t asc, uint8_t ascq, enum dev_cause *cause)
{
	struct sbc_sense_key s = {key, asc, ascq};

	*cause = sbc_cause(0x02, &s);
	return sbc_fate(cdb, sbc_outcome(0x02, &s), &s, cause);
}

static void a_failed_compare_and_write_may_have_written(void **state)
{
	uint8_t caw[SBC_CDB_MAX], write[SBC_CDB_MAX];
	enum dev_cause cause;

	(void)state;
	sbc_cdb_caw(caw, 0, true);
	sbc_cdb_write16(write, 0, 1);
	assert_int_equal(fate(caw, 0x2, 0x08, 0x00, &cause), -ETIMEDOUT); /* LIO, its backend */
	assert_int_equal(cause, DEV_CAUSE_UNCLEAR);
	assert_int_equal(fate(caw, 0x3, 0x0c, 0x00, &cause), -ETIMEDOUT); /* write error */
	assert_int_equal(fate(caw, 0x4, 0x44, 0x00, &cause), -ETIMEDOUT);
	assert_int_equal(fate(caw, 0xe, 0x00, 0x00, &cause), -ETIMEDOUT);
	assert_int_equal(fate(caw, 0x3, 0x11, 0x04, &cause), -EIO); /* nothing to compare with */
	assert_int_equal(cause, DEV_CAUSE_NONE);
	assert_int_equal(fate(write, 0x4, 0x44, 0x00, &cause), -EIO);
	assert_int_equal(cause, DEV_CAUSE_NONE);
}

static void what_had_no_effect_or_compared_unequal_keeps_its_meaning(void **state)
{
	uint8_t caw[SBC_CDB_MAX];
	enum dev_cause cause;

	(void)state;
	sbc_cdb_caw(caw, 0, true);
	assert_int_equal(fate(caw, 0xe, 0x1d, 0x00, &cause), DEV_CAW_MISCOMPARE);
	assert_int_equal(fate(caw, 0x6, 0x29, 0x00, &cause), -EAGAIN);
	assert_int_equal(cause, DEV_CAUSE_UNIT_ATTENTION);
	assert_int_equal(fate(caw, 0x2, 0x04, 0x0a, &cause), -EAGAIN);
	assert_int_equal(fate(caw, 0x5, 0x20, 0x00, &cause), -EOPNOTSUPP);
	assert_int_equal(fate(caw, 0x5, 0x24, 0x00, &cause), -EINVAL);
	assert_int_equal(fate(caw, 0x7, 0x27, 0x00, &cause), -EROFS);
	assert_int_equal(fate(caw, 0xb, 0x00, 0x00, &cause), -ETIMEDOUT);
	assert_int_equal(cause, DEV_CAUSE_ABORTED);
}

/* An earlier command's failure is told in place of this one, which was not performed. */
static int deferred(uint8_t key, uint8_t asc)
{
	uint8_t fixed[18] = {[0] = 0x71, [2] = key, [12] = asc};
	uint8_t descriptor[8] = {0x73, key, asc};
	struct sbc_sense_key f = sbc_sense_decode(fixed, sizeof(fixed));
	struct sbc_sense_key d = sbc_sense_decode(descriptor, sizeof(descriptor));

	assert_int_equal(sbc_outcome(0x02, &f), sbc_outcome(0x02, &d));
	return sbc_outcome(0x02, &f);
}

static void a_check_condition_is_no_success_unless_this_command_recovered(void **state)
{
	uint8_t caw[SBC_CDB_MAX];
	enum dev_cause cause;

	(void)state;
	assert_int_equal(sense(0x1, 0x17, 0x00), 0);
	assert_int_equal(sense(0x0, 0x00, 0x00), -EIO);
	assert_int_equal(deferred(0x0, 0x00), -EAGAIN);
	assert_int_equal(deferred(0x1, 0x17), -EAGAIN);
	assert_int_equal(deferred(0x3, 0x0c), -EIO);
	assert_int_equal(deferred(0x6, 0x29), -EAGAIN);
	assert_int_equal(deferred(0xe, 0x1d), -EIO);
	sbc_cdb_caw(caw, 0, true);
	assert_int_equal(fate(caw, 0x0, 0x00, 0x00, &cause), -ETIMEDOUT);
}

static void both_sense_formats_are_read_and_rubbish_is_a_failure(void **state)
{
	uint8_t fixed[18] = {[0] = 0x70, [2] = 0x0e, [12] = 0x1d};
	uint8_t descriptor[8] = {0x72, 0x05, 0x24, 0x00};
	struct sbc_sense_key s;

	(void)state;
	s = sbc_sense_decode(fixed, sizeof(fixed));
	assert_int_equal(sbc_outcome(0x02, &s), DEV_CAW_MISCOMPARE);
	s = sbc_sense_decode(descriptor, sizeof(descriptor));
	assert_int_equal(sbc_outcome(0x02, &s), -EINVAL);
	s = sbc_sense_decode(fixed, 13);
	assert_int_equal(sbc_outcome(0x02, &s), -EIO);
	s = sbc_sense_decode(NULL, 0);
	assert_int_equal(sbc_outcome(0x02, &s), -EIO);
}

static void compare_and_write_names_one_sector(void **state)
{
	uint8_t cdb[SBC_CDB_MAX];
	const uint8_t want[16] = {0x89, 0x08, 0, 0, 0, 0x12, 0x34, 0x56,
				  0x78, 0x9a, 0, 0, 0, 1,    0,	   0};

	(void)state;
	assert_int_equal(sbc_cdb_caw(cdb, 0x123456789aull, true), 16);
	assert_memory_equal(cdb, want, 16);
	sbc_cdb_caw(cdb, 0, false);
	assert_int_equal(cdb[1], 0);
}

static void a_capacity_that_cannot_be_is_refused(void **state)
{
	uint8_t d[32] = {[7] = 0xff, [10] = 0x02, [13] = 0x03, [14] = 0x80};
	struct sbc_capacity c;

	(void)state;
	assert_true(sbc_capacity_decode(d, sizeof(d), &c));
	assert_int_equal(c.size_bytes, 256 * 512);
	assert_int_equal(c.phys_bytes, 4096);
	assert_true(c.thin);
	assert_false(sbc_capacity_decode(d, 15, &c));
	d[10] = 0x04; /* sectors of 1024 bytes */
	assert_false(sbc_capacity_decode(d, sizeof(d), &c));
	d[10] = 0x02;
	memset(d, 0xff, 8);
	assert_false(sbc_capacity_decode(d, sizeof(d), &c));
}

static void the_units_own_best_designator_is_taken(void **state)
{
	uint8_t page[64] = {0, 0x83, 0, 40};
	uint8_t out[64];
	const uint8_t t10[] = {2, 1, 0, 4, 'A', 'B', 'C', 'D'};
	const uint8_t port_naa[] = {1, 0x13, 0, 8, 9, 9, 9, 9, 9, 9, 9, 9};
	const uint8_t unit_naa[] = {1, 3, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8};

	(void)state;
	memcpy(page + 4, t10, 8);
	memcpy(page + 12, port_naa, 12);
	memcpy(page + 24, unit_naa, 12);
	sbc_designator(page, sizeof(page), out, sizeof(out));
	assert_memory_equal(out, unit_naa, 12);
	assert_int_equal(out[12], 0);
	sbc_designator(page, 30, out, sizeof(out)); /* cut short in the middle of the best */
	assert_memory_equal(out, t10, 8);
	page[7] = 0xff; /* the first claims to reach beyond the page */
	sbc_designator(page, sizeof(page), out, sizeof(out));
	assert_int_equal(out[1], 0);
}

static void the_product_is_one_printable_line(void **state)
{
	uint8_t inq[36] = {0};
	char out[64];

	(void)state;
	memcpy(inq + 8, "LIO-ORG disk\x01           4.0 ", 28);
	sbc_product(inq, sizeof(inq), out, sizeof(out));
	assert_string_equal(out, "LIO-ORG disk? 4.0");
	sbc_product(inq, 35, out, sizeof(out));
	assert_string_equal(out, "");
}

static void limits_of_a_short_page_are_not_made_up(void **state)
{
	uint8_t page[64] = {0,	  0xb0, 0,	  60, 0, 1, 0, 0, 0, 0,
			    0x40, 0,	[20] = 0, 0,  1, 0, 0, 0, 0, 1};
	struct sbc_limits l;

	(void)state;
	sbc_limits_decode(page, sizeof(page), &l);
	assert_int_equal(l.max_caw, 1);
	assert_int_equal(l.max_xfer, 0x4000);
	assert_int_equal(l.max_unmap, 256);
	sbc_limits_decode(page, 16, &l);
	assert_int_equal(l.max_xfer, 0x4000);
	assert_int_equal(l.max_unmap, 0);
	sbc_limits_decode(page, 12, &l);
	assert_int_equal(l.max_xfer, 0);
}

static enum dev_cause check_cause(uint8_t key, uint8_t asc, uint8_t ascq)
{
	struct sbc_sense_key s = {key, asc, ascq};

	return sbc_cause(0x02, &s);
}

static void answers_of_one_errno_have_causes_of_their_own(void **state)
{
	struct sbc_sense_key none = {0};

	(void)state;
	assert_int_equal(sbc_cause(0x28, &none), DEV_CAUSE_TASK_SET_FULL);
	assert_int_equal(sbc_cause(0x08, &none), DEV_CAUSE_NONE);
	assert_int_equal(sbc_cause(0x40, &none), DEV_CAUSE_ABORTED);
	assert_int_equal(check_cause(0x6, 0x29, 0), DEV_CAUSE_UNIT_ATTENTION);
	assert_int_equal(check_cause(0x2, 0x04, 0x0a), DEV_CAUSE_NOT_READY);
	assert_int_equal(check_cause(0x2, 0x3a, 0), DEV_CAUSE_NONE);
	assert_int_equal(check_cause(0xb, 0x47, 0), DEV_CAUSE_ABORTED);
	assert_int_equal(check_cause(0x5, 0x24, 0), DEV_CAUSE_TRANSFER);
	assert_int_equal(check_cause(0x5, 0x20, 0), DEV_CAUSE_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_answer_has_its_own_meaning),
	    cmocka_unit_test(a_failed_compare_and_write_may_have_written),
	    cmocka_unit_test(what_had_no_effect_or_compared_unequal_keeps_its_meaning),
	    cmocka_unit_test(a_check_condition_is_no_success_unless_this_command_recovered),
	    cmocka_unit_test(both_sense_formats_are_read_and_rubbish_is_a_failure),
	    cmocka_unit_test(compare_and_write_names_one_sector),
	    cmocka_unit_test(a_capacity_that_cannot_be_is_refused),
	    cmocka_unit_test(the_units_own_best_designator_is_taken),
	    cmocka_unit_test(the_product_is_one_printable_line),
	    cmocka_unit_test(answers_of_one_errno_have_causes_of_their_own),
	    cmocka_unit_test(limits_of_a_short_page_are_not_made_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
