/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Worst cases of changes to a tree of depth d (the root counts).
 *
 * Cells. An insertion splits at most every cell on its path and then the root: d cells. The root
 * grows at most once in a transaction, since after that it has one child and room for 30 more at
 * least; so d holds for each of several insertions too.
 *
 * A long run of xattr parts with following keys is cheaper. Two cuts at most part the leaf before
 * and behind the place; what follows fills fresh leaves with three parts each (BT_SPLIT_RUN), one
 * more may hold a part that grew. Interior nodes split once a level and end with room for a
 * hundred.
 *
 * Blocks. Each change touches the cells of its own path, all new cells, and the inode.
 */
#include "node/node_impl.h"

#include <errno.h>

#define RUN_MIN 5u /* from here on the bound for runs is the smaller one */

/* Five levels hold ten thousand million items; a deeper tree was not grown by anybody. */
#define DEPTH_MAX 5u

static unsigned run_cells(unsigned changes, unsigned depth)
{
	return changes / 3 + 6 + 2 * depth;
}

int fork_need(const struct node_env *ne, struct inode *i, enum node_fork fork, unsigned changes,
	      struct node_need *need)
{
	struct bt bt = {.ne = ne, .i = i, .fork = fork};
	unsigned depth, cells;
	int rc = bt_depth(&bt, &depth);

	if (rc)
		return rc;
	if (depth > DEPTH_MAX) {
		log_err(
		    "tree-damaged",
		    "inode %llu: a tree of %u levels is not changed, none ever gets so deep; run "
		    "fsck.lunfs",
		    ULL(i->ino), depth);
		return -EUCLEAN;
	}
	cells = changes * depth;
	if (fork == FORK_XATTR && changes >= RUN_MIN && run_cells(changes, depth) < cells)
		cells = run_cells(changes, depth);
	need->cells = cells;
	need->credits = 1 + changes * (depth - 1) + cells;
	return 0;
}
