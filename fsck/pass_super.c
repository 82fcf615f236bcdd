/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Superblock: the main one and its copies agree. (It was read, perhaps from a copy, to get here.)
 * The one with the highest sequence number counts, unless -b names another: that one is written
 * with a number above all others then, so that it counts from now on.
 */
#include "base/crc.h"
#include "fsck/fsck.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool same_volume(const struct fsck *f, const struct geo *g)
{
	return !memcmp(g->vol_id, f->geo.vol_id, sizeof(g->vol_id)) &&
	       g->dev_blks <= f->dev->id.size_bytes / LUNFS_BLOCK_BYTES &&
	       g->sector_bytes == f->geo.sector_bytes;
}

static const char *how_other(const struct fsck *f, const struct geo *g)
{
	if (!same_volume(f, g))
		return "of another volume";
	return g->sb_seq != f->geo.sb_seq ? "of another time" : "not what most copies say";
}

static int check_copy(struct fsck *f, uint64_t off, bool main_one, void *want)
{
	enum problem_code code = main_one ? PROBLEM_SB_DAMAGED : PROBLEM_SB_COPY;
	void *buf = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	bool fix = false;
	struct geo g;
	int rc = store_read(&f->store, off, LUNFS_BLOCK_BYTES, buf);

	if (rc == 0)
		rc = sb_decode(buf, &g, NULL);
	if (rc)
		fix = problem(&f->problems, code, off / LUNFS_BLOCK_BYTES,
			      "superblock at byte %llu: %s", (unsigned long long)off,
			      rc == -EINVAL ? "no superblock is there" : strerror(-rc));
	else if (memcmp(buf, want, LUNFS_BLOCK_BYTES) != 0)
		fix = problem(&f->problems, code, off / LUNFS_BLOCK_BYTES,
			      "superblock at byte %llu is %s (sequence %llu, not %llu)",
			      (unsigned long long)off, how_other(f, &g),
			      (unsigned long long)g.sb_seq, (unsigned long long)f->geo.sb_seq);
	rc = fix ? store_write(&f->store, off, LUNFS_BLOCK_BYTES, want) : 0;
	free(buf);
	return rc;
}

typedef int (*copy_fn)(struct fsck *f, uint64_t off, bool main_one, void *want);

static int each_copy(struct fsck *f, copy_fn fn, void *want)
{
	int rc = fn(f, LUNFS_SB_OFF, true, want);

	if (rc == 0)
		rc = fn(f, sb_tail_off(f->geo.dev_blks * LUNFS_BLOCK_BYTES), false, want);
	for (uint64_t g = 1; g < f->geo.groups && rc == 0; g++)
		if (sb_group_has_copy(g))
			rc = fn(f, geo_blk_off(geo_group_blk(&f->geo, g)), false, want);
	return rc;
}

/* A newer copy than the one in use is the volume's; with -b only its number counts. */
static int adopt_newer(struct fsck *f, uint64_t off, bool main_one, void *want)
{
	void *buf = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	struct geo g;

	(void)main_one;
	(void)want;
	if (store_read(&f->store, off, LUNFS_BLOCK_BYTES, buf) == 0 &&
	    sb_decode(buf, &g, NULL) == 0 && same_volume(f, &g) && g.sb_seq > f->geo.sb_seq) {
		windows_free(f); /* workers read by it */
		if (f->super_given)
			f->geo.sb_seq = g.sb_seq;
		else
			f->geo = g;
	}
	free(buf);
	return 0;
}

/*
 * A feature that is not known here may use bytes that are reserved: @want gets those of the first
 * copy that else says what it does. 1: it was one.
 */
static int take_reserved(struct fsck *f, uint64_t off, bool main_one, void *want)
{
	struct lunfs_sb *sb = dev_buf_alloc(LUNFS_BLOCK_BYTES), *to = want;
	uint8_t *known = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	int rc = 0;
	struct geo g;

	(void)main_one;
	if (store_read(&f->store, off, LUNFS_BLOCK_BYTES, sb) == 0 &&
	    sb_decode(sb, &g, NULL) == 0) {
		g.sb_seq = f->geo.sb_seq;
		sb_encode(&g, known);
		rc = !memcmp(known, want, LUNFS_BLOCK_BYTES);
	}
	if (rc) {
		memcpy(to->reserved, sb->reserved, sizeof(to->reserved));
		crc_seal(to, sizeof(*to), offsetof(struct lunfs_sb, crc));
	}
	free(known);
	free(sb);
	return rc;
}

int pass_super(struct fsck *f)
{
	uint64_t seq = f->geo.sb_seq;
	void *want;
	int rc;

	each_copy(f, adopt_newer, NULL);
	if (f->super_given && f->geo.sb_seq != seq && f->geo.sb_seq != UINT64_MAX)
		f->geo.sb_seq++;
	want = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	sb_encode(&f->geo, want);
	each_copy(f, take_reserved, want);
	rc = each_copy(f, check_copy, want);
	free(want);
	return rc;
}
