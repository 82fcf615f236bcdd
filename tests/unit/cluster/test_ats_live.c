/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Outcomes of test and sets on a real device, provoked by a second session that writes the sector
 * in between, by a reservation, and by a bad network. Without arguments: on a file of its own.
 *
 * usage: test_ats_live [DEVICE [CUT-COMMAND MUTE-COMMAND | faults]]
 *
 * Muted is the network after one more answer; faults: the device is the kernel's scsi_debug.
 */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "base/geo.h"
#include "cluster/ats.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "said.h"

#define OFF LUNFS_SCRATCH_OFF
#define FILE_BYTES (16 << 20)
#define DEADLINE_MS 3000u

#define SCSI_DEBUG "/sys/bus/pseudo/drivers/scsi_debug/"
#define TRANSPORT_ERROR "0x10" /* of its "opts"; said as ABORTED COMMAND */

static const char *name, *cut_cmd, *mute_cmd;
static bool faults;

struct live {
	struct clock *clk;
	struct dev *dev, *other; /* two sessions */
	struct geo geo;
	struct ats ats;
	struct ats_sector s;
	uint8_t *test, *set, *found;
};

static struct dev *session(void)
{
	char why[512] = "";
	struct dev *d = NULL;

	if (dev_open(name, 0, 0, &d, why, sizeof(why)))
		print_error("%s\n", why);
	assert_non_null(d);
	dev_set_deadline(d, DEADLINE_MS);
	return d;
}

static int set_up(void **state)
{
	struct live *l = calloc(1, sizeof(*l));
	struct env env;

	assert_non_null(l);
	assert_int_equal(clock_real_new(&l->clk), 0);
	l->dev = session();
	l->other = session();
	l->geo.sector_bytes = l->dev->id.sector_bytes;
	env = (struct env){.dev = l->dev, .clk = l->clk, .geo = &l->geo};
	ats_init(&l->ats, &env);
	ats_set_owner(&l->ats, 7, LUNFS_OWNER(7, 1));
	l->s = (struct ats_sector){.off_bytes = OFF, .kind = "scratch sector", .addr = 1};
	l->test = dev_buf_alloc(l->geo.sector_bytes);
	l->set = dev_buf_alloc(l->geo.sector_bytes);
	l->found = dev_buf_alloc(l->geo.sector_bytes);
	ats_hdr_format(&l->geo, l->test, LUNFS_ATS_SCRATCH, OFF, 0x1234);
	assert_int_equal(dev_write(l->dev, OFF, l->geo.sector_bytes, l->test), 0);
	said_forget();
	*state = l;
	return 0;
}

static int tear_down(void **state)
{
	struct live *l = *state;

	ats_destroy(&l->ats);
	dev_close(l->other);
	dev_close(l->dev);
	l->clk->ops->destroy(l->clk);
	free(l->test);
	free(l->set);
	free(l->found);
	free(l);
	return 0;
}

static enum ats_outcome put(struct live *l, uint8_t mark)
{
	memcpy(l->set, l->test, l->geo.sector_bytes);
	l->set[100] = mark;
	ats_stamp(&l->ats, (void *)l->set, (void *)l->test, LUNFS_ATS_SCRATCH, OFF);
	return ats(&l->ats, &l->s, l->test, l->set, l->found, NULL);
}

static void advance(struct live *l)
{
	memcpy(l->test, l->set, l->geo.sector_bytes);
}

static void other_writes(struct live *l, const void *sector)
{
	assert_int_equal(dev_write(l->other, OFF, l->geo.sector_bytes, sector), 0);
}

static uint64_t caused(struct live *l, enum dev_cause c)
{
	return atomic_load(&l->ats.stats.cause[c]);
}

/* ---- another session ------------------------------------------------------------------------ */

static void what_nobody_touches_is_done_and_timed(void **state)
{
	struct live *l = *state;
	struct dist_copy device, queue;

	for (uint8_t i = 0; i < 20; i++) {
		assert_int_equal(put(l, i), ATS_DONE);
		advance(l);
	}
	dist_read(&l->ats.health.device[HEALTH_OTHER], &device);
	dist_read(&l->ats.health.queue[HEALTH_OTHER], &queue);
	assert_int_equal(device.n, 20);
	assert_int_equal(queue.n, 20);
	print_message("%s: device p50 %llu us p99 %llu us, queue p99 %llu us\n", l->dev->id.product,
		      (unsigned long long)dist_quantile_us(&device, 500),
		      (unsigned long long)dist_quantile_us(&device, 990),
		      (unsigned long long)dist_quantile_us(&queue, 990));
	assert_true(device.sum_us > 0);
	assert_int_equal(said_n, 0);
}

