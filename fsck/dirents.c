/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Directory entries: form, hash, target; counts the names of every inode. */
#include "base/siphash.h"
#include "fsck/fsck.h"
#include <dirent.h>
#include <string.h>

static bool name_ok(const struct lunfs_dirent *de, size_t len)
{
	if (len < sizeof(*de) || de->name_len == 0 || len != sizeof(*de) + de->name_len)
		return false;
	if (memchr(de->name, '/', de->name_len) || memchr(de->name, 0, de->name_len))
		return false;
	if (de->name[0] == '.' && (de->name_len == 1 || (de->name_len == 2 && de->name[1] == '.')))
		return false;
	return true;
}

static void count_name(struct fsck *f, struct fsck_inode *dir, struct fsck_inode *fi)
{
	if (dir->flags & LUNFS_INODE_ORPHAN_DIR) {
		fi->orphan_refs++;
		if (!(fi->flags & LUNFS_INODE_ORPHAN) || fi->orphan_slot >= f->geo.slots ||
		    f->geo.orphan_ino[fi->orphan_slot] != dir->ino)
			problem(&f->problems, PROBLEM_ORPHAN, fi->ino,
				"inode %llu stands in the orphan list %llu but does not say so",
				(unsigned long long)fi->ino, (unsigned long long)dir->ino);
		return;
	}
	fi->links++;
	fi->named_in = dir->ino;
	if (S_ISDIR(fi->mode))
		dir->subdirs++;
}

static void check_target(struct fsck *f, struct fsck_inode *dir, const struct lunfs_dirent *de)
{
	struct fsck_inode *fi = inode_find(f, le64_get(de->ino));

	if (!fi || fi->generation != le64_get(de->generation)) {
		problem(&f->problems, PROBLEM_DIRENT_TARGET, dir->ino,
			"'%.*s' in directory %llu names inode %llu, which %s", de->name_len,
			(const char *)de->name, (unsigned long long)dir->ino,
			(unsigned long long)le64_get(de->ino),
			fi ? "has another generation" : "is none");
		return;
	}
	if (de->type != IFTODT(fi->mode))
		problem(&f->problems, PROBLEM_DIRENT, dir->ino,
			"'%.*s' in directory %llu says type %u, its inode says %u", de->name_len,
			(const char *)de->name, (unsigned long long)dir->ino, de->type,
			(unsigned)IFTODT(fi->mode));
	count_name(f, dir, fi);
}

static void visit_dirent(struct fsck *f, struct tree_visit *v, uint64_t key, const uint8_t *body,
			 size_t len)
{
	const struct lunfs_dirent *de = (const void *)body;
	uint64_t h;

	v->fi->names++;
	if (!name_ok(de, len)) {
		problem(&f->problems, PROBLEM_DIRENT, v->fi->ino, "directory %llu, key %llu",
			(unsigned long long)v->fi->ino, (unsigned long long)key);
		return;
	}
	f->names++;
	h = siphash24(f->geo.hash_key, de->name, de->name_len) >> 8;
	if (h == 0)
		h = 1;
	if (key >> 7 != h)
		problem(&f->problems, PROBLEM_DIRENT_HASH, v->fi->ino,
			"'%.*s' in directory %llu cannot be found by its name", de->name_len,
			(const char *)de->name, (unsigned long long)v->fi->ino);
	check_target(f, v->fi, de);
}

void check_directory(struct fsck *f, struct fsck_inode *fi, const struct lunfs_inode_pl *pl)
{
	struct tree_visit v = {.fi = fi, .what = "directory", .item = visit_dirent};

	if (pl->data_format == LUNFS_FORK_TREE)
		tree_walk(f, &v, pl->data_fork, sizeof(pl->data_fork));
	else if (pl->data_format != LUNFS_FORK_EMPTY)
		problem(&f->problems, PROBLEM_INODE, fi->ino, "directory %llu has format %u",
			(unsigned long long)fi->ino, pl->data_format);
	if (fi->names != fi->size)
		problem(&f->problems, PROBLEM_DIR_SIZE, fi->ino,
			"directory %llu says %llu entries, it has %llu",
			(unsigned long long)fi->ino, (unsigned long long)fi->size,
			(unsigned long long)fi->names);
}
