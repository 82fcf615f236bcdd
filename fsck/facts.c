/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a cell is by itself: checksums and decoders, the larger part of a check's work. Workers do
 * it (window.c), in any order; whatever is not found good in here is looked at again by the passes,
 * in the order of addresses, and only they ask and repair.
 */
#include "base/crc.h"
#include "fsck/trees.h"
#include <errno.h>
#include <string.h>

int inode_brief(const struct geo *geo, uint64_t addr, const void *payload, struct fsck_inode *out)
{
	struct inode in;

	if (inode_decode(geo, payload, addr, &in))
		return -EUCLEAN;
	*out = (struct fsck_inode){.ino = addr,
				   .generation = in.generation,
				   .parent = in.parent,
				   .size = in.size,
				   .blks = in.blks,
				   .mode = in.mode,
				   .nlink = in.nlink,
				   .flags = in.flags,
				   .orphan_slot = in.orphan_slot};
	return 0;
}

static void simple_file(const struct lunfs_inode_pl *pl, struct fsck_inode *fi)
{
	struct lunfs_extent e;
	uint64_t key;
	int n;

	if (!S_ISREG(fi->mode) || pl->xattr_format == LUNFS_FORK_TREE)
		return;
	if (pl->data_format == LUNFS_FORK_EMPTY)
		fi->simple = true;
	else if (pl->data_format == LUNFS_FORK_INLINE)
		fi->simple =
		    fi->size <= sizeof(pl->data_fork) &&
		    mem_is_zero(pl->data_fork + fi->size, sizeof(pl->data_fork) - (size_t)fi->size);
	if (pl->data_format != LUNFS_FORK_TREE)
		return;
	n = tree_single(pl->data_fork, sizeof(pl->data_fork), &key, &e, sizeof(e));
	if (n == 0) {
		fi->simple = true;
	} else if (n == 1 && key == 0 && !(le32_get(e.flags) & ~LUNFS_EXT_UNWRITTEN)) {
		fi->simple = le32_get(e.len) != 0;
		fi->unwritten = le32_get(e.flags) & LUNFS_EXT_UNWRITTEN;
		fi->ext_n = le32_get(e.len);
		fi->ext_blk = le64_get(e.blk);
	}
}

static void lock_fact(const struct geo *geo, uint64_t addr, const uint8_t *sector,
		      struct cell_fact *out)
{
	struct lunfs_lock_rec rec;

	out->lock_ok = lock_rec_decode(geo, sector, addr, &rec) == 0;
	if (!out->lock_ok)
		return;
	out->owner = le64_get(rec.owner);
	out->ex_pending = le64_get(rec.ex_pending);
	out->payload_version = le64_get(rec.payload_version);
}

void cell_fact(const struct geo *geo, uint64_t addr, const uint8_t *cell, struct cell_fact *out)
{
	const void *payload = cell + geo->payload_off;
	const struct lunfs_blk_hdr *h = payload;

	lock_fact(geo, addr, cell, out);
	out->type = le16_get(h->type);
	out->guard = le64_get(h->guard);
	out->version = le64_get(h->version);
	out->sealed = blk_check(geo, payload, out->type, addr) == 0;
	out->inode_ok = out->sealed && out->type == LUNFS_BLK_INODE &&
			inode_brief(geo, addr, payload, &out->inode) == 0;
	if (out->inode_ok)
		simple_file(payload, &out->inode);
}
