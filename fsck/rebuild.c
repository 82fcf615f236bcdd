/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The jobs of a round: forks that are to be built anew. First the cells that damaged trees have
 * lost are looked for: what no tree claims and says that it is of such an inode is its. Then all
 * blocks that anything refers to are known, and room can be taken.
 */
#include "base/bitmap.h"
#include "base/log.h"
#include "fsck/trees.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the list -------------------------------------------------------------------------------- */

static void free_jobs(struct trees *t)
{
	for (size_t i = 0; i < t->jobs; i++)
		free(t->job[i].cells.c);
	free(t->job);
	free(t->conflict);
	free(t->remap);
	free(t->edit);
	free(t->extra);
	free(t->lost);
}

void trees_reset(struct fsck *f)
{
	struct trees *t = f->trees, fresh = {0};

	if (t) {
		fresh.stuck = t->stuck;
		fresh.stucks = t->stucks;
		fresh.stucks_room = t->stucks_room;
		free_jobs(t);
	} else {
		t = f->trees = malloc(sizeof(*t));
		lunfs_assert(t);
	}
	*t = fresh;
}

void trees_free(struct fsck *f)
{
	if (!f->trees)
		return;
	free_jobs(f->trees);
	free(f->trees->stuck);
	free(f->trees);
	f->trees = NULL;
}

void stuck_add(struct fsck *f, uint64_t ino)
{
	struct trees *t = f->trees;

	t->stuck = room_for_one(t->stuck, t->stucks, &t->stucks_room, sizeof(*t->stuck));
	t->stuck[t->stucks++] = ino;
}

bool is_stuck(const struct fsck *f, uint64_t ino)
{
	for (size_t i = 0; i < f->trees->stucks; i++)
		if (f->trees->stuck[i] == ino)
			return true;
	return false;
}

void job_add(struct fsck *f, struct tree_visit *v)
{
	struct trees *t = f->trees;

	if (v->kept) {
		stuck_add(f, v->fi->ino);
		v->fi->damaged = true;
		return;
	}
	t->job = room_for_one(t->job, t->jobs, &t->jobs_room, sizeof(*t->job));
	t->job[t->jobs++] = (struct fork_job){.ino = v->fi->ino,
					      .xattr = v->xattr,
					      .lost = v->lost,
					      .cells = v->cells,
					      .counted = v->counted};
	v->cells = (struct cell_list){0};
}

/* Jobs are added inode by inode, so that the newest ones tell. */
bool job_pending(struct fsck *f, uint64_t ino)
{
	const struct trees *t = f->trees;

	return t->jobs && t->job[t->jobs - 1].ino == ino;
}

static int by_ino(const void *a, const void *b)
{
	const struct fork_job *x = a, *y = b;

	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	return x->xattr - y->xattr;
}

