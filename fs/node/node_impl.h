/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of node/ share among themselves. */
#ifndef NODE_NODE_IMPL_H
#define NODE_NODE_IMPL_H

#include "base/log.h"
#include "node/btree.h"
#include "node/node.h"

#define ULL(x) ((unsigned long long)(x))

/* The inode's payload; valid while the inode is referenced. */
static inline struct lunfs_inode_pl *inode_pl(const struct inode *i)
{
	return (struct lunfs_inode_pl *)i->m->data;
}

static inline uint8_t *fork_area(const struct inode *i, enum node_fork fork)
{
	return fork == FORK_DATA ? inode_pl(i)->data_fork : inode_pl(i)->xattr_fork;
}

static inline size_t fork_bytes(enum node_fork fork)
{
	return fork == FORK_DATA ? LUNFS_DATA_FORK_BYTES : LUNFS_XATTR_FORK_BYTES;
}

static inline uint8_t *fork_format(struct inode *i, enum node_fork fork)
{
	return fork == FORK_DATA ? &i->data_format : &i->xattr_format;
}

/* @rc after the first change of a call was made: the volume cannot go on with half of it. */
static inline int half_done(const struct node_txn *nt, int rc)
{
	if (rc)
		txn_abort_volume(nt->h, "a change of a file's metadata failed half-way");
	return rc;
}

#endif
