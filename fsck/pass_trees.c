/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every inode's forks: directories, extents, xattrs, symbolic links. */
#include "fsck/fsck.h"
#include <errno.h>
#include <string.h>

static void check_content(struct fsck *f, struct fsck_inode *fi, const struct lunfs_inode_pl *pl)
{
	if (S_ISDIR(fi->mode)) {
		f->dirs += !(fi->flags & LUNFS_INODE_ORPHAN_DIR);
		check_directory(f, fi, pl);
	} else if (S_ISREG(fi->mode)) {
		f->files++;
		check_extents(f, fi, pl);
	} else if (S_ISLNK(fi->mode)) {
		f->others++;
		check_symlink(f, fi, pl);
	} else {
		f->others++;
		if (pl->data_format != LUNFS_FORK_EMPTY)
			problem(&f->problems, PROBLEM_INODE, fi->ino, "special file %llu has data",
				(unsigned long long)fi->ino);
	}
	check_xattrs(f, fi, pl);
}

int pass_trees(struct fsck *f)
{
	for (size_t i = 0; i < f->inodes; i++) {
		struct fsck_inode *fi = &f->inode[i];
		uint8_t sector[512], payload[LUNFS_PAYLOAD_BYTES];
		struct inode in;

		progress(f, "inodes", i, f->inodes);
		if (read_cell(f, fi->ino, sector, payload))
			continue;
		/* Read a second time: only what still decodes is walked. */
		if (blk_check(&f->geo, payload, LUNFS_BLK_INODE, fi->ino) ||
		    inode_decode(&f->geo, payload, fi->ino, &in)) {
			problem(&f->problems, PROBLEM_INODE, fi->ino, "inode %llu changed",
				(unsigned long long)fi->ino);
			continue;
		}
		check_content(f, fi, (const void *)payload);
		if (fi->counted != fi->blks)
			problem(&f->problems, PROBLEM_BLOCK_COUNT, fi->ino,
				"inode %llu says %llu blocks, it has %llu",
				(unsigned long long)fi->ino, (unsigned long long)fi->blks,
				(unsigned long long)fi->counted);
	}
	progress(f, "inodes", 1, 1);
	return 0;
}
