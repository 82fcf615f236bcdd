/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names that are added and dropped by repairs, collected and done directory by directory; and
 * lost+found, where inodes without a name get one, as e2fsck(8) does it.
 */
#include "base/log.h"
#include "fsck/trees.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOST_FOUND "lost+found"

/* ---- edits ----------------------------------------------------------------------------------- */

static void add_edit(struct fsck *f, const struct dir_edit *e)
{
	struct trees *t = f->trees;

	t->edit = room_for_one(t->edit, t->edits, &t->edits_room, sizeof(*t->edit));
	t->edit[t->edits++] = *e;
}

void edit_add(struct fsck *f, uint64_t dir, const struct fsck_inode *target, const char *name)
{
	struct dir_edit e = {.dir = dir,
			     .target = target->ino,
			     .generation = target->generation,
			     .kind = EDIT_ADD,
			     .type = (uint8_t)IFTODT(target->mode)};

	snprintf(e.name, sizeof(e.name), "%s", name);
	add_edit(f, &e);
}

void edit_drop(struct fsck *f, uint64_t dir, uint64_t target, bool but_one)
{
	struct dir_edit e = {
	    .dir = dir, .target = target, .kind = but_one ? EDIT_DROP_BUT_ONE : EDIT_DROP};

	add_edit(f, &e);
}

static int by_dir(const void *a, const void *b)
{
	const struct dir_edit *x = a, *y = b;

	if (x->dir != y->dir)
		return x->dir < y->dir ? -1 : 1;
	if (x->kind != y->kind) /* what is dropped goes first */
		return y->kind < x->kind ? -1 : 1;
	return x->target < y->target ? -1 : x->target > y->target;
}

static int edit_dir(struct fsck *f, const struct dir_edit *e, size_t n)
{
	struct fsck_inode *dir = inode_find(f, e->dir);
	struct fork_job job = {.ino = e->dir};
	struct lunfs_inode_pl pl;
	int rc;

	if (!dir || !S_ISDIR(dir->mode) || dir->gone)
		return -ENOTDIR;
	rc = inode_load(f, dir->ino, (void *)&pl);
	if (rc)
		return rc;
	tree_cells(f, dir, &pl, false, &job.cells);
	job.counted = job.cells.n * f->geo.cell_blks;
	rc = rebuild_fork(f, &job, e, n);
	free(job.cells.c);
	return rc;
}

bool can_edit(struct fsck *f, uint64_t dir)
{
	struct fsck_inode *fi = inode_find(f, dir);

	return fi && S_ISDIR(fi->mode) && !fi->gone && !fi->damaged && !is_stuck(f, dir);
}

int edits_run(struct fsck *f)
{
	struct trees *t = f->trees;
	int rc = 0;

	if (t->edits)
		qsort(t->edit, t->edits, sizeof(*t->edit), by_dir);
	for (size_t i = 0, to; i < t->edits && rc == 0; i = to) {
		for (to = i + 1; to < t->edits && t->edit[to].dir == t->edit[i].dir;)
			to++;
		rc = edit_dir(f, &t->edit[i], to - i);
		if (rc == -ENOSPC || rc == -EIO || rc == -ENOTDIR) {
			log_err("fsck-no-room",
				"Directory %llu could not be changed (%s): what was to be named in "
				"it is left as it is. Free some space, or let the device grow, and "
				"check again.",
				ULL(t->edit[i].dir), strerror(-rc));
			stuck_add(f, t->edit[i].dir);
			rc = 0;
		}
	}
	return rc;
}

/* ---- new directories ------------------------------------------------------------------------- */

