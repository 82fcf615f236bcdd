/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extents of files, what is held in place, long symbolic links. */
#include "base/bitmap.h"
#include "base/crc.h"
#include "fsck/trees.h"
#include <stdlib.h>
#include <string.h>

#define LBLK_MAX (1ull << 51) /* no file is larger than 2^63 bytes */

/* ---- one extent ------------------------------------------------------------------------------ */

struct extent {
	uint64_t lblk, blk, n;
	uint32_t flags;
};

static bool get_extent(uint64_t key, const uint8_t *body, size_t len, struct extent *out)
{
	const struct lunfs_extent *e = (const void *)body;

	if (len != sizeof(*e))
		return false;
	*out = (struct extent){key, le64_get(e->blk), le32_get(e->len), le32_get(e->flags)};
	return true;
}

static bool extent_ok(struct fsck *f, const struct extent *e)
{
	return e->n && e->lblk < LBLK_MAX && e->n <= LBLK_MAX - e->lblk &&
	       blk_range_ok(&f->geo, e->blk, e->n) &&
	       geo_group_of(&f->geo, e->blk) < f->watermark && !(e->flags & ~LUNFS_EXT_UNWRITTEN);
}

/* ---- looking --------------------------------------------------------------------------------- */

struct extent_ctx {
	uint64_t next; /* first logical block that may follow */
};

static void visit_extent(struct fsck *f, struct tree_visit *v, uint64_t key, const uint8_t *body,
			 size_t len)
{
	struct extent_ctx *c = v->ctx;
	struct extent e;

	if (!get_extent(key, body, len, &e)) {
		v->rebuild |= problem_item(&f->problems, PROBLEM_EXTENT, v->fi->ino, key,
					   "inode %llu at block %llu: %zu bytes", ULL(v->fi->ino),
					   ULL(key), len);
		return;
	}
	if (!extent_ok(f, &e)) {
		if (low_watermark(f, e.blk)) {
			v->damaged = true; /* counts say nothing */
			return;
		}
		v->rebuild |=
		    problem_item(&f->problems, PROBLEM_EXTENT, v->fi->ino, key,
				 "inode %llu at block %llu: %llu blocks at %llu, flags 0x%x",
				 ULL(v->fi->ino), ULL(key), ULL(e.n), ULL(e.blk), e.flags);
		return;
	}
	if (key < c->next)
		v->rebuild |= problem_item(
		    &f->problems, PROBLEM_EXTENT_OVERLAP, v->fi->ino, key,
		    "inode %llu: the extent at block %llu begins before block %llu, where the one "
		    "before it ends",
		    ULL(v->fi->ino), ULL(key), ULL(c->next));
	if (key + e.n > c->next)
		c->next = key + e.n;
	v->counted += e.n;
	f->data_blks += e.n;
	v->rebuild |= claim_extent(f, v->fi, e.lblk, e.blk, e.n, e.flags & LUNFS_EXT_UNWRITTEN);
}

static void check_inline(struct fsck *f, struct fsck_inode *fi, struct lunfs_inode_pl *pl)
{
	size_t size = fi->size;

	if (mem_is_zero(pl->data_fork + size, sizeof(pl->data_fork) - size) ||
	    !problem(&f->problems, PROBLEM_INLINE_TAIL, fi->ino, "inode %llu, %zu bytes",
		     ULL(fi->ino), size))
		return;
	memset(pl->data_fork + size, 0, sizeof(pl->data_fork) - size);
	write_cell(f, fi->ino, pl, false);
}

void check_extents(struct fsck *f, struct fsck_inode *fi, struct lunfs_inode_pl *pl)
{
	struct extent_ctx c = {0};
	struct tree_visit v = {.fi = fi, .what = "extent tree", .item = visit_extent, .ctx = &c};

	if (pl->data_format == LUNFS_FORK_TREE)
		tree_walk(f, &v, pl->data_fork, sizeof(pl->data_fork));
	else if (pl->data_format == LUNFS_FORK_INLINE)
		check_inline(f, fi, pl);
	fi->counted += v.counted;
	fi->damaged |= v.damaged && !v.rebuild;
	if (v.rebuild)
		job_add(f, &v);
	free(v.cells.c);
}

