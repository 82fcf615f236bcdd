/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every inode's forks: directories first, so that it is known which names there are when the others
 * come; then the forks that are to be built anew.
 *
 * An inode in doubt (its chunk's map is lost: it may have been deleted) is only looked at once it
 * has a name. Without one it is dropped, unless directories were damaged: then its name may be
 * what was lost, and it is kept for lost+found.
 */
#include "base/bitmap.h"
#include "fsck/trees.h"

enum turn { TURN_DIRS, TURN_NAMED_DIRS, TURN_FILES };

/* ---- one inode ------------------------------------------------------------------------------- */

static void check_content(struct fsck *f, struct fsck_inode *fi, struct lunfs_inode_pl *pl)
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
	}
	if (!fi->gone)
		check_xattrs(f, fi, pl);
}

/* Which directories are lists of orphans is the superblock's to say. */
static void check_list_flag(struct fsck *f, struct fsck_inode *fi)
{
	uint32_t flags = fi->flags & ~LUNFS_INODE_ORPHAN_DIR;

	if (fi->ino == f->geo.root_ino)
		flags = 0;
	else if (is_orphan_list(f, fi->ino) && S_ISDIR(fi->mode))
		flags = LUNFS_INODE_ORPHAN_DIR;
	if (flags == fi->flags)
		return;
	if (problem_item(&f->problems, PROBLEM_INODE_FIELD, fi->ino, 2,
			 "inode %llu: flags 0x%x, they should be 0x%x", ULL(fi->ino), fi->flags,
			 flags))
		set_flags(f, fi, flags, flags & LUNFS_INODE_ORPHAN ? fi->orphan_slot : 0);
}

/* Without reading it once more. */
static bool check_known(struct fsck *f, struct fsck_inode *fi)
{
	if (!fi->simple ||
	    store_changed(&f->store, geo_blk_off(fi->ino), geo_cell_bytes(&f->geo)) ||
	    !check_simple(f, fi))
		return false;
	f->files++;
	return true;
}

static int check_inode(struct fsck *f, struct fsck_inode *fi)
{
	struct lunfs_inode_pl pl;
	uint8_t sector[LUNFS_BLOCK_BYTES];
	bool known;

	fi->walked = true;
	f->problems.hold = is_stuck(f, fi->ino);
	check_list_flag(f, fi);
	known = check_known(f, fi);
	if (known || read_cell(f, fi->ino, sector, &pl) == 0) {
		if (!known)
			check_content(f, fi, &pl);
		if (!fi->gone && !fi->damaged && !job_pending(f, fi->ino) &&
		    fi->counted != fi->blks &&
		    problem(&f->problems, PROBLEM_BLOCK_COUNT, fi->ino,
			    "inode %llu says %llu blocks, it has %llu", ULL(fi->ino), ULL(fi->blks),
			    ULL(fi->counted)))
			set_blks(f, fi, fi->counted);
	}
	f->problems.hold = false;
	return 0;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static bool its_turn(const struct fsck *f, const struct fsck_inode *fi, enum turn turn)
{
	bool sure = !fi->doubt || fi->links || fi->orphan_refs || is_top(f, fi);

	if (fi->walked)
		return false;
	switch (turn) {
	case TURN_DIRS:
	case TURN_NAMED_DIRS:
		return S_ISDIR(fi->mode) && sure;
	default:
		return sure;
	}
}

static size_t take_turn(struct fsck *f, enum turn turn)
{
	size_t n = 0;

	for (size_t i = 0; i < f->inodes && !f->restart; i++) {
		if (!its_turn(f, &f->inode[i], turn))
			continue;
		progress(f, turn == TURN_FILES ? "inodes" : "directories", i, f->inodes);
		check_inode(f, &f->inode[i]);
		n++;
	}
	return n;
}

/*
 * Nothing that has names was damaged, or given up. A directory in a chunk whose map is lost goes
 * without a word of its own: that it was there is told by the entry that named it. The last change
 * of a directory may be in a write that was lost, or in a journal that nobody replayed. Of a node
 * that is older than it should be only the number of entries tells.
 */
static bool names_complete(const struct fsck *f)
{
	static const enum problem_code codes[] = {
	    PROBLEM_READ,      PROBLEM_CELL,	      PROBLEM_INODE,	  PROBLEM_ROOT,
	    PROBLEM_TREE,      PROBLEM_TREE_ORDER,    PROBLEM_TREE_NODE,  PROBLEM_DIRENT,
	    PROBLEM_CHECKSUM,  PROBLEM_DIRENT_TARGET, PROBLEM_LOST_WRITE, PROBLEM_HOST_NOT_FREE,
	    PROBLEM_HOST_SLOT, PROBLEM_DIR_SIZE};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (f->problems.count[codes[i]])
			return false;
	return inode_find((struct fsck *)f, f->geo.root_ino) != NULL;
}

/* What is left is in doubt and has no name. */
static void settle_doubts(struct fsck *f)
{
	bool drop = fsck_repairs(f) && names_complete(f);

	for (size_t i = 0; i < f->inodes; i++) {
		struct fsck_inode *fi = &f->inode[i];

		if (fi->walked)
			continue;
		if (drop)
			clear_inode(f, fi, NULL);
		else
			check_inode(f, fi);
	}
}

/* The places of the root and the lists are for nothing else, even while nothing stands there. */
static void reserve(struct fsck *f, uint64_t ino)
{
	uint32_t bit;
	struct fsck_group *fg = map_find(f, ino, &bit);

	if (fg && !inode_find(f, ino))
		bit_set(fg->cell_bad, bit);
}

int pass_trees(struct fsck *f)
{
	size_t n;

	trees_reset(f);
	reserve(f, f->geo.root_ino);
	for (unsigned i = 0; i < f->geo.slots; i++)
		reserve(f, f->geo.orphan_ino[i]);
	take_turn(f, TURN_DIRS);
	do
		n = take_turn(f, TURN_NAMED_DIRS);
	while (n);
	take_turn(f, TURN_FILES);
	if (f->restart)
		return 0;
	settle_doubts(f);
	progress(f, "inodes", 1, 1);
	return f->problems.stopped || f->restart ? 0 : jobs_run(f);
}