static void a_write_of_another_between_read_and_command_is_a_lost_race(void **state)
{
	struct live *l = *state;
	uint8_t *theirs = dev_buf_alloc(l->geo.sector_bytes);

	ats_hdr_format(&l->geo, theirs, LUNFS_ATS_SCRATCH, OFF, 0x777);
	other_writes(l, theirs);
	assert_int_equal(put(l, 2), ATS_LOST_RACE);
	assert_memory_equal(l->found, theirs, l->geo.sector_bytes);
	assert_int_equal(atomic_load(&l->ats.stats.miscompares), 1);
	assert_int_equal(atomic_load(&l->ats.stats.false_miscompares), 0);
	assert_int_equal(said_n, 0);
	free(theirs);
}

static void an_older_image_put_back_below_us_went_back(void **state)
{
	struct live *l = *state;
	uint8_t *older = dev_buf_alloc(l->geo.sector_bytes);

	assert_int_equal(put(l, 2), ATS_DONE);
	advance(l);
	memcpy(older, l->set, l->geo.sector_bytes);
	assert_int_equal(put(l, 3), ATS_DONE);
	advance(l);
	other_writes(l, older);
	assert_int_equal(put(l, 4), ATS_WENT_BACK);
	SAYS("ats-went-back", "an older image of this host that had been replaced");
	SAYS("ats-went-back", l->dev->id.name);
	free(older);
}

static void a_record_that_another_scribbled_over_is_damaged(void **state)
{
	struct live *l = *state;
	uint8_t *junk = dev_buf_alloc(l->geo.sector_bytes);

	memset(junk, 0x5a, l->geo.sector_bytes);
	other_writes(l, junk);
	assert_int_equal(put(l, 2), ATS_DAMAGED);
	SAYS("ats-damaged", "run fsck.lunfs");
	free(junk);
}

static void a_host_that_is_not_registered_is_fenced(void **state)
{
	struct live *l = *state;
	const struct dev_pr_ops *pr = l->other->ops->pr;
	char why[320] = "";

	if (l->dev->id.kind == DEV_KIND_SG) {
		print_message("both sessions are one to the device\n");
		skip();
	}
	if (!pr || pr->probe(l->other, why, sizeof(why))) {
		print_message("no persistent reservations here: %s\n", why);
		skip();
	}
	assert_int_equal(pr->register_key(l->other, 0, 0xfe4ce), 0);
	assert_int_equal(pr->reserve(l->other, 0xfe4ce), 0);
	assert_int_equal(put(l, 2), ATS_FENCED);
	assert_int_equal(caused(l, DEV_CAUSE_CONFLICT), 1);
	SAYS("ats-fenced", "reservation conflict");
	assert_int_equal(pr->register_key(l->other, 0xfe4ce, 0), 0);
	assert_true(ats_ok(put(l, 3)));
}

/* ---- a SCSI disk of the kernel's --------------------------------------------------------------
 */

static void a_reset_by_another_is_a_unit_attention_and_the_command_is_sent_again(void **state)
{
	struct live *l = *state;

	if (l->dev->id.kind != DEV_KIND_SG)
		skip();
	for (unsigned i = 0; i < 4; i++) { /* what came with opening it */
		assert_true(ats_ok(put(l, 1)));
		advance(l);
	}
	if (l->other->ops->drain(l->other))
		skip();
	assert_int_equal(put(l, 2), ATS_DONE);
	print_message("told after a reset: %llu unit attentions, %llu not sent, %llu sent again\n",
		      (unsigned long long)caused(l, DEV_CAUSE_UNIT_ATTENTION),
		      (unsigned long long)caused(l, DEV_CAUSE_NOT_SENT),
		      (unsigned long long)atomic_load(&l->ats.stats.retries));
	assert_int_equal(atomic_load(&l->ats.stats.retries),
			 caused(l, DEV_CAUSE_UNIT_ATTENTION) + caused(l, DEV_CAUSE_NOT_SENT));
	assert_int_equal(said_n, 0);
}

static void debug_put(const char *attr, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), SCSI_DEBUG "%s", attr);
	f = fopen(path, "we");
	assert_non_null(f);
	fprintf(f, "%s\n", text);
	assert_int_equal(fclose(f), 0);
}

