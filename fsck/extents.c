/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extents of files, extended attributes, long symbolic links. */
#include "fsck/fsck.h"
#include <string.h>

struct extent_ctx {
	uint64_t next; /* first logical block that may follow */
};

static void visit_extent(struct fsck *f, struct tree_visit *v, uint64_t key, const uint8_t *body,
			 size_t len)
{
	const struct lunfs_extent *e = (const void *)body;
	struct extent_ctx *c = v->ctx;
	uint64_t blk, n;

	if (len != sizeof(*e)) {
		problem(&f->problems, PROBLEM_EXTENT, v->fi->ino, "inode %llu at block %llu: form",
			(unsigned long long)v->fi->ino, (unsigned long long)key);
		return;
	}
	blk = le64_get(e->blk);
	n = le32_get(e->len);
	if (key < c->next || n == 0 || key + n < key || !blk_range_ok(&f->geo, blk, n) ||
	    le32_get(e->flags) & ~LUNFS_EXT_UNWRITTEN) {
		problem(&f->problems, PROBLEM_EXTENT, v->fi->ino,
			"inode %llu at block %llu: %llu blocks at %llu, flags 0x%x",
			(unsigned long long)v->fi->ino, (unsigned long long)key,
			(unsigned long long)n, (unsigned long long)blk, le32_get(e->flags));
		return;
	}
	c->next = key + n;
	v->fi->counted += n;
	f->data_blks += n;
	map_refer(f, blk, n, v->fi->ino);
}

void check_extents(struct fsck *f, struct fsck_inode *fi, const struct lunfs_inode_pl *pl)
{
	struct extent_ctx c = {0};
	struct tree_visit v = {.fi = fi, .what = "extent tree", .item = visit_extent, .ctx = &c};

	if (pl->data_format == LUNFS_FORK_TREE)
		tree_walk(f, &v, pl->data_fork, sizeof(pl->data_fork));
	else if (pl->data_format == LUNFS_FORK_INLINE && fi->size > sizeof(pl->data_fork))
		problem(&f->problems, PROBLEM_INODE, fi->ino,
			"inode %llu holds %llu bytes in place", (unsigned long long)fi->ino,
			(unsigned long long)fi->size);
}

/* ---- symbolic links -------------------------------------------------------------------------- */

struct symlink_ctx {
	uint64_t next_key, bytes;
	bool bad;
};

static void visit_symlink(struct fsck *f, struct tree_visit *v, uint64_t key, const uint8_t *body,
			  size_t len)
{
	struct symlink_ctx *c = v->ctx;

	(void)f;
	c->bad |= key != c->next_key || len == 0 || len > LUNFS_SYMLINK_PART_BYTES ||
		  memchr(body, 0, len);
	c->next_key = key + 1;
	c->bytes += len;
}

void check_symlink(struct fsck *f, struct fsck_inode *fi, const struct lunfs_inode_pl *pl)
{
	struct symlink_ctx c = {0};
	struct tree_visit v = {.fi = fi, .what = "symbolic link", .item = visit_symlink, .ctx = &c};

	if (pl->data_format == LUNFS_FORK_TREE) {
		tree_walk(f, &v, pl->data_fork, sizeof(pl->data_fork));
	} else if (pl->data_format == LUNFS_FORK_INLINE && fi->size <= sizeof(pl->data_fork)) {
		c.bytes = fi->size;
		c.bad = memchr(pl->data_fork, 0, fi->size) != NULL;
	} else {
		c.bad = true;
	}
	if (fsck_dying(fi))
		return;
	if (c.bad || c.bytes != fi->size || fi->size == 0 || fi->size > LUNFS_SYMLINK_MAX)
		problem(&f->problems, PROBLEM_SYMLINK, fi->ino, "inode %llu",
			(unsigned long long)fi->ino);
}
