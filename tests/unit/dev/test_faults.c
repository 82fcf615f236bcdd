/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sg backend on a disk that fails on purpose: test_dev_faults DISK, a disk of the kernel's
 * scsi_debug, whose faults are set in sysfs. Started by tests/system/sg_dev.sh in a virtual
 * machine.
 */
#include <errno.h>
#include <glob.h>
#include <lunfs/dev.h>
#include <lunfs/format.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define DRIVER "/sys/bus/pseudo/drivers/scsi_debug/"
#define AREA_OFF (8ull << 20)

enum fault { /* bits of "opts" */
	     MEDIUM_ERROR = 0x2,
	     NO_ANSWER = 0x4,
	     TRANSPORT_ERROR = 0x10,
	     TASK_SET_FULL = 0x800,
	     HOST_BUSY = 0x8000,
	     COMMAND_ABORTED = 0x10000,
};
#define WRITE_TRIES 5u
#define BAD_SECTOR 0x1234u /* and nine more */

static const char *name;

static void put_text(const char *dir, const char *attr, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s%s", dir, attr);
	f = fopen(path, "we");
	assert_non_null(f);
	fprintf(f, "%s\n", text);
	assert_int_equal(fclose(f), 0);
}

static void put(const char *dir, const char *attr, long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", value);
	put_text(dir, attr, text);
}

/* Every @nth command of the disk has the fault; 0: none. */
static void inject(unsigned opts, int nth)
{
	put(DRIVER, "every_nth", 0);
	put(DRIVER, "opts", (long)opts);
	put(DRIVER, "every_nth", nth);
}

/* What the kernel knows of the disk. */
static void tune(const char *attr, long value)
{
	char dir[256];

	snprintf(dir, sizeof(dir), "/sys/block/%s/device/", strrchr(name, '/') + 1);
	put(dir, attr, value);
}

static void set_running(void)
{
	char dir[256];

	snprintf(dir, sizeof(dir), "/sys/block/%s/device/", strrchr(name, '/') + 1);
	put_text(dir, "state", "running");
}

/* The same of what hangs below it by a name of its own. */
static void tune_below(const char *below, const char *attr, long value)
{
	char dir[256];
	glob_t g;

	snprintf(dir, sizeof(dir), "/sys/block/%s/device/%s/", strrchr(name, '/') + 1, below);
	assert_int_equal(glob(dir, 0, NULL, &g), 0);
	put(g.gl_pathv[0], attr, value);
	globfree(&g);
}

static int set_up(void **state)
{
	char why[512] = "";
	struct dev *d = NULL;
	int rc;

	inject(0, 0);
	tune("timeout", 1);
	tune("eh_timeout", 1);
	tune_below("../../scsi_host/*", "eh_deadline", 1);
	rc = dev_open(name, 0, 0, &d, why, sizeof(why));
	if (rc)
		fail_msg("dev_open(%s): %d %s", name, rc, why);
	dev_set_deadline(d, 1000);
	*state = d;
	return 0;
}

