/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding a superblock: the main one; else the copy at the end of the device; else copies at the
 * start of groups, which are looked for since without a superblock nobody knows where groups begin.
 */
#include "vol/vol_impl.h"
#include <stdio.h>
#include <stdlib.h>

#define SEARCH_STEP_BYTES (1ull << 20) /* groups begin at multiples of it */
#define SEARCH_END_BYTES (16ull << 30) /* covers a copy for the largest groups and journals */
#define SEARCH_BATCH 64u

static int read_one(struct dev *dev, uint64_t off, struct geo *out, uint64_t *unknown)
{
	void *sb = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	int rc;

	if (off > dev->id.size_bytes || dev->id.size_bytes - off < LUNFS_BLOCK_BYTES)
		rc = -EINVAL;
	else
		rc = dev_read(dev, off, LUNFS_BLOCK_BYTES, sb);
	if (rc == 0)
		rc = sb_decode(sb, out, unknown);
	free(sb);
	return rc;
}

/* True: a valid copy was found, the highest sb_seq among a batch. */
static bool search_batch(struct dev *dev, uint64_t *off, uint64_t end, uint8_t *buf,
			 struct geo *out)
{
	struct dev_io io[SEARCH_BATCH];
	bool found = false;
	size_t n = 0;

	for (; n < SEARCH_BATCH && *off + LUNFS_BLOCK_BYTES <= end; *off += SEARCH_STEP_BYTES, n++)
		io[n] = (struct dev_io){.op = DEV_READ,
					.off_bytes = *off,
					.len_bytes = LUNFS_BLOCK_BYTES,
					.buf = buf + n * LUNFS_BLOCK_BYTES};
	dev_batch(dev, io, n);
	for (size_t k = 0; k < n; k++) {
		struct geo g;
		uint64_t group;

		if (io[k].result || sb_decode(io[k].buf, &g, NULL) != 0)
			continue;
		if (io[k].off_bytes / BLK < g.group0_blk)
			continue;
		group = geo_group_of(&g, io[k].off_bytes / BLK);
		if (geo_blk_off(geo_group_blk(&g, group)) != io[k].off_bytes ||
		    !sb_group_has_copy(group) || (found && g.sb_seq <= out->sb_seq))
			continue;
		*out = g;
		found = true;
	}
	return found;
}

static bool search_groups(struct dev *dev, struct geo *out)
{
	uint64_t end =
	    dev->id.size_bytes < SEARCH_END_BYTES ? dev->id.size_bytes : SEARCH_END_BYTES;
	uint64_t off = LUNFS_BOARD_OFF;
	uint8_t *buf = dev_buf_alloc(SEARCH_BATCH * LUNFS_BLOCK_BYTES);
	bool found = false;

	while (!found && off + LUNFS_BLOCK_BYTES <= end)
		found = search_batch(dev, &off, end, buf, out);
	free(buf);
	return found;
}

static int say_unusable(struct dev *dev, int rc, uint64_t unknown, char *why, size_t len)
{
	const char *name = dev->id.name;

	if (rc == -EPROTONOSUPPORT && unknown)
		snprintf(why, len,
			 "%s uses features (incompat %#llx) that this version of lunfs does not "
			 "know; use a newer one",
			 name, (unsigned long long)unknown);
	else if (rc == -EPROTONOSUPPORT)
		snprintf(why, len,
			 "%s has a newer format than this version of lunfs knows; use a newer one",
			 name);
	else if (rc == -EINVAL)
		snprintf(why, len, "%s holds no lunfs volume (no superblock was found)", name);
	else if (rc == -EUCLEAN)
		snprintf(why, len,
			 "%s: the superblock and all its copies are damaged; run fsck.lunfs", name);
	else
		snprintf(why, len, "%s: the superblock cannot be read: %s", name, strerror(-rc));
	return rc;
}

int vol_read_super(struct dev *dev, struct geo *out, bool *used_copy, char *why, size_t why_len)
{
	uint64_t unknown = 0;
	struct geo g;
	bool copy = false;
	int rc = read_one(dev, LUNFS_SB_OFF, &g, &unknown);

	if (rc == -EUCLEAN || rc == -EIO) { /* a device that does not answer is not damaged */
		copy = read_one(dev, sb_tail_off(dev->id.size_bytes), &g, NULL) == 0 ||
		       search_groups(dev, &g);
	} else if (rc ==
		   -EINVAL) { /* wiped: a tail alone does not make a volume of another's device */
		copy = read_one(dev, sb_tail_off(dev->id.size_bytes), &g, NULL) == 0 &&
		       g.dev_blks * BLK <= dev->id.size_bytes;
	}
	if (rc && !copy)
		return say_unusable(dev, rc, unknown, why, why_len);
	if (copy && !used_copy)
		log_warn(
		    "superblock",
		    "%s: the superblock is damaged; a copy of it is used. Run fsck.lunfs soon.",
		    dev->id.name);
	*out = g;
	if (used_copy)
		*used_copy = copy;
	return 0;
}
