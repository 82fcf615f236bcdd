/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Groups below the watermark: header, bitmap, free count. Fills on_disk[] and chunk[]. */
#include "base/bitmap.h"
#include "fsck/fsck.h"
#include <errno.h>
#include <string.h>

static int read_bitmap(struct fsck *f, uint64_t g, struct fsck_group *fg)
{
	uint64_t header = geo_group_header(&f->geo, g);
	uint8_t sector[512], payload[LUNFS_PAYLOAD_BYTES];
	const struct lunfs_bitmap_pl *pl = (const void *)payload;

	for (unsigned i = 0; i < f->geo.bitmap_cells; i++) {
		uint64_t addr = geo_group_bitmap(&f->geo, g, i);
		size_t from = (size_t)i * LUNFS_BITMAP_BYTES, bytes = (fg->nblks + 7u) / 8u;

		if (read_cell(f, addr, sector, payload))
			return -EIO;
		if (blk_check(&f->geo, payload, LUNFS_BLK_BITMAP, addr) ||
		    le64_get(pl->hdr.guard) != header) {
			problem(&f->problems, PROBLEM_BITMAP, addr, "group %llu, part %u",
				(unsigned long long)g, i);
			return -EUCLEAN;
		}
		check_lock(f, addr, sector, 0);
		if (from < bytes)
			memcpy(fg->on_disk + from, pl->bits,
			       bytes - from < LUNFS_BITMAP_BYTES ? bytes - from
								 : LUNFS_BITMAP_BYTES);
	}
	return 0;
}

static void check_counts(struct fsck *f, uint64_t g, struct fsck_group *fg,
			 const struct group_info *gi)
{
	uint32_t meta = geo_group_meta_blks(&f->geo), chunks = 0;
	uint64_t free_blks = fg->nblks - bit_count(fg->on_disk, fg->nblks);

	if (free_blks != gi->free_blks)
		problem(&f->problems, PROBLEM_FREE_COUNT, geo_group_header(&f->geo, g),
			"group %llu says %u free blocks, its bitmap says %llu",
			(unsigned long long)g, gi->free_blks, (unsigned long long)free_blks);
	for (unsigned w = 0; w < LUNFS_GROUP_WINDOWS; w++)
		chunks += gi->chunk[w] != 0;
	if (chunks != gi->chunks)
		problem(&f->problems, PROBLEM_CHUNK_COUNT, geo_group_header(&f->geo, g),
			"group %llu says %u chunks, it lists %u", (unsigned long long)g, gi->chunks,
			chunks);
	for (uint32_t b = 0; b < meta && b < fg->nblks; b++)
		bit_set(fg->referred, b);
}

static void check_group(struct fsck *f, uint64_t g)
{
	struct fsck_group *fg = &f->group[g];
	uint64_t addr = geo_group_header(&f->geo, g);
	uint8_t sector[512], payload[LUNFS_PAYLOAD_BYTES];
	const struct lunfs_blk_hdr *h = (const void *)payload;
	struct group_info gi;

	if (read_cell(f, addr, sector, payload))
		return;
	if (blk_check(&f->geo, payload, LUNFS_BLK_GROUP, addr) ||
	    group_decode(&f->geo, payload, g, &gi)) {
		problem(&f->problems, PROBLEM_GROUP, addr, "group %llu", (unsigned long long)g);
		return;
	}
	check_lock(f, addr, sector, le64_get(h->version));
	memcpy(fg->chunk, gi.chunk, sizeof(fg->chunk));
	if (read_bitmap(f, g, fg))
		return;
	fg->ok = true;
	check_counts(f, g, fg, &gi);
}

int pass_groups(struct fsck *f)
{
	for (uint64_t g = 0; g < f->watermark; g++) {
		check_group(f, g);
		progress(f, "groups", g, f->watermark);
	}
	progress(f, "groups", 1, 1);
	return 0;
}
