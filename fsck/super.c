/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding a superblock where the usual search finds none: at a given block, or anywhere. Copies
 * stand at multiples of 64 KiB: the main one, the one at the end, and at the start of groups.
 */
#include "fsck/super.h"
#include "base/log.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#define STEP_BYTES (64ull << 10)
#define BATCH 64u

int super_at(struct dev *dev, uint64_t blk, struct geo *out, char *why, size_t why_len)
{
	void *sb = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	int rc = -EINVAL;

	if (blk < dev->id.size_bytes / LUNFS_BLOCK_BYTES)
		rc = dev_read(dev, blk * LUNFS_BLOCK_BYTES, LUNFS_BLOCK_BYTES, sb);
	if (rc == 0)
		rc = sb_decode(sb, out, NULL);
	if (rc)
		snprintf(why, why_len,
			 "No valid superblock stands at block %llu of %s (%s); "
			 "'fsck.lunfs --find-superblock' lists where there are some.",
			 (unsigned long long)blk, dev->id.name,
			 rc == -EINVAL ? "none at all" : strerror(-rc));
	free(sb);
	return rc;
}

static void say_found(uint64_t off, const struct geo *g)
{
	char uuid[UUID_STR_LEN];

	uuid_unparse_lower(g->uuid, uuid);
	printf("block %llu: UUID %s, label '%s', %llu bytes, %u hosts, sequence %llu\n",
	       (unsigned long long)(off / LUNFS_BLOCK_BYTES), uuid, g->label,
	       (unsigned long long)(g->dev_blks * LUNFS_BLOCK_BYTES), g->slots,
	       (unsigned long long)g->sb_seq);
}

static unsigned search_batch(struct dev *dev, uint64_t off, uint8_t *buf)
{
	struct dev_io io[BATCH];
	unsigned found = 0;
	size_t n = 0;

	for (; n < BATCH && off + LUNFS_BLOCK_BYTES <= dev->id.size_bytes; off += STEP_BYTES, n++)
		io[n] = (struct dev_io){.op = DEV_READ,
					.off_bytes = off,
					.len_bytes = LUNFS_BLOCK_BYTES,
					.buf = buf + n * LUNFS_BLOCK_BYTES};
	dev_batch(dev, io, n);
	for (size_t i = 0; i < n; i++) {
		struct geo g;

		if (io[i].result || sb_decode(io[i].buf, &g, NULL))
			continue;
		say_found(io[i].off_bytes, &g);
		found++;
	}
	return found;
}

unsigned super_search(struct dev *dev)
{
	uint8_t *buf = dev_buf_alloc((size_t)BATCH * LUNFS_BLOCK_BYTES);
	unsigned found = 0;

	for (uint64_t off = 0; off < dev->id.size_bytes; off += BATCH * STEP_BYTES)
		found += search_batch(dev, off, buf);
	if (!found)
		printf("%s: no superblock was found anywhere\n", dev->id.name);
	free(buf);
	return found;
}
