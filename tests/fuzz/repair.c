/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fsck.lunfs in this process, in the order of its main program, with its invariants checked. */
#include "fuzz.h"

#include "fsck/fsck.h"
#include "fsck/super.h"

#include <errno.h>
#include <string.h>

static int choose_super(struct dev *dev, struct super_choice *c)
{
	char why[512];
	int rc = super_choose(dev, c, why, sizeof(why));

	if (rc == 0 && c->geo.sector_bytes != dev->id.sector_bytes)
		return -EMEDIUMTYPE;
	if (rc == 0 && dev->id.size_bytes / LUNFS_BLOCK_BYTES < c->geo.dev_blks)
		return -ENOSPC;
	return rc;
}

static void note(const struct fsck *f, int rc, struct fuzz_fsck *out)
{
	const struct problems *p = &f->problems;

	out->rc = rc;
	out->total = p->total;
	out->left = p->total - p->fixed;
	out->no_place = f->no_place;
	for (int i = 0; i < PROBLEMS; i++) {
		if (p->count[i] && !problem_question((enum problem_code)i))
			out->hopeless += p->count[i];
		else if (p->count[i] && !out->first)
			out->first = problem_name((enum problem_code)i);
	}
}

void fuzz_check(struct bed *b, struct clock *clk, struct fuzz_fsck *out)
{
	struct dev *dev = simdev_attach(b->medium);
	struct super_choice c;
	struct fsck f = {0};

	*out = (struct fuzz_fsck){0};
	bed_allow_writes(b, false, 0);
	out->rc = choose_super(dev, &c);
	out->no_super = out->rc != 0;
	if (out->rc == 0) {
		fsck_init(&f, dev, &c.geo, MODE_CHECK, NULL);
		f.clk = clk;
		note(&f, fsck_run(&f), out);
		fsck_free(&f);
	}
	dev_close(dev);
}

/* An unfinished repair is finished first; then the superblock may be another. */
static int finish_log(struct fsck *f)
{
	struct super_choice c;
	int rc = redo_finish(&f->store);

	if (rc > 0) {
		rc = choose_super(f->dev, &c);
		if (rc == 0)
			f->geo = c.geo;
	}
	return rc == -EUCLEAN || rc == -ESTALE ? 0 : rc;
}

static int claim(struct dev *dev, struct clock *clk, const struct super_choice *c, struct maint **m)
{
	struct maint_config cfg = {.host.name = "fsck", .host.claim_wait_ms = 4 * c->geo.lease_ms};
	char why[512];

	memcpy(cfg.passed_over, c->passed_over, sizeof(cfg.passed_over));
	return maint_begin(dev, clk, &c->geo, &cfg, m, why, sizeof(why));
}

void fuzz_repair(struct bed *b, struct clock *clk, struct fuzz_fsck *out)
{
	fuzz_repair_undo(b, clk, NULL, out);
}

static int open_undo(struct fsck *f, const char *path)
{
	char why[512];

	return path ? undo_open(&f->store, path, why, sizeof(why)) : 0;
}

void fuzz_repair_undo(struct bed *b, struct clock *clk, const char *undo, struct fuzz_fsck *out)
{
	struct dev *dev = simdev_attach(b->medium);
	struct maint *m = NULL;
	struct super_choice c;
	struct fsck f = {0};
	int rc = choose_super(dev, &c);

	*out = (struct fuzz_fsck){.rc = rc, .no_super = rc != 0};
	if (rc)
		goto out;
	bed_allow_writes(b, true, c.geo.dev_blks * LUNFS_BLOCK_BYTES);
	rc = claim(dev, clk, &c, &m);
	*out = (struct fuzz_fsck){.rc = rc, .no_claim = rc != 0};
	if (rc)
		goto out;
	fsck_init(&f, dev, &c.geo, MODE_YES, m);
	f.clk = clk;
	rc = open_undo(&f, undo);
	if (rc == 0)
		rc = finish_log(&f);
	bed_allow_writes(b, true, f.geo.dev_blks * LUNFS_BLOCK_BYTES);
	if (rc == 0)
		rc = fsck_run(&f);
	if (rc == 0)
		rc = fsck_write(&f, NULL, NULL);
	note(&f, rc, out);
	fsck_free(&f);
	maint_end(m);
out:
	dev_close(dev);
}

/* Where a top directory can be nowhere; what was marked before stays so then. */
static bool may_stay(const char *code)
{
	return !strcmp(code, "ROOT") || !strcmp(code, "ORPHAN_DIR") || !strcmp(code, "MUST_CHECK");
}

void fuzz_mend(struct bed *b, struct clock *clk)
{
	struct fuzz_fsck r, again;

	fuzz_repair(b, clk, &r);
	if (r.no_super || r.no_claim)
		return;
	FUZZ_CHECK(r.rc == 0, "the repair ends with %d (%s)", r.rc, r.first ? r.first : "");
	FUZZ_CHECK(r.left <= r.hopeless + r.no_place, "%llu problems are left (%s)",
		   (unsigned long long)r.left, r.first ? r.first : "");
	fuzz_check(b, clk, &again);
	FUZZ_CHECK(again.rc == 0, "the second run ends with %d", again.rc);
	FUZZ_CHECK(!again.first || (r.no_place && may_stay(again.first)), "the second run finds %s",
		   again.first);
}