static int tear_down(void **state)
{
	inject(0, 0);
	tune("queue_depth", 64);
	dev_close(*state);
	return 0;
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* From what stands there to the same with its first byte counted up. */
static int caw_step(struct dev *d)
{
	size_t s = d->id.sector_bytes;
	uint8_t *test = dev_buf_alloc(s), *set = dev_buf_alloc(s);
	int rc = dev_read(d, LUNFS_SCRATCH_OFF, s, test);

	if (!rc) {
		memcpy(set, test, s);
		set[0]++;
		rc = dev_caw(d, LUNFS_SCRATCH_OFF, test, set);
	}
	free(test);
	free(set);
	return rc;
}

struct caw_try { /* what it takes is read before the fault, and nothing needs to go ahead of it */
	uint8_t *test, *set;
	struct dev *d;
};

static struct caw_try caw_prepare(struct dev *d)
{
	size_t s = d->id.sector_bytes;
	struct caw_try t = {dev_buf_alloc(s), dev_buf_alloc(s), d};
	int rc;

	do
		rc = caw_step(d);
	while (rc == -EAGAIN);
	assert_int_equal(rc, DEV_CAW_GOOD);
	assert_int_equal(dev_read(d, LUNFS_SCRATCH_OFF, s, t.test), 0);
	memcpy(t.set, t.test, s);
	t.set[0]++;
	return t;
}

static int caw_do(const struct caw_try *t)
{
	return dev_caw(t->d, LUNFS_SCRATCH_OFF, t->test, t->set);
}

/* Does its image stand there? */
static bool caw_landed(const struct caw_try *t)
{
	size_t s = t->d->id.sector_bytes;
	uint8_t *now = dev_buf_alloc(s);
	bool landed;

	assert_int_equal(dev_read(t->d, LUNFS_SCRATCH_OFF, s, now), 0);
	landed = !memcmp(now, t->set, s);
	assert_true(landed || !memcmp(now, t->test, s));
	free(now);
	return landed;
}

static void caw_free(struct caw_try *t)
{
	free(t->test);
	free(t->set);
}

static int write_one(struct dev *d, uint8_t byte)
{
	size_t s = d->id.sector_bytes;
	void *buf = dev_buf_alloc(s);
	int rc;

	memset(buf, byte, s);
	rc = dev_write(d, AREA_OFF, s, buf);
	free(buf);
	return rc;
}

/*
 * Above the device a write without an answer in time is drained and sent again, once this host is
 * known to be allowed to.
 */
static int write_as_a_host(struct dev *d, uint8_t byte)
{
	int rc = write_one(d, byte);

	for (unsigned i = 0; i < WRITE_TRIES && rc == -ETIMEDOUT; i++) {
		if (d->ops->drain(d) == 0)
			rc = write_one(d, byte);
	}
	return rc;
}

static bool stands(struct dev *d, uint8_t byte)
{
	size_t s = d->id.sector_bytes;
	uint8_t *buf = dev_buf_alloc(s);
	bool same;

	assert_int_equal(dev_read(d, AREA_OFF, s, buf), 0);
	same = buf[0] == byte && buf[s - 1] == byte;
	free(buf);
	return same;
}

/* ---- the tests ---------------------------------------------------------------------------- */

static void a_compare_and_write_without_an_answer_is_of_unknown_fate(void **state)
{
	struct caw_try t = caw_prepare(*state);
	double start;

	inject(NO_ANSWER, 1);
	start = now_s();
	assert_int_equal(caw_do(&t), -ETIMEDOUT);
	assert_true(now_s() - start < 10);
	inject(0, 0);
	caw_landed(&t);
	caw_free(&t);
}

static void an_aborted_compare_and_write_is_of_unknown_fate(void **state)
{
	struct caw_try t = caw_prepare(*state);
	int rc;

	inject(TRANSPORT_ERROR, 1);
	assert_int_equal(caw_do(&t), -ETIMEDOUT);
	inject(0, 0);
	caw_landed(&t);
	caw_free(&t);
	t = caw_prepare(*state);
	inject(COMMAND_ABORTED, 1);
	rc = caw_do(&t); /* the abort may come too late */
	assert_true(rc == -ETIMEDOUT || rc == DEV_CAW_GOOD);
	inject(0, 0);
	assert_true(caw_landed(&t) || rc == -ETIMEDOUT);
	caw_free(&t);
}

/* The kernel queues it again below us, since it had no effect. */
static void a_compare_and_write_that_found_no_room_is_done_once(void **state)
{
	struct caw_try t = caw_prepare(*state);

	tune("queue_depth", 1);
	inject(TASK_SET_FULL, 2);
	assert_int_equal(caw_do(&t), DEV_CAW_GOOD);
	assert_int_equal(caw_do(&t), DEV_CAW_MISCOMPARE);
	inject(0, 0);
	assert_true(caw_landed(&t));
	caw_free(&t);
}

static void a_unit_attention_is_told_apart_from_a_failure(void **state)
{
	struct dev *d = *state;
	struct caw_try t = caw_prepare(d);

	assert_int_equal(d->ops->drain(d), 0);
	assert_int_equal(caw_do(&t), -EAGAIN);
	assert_int_equal(caw_do(&t), DEV_CAW_GOOD);
	caw_free(&t);
	assert_int_equal(d->ops->drain(d), 0);
	assert_int_equal(write_one(d, 9), 0);
	assert_true(stands(d, 9));
}

static void a_bad_sector_is_an_error_of_the_medium_for_good(void **state)
{
	struct dev *d = *state;
	size_t s = d->id.sector_bytes;
	void *buf = dev_buf_alloc(s);

	inject(MEDIUM_ERROR, 0);
	assert_int_equal(dev_read(d, BAD_SECTOR * s, s, buf), -EIO);
	assert_int_equal(dev_read(d, (BAD_SECTOR - 1) * s, s, buf), 0);
	inject(0, 0);
	assert_int_equal(dev_read(d, BAD_SECTOR * s, s, buf), 0);
	free(buf);
}

static void plain_io_outlives_every_fault_that_passes(void **state)
{
	static const unsigned fault[] = {TASK_SET_FULL, HOST_BUSY, TRANSPORT_ERROR, COMMAND_ABORTED,
					 NO_ANSWER};
	struct dev *d = *state;

	for (size_t i = 0; i < sizeof(fault) / sizeof(fault[0]); i++) {
		inject(fault[i], 3);
		for (uint8_t n = 0; n < 4; n++) {
			assert_int_equal(write_as_a_host(d, n), 0);
			assert_int_equal(dev_flush(d), 0);
			assert_true(stands(d, n));
		}
	}
}

/*
 * No answer to anything, for longer than the kernel tries: what became of it nobody can tell. It
 * takes the disk offline then, until somebody says otherwise.
 */
static void plain_io_without_an_answer_is_no_error_of_the_medium(void **state)
{
	struct dev *d = *state;
	double start = now_s();

	assert_int_equal(write_one(d, 1), 0);
	tune_below("scsi_disk/*", "max_retries", 1);
	inject(NO_ANSWER, 1);
	assert_int_equal(write_one(d, 2), -ETIMEDOUT);
	tune_below("scsi_disk/*", "max_retries", 5);
	print_message("no answer to a write: told after %.1f s\n", now_s() - start);
	inject(0, 0);
	assert_int_equal(write_one(d, 2), -ETIMEDOUT); /* offline: the kernel does not even try */
	set_running();
	assert_true(stands(d, 1) || stands(d, 2));
	assert_int_equal(write_one(d, 3), 0);
	assert_true(stands(d, 3));
}

#define ON_DISK(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    ON_DISK(a_compare_and_write_without_an_answer_is_of_unknown_fate),
	    ON_DISK(an_aborted_compare_and_write_is_of_unknown_fate),
	    ON_DISK(a_compare_and_write_that_found_no_room_is_done_once),
	    ON_DISK(a_unit_attention_is_told_apart_from_a_failure),
	    ON_DISK(a_bad_sector_is_an_error_of_the_medium_for_good),
	    ON_DISK(plain_io_outlives_every_fault_that_passes),
	    ON_DISK(plain_io_without_an_answer_is_no_error_of_the_medium),
	};

	if (argc < 2) {
		fprintf(stderr, "usage: %s DISK\n", argv[0]);
		return 77;
	}
	name = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
