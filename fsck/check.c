/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rounds of a check: all passes, again and again until a round repairs nothing. */
#include "fsck/fsck.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_MAX 16u

void fsck_init(struct fsck *f, struct dev *dev, const struct geo *geo, enum repair_mode mode,
	       struct maint *maint)
{
	f->dev = dev;
	f->geo = *geo;
	f->store = (struct store){.dev = dev, .geo = &f->geo, .maint = maint};
	f->store.halt = &f->problems.halted;
	f->problems.mode = maint ? mode : MODE_CHECK;
	if (!maint)
		return;
	f->nonce = maint_nonce(maint);
	f->was_marked = maint_get(maint).flags != 0;
}

int fsck_write(struct fsck *f, void (*tell)(void *ctx, uint64_t done, uint64_t total), void *ctx)
{
	struct maint *m = f->store.maint;
	int rc;

	if (f->problems.stopped || !m)
		return 0;
	rc = store_commit(&f->store, tell, ctx);
	if (rc || !maint_get(m).flags || (f->was_marked && f->problems.declined_n))
		return rc;
	return maint_set(m, &(struct maint_info){0});
}

/* What a round has found out; the next one starts from nothing. */
static void forget_round(struct fsck *f)
{
	maps_free(f);
	f->group = NULL;
	f->inode = NULL;
	f->inodes = f->inodes_room = 0;
	f->rebuild_chunk = NULL;
	memset(f->slot_ok, 0, sizeof(f->slot_ok));
	f->hosts_not_free = 0;
	f->max_generation = 0;
	f->files = f->dirs = f->others = f->orphans = 0;
	f->data_blks = f->cells_used = f->cells_free = f->names = 0;
	f->problems.declined_n = 0;
	f->restart = f->watermark_told = false;
}

static int run_round(struct fsck *f)
{
	static int (*const pass[])(struct fsck *) = {
	    pass_super, pass_hosts, pass_groups, pass_cells, pass_trees, pass_links, pass_space};
	int rc = 0;

	for (size_t i = 0; i < sizeof(pass) / sizeof(pass[0]) && rc == 0; i++) {
		rc = pass[i](f);
		if (f->store.gone)
			return f->store.gone;
		if (f->problems.interrupt && *f->problems.interrupt)
			f->problems.cancelled = f->problems.stopped = true;
		if (f->problems.stopped || f->restart)
			return 0;
	}
	return rc;
}

int fsck_run(struct fsck *f)
{
	/* Each lists a window, builds one anew or raises the watermark: they end by themselves. */
	uint64_t restarts = 0, most = f->geo.groups * (2 * LUNFS_GROUP_WINDOWS + 1);

	for (f->round = 1; f->round - restarts <= ROUNDS_MAX && restarts <= most; f->round++) {
		uint64_t fixed = f->problems.fixed;
		int rc;

		f->problems.round = (unsigned)(f->round - restarts);
		if (f->round > 1)
			forget_round(f);
		rc = run_round(f);
		restarts += f->restart;
		if (f->restart)
			problems_begin_anew(&f->problems);
		if (f->problems.fixed == fixed || f->problems.stopped || f->store.gone)
			return rc;
		/* What could not go on may after what was repaired. */
	}
	return -ELOOP;
}

void fsck_free(struct fsck *f)
{
	maps_free(f);
	free(f->unmarked);
	windows_free(f);
	store_free(&f->store);
	problems_free(&f->problems);
}
