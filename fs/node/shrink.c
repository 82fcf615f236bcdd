/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Giving a whole inode up, one leaf's tail a step, from the end of the data fork and then of the
 * xattr fork. A step leaves a tree that is whole, so the worker can die between any two.
 */
#include "node/node_impl.h"

#include <errno.h>
#include <string.h>

#define STEP_ITEMS (ALLOC_CELLS_MAX / 2)
#define STEP_GROUPS 8u /* of one step, so that it fits the smallest journal */

static bool has_extents(const struct inode *i, enum node_fork fork)
{
	return fork == FORK_DATA && S_ISREG(i->mode);
}

static int extent_of(struct bt_path *p, struct ext *out)
{
	size_t len;
	const struct lunfs_extent *x = (const void *)bt_body(p, &len);

	if (len != sizeof(*x) || le32_get(x->len) == 0)
		return -EUCLEAN;
	*out = (struct ext){.lblk = bt_key(p),
			    .blk = le64_get(x->blk),
			    .len = le32_get(x->len),
			    .flags = le32_get(x->flags)};
	return 0;
}

static unsigned groups_of(const struct geo *g, const struct node_shrink *step)
{
	unsigned n = 0;

	for (unsigned k = 0; k < step->n_ext; k++) {
		unsigned j = 0;

		while (j < k &&
		       geo_group_of(g, step->ext[j].blk) != geo_group_of(g, step->ext[k].blk))
			j++;
		n += j == k;
	}
	return n;
}

/*
 * The last extents of the leaf. A group whose lock is not to be had ends the step there, unless it
 * is the first one.
 */
static int collect_extents(const struct bt *bt, struct bt_path *p, struct node_shrink *step,
			   struct free_res *frees)
{
	struct bt_step *leaf = bt_leaf(p);
	int rc = 0;

	for (leaf->idx = node_items(leaf->area); leaf->idx && step->n_ext < STEP_ITEMS &&
						 groups_of(bt->ne->env->geo, step) < STEP_GROUPS;) {
		struct ext *e = &step->ext[step->n_ext];

		leaf->idx--;
		rc = extent_of(p, e);
		if (!rc)
			rc = blk_free_prepare(bt->ne->alloc, frees, e->blk, (uint32_t)e->len);
		if (rc)
			break;
		step->n_ext++;
	}
	return rc == -EAGAIN && step->n_ext ? 0 : rc;
}

/* The leaf goes too, with the parents that this empties. -EAGAIN: not if extents go at least. */
static int collect_cells(const struct bt *bt, struct bt_path *p, struct node_shrink *step,
			 struct free_res *frees)
{
	unsigned n = bt_drop_count(p);
	int rc = 0;

	for (unsigned k = 0; k < n && !rc; k++) {
		step->cell[k] = p->s[p->n - 1 - k].m->addr;
		rc = cell_free_prepare(bt->ne->alloc, frees, step->cell[k]);
	}
	if (!rc)
		step->n_cell = n;
	else if (rc == -EAGAIN && step->n_ext)
		rc = 0;
	return rc;
}

static int prepare_leaf(const struct bt *bt, struct bt_path *p, struct node_shrink *step,
			struct free_res *frees)
{
	unsigned items = node_items(bt_leaf(p)->area);
	int rc = 0;

	if (items && bt->fork == FORK_DATA && S_ISDIR(bt->i->mode))
		return -ENOTEMPTY;
	if (has_extents(bt->i, bt->fork))
		rc = collect_extents(bt, p, step, frees);
	if (!rc && (step->n_ext == items || !has_extents(bt->i, bt->fork)))
		rc = collect_cells(bt, p, step, frees);
	step->fork = bt->fork;
	step->last = p->n == 1 && (step->n_ext == items || !has_extents(bt->i, bt->fork)) &&
		     (bt->fork == FORK_XATTR || bt->i->xattr_format != LUNFS_FORK_TREE);
	step->credits = 1 + p->n + step->n_cell * CELL_FREE_CREDITS +
			groups_of(bt->ne->env->geo, step) * BLK_FREE_CREDITS;
	return rc;
}

int node_shrink_prepare(const struct node_env *ne, struct inode *i, struct node_shrink *step,
			struct free_res *frees)
{
	struct bt bt = {.ne = ne, .i = i, .fork = FORK_DATA};
	struct bt_path p;
	int rc;

	memset(step, 0, sizeof(*step));
	if (i->data_format != LUNFS_FORK_TREE) {
		bt.fork = FORK_XATTR;
		if (i->xattr_format != LUNFS_FORK_TREE) {
			step->done = true;
			return 0;
		}
	}
	rc = bt_seek_last(&bt, &p);
	if (rc)
		return rc;
	rc = prepare_leaf(&bt, &p, step, frees);
	bt_put(&bt, &p);
	return rc;
}

static void drop_items(const struct bt *bt, const struct node_txn *nt, struct bt_path *p,
		       unsigned keep)
{
	struct bt_step *leaf = bt_leaf(p);

	if (p->n == 1 && keep == 0) {
		bt_clear_root(bt, nt);
		return;
	}
	bt_dirty_leaf(bt, nt, p);
	while (node_items(leaf->area) > keep)
		leaf_remove(leaf->area, leaf->size, node_items(leaf->area) - 1);
}

int node_shrink_commit(const struct node_env *ne, const struct node_txn *nt, struct inode *i,
		       const struct node_shrink *step)
{
	struct bt bt = {.ne = ne, .i = i, .fork = step->fork};
	struct bt_path p;
	unsigned items;
	uint64_t blks = 0;
	int rc;

	if (step->done)
		return 0;
	rc = bt_seek_last(&bt, &p);
	if (rc)
		return rc;
	items = node_items(bt_leaf(&p)->area);
	lunfs_assert(step->n_ext <= items);
	for (unsigned k = 0; k < step->n_ext; k++) {
		blk_free(nt->h, ne->alloc, nt->frees, step->ext[k].blk, (uint32_t)step->ext[k].len);
		blks += step->ext[k].len;
	}
	i->blks -= blks < i->blks ? blks : i->blks;
	if (step->n_cell) {
		lunfs_assert(bt_leaf(&p)->m->addr == step->cell[0]);
		bt_drop_leaf(&bt, nt, &p);
	} else {
		drop_items(&bt, nt, &p, has_extents(i, step->fork) ? items - step->n_ext : 0);
	}
	bt_put(&bt, &p);
	inode_update(nt->h, i);
	return 0;
}