static struct fork_job *job_find(struct trees *t, uint64_t ino)
{
	size_t lo = 0, hi = t->jobs;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (t->job[mid].ino < ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < t->jobs && t->job[lo].ino == ino ? &t->job[lo] : NULL;
}

/* ---- cells that trees have lost -------------------------------------------------------------- */

/* Of two forks, the one whose items these look like. */
static bool looks_like_xattrs(struct fsck *f, struct fsck_inode *fi, const struct lunfs_bt_pl *node)
{
	const struct lunfs_bt_head *h = (const void *)node->area;
	const struct lunfs_bt_leaf_slot *s = (const void *)(node->area + sizeof(*h));
	struct items l = {0};
	size_t before, after;

	for (unsigned i = 0; i < le16_get(h->items); i++) {
		size_t off = le16_get(s[i].off), len = le16_get(s[i].len);

		if ((const uint8_t *)&s[i + 1] > node->area + sizeof(node->area) ||
		    off + len > sizeof(node->area))
			break;
		items_add(&l, le64_get(s[i].key), node->area + off, len, true);
	}
	before = l.n;
	if (S_ISDIR(fi->mode))
		dirents_fix(f, fi, &l, NULL, 0);
	else if (S_ISREG(fi->mode))
		extents_fix(f, fi, &l);
	else
		symlink_fix(f, fi, &l);
	after = l.n;
	items_free(&l);
	return after * 2 < before;
}

static void adopt(struct fsck *f, struct fsck_group *fg, uint32_t bit, uint64_t addr)
{
	uint8_t payload[LUNFS_PAYLOAD_BYTES], sector[LUNFS_BLOCK_BYTES];
	const struct lunfs_bt_pl *node = (const void *)payload;
	struct fsck_inode *fi;
	struct fork_job *j;

	if (inode_find(f, addr) || is_place(f, addr) || peek_cell(f, addr, sector, payload) ||
	    blk_check(&f->geo, payload, LUNFS_BLK_BTREE, addr))
		return;
	j = job_find(f->trees, le64_get(node->hdr.guard));
	fi = j ? inode_find(f, j->ino) : NULL;
	if (!fi || fi->gone || fi->generation != le64_get(node->hdr.guard_gen))
		return;
	if (j + 1 < f->trees->job + f->trees->jobs && j[1].ino == j->ino) {
		if (!j->lost || (j[1].lost && looks_like_xattrs(f, fi, node)))
			j++;
	}
	if (!j->lost)
		return;
	bit_set(fg->cell_claimed, bit);
	cells_add(&j->cells, addr, true);
}

static bool doubted(const struct fsck *f, uint64_t g, uint32_t bit)
{
	return bit_get(f->doubt_chunk,
		       g * LUNFS_GROUP_WINDOWS + bit / (LUNFS_CHUNK_CELLS * f->geo.cell_blks));
}

static void find_lost(struct fsck *f)
{
	bool any = false;

	for (size_t i = 0; i < f->trees->jobs; i++)
		any |= f->trees->job[i].lost;
	for (uint64_t g = 0; any && g < f->watermark; g++) {
		struct fsck_group *fg = &f->group[g];

		for (uint32_t b = 0; b < fg->nblks; b += f->geo.cell_blks)
			if (bit_get(fg->cell_used, b) && !bit_get(fg->cell_claimed, b) &&
			    !bit_get(fg->cell_bad, b) && !doubted(f, g, b))
				adopt(f, fg, b, geo_group_blk(&f->geo, g) + b);
	}
}

/* Blocks of extents that the walk could not get at are in use all the same. */
static int refer_found(struct fsck *f)
{
	for (size_t i = 0; i < f->trees->jobs; i++) {
		const struct fork_job *j = &f->trees->job[i];
		struct fsck_inode *fi = inode_find(f, j->ino);
		uint8_t payload[LUNFS_PAYLOAD_BYTES];
		struct items l = {0};
		int rc;

		if (!j->lost || j->xattr || !S_ISREG(fi->mode))
			continue;
		rc = inode_load(f, j->ino, payload);
		if (rc == 0)
			rc = tree_gather(f, (void *)payload, false, &j->cells, &l);
		if (rc == 0)
			extents_refer(f, &l);
		items_free(&l);
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- doing them ------------------------------------------------------------------------------ */

static void fix_items(struct fsck *f, struct fsck_inode *fi, const struct fork_job *j,
		      struct items *l, const struct dir_edit *edits, size_t n)
{
	if (j->xattr)
		xattrs_fix(f, fi, l);
	else if (S_ISDIR(fi->mode))
		dirents_fix(f, fi, l, edits, n);
	else if (S_ISREG(fi->mode))
		extents_fix(f, fi, l);
	else
		symlink_fix(f, fi, l);
}

/* Sizes and counts that follow from the new tree. */
static void set_counts(struct fsck *f, struct fsck_inode *fi, struct fork_job *j,
		       const struct items *l, size_t cells, struct lunfs_inode_pl *pl)
{
	uint64_t blks = cells * f->geo.cell_blks;

	if (!j->xattr && S_ISREG(fi->mode))
		blks += extents_blks(l);
	fi->counted = fi->counted - j->counted + blks;
	j->counted = blks;
	fi->blks = fi->counted;
	pl->blks = le64_make(fi->blks);
	if (!j->xattr && S_ISDIR(fi->mode)) {
		fi->size = fi->names = l->n;
		pl->size = le64_make(fi->size);
	}
}

int rebuild_fork(struct fsck *f, struct fork_job *j, const struct dir_edit *edits, size_t n)
{
	struct fsck_inode *fi = inode_find(f, j->ino);
	uint8_t payload[LUNFS_PAYLOAD_BYTES];
	struct lunfs_inode_pl *pl = (void *)payload;
	struct items l = {0};
	size_t cells;
	int rc = inode_load(f, j->ino, payload);

	if (rc == 0)
		rc = tree_gather(f, pl, j->xattr, &j->cells, &l);
	if (rc == 0) {
		fix_items(f, fi, j, &l, edits, n);
		rc = tree_build(f, pl, j->xattr, &l, &j->cells, &cells);
	}
	if (rc == 0) {
		set_counts(f, fi, j, &l, cells, pl);
		rc = write_cell(f, j->ino, payload, false);
	}
	items_free(&l);
	return rc;
}

int jobs_run(struct fsck *f)
{
	struct trees *t = f->trees;
	int rc;

	if (t->jobs == 0)
		return 0;
	t->rebuilt = true;
	qsort(t->job, t->jobs, sizeof(*t->job), by_ino);
	find_lost(f);
	rc = refer_found(f);
	if (rc == 0)
		rc = clone_all(f);
	for (size_t i = 0; i < t->jobs && rc == 0; i++) {
		struct fsck_inode *fi = inode_find(f, t->job[i].ino);

		progress(f, "trees", i, t->jobs);
		if (fi->gone)
			continue;
		rc = rebuild_fork(f, &t->job[i], NULL, 0);
		if (rc == -ENOSPC || rc == -EIO) {
			log_err("fsck-no-room",
				"There is no room to build the tree of inode %llu anew (%s); it is "
				"left as it is. Free some space, or let the device grow, and check "
				"again.",
				ULL(fi->ino), strerror(-rc));
			stuck_add(f, fi->ino);
			rc = 0;
		}
	}
	return rc;
}