bool check_simple(struct fsck *f, struct fsck_inode *fi)
{
	struct extent e = {0, fi->ext_blk, fi->ext_n, fi->unwritten ? LUNFS_EXT_UNWRITTEN : 0};

	if (!e.n)
		return true;
	if (!extent_ok(f, &e) || map_referred(f, e.blk, e.n))
		return false;
	claim_extent(f, fi, 0, e.blk, e.n, fi->unwritten);
	fi->counted += e.n;
	f->data_blks += e.n;
	return true;
}

/* ---- putting right --------------------------------------------------------------------------- */

static void put_extent(struct items *l, const struct extent *e, bool found)
{
	struct lunfs_extent x = {.blk = le64_make(e->blk),
				 .len = le32_make((uint32_t)e->n),
				 .flags = le32_make(e->flags)};

	items_add(l, e->lblk, &x, sizeof(x), found);
}

static void set_extent(struct items *l, size_t i, const struct extent *e)
{
	struct lunfs_extent x = {.blk = le64_make(e->blk),
				 .len = le32_make((uint32_t)e->n),
				 .flags = le32_make(e->flags)};

	l->it[i].key = e->lblk;
	memcpy(items_body(l, i), &x, sizeof(x));
}

static void drop_bad(struct fsck *f, struct fsck_inode *fi, struct items *l)
{
	for (size_t i = 0; i < l->n; i++) {
		struct extent e;

		if (get_extent(l->it[i].key, items_body(l, i), l->it[i].len, &e) &&
		    extent_ok(f, &e))
			continue;
		l->it[i].drop = l->it[i].found ||
				!problem_left(&f->problems, PROBLEM_EXTENT, fi->ino, l->it[i].key);
	}
}

/*
 * Where two extents hold the same part of the file the first one keeps it, unless that one was
 * found in a lost cell and the other was not.
 */
static void cut_overlaps(struct fsck *f, struct fsck_inode *fi, struct items *l)
{
	struct extent prev = {0}, e;
	size_t at = SIZE_MAX;

	for (size_t i = 0; i < l->n; i++) {
		struct item *it = &l->it[i];

		if (it->drop || !get_extent(it->key, items_body(l, i), it->len, &e) ||
		    problem_left(&f->problems, PROBLEM_EXTENT, fi->ino, it->key))
			continue;
		if (at != SIZE_MAX && e.lblk < prev.lblk + prev.n &&
		    !problem_left(&f->problems, PROBLEM_EXTENT_OVERLAP, fi->ino, it->key)) {
			uint64_t shared = prev.lblk + prev.n - e.lblk;

			if (l->it[at].found && !it->found && prev.n > shared) {
				prev.n -= shared;
				set_extent(l, at, &prev);
			} else if (l->it[at].found && !it->found) {
				l->it[at].drop = true;
			} else if (shared >= e.n) {
				it->drop = true;
				continue;
			} else {
				e.lblk += shared;
				e.blk += shared;
				e.n -= shared;
				set_extent(l, i, &e);
			}
		}
		prev = e;
		at = i;
	}
}

/* The part [from, to) of @e, which stands elsewhere by @blk; 0: nowhere. */
static void put_part(struct items *l, const struct extent *e, uint64_t from, uint64_t to,
		     uint64_t blk)
{
	struct extent part = {from, blk, to - from, e->flags};

	if (from < to && blk)
		put_extent(l, &part, false);
}

static void remap_one(struct items *l, size_t i, const struct remap *r, const struct remap *end)
{
	uint64_t at = l->it[i].key, last;
	struct extent e;
	bool any = false;

	if (!get_extent(l->it[i].key, items_body(l, i), l->it[i].len, &e))
		return;
	last = e.lblk + e.n;
	for (; r < end && r->lblk < last; r++) {
		uint64_t to = r->lblk + r->n < last ? r->lblk + r->n : last;

		if (r->lblk < at || r->old != e.blk + (r->lblk - e.lblk))
			continue;
		put_part(l, &e, at, r->lblk, e.blk + (at - e.lblk));
		put_part(l, &e, r->lblk, to, r->blk);
		at = to;
		any = true;
	}
	if (any) {
		put_part(l, &e, at, last, e.blk + (at - e.lblk));
		l->it[i].drop = true;
	}
}

