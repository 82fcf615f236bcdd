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
 * what was taken for a cell where the file has its own.
 */
static int copy(struct fsck *f, uint64_t from, uint64_t to, uint64_t n, uint8_t *buf)
{
	int rc = 0;

	for (uint64_t at = 0; at < n && rc == 0; at += COPY_BLKS) {
		size_t len = (n - at < COPY_BLKS ? n - at : COPY_BLKS) * LUNFS_BLOCK_BYTES;

		rc = store_read_device(&f->store, geo_blk_off(from + at), len, buf);
		if (rc == 0)
			rc = store_write_now(&f->store, geo_blk_off(to + at), len, buf);
	}
	return rc;
}

/* As much of it as one run of free blocks takes. */
static int clone_some(struct fsck *f, const struct conflict *c, uint64_t *done, uint8_t *buf)
{
	uint64_t blk, got;
	int rc = take_blks(f, c->n - *done, &blk, &got);

	if (rc)
		return rc;
	rc = copy(f, c->blk + *done, blk, got, buf);
	if (rc) {
		drop_blks(f, blk, got);
		return rc;
	}
	add_remap(f, c, *done, blk, got);
	*done += got;
	return 0;
}

/* Blocks that were never written read as zeroes, as a hole does. */
static void clone_one(struct fsck *f, const struct conflict *c, uint8_t *buf)
{
	uint64_t done = 0;
	int rc = 0;

	while (!c->unwritten && done < c->n && rc == 0)
		rc = clone_some(f, c, &done, buf);
	if (done == c->n)
		return;
	if (c->unwritten ||
	    problem_item(&f->problems, PROBLEM_DOUBLE_LOST, c->blk, c->ino,
			 "blocks %llu to %llu of inode %llu: %s", ULL(c->lblk + done),
			 ULL(c->lblk + c->n - 1), ULL(c->ino), strerror(-rc)))
		add_remap(f, c, done, 0, c->n - done);
	else
		stuck_add(f, c->ino);
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
