/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Blocks that two owners claim: metadata and the first file keep them, each later file gets a copy
 * of what stands there. The copies go to free blocks at once; the file's extents are built anew to
 * point to them.
 */
#include "base/bitmap.h"
#include "base/log.h"
#include "fsck/trees.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COPY_BLKS 256u

/* ---- finding them ---------------------------------------------------------------------------- */

static bool report(struct fsck *f, const struct conflict *c)
{
	struct trees *t = f->trees;

	if (!problem_item(&f->problems, PROBLEM_DOUBLE, c->blk, c->ino,
			  "blocks %llu to %llu, which are in use, are also blocks %llu to %llu of "
			  "inode %llu",
			  ULL(c->blk), ULL(c->blk + c->n - 1), ULL(c->lblk),
			  ULL(c->lblk + c->n - 1), ULL(c->ino)))
		return false;
	t->conflict =
	    room_for_one(t->conflict, t->conflicts, &t->conflicts_room, sizeof(*t->conflict));
	t->conflict[t->conflicts++] = *c;
	return true;
}

bool claim_extent(struct fsck *f, struct fsck_inode *fi, uint64_t lblk, uint64_t blk, uint64_t n,
		  bool unwritten)
{
	uint32_t bit;
	struct fsck_group *fg = map_find(f, blk, &bit);
	bool any = false;

	for (uint64_t i = 0; fg && i < n;) {
		uint64_t from = i;

		while (i < n && bit_get(fg->referred, bit + i))
			i++;
		if (i > from) {
			struct conflict c = {fi->ino, lblk + from, blk + from, i - from, unwritten};

			any |= report(f, &c);
			continue;
		}
		bit_set(fg->referred, bit + i);
		i++;
	}
	return any;
}

/* ---- copying --------------------------------------------------------------------------------- */

/* From @done on @n blocks of @c stand at @blk. */
static void add_remap(struct fsck *f, const struct conflict *c, uint64_t done, uint64_t blk,
		      uint64_t n)
{
	struct trees *t = f->trees;

	t->remap = room_for_one(t->remap, t->remaps, &t->remaps_room, sizeof(*t->remap));
	t->remap[t->remaps++] = (struct remap){c->ino, c->lblk + done, c->blk + done, blk, n};
}

/*
 * What the device holds: a change of this run is never a file's data, but may be a lock record for
 * what was taken for a cell where the file has its own. On 0 the first *n blocks are in @buf; on
 * -EIO the first *n cannot be read.
 */
static int read_some(struct fsck *f, uint64_t from, uint64_t *n, uint8_t *buf)
{
	int rc = store_read_device(&f->store, geo_blk_off(from), *n * LUNFS_BLOCK_BYTES, buf);

	for (uint64_t i = 0, len = rc == -EIO ? *n : 0; i < len && i < *n; i++) {
		int one = store_read_device(&f->store, geo_blk_off(from + i), LUNFS_BLOCK_BYTES,
					    buf + i * LUNFS_BLOCK_BYTES);

		if (one && one != -EIO)
			return one;
		if (i == 0)
			rc = one;
		else if (one != rc)
			*n = i;
	}
	return rc;
}

struct cloning {
	const struct conflict *c;
	uint64_t done; /* of its blocks */
	uint64_t bad;  /* how many behind them cannot be read */
	uint8_t *buf;
};

/* The next @n blocks, to @to. */
static int copy(struct fsck *f, struct cloning *w, uint64_t to, uint64_t n)
{
	uint64_t from = w->done, end = from + n;
	int rc = 0;

	while (w->done < end && rc == 0) {
		uint64_t len = end - w->done < COPY_BLKS ? end - w->done : COPY_BLKS;

		rc = read_some(f, w->c->blk + w->done, &len, w->buf);
		if (rc == -EIO)
			w->bad = len;
		if (rc == 0)
			rc = store_write_now(&f->store, geo_blk_off(to + w->done - from),
					     len * LUNFS_BLOCK_BYTES, w->buf);
		w->done += rc ? 0 : len;
	}
	return rc;
}

/* As much of it as one run of free blocks takes. */
static int clone_some(struct fsck *f, struct cloning *w)
{
	uint64_t blk, got, from = w->done, copied;
	int rc = take_blks(f, w->c->n - from, &blk, &got);

	if (rc)
		return rc;
	rc = copy(f, w, blk, got);
	copied = w->done - from;
	if (copied < got)
		drop_blks(f, blk + copied, got - copied);
	if (copied)
		add_remap(f, w->c, from, blk, copied);
	return rc;
}

/* The next @n blocks become a hole. False: that was declined. */
static bool lose(struct fsck *f, struct cloning *w, uint64_t n, int rc)
{
	const struct conflict *c = w->c;
	uint64_t lblk = c->lblk + w->done;

	if (!problem_item(&f->problems, PROBLEM_DOUBLE_LOST, c->blk + w->done, c->ino,
			  "blocks %llu to %llu of inode %llu: %s", ULL(lblk), ULL(lblk + n - 1),
			  ULL(c->ino), strerror(-rc))) {
		stuck_add(f, c->ino);
		return false;
	}
	add_remap(f, c, w->done, 0, n);
	w->done += n;
	return true;
}

/* Then there may be room once they were written anew: the next round finds the same. */
static bool bitmap_lost(const struct fsck *f)
{
	for (uint64_t g = 0; g < f->watermark; g++)
		if (f->group[g].bad_bitmap)
			return true;
	return false;
}

/* Blocks that were never written read as zeroes, as a hole does. */
static void clone_one(struct fsck *f, const struct conflict *c, uint8_t *buf)
{
	struct cloning w = {.c = c, .buf = buf};
	bool go_on = true;

	if (c->unwritten) {
		add_remap(f, c, 0, 0, c->n);
		return;
	}
	while (go_on && w.done < c->n) {
		int rc;

		w.bad = 0;
		rc = clone_some(f, &w);
		if (rc == -ENOSPC && bitmap_lost(f))
			return;
		if (rc) /* without a bad block nothing more can be written */
			go_on = lose(f, &w, w.bad ? w.bad : c->n - w.done, rc);
	}
}

static int by_place(const void *a, const void *b)
{
	const struct remap *x = a, *y = b;

	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	return x->lblk < y->lblk ? -1 : x->lblk > y->lblk;
}

int clone_all(struct fsck *f)
{
	struct trees *t = f->trees;
	uint8_t *buf;

	if (t->conflicts == 0)
		return 0;
	buf = dev_buf_alloc(COPY_BLKS * LUNFS_BLOCK_BYTES);
	for (size_t i = 0; i < t->conflicts; i++) {
		progress(f, "copying", i, t->conflicts);
		clone_one(f, &t->conflict[i], buf);
	}
	free(buf);
	if (t->remaps)
		qsort(t->remap, t->remaps, sizeof(*t->remap), by_place);
	return 0;
}