static const struct remap *remaps_of(const struct trees *t, uint64_t ino)
{
	size_t lo = 0, hi = t->remaps;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (t->remap[mid].ino < ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	return t->remap + lo;
}

static void remap_all(struct fsck *f, struct fsck_inode *fi, struct items *l)
{
	const struct trees *t = f->trees;
	const struct remap *r, *end, *mine;
	size_t n = l->n;

	if (!t->remaps)
		return;
	r = remaps_of(t, fi->ino);
	end = t->remap + t->remaps;
	for (mine = r; mine < end && mine->ino == fi->ino;)
		mine++;
	for (size_t i = 0; r < mine && i < n; i++)
		if (!l->it[i].drop)
			remap_one(l, i, r, mine);
}

void extents_fix(struct fsck *f, struct fsck_inode *fi, struct items *l)
{
	items_sort(l);
	drop_bad(f, fi, l);
	remap_all(f, fi, l);
	items_sort(l);
	cut_overlaps(f, fi, l);
	items_squeeze(l);
}

void extents_refer(struct fsck *f, const struct items *l)
{
	for (size_t i = 0; i < l->n; i++) {
		struct fsck_group *fg;
		struct extent e;
		uint32_t bit;

		if (!get_extent(l->it[i].key, items_body(l, i), l->it[i].len, &e) ||
		    !extent_ok(f, &e))
			continue;
		fg = map_find(f, e.blk, &bit);
		for (uint64_t k = 0; fg && k < e.n; k++)
			bit_set(fg->referred, bit + k);
	}
}

uint64_t extents_blks(const struct items *l)
{
	uint64_t n = 0;

	for (size_t i = 0; i < l->n; i++) {
		struct extent e;

		if (get_extent(l->it[i].key, items_body(l, i), l->it[i].len, &e))
			n += e.n;
	}
	return n;
}

/* ---- symbolic links -------------------------------------------------------------------------- */

struct symlink_ctx {
	uint64_t next_key, bytes;
	size_t last; /* length of the part before */
	bool bad;
};

static void visit_symlink(struct fsck *f, struct tree_visit *v, uint64_t key, const uint8_t *body,
			  size_t len)
{
	struct symlink_ctx *c = v->ctx;

	(void)f;
	c->bad |= key != c->next_key || len == 0 || len > LUNFS_SYMLINK_PART_BYTES ||
		  memchr(body, 0, len) || (key && c->last != LUNFS_SYMLINK_PART_BYTES);
	c->next_key = key + 1;
	c->bytes += len;
	c->last = len;
}

/* The whole target stands there, only the size says something else. */
static bool size_only(const struct symlink_ctx *c, const struct lunfs_inode_pl *pl)
{
	return !c->bad && pl->data_format == LUNFS_FORK_TREE && c->bytes > 0 &&
	       c->bytes <= LUNFS_SYMLINK_MAX;
}

static void judge_symlink(struct fsck *f, struct fsck_inode *fi, const struct lunfs_inode_pl *pl,
			  const struct tree_visit *v, const struct symlink_ctx *c)
{
	if (!c->bad && c->bytes == fi->size && fi->size > 0 && fi->size <= LUNFS_SYMLINK_MAX)
		return;
	if (size_only(c, pl)) {
		if (problem_item(&f->problems, PROBLEM_INODE_FIELD, fi->ino, 1,
				 "symbolic link %llu says %llu bytes, its target has %llu",
				 ULL(fi->ino), ULL(fi->size), ULL(c->bytes)))
			set_size(f, fi, c->bytes);
	} else if (problem(&f->problems, PROBLEM_SYMLINK, fi->ino, "inode %llu", ULL(fi->ino))) {
		clear_inode(f, fi, &v->cells);
	}
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
	fi->counted += v.counted;
	fi->damaged |= v.damaged && !v.rebuild;
	if (v.rebuild)
		job_add(f, &v);
	else if (!fsck_dying(fi) && !v.damaged)
		judge_symlink(f, fi, pl, &v, &c);
	free(v.cells.c);
}

void symlink_fix(struct fsck *f, struct fsck_inode *fi, struct items *l)
{
	(void)f;
	(void)fi;
	for (size_t i = 0; i < l->n; i++)
		l->it[i].drop = l->it[i].len == 0 || l->it[i].len > LUNFS_SYMLINK_PART_BYTES ||
				l->it[i].key > LUNFS_SYMLINK_MAX / LUNFS_SYMLINK_PART_BYTES;
	items_squeeze(l);
}
