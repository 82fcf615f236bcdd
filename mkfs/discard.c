/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Giving the space of what stood there back to a thin LUN, a flash disk or a sparse image. It helps
 * and is not needed: a device that cannot is left alone, and there is a limit of time, so that mkfs
 * ends soon on any size. What mkfs zeroes or wiped stays out of it: nobody promises what is read
 * from a discarded block.
 */
#include "job.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MS 1000000ull
#define MIN_STEP_BYTES (64ull << 20)
#define MAX_STEP_BYTES (1ull << 40)
#define STEP_MS                                                                                    \
	200u /* a step that took less is doubled, one that took five times as long halved          \
	      */
#define LIMIT_MS 30000u

static uint64_t next_step(uint64_t step, uint64_t took_ns)
{
	if (took_ns < STEP_MS * MS && step < MAX_STEP_BYTES)
		return step * 2;
	if (took_ns > 5 * STEP_MS * MS && step > MIN_STEP_BYTES)
		return step / 2;
	return step;
}

/* A late one would destroy what is written next. */
static bool harmless(struct job *j, int err)
{
	if (err == -ETIMEDOUT)
		return job_settle(j) == 0;
	return err != -EBADE && err != -ENODEV && err != -EROFS;
}

static void judge(struct job *j, int err)
{
	struct mkfs_work *w = j->w;

	if (!harmless(j, err)) {
		j->what = "the discarded blocks";
		j->err = err;
		return;
	}
	if (err == -EOPNOTSUPP)
		snprintf(w->discard_note, sizeof(w->discard_note),
			 "The device takes no discards; its blocks were left as they are.");
	else
		snprintf(w->discard_note, sizeof(w->discard_note),
			 "The device failed a discard (%s); the rest was left as it is.",
			 strerror(-err));
}

void discard_all(struct job *j)
{
	struct mkfs_work *w = j->w;
	uint64_t off = LUNFS_BOARD_OFF, end = sb_tail_off(w->d->id.size_bytes);
	uint64_t step = MIN_STEP_BYTES, from = clock_now_ns(w->clk), now = from;
	int err = 0;

	while (!j->err && !err && off < end && now - from < LIMIT_MS * MS) {
		uint64_t n = end - off < step ? end - off : step, before = now;

		job_step(j, "Discarding device blocks", off, end);
		if (j->err)
			return;
		err = dev_discard(w->d, off, n);
		now = clock_now_ns(w->clk);
		step = next_step(step, now - before);
		if (!err) {
			off += n;
			w->discarded_bytes += n;
		}
	}
	if (err)
		judge(j, err);
	else if (off < end)
		snprintf(w->discard_note, sizeof(w->discard_note),
			 "Discarding was ended after %u s; the rest was left as it is.",
			 LIMIT_MS / 1000);
}
