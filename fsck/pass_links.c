/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names against inodes: link counts, parents, reachability, orphans. */
#include "base/bitmap.h"
#include "fsck/fsck.h"
#include <string.h>

enum { MARK_NONE, MARK_WALKING, MARK_REACHED, MARK_LOST };

static bool is_top(struct fsck *f, const struct fsck_inode *fi)
{
	return fi->ino == f->geo.root_ino || fi->flags & LUNFS_INODE_ORPHAN_DIR;
}

static void claim_cell(struct fsck *f, uint64_t ino)
{
	uint32_t bit;
	struct fsck_group *fg = map_find(f, ino, &bit);

	if (fg)
		bit_set(fg->cell_claimed, bit);
}

static void check_orphan(struct fsck *f, struct fsck_inode *fi)
{
	f->orphans++;
	if (fi->orphan_refs != 1)
		problem(&f->problems, PROBLEM_ORPHAN, fi->ino,
			"inode %llu says it is an orphan; %u lists name it",
			(unsigned long long)fi->ino, fi->orphan_refs);
}

static void check_dir_links(struct fsck *f, struct fsck_inode *fi)
{
	if (is_top(f, fi) ? fi->links != 0 : fi->links != 1)
		problem(&f->problems, PROBLEM_DIR_LINKS, fi->ino, "directory %llu has %u names",
			(unsigned long long)fi->ino, fi->links);
	if (!is_top(f, fi) && fi->links && fi->parent != fi->named_in)
		problem(&f->problems, PROBLEM_DIR_PARENT, fi->ino,
			"directory %llu says its parent is %llu, it stands in %llu",
			(unsigned long long)fi->ino, (unsigned long long)fi->parent,
			(unsigned long long)fi->named_in);
	if (fi->nlink != fi->subdirs + 2)
		problem(&f->problems, PROBLEM_NLINK, fi->ino,
			"directory %llu says %u links, its entries make %u",
			(unsigned long long)fi->ino, fi->nlink, fi->subdirs + 2);
}

static void check_file_links(struct fsck *f, struct fsck_inode *fi)
{
	if (fi->links == 0)
		problem(&f->problems, PROBLEM_LOST_INODE, fi->ino,
			"inode %llu, mode %o, %llu bytes", (unsigned long long)fi->ino, fi->mode,
			(unsigned long long)fi->size);
	else if (fi->links != fi->nlink)
		problem(&f->problems, PROBLEM_NLINK, fi->ino,
			"inode %llu says %u links, it has %u names", (unsigned long long)fi->ino,
			fi->nlink, fi->links);
}

static void check_links(struct fsck *f, struct fsck_inode *fi)
{
	claim_cell(f, fi->ino);
	if (fi->flags & LUNFS_INODE_ORPHAN)
		check_orphan(f, fi);
	else if (fi->orphan_refs)
		problem(&f->problems, PROBLEM_ORPHAN, fi->ino, "inode %llu is no orphan but listed",
			(unsigned long long)fi->ino);
	if (fi->flags & LUNFS_INODE_ORPHAN && fi->nlink == 0) {
		if (fi->links)
			problem(&f->problems, PROBLEM_NLINK, fi->ino,
				"inode %llu is unlinked but has %u names",
				(unsigned long long)fi->ino, fi->links);
		return;
	}
	if (S_ISDIR(fi->mode))
		check_dir_links(f, fi);
	else
		check_file_links(f, fi);
}

/* Follow parents up to the root; everything on the way shares the result. */
static void check_reach(struct fsck *f, struct fsck_inode *start)
{
	struct fsck_inode *d = start;
	uint8_t result = MARK_LOST;

	while (d && d->mark == MARK_NONE) {
		d->mark = MARK_WALKING;
		if (is_top(f, d) || (d->flags & LUNFS_INODE_ORPHAN && d->nlink == 0)) {
			result = MARK_REACHED;
			break;
		}
		d = inode_find(f, d->named_in);
	}
	if (d && d->mark == MARK_REACHED)
		result = MARK_REACHED;
	for (d = start; d && d->mark == MARK_WALKING; d = inode_find(f, d->named_in))
		d->mark = result;
	if (result == MARK_LOST)
		problem(&f->problems, PROBLEM_DIR_CYCLE, start->ino, "directory %llu",
			(unsigned long long)start->ino);
}

int pass_links(struct fsck *f)
{
	for (size_t i = 0; i < f->inodes; i++)
		check_links(f, &f->inode[i]);
	for (size_t i = 0; i < f->inodes; i++)
		if (S_ISDIR(f->inode[i].mode) && f->inode[i].mark == MARK_NONE)
			check_reach(f, &f->inode[i]);
	if (!inode_find(f, f->geo.root_ino))
		problem(&f->problems, PROBLEM_INODE, f->geo.root_ino, "the root directory is gone");
	return 0;
}
