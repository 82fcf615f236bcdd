/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel's pass-through brings back, and what the sg backend makes of it. The functions of
 * libsgutils2 that send and tell are replaced by those here.
 */
#include <errno.h>
#include <lunfs/dev.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>
#include <scsi/sg_pt.h>

#include "dev/sg_impl.h"

static struct { /* the answer to the next command */
	int errnum; /* of the call that sends it; 0: there was an answer */
	int status, host, category;
	uint8_t sense[18];
	int sense_len;
	uint8_t *room; /* where the backend wants the sense data */
} answer;

void set_scsi_pt_sense(struct sg_pt_base *pt, uint8_t *sense, int len)
{
	(void)pt;
	assert_true(len >= (int)sizeof(answer.sense));
	answer.room = sense;
}

int do_scsi_pt(struct sg_pt_base *pt, int fd, int timeout_s, int verbose)
{
	(void)pt;
	(void)fd;
	(void)verbose;
	assert_true(timeout_s > 0);
	memcpy(answer.room, answer.sense, (size_t)answer.sense_len);
	return -answer.errnum;
}

int get_scsi_pt_os_err(const struct sg_pt_base *pt)
{
	(void)pt;
	return answer.errnum;
}

int get_scsi_pt_status_response(const struct sg_pt_base *pt)
{
	(void)pt;
	return answer.status;
}

int get_scsi_pt_transport_err(const struct sg_pt_base *pt)
{
	(void)pt;
	return answer.host;
}

int get_scsi_pt_sense_len(const struct sg_pt_base *pt)
{
	(void)pt;
	return answer.sense_len;
}

int get_scsi_pt_result_category(const struct sg_pt_base *pt)
{
	(void)pt;
	return answer.category;
}

/* The device ends a command with CHECK CONDITION and @len bytes of fixed-format sense data. */
static void check_condition(uint8_t format, uint8_t key, uint8_t asc, int len)
{
	memset(&answer, 0, sizeof(answer));
	answer.status = 0x02;
	answer.category = SCSI_PT_RESULT_SENSE;
	answer.sense[0] = format;
	answer.sense[2] = key;
	answer.sense[12] = asc;
	answer.sense_len = len;
}

static int send_caw(enum dev_cause *cause)
{
	static const uint8_t both[1024];
	struct sg_dev s = {.sg_fd = -1};
	struct sg_cmd c = {.out = both, .out_len = sizeof(both)};
	int rc;

	c.cdb_len = sbc_cdb_caw(c.cdb, 8, true);
	rc = sg_send_by(&s, -1, &c);
	*cause = c.cause;
	return rc;
}

static int send_sync(void)
{
	struct sg_dev s = {.sg_fd = -1};
	struct sg_cmd c = {0};

	c.cdb_len = sbc_cdb_sync16(c.cdb);
	return sg_send_by(&s, -1, &c);
}

static void a_failed_compare_and_write_is_of_unknown_fate(void **state)
{
	enum dev_cause cause;

	(void)state;
	check_condition(0x70, 0x2, 0x08, 18);
	assert_int_equal(send_caw(&cause), -ETIMEDOUT);
	assert_int_equal(cause, DEV_CAUSE_UNCLEAR);
	assert_int_equal(send_sync(), -EIO);
	check_condition(0x70, 0x4, 0x44, 18);
	answer.host = 0x10; /* an older kernel's own words beside those of the device */
	answer.category = SCSI_PT_RESULT_TRANSPORT_ERR;
	assert_int_equal(send_caw(&cause), -ETIMEDOUT);
	assert_int_equal(cause, DEV_CAUSE_UNCLEAR);
	check_condition(0x70, 0x3, 0x11, 18);
	assert_int_equal(send_caw(&cause), -EIO);
	check_condition(0x70, 0xe, 0x1d, 18);
	assert_int_equal(send_caw(&cause), DEV_CAW_MISCOMPARE);
}

static void a_check_condition_without_usable_sense_is_no_success(void **state)
{
	enum dev_cause cause;

	(void)state;
	check_condition(0, 0, 0, 0);
	assert_int_equal(send_caw(&cause), -ETIMEDOUT);
	assert_int_equal(cause, DEV_CAUSE_UNCLEAR);
	assert_int_equal(send_sync(), -EIO);
	answer.host = 0x10;
	answer.category = SCSI_PT_RESULT_TRANSPORT_ERR;
	assert_int_equal(send_sync(), -EIO);
	check_condition(0x70, 0x0, 0x00, 18);
	assert_int_equal(send_caw(&cause), -ETIMEDOUT);
	assert_int_equal(send_sync(), -EIO);
	check_condition(0x71, 0x1, 0x17, 18);
	assert_int_equal(send_caw(&cause), -EAGAIN);
	check_condition(0x70, 0x1, 0x17, 18);
	assert_int_equal(send_caw(&cause), DEV_CAW_GOOD);
}

static int send_test_unit_ready(void)
{
	struct sg_dev s = {.sg_fd = -1};
	struct sg_cmd c = {0};

	c.cdb_len = sbc_cdb_test_unit_ready(c.cdb);
	return sg_send_by(&s, -1, &c);
}

static void a_change_that_was_under_way_when_the_device_went_is_of_unknown_fate(void **state)
{
	enum dev_cause cause;

	(void)state;
	memset(&answer, 0, sizeof(answer));
	answer.host = 0x04; /* DID_BAD_TARGET */
	answer.category = SCSI_PT_RESULT_TRANSPORT_ERR;
	assert_int_equal(send_caw(&cause), -ETIMEDOUT);
	assert_int_equal(cause, DEV_CAUSE_TRANSPORT);
	assert_int_equal(send_test_unit_ready(), -ENODEV);
	answer.host = 0x01; /* DID_NO_CONNECT */
	assert_int_equal(send_caw(&cause), -ETIMEDOUT);
	assert_int_equal(cause, DEV_CAUSE_TRANSPORT);
	memset(&answer, 0, sizeof(answer));
	answer.errnum = ENODEV;
	assert_int_equal(send_caw(&cause), -ETIMEDOUT);
	assert_int_equal(cause, DEV_CAUSE_TRANSPORT);
	assert_int_equal(send_test_unit_ready(), -ENODEV);
	answer.errnum = ENXIO; /* the kernel looks before it sends */
	assert_int_equal(send_caw(&cause), -ENODEV);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_failed_compare_and_write_is_of_unknown_fate),
	    cmocka_unit_test(a_check_condition_without_usable_sense_is_no_success),
	    cmocka_unit_test(a_change_that_was_under_way_when_the_device_went_is_of_unknown_fate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
