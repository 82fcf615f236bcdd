/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The maps of blocks and the table of inodes that the passes fill and compare. */
#include "base/bitmap.h"
#include "fsck/fsck.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAPS 6u /* in a group, a bit a block each */

int maps_init(struct fsck *f)
{
	f->cell_group = 0;
	f->group = calloc(f->watermark ? f->watermark : 1, sizeof(*f->group));
	if (!f->group)
		return -ENOMEM;
	for (uint64_t g = 0; g < f->watermark; g++) {
		struct fsck_group *fg = &f->group[g];
		size_t bytes;

		fg->nblks = geo_group_len(&f->geo, g);
		bytes = (fg->nblks + 7u) / 8u;
		fg->on_disk = calloc(MAPS, bytes);
		if (!fg->on_disk)
			return -ENOMEM;
		fg->referred = fg->on_disk + bytes;
		fg->cell_used = fg->referred + bytes;
		fg->cell_claimed = fg->cell_used + bytes;
		fg->cell_valid = fg->cell_claimed + bytes;
		fg->cell_bad = fg->cell_valid + bytes;
	}
	f->rebuild_chunk = calloc(f->watermark, 3 * LUNFS_GROUP_WINDOWS / 8);
	if (!f->rebuild_chunk)
		return -ENOMEM;
	f->doubt_chunk = f->rebuild_chunk + f->watermark * LUNFS_GROUP_WINDOWS / 8;
	f->probed = f->doubt_chunk + f->watermark * LUNFS_GROUP_WINDOWS / 8;
	return 0;
}

void maps_free(struct fsck *f)
{
	for (uint64_t g = 0; f->group && g < f->watermark; g++) {
		free(f->group[g].on_disk);
		free(f->group[g].before);
	}
	free(f->group);
	free(f->inode);
	free(f->rebuild_chunk);
}

struct fsck_group *map_find(struct fsck *f, uint64_t blk, uint32_t *bit)
{
	struct fsck_group *fg;
	uint64_t g;

	if (blk < f->geo.group0_blk || blk >= f->geo.end_blk)
		return NULL;
	g = geo_group_of(&f->geo, blk);
	if (g >= f->watermark)
		return NULL;
	fg = &f->group[g];
	*bit = (uint32_t)(blk - geo_group_blk(&f->geo, g));
	return *bit < fg->nblks ? fg : NULL;
}

void map_refer(struct fsck *f, uint64_t blk, uint64_t n, uint64_t who)
{
	uint32_t bit;
	struct fsck_group *fg = map_find(f, blk, &bit);

	if (!fg)
		return;
	for (uint64_t i = 0; i < n && bit + i < fg->nblks; i++) {
		if (bit_get(fg->referred, bit + i)) {
			problem(&f->problems, PROBLEM_DOUBLE, blk + i,
				"block %llu is used by %llu and by something else",
				(unsigned long long)(blk + i), (unsigned long long)who);
			return;
		}
		bit_set(fg->referred, bit + i);
	}
}

bool map_referred(struct fsck *f, uint64_t blk, uint64_t n)
{
	uint32_t bit;
	struct fsck_group *fg = map_find(f, blk, &bit);

	for (uint64_t i = 0; fg && i < n && bit + i < fg->nblks; i++)
		if (bit_get(fg->referred, bit + i))
			return true;
	return false;
}

struct fsck_inode *inode_find(struct fsck *f, uint64_t ino)
{
	size_t lo = 0, hi = f->inodes;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (f->inode[mid].ino == ino)
			return &f->inode[mid];
		if (f->inode[mid].ino < ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

/* Cells are scanned in ascending order, so the table stays sorted by appending. */
struct fsck_inode *inode_add(struct fsck *f, uint64_t ino)
{
	struct fsck_inode *fi;

	if (f->inodes == f->inodes_room) {
		size_t room = f->inodes_room ? f->inodes_room * 2 : 1024;
		void *p = reallocarray(f->inode, room, sizeof(*f->inode));

		if (!p)
			return NULL;
		f->inode = p;
		f->inodes_room = room;
	}
	fi = &f->inode[f->inodes++];
	memset(fi, 0, sizeof(*fi));
	fi->ino = ino;
	return fi;
}
