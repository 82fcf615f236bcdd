/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extended attributes: every value is whole, every name stands under its hash. */
#include "base/siphash.h"
#include "fsck/fsck.h"
#include <string.h>

struct xattr_ctx {
	uint64_t base; /* key of the attribute that is being put together, without its part */
	unsigned part; /* the part expected next */
	uint32_t value_len, have;
};

static void finish(struct fsck *f, struct tree_visit *v)
{
	struct xattr_ctx *c = v->ctx;

	if (c->part && c->have != c->value_len && !fsck_dying(v->fi))
		problem(&f->problems, PROBLEM_XATTR, v->fi->ino,
			"inode %llu: a value has %u of %u bytes", (unsigned long long)v->fi->ino,
			c->have, c->value_len);
	c->part = 0;
	c->have = 0;
}

static bool hash_ok(struct fsck *f, uint64_t key, const struct lunfs_xattr *x)
{
	uint8_t buf[1 + LUNFS_NAME_MAX];

	buf[0] = x->ns;
	memcpy(buf + 1, x->data, x->name_len);
	return key >> 16 == siphash24(f->geo.hash_key, buf, 1u + x->name_len) >> 20;
}

static bool form_ok(const struct lunfs_xattr *x, size_t len, unsigned part)
{
	if (len < sizeof(*x) || x->ns < LUNFS_XATTR_USER || x->ns > LUNFS_XATTR_SYSTEM)
		return false;
	if ((part == 0) != (x->name_len != 0) || le16_get(x->part_len) > LUNFS_XATTR_PART_BYTES)
		return false;
	return len == sizeof(*x) + x->name_len + le16_get(x->part_len) &&
	       le32_get(x->value_len) <= LUNFS_XATTR_VALUE_MAX;
}

static void visit_xattr(struct fsck *f, struct tree_visit *v, uint64_t key, const uint8_t *body,
			size_t len)
{
	const struct lunfs_xattr *x = (const void *)body;
	struct xattr_ctx *c = v->ctx;
	unsigned part = key & 0xff;

	if (part == 0)
		finish(f, v);
	if (!form_ok(x, len, part) || part != c->part || (part && key >> 8 != c->base) ||
	    (part == 0 && !hash_ok(f, key, x))) {
		problem(&f->problems, PROBLEM_XATTR, v->fi->ino, "inode %llu, key %llu",
			(unsigned long long)v->fi->ino, (unsigned long long)key);
		return;
	}
	c->base = key >> 8;
	c->value_len = le32_get(x->value_len);
	c->have += le16_get(x->part_len);
	c->part++;
}

void check_xattrs(struct fsck *f, struct fsck_inode *fi, const struct lunfs_inode_pl *pl)
{
	struct xattr_ctx c = {0};
	struct tree_visit v = {.fi = fi, .what = "xattrs", .item = visit_xattr, .ctx = &c};

	if (pl->xattr_format != LUNFS_FORK_TREE)
		return;
	tree_walk(f, &v, pl->xattr_fork, sizeof(pl->xattr_fork));
	finish(f, &v);
}