/* Like what mkfs makes, of no incarnation; with chance, since it must not repeat in this cell. */
uint64_t new_generation(struct fsck *f, uint64_t ino)
{
	uint64_t x = (f->nonce ^ ino * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu;

	return (x >> 32) | 2;
}

int make_dir(struct fsck *f, uint64_t ino, uint64_t generation, uint64_t parent, uint32_t mode,
	     uint32_t flags)
{
	uint8_t payload[LUNFS_PAYLOAD_BYTES];
	struct timespec then = {.tv_sec = (time_t)f->geo.mkfs_time_s};
	struct inode in = {.ino = ino,
			   .generation = generation,
			   .mode = S_IFDIR | mode,
			   .nlink = 2,
			   .atime = then,
			   .mtime = then,
			   .ctime = then,
			   .btime = then,
			   .parent = parent,
			   .flags = flags};

	inode_format(&f->geo, &in, payload);
	return write_cell(f, ino, payload, true);
}

/* ---- lost+found ------------------------------------------------------------------------------ */

/* The directory of that name in the root; 0: there is no such name. -ENOTDIR: it is no directory.
 */
static int find_in_root(struct fsck *f, struct fsck_inode *root, const char *name, uint64_t *ino)
{
	struct lunfs_inode_pl pl;
	struct cell_list cells = {0};
	struct items l = {0};
	int rc = inode_load(f, root->ino, (void *)&pl);

	*ino = 0;
	if (rc)
		return rc;
	tree_cells(f, root, &pl, false, &cells);
	tree_gather(f, &pl, false, &cells, &l);
	for (size_t i = 0; i < l.n && rc == 0; i++) {
		const struct lunfs_dirent *de = (const void *)items_body(&l, i);
		struct fsck_inode *fi;

		if (l.it[i].len != sizeof(*de) + strlen(name) || de->name_len != strlen(name) ||
		    memcmp(de->name, name, strlen(name)) != 0)
			continue;
		fi = inode_find(f, le64_get(de->ino));
		if (fi && !fi->gone && S_ISDIR(fi->mode) && fi->ino != root->ino)
			*ino = fi->ino;
		else
			rc = -ENOTDIR;
	}
	free(cells.c);
	items_free(&l);
	return rc;
}

/* Into the table, which moves those behind it: nobody may hold on to one. */
static struct fsck_inode *insert_inode(struct fsck *f, const struct fsck_inode *fi)
{
	struct fsck_inode *gone = inode_find(f, fi->ino); /* whose cell it has now */
	size_t i;

	if (gone) {
		*gone = *fi;
		return gone;
	}
	lunfs_assert(inode_add(f, fi->ino));
	for (i = f->inodes - 1; i > 0 && f->inode[i - 1].ino > fi->ino; i--)
		f->inode[i] = f->inode[i - 1];
	f->inode[i] = *fi;
	return &f->inode[i];
}

static int make_lost_found(struct fsck *f, const char *name, uint64_t *ino)
{
	struct fsck_inode fi = {
	    .mode = S_IFDIR | 0700, .nlink = 2, .parent = f->geo.root_ino, .walked = true};
	struct fsck_inode *root;
	int rc = take_cell(f, &fi.ino);

	if (rc)
		return rc;
	*ino = fi.ino;
	fi.generation = new_generation(f, fi.ino);
	rc = make_dir(f, fi.ino, fi.generation, f->geo.root_ino, 0700, 0);
	if (rc)
		return rc;
	insert_inode(f, &fi);
	edit_add(f, f->geo.root_ino, &fi, name);
	root = inode_find(f, f->geo.root_ino);
	return set_nlink(f, root, root->nlink + 1);
}

static int lost_found(struct fsck *f, uint64_t *ino)
{
	struct fsck_inode *root = inode_find(f, f->geo.root_ino);
	char name[32] = LOST_FOUND;
	int rc = -ENOTDIR;

	if (!can_edit(f, f->geo.root_ino))
		return -ENOTDIR;
	for (unsigned n = 1; n < 10 && rc == -ENOTDIR; n++) {
		rc = find_in_root(f, root, name, ino);
		if (rc == -ENOTDIR)
			snprintf(name, sizeof(name), LOST_FOUND ".%u", n);
	}
	return rc || *ino ? rc : make_lost_found(f, name, ino);
}

void lost_add(struct fsck *f, uint64_t ino)
{
	struct trees *t = f->trees;

	t->lost = room_for_one(t->lost, t->losts, &t->losts_room, sizeof(*t->lost));
	t->lost[t->losts++] = ino;
}

static int move_one(struct fsck *f, struct fsck_inode *fi, uint64_t to)
{
	char name[32];

	snprintf(name, sizeof(name), "#%llu", ULL(fi->ino));
	edit_add(f, to, fi, name);
	if (S_ISDIR(fi->mode))
		return set_parent(f, fi, to);
	return fi->nlink == 1 ? 0 : set_nlink(f, fi, 1);
}

int lost_run(struct fsck *f)
{
	struct trees *t = f->trees;
	struct fsck_inode *to;
	uint32_t dirs = 0;
	uint64_t ino = 0;
	int rc;

	if (t->losts == 0)
		return 0;
	rc = lost_found(f, &ino);
	to = rc ? NULL : inode_find(f, ino);
	if (!to || !can_edit(f, ino)) {
		log_err("fsck-lost-found",
			"There is no lost+found and none could be made (%s): inodes without a name "
			"are left as they are. Free some space and check again.",
			strerror(rc ? -rc : ENOTDIR));
		for (size_t i = 0; i < t->losts; i++)
			stuck_add(f, t->lost[i]);
		return 0;
	}
	for (size_t i = 0; i < t->losts && rc == 0; i++) {
		struct fsck_inode *fi = inode_find(f, t->lost[i]);

		dirs += S_ISDIR(fi->mode) != 0;
		rc = move_one(f, fi, ino);
	}
	return rc || !dirs ? rc : set_nlink(f, to, to->nlink + dirs);
}
