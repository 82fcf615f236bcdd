/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What libiscsi says of a task that has ended, and what that means for the command.
 */
#include <errno.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <lunfs/dev.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "dev/iscsi.h"

#define SECTOR 512u

static struct iscsi_cmd caw_cmd(void)
{
	struct iscsi_cmd c = {.dir = ISCSI_OUT, .len_bytes = 2 * SECTOR};

	c.cdb_len = sbc_cdb_caw(c.cdb, 8, true);
	return c;
}

static struct iscsi_cmd write_cmd(void)
{
	struct iscsi_cmd c = {.dir = ISCSI_OUT, .len_bytes = SECTOR};

	c.cdb_len = sbc_cdb_write16(c.cdb, 8, 1);
	return c;
}

static int judge(struct iscsi_cmd *c, const struct scsi_task *t, int status)
{
	return iscsi_cmd_judge(c, t, status, UINT64_MAX);
}

/* It took less than was sent: of one half, or of both? */
static void a_compare_and_write_that_took_too_little_is_of_unknown_fate(void **state)
{
	struct scsi_task t = {.residual_status = SCSI_RESIDUAL_UNDERFLOW, .residual = SECTOR};
	struct iscsi_cmd c = caw_cmd(), w = write_cmd();

	(void)state;
	assert_int_equal(judge(&c, &t, SCSI_STATUS_GOOD), -ETIMEDOUT);
	assert_int_equal(c.cause, DEV_CAUSE_UNCLEAR);
	assert_int_equal(judge(&w, &t, SCSI_STATUS_GOOD), -EIO);
	t.residual_status = SCSI_RESIDUAL_NO_RESIDUAL;
	c = caw_cmd();
	assert_int_equal(judge(&c, &t, SCSI_STATUS_GOOD), DEV_CAW_GOOD);
}

/* What a CHECK CONDITION whose data segment is the first @len bytes of @seg makes of @c. */
static int checked(struct iscsi_cmd c, const uint8_t *seg, int len)
{
	uint8_t copy[32];
	struct scsi_task t = {.datain = {.size = len, .data = len ? copy : NULL}};

	memcpy(copy, seg, (size_t)len);
	return judge(&c, &t, SCSI_STATUS_CHECK_CONDITION);
}

static void a_check_condition_without_usable_sense_is_no_success(void **state)
{
	uint8_t seg[20] = {0, 18, 0x70, [4] = 0x0e, [14] = 0x1d};

	(void)state;
	assert_int_equal(checked(caw_cmd(), seg, 20), DEV_CAW_MISCOMPARE);
	assert_int_equal(checked(caw_cmd(), seg, 0), -ETIMEDOUT);
	assert_int_equal(checked(caw_cmd(), seg, 1), -ETIMEDOUT);
	assert_int_equal(checked(caw_cmd(), seg, 10), -ETIMEDOUT);
	assert_int_equal(checked(write_cmd(), seg, 0), -EIO);
	seg[1] = 0; /* no sense data, whatever follows */
	assert_int_equal(checked(caw_cmd(), seg, 20), -ETIMEDOUT);
	seg[1] = 18;
	seg[2] = 0x7f; /* of a vendor's own format */
	assert_int_equal(checked(caw_cmd(), seg, 20), -ETIMEDOUT);
	assert_int_equal(checked(write_cmd(), seg, 20), -EIO);
}

static void deferred_sense_data_say_nothing_of_this_command(void **state)
{
	uint8_t seg[20] = {0, 18, 0x71, [4] = 0x01, [14] = 0x17};

	(void)state;
	assert_int_equal(checked(write_cmd(), seg, 20), -EAGAIN);
	assert_int_equal(checked(caw_cmd(), seg, 20), -EAGAIN);
	seg[2] = 0x70;
	assert_int_equal(checked(write_cmd(), seg, 20), 0);
}

/* What another of its commands says is no leave to give its blocks to somebody else. */
static void a_transfer_of_several_commands_may_land_while_one_of_them_may(void **state)
{
	static const int others[] = {0, -EIO, -ENOSPC, -EBADE};
	struct iscsi_cmd c[2];

	(void)state;
	for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		for (unsigned late = 0; late < 2; late++) {
			c[late] = c[!late] = write_cmd();
			c[late].result = -ETIMEDOUT;
			c[!late].result = others[i];
			assert_int_equal(iscsi_cmds_outcome(c, 2), -ETIMEDOUT);
		}
		c[0].result = others[i];
		c[1].result = 0;
		assert_int_equal(iscsi_cmds_outcome(c, 2), others[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_compare_and_write_that_took_too_little_is_of_unknown_fate),
	    cmocka_unit_test(a_check_condition_without_usable_sense_is_no_success),
	    cmocka_unit_test(deferred_sense_data_say_nothing_of_this_command),
	    cmocka_unit_test(a_transfer_of_several_commands_may_land_while_one_of_them_may),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