static void a_command_aborted_time_and_again_stays_unknown_and_the_disk_is_named(void **state)
{
	struct live *l = *state;
	enum ats_outcome o;

	if (!faults)
		skip();
	assert_true(ats_ok(put(l, 1))); /* nothing needs to go ahead of the next */
	advance(l);
	debug_put("opts", TRANSPORT_ERROR);
	debug_put("every_nth", "1");
	o = put(l, 2);
	debug_put("every_nth", "0");
	debug_put("opts", "0");
	assert_int_equal(o, ATS_UNKNOWN);
	assert_true(caused(l, DEV_CAUSE_ABORTED) > 0);
	SAYS("ats-unknown", "was aborted by the device");
	SAYS("ats-unknown", strrchr(name, '/') + 1);
	SAYS("ats-unknown", ": queue depth ");
	SAYS("ats-unknown", ", running)");
	assert_true(ats_ok(put(l, 3)));
}

/* ---- a bad network -------------------------------------------------------------------------- */

static void run(const char *cmd)
{
	if (!cmd)
		skip();
	assert_int_equal(system(cmd), 0);
	usleep(200000); /* the proxy takes a signal: nothing tells when it has */
}

/* On this target the backend asks whether the unit is ready first; that is answered. */
static void an_answer_that_never_came_is_done_late_when_it_landed(void **state)
{
	struct live *l = *state;

	assert_int_equal(put(l, 1),
			 ATS_DONE); /* what a new session is told first is out of the way */
	advance(l);
	run(mute_cmd);
	assert_int_equal(put(l, 2), ATS_DONE_LATE);
	assert_int_equal(caused(l, DEV_CAUSE_NO_ANSWER), 1);
	SAYS("ats-done-late", "had no answer within the I/O deadline of 3000 ms");
	SAYS("ats-done-late", "at most 64 commands on their way");
}

static void a_connection_lost_with_the_answer_is_transport_loss(void **state)
{
	struct live *l = *state;
	char cmd[256];

	assert_int_equal(put(l, 1), ATS_DONE);
	advance(l);
	run(mute_cmd);
	snprintf(cmd, sizeof(cmd), "(sleep 0.5; %s) >/dev/null 2>&1 &", cut_cmd);
	run(cmd);
	assert_int_equal(put(l, 2), ATS_DONE_LATE);
	assert_int_equal(caused(l, DEV_CAUSE_TRANSPORT), 1);
	SAYS("ats-done-late", "was cut off when the path to the device went away");
}

static void a_cut_connection_is_not_the_end_of_a_test_and_set(void **state)
{
	struct live *l = *state;

	for (uint8_t i = 0; i < 5; i++) {
		run(cut_cmd);
		assert_true(ats_ok(put(l, i)));
		advance(l);
	}
	print_message("cut: %llu transport-loss, %llu not-sent, %llu commands\n",
		      (unsigned long long)caused(l, DEV_CAUSE_TRANSPORT),
		      (unsigned long long)caused(l, DEV_CAUSE_NOT_SENT),
		      (unsigned long long)atomic_load(&l->ats.stats.commands));
}

#define ON_DEVICE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    ON_DEVICE(what_nobody_touches_is_done_and_timed),
	    ON_DEVICE(a_write_of_another_between_read_and_command_is_a_lost_race),
	    ON_DEVICE(an_older_image_put_back_below_us_went_back),
	    ON_DEVICE(a_record_that_another_scribbled_over_is_damaged),
	    ON_DEVICE(a_host_that_is_not_registered_is_fenced),
	    ON_DEVICE(a_reset_by_another_is_a_unit_attention_and_the_command_is_sent_again),
	    ON_DEVICE(a_command_aborted_time_and_again_stays_unknown_and_the_disk_is_named),
	    ON_DEVICE(an_answer_that_never_came_is_done_late_when_it_landed),
	    ON_DEVICE(a_connection_lost_with_the_answer_is_transport_loss),
	    ON_DEVICE(a_cut_connection_is_not_the_end_of_a_test_and_set),
	};
	char path[] = "/tmp/lunfs-ats-live.XXXXXX";
	int fd = -1, rc;

	name = argc > 1 ? argv[1] : path;
	faults = argc == 3;
	cut_cmd = argc > 3 ? argv[2] : NULL;
	mute_cmd = argc > 3 ? argv[3] : NULL;
	if (argc < 2) {
		fd = mkstemp(path);
		if (fd < 0 || ftruncate(fd, FILE_BYTES))
			return 77;
	}
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	if (fd >= 0) {
		close(fd);
		unlink(path);
	}
	return rc;
}
