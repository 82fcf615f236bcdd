/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Superblock: the main one and its copies agree. (It was read, perhaps from a copy, to get here.)
 */
#include "fsck/fsck.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void check_copy(struct fsck *f, uint64_t off, bool main_one, const void *want)
{
	void *buf = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	struct geo g;
	int rc = store_read(&f->store, off, LUNFS_BLOCK_BYTES, buf);
	enum problem_code code = main_one ? PROBLEM_SB_DAMAGED : PROBLEM_SB_COPY;

	if (rc == 0)
		rc = sb_decode(buf, &g, NULL);
	if (rc)
		problem(&f->problems, code, off / LUNFS_BLOCK_BYTES, "superblock at byte %llu: %s",
			(unsigned long long)off,
			rc == -EINVAL ? "no superblock is there" : strerror(-rc));
	else if (memcmp(buf, want, LUNFS_BLOCK_BYTES) != 0)
		problem(&f->problems, PROBLEM_SB_COPY, off / LUNFS_BLOCK_BYTES,
			"superblock at byte %llu is of another time (sequence %llu, not %llu)",
			(unsigned long long)off, (unsigned long long)g.sb_seq,
			(unsigned long long)f->geo.sb_seq);
	free(buf);
}

int pass_super(struct fsck *f)
{
	void *want = dev_buf_alloc(LUNFS_BLOCK_BYTES);

	sb_encode(&f->geo, want);
	check_copy(f, LUNFS_SB_OFF, true, want);
	check_copy(f, sb_tail_off(f->geo.dev_blks * LUNFS_BLOCK_BYTES), false, want);
	for (uint64_t g = 1; g < f->geo.groups; g++)
		if (sb_group_has_copy(g))
			check_copy(f, geo_blk_off(geo_group_blk(&f->geo, g)), false, want);
	free(want);
	return 0;
}
