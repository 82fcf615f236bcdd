/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stands in the inode itself: the data of small files, short symbolic links. Long links are
 * tree items, a piece of 1024 bytes each, keys 0, 1, 2 ...
 */
#include "node/node_impl.h"

#include <errno.h>
#include <string.h>

const uint8_t *inline_data(const struct inode *i)
{
	lunfs_assert(i->data_format == LUNFS_FORK_INLINE);
	return inode_pl(i)->data_fork;
}

void inline_set(struct txn_handle *h, struct inode *i, const void *buf, size_t len_bytes)
{
	uint8_t *fork = inode_pl(i)->data_fork;

	lunfs_assert(len_bytes <= LUNFS_DATA_FORK_BYTES && i->data_format != LUNFS_FORK_TREE);
	mblk_dirty(h, i->m);
	if (len_bytes)
		memmove(fork, buf, len_bytes); /* may be a part of the fork itself */
	memset(fork + len_bytes, 0, LUNFS_DATA_FORK_BYTES - len_bytes);
	i->data_format = LUNFS_FORK_INLINE;
	inode_update(h, i);
}

void fork_clear(struct txn_handle *h, struct inode *i)
{
	lunfs_assert(i->data_format != LUNFS_FORK_TREE);
	mblk_dirty(h, i->m);
	memset(inode_pl(i)->data_fork, 0, LUNFS_DATA_FORK_BYTES);
	i->data_format = LUNFS_FORK_EMPTY;
	inode_update(h, i);
}

/* ---- symbolic links ----------------------------------------------------------------- */

unsigned symlink_need_changes(size_t len_bytes)
{
	if (len_bytes <= LUNFS_DATA_FORK_BYTES)
		return 0;
	return (unsigned)((len_bytes + LUNFS_SYMLINK_PART_BYTES - 1) / LUNFS_SYMLINK_PART_BYTES);
}

int symlink_set(const struct node_env *ne, const struct node_txn *nt, struct inode *i,
		const char *target, size_t len_bytes)
{
	struct bt bt = {.ne = ne, .i = i, .fork = FORK_DATA};
	unsigned parts = symlink_need_changes(len_bytes);
	int rc = 0;

	if (len_bytes == 0 || memchr(target, 0, len_bytes))
		return -ENOENT;
	if (len_bytes > LUNFS_SYMLINK_MAX)
		return -ENAMETOOLONG;
	i->size = len_bytes;
	if (!parts) {
		inline_set(nt->h, i, target, len_bytes);
		return 0;
	}
	lunfs_assert(i->data_format == LUNFS_FORK_EMPTY);
	for (unsigned k = 0; k < parts && !rc; k++) {
		size_t off = (size_t)k * LUNFS_SYMLINK_PART_BYTES, left = len_bytes - off;
		struct bt_path p;

		rc = bt_seek(&bt, k, &p);
		if (rc)
			break;
		rc = bt_insert(&bt, nt, &p, k, target + off,
			       left < LUNFS_SYMLINK_PART_BYTES ? left : LUNFS_SYMLINK_PART_BYTES,
			       BT_SPLIT_RUN);
		bt_put(&bt, &p);
	}
	inode_update(nt->h, i);
	return half_done(nt, rc);
}

static int bad_link(const struct inode *i)
{
	log_err("symlink-damaged",
		"inode %llu: the target of this symbolic link is not whole; run fsck.lunfs",
		ULL(i->ino));
	return -EUCLEAN;
}

static int get_parts(const struct bt *bt, char *buf, size_t len)
{
	struct bt_path p;
	size_t off = 0;
	int rc = bt_seek(bt, 0, &p);

	for (uint64_t k = 0; !rc && off < len; k++, bt_leaf(&p)->idx++) {
		size_t n;
		const uint8_t *body;

		rc = bt_settle(bt, &p);
		if (rc)
			break;
		body = bt_body(&p, &n);
		if (bt_key(&p) != k || n == 0 || n > LUNFS_SYMLINK_PART_BYTES || n > len - off) {
			rc = -ENOENT;
			break;
		}
		memcpy(buf + off, body, n);
		off += n;
	}
	bt_put(bt, &p);
	return rc == -ENOENT ? bad_link(bt->i) : rc;
}

int symlink_get(const struct node_env *ne, struct inode *i, char *buf, size_t size)
{
	struct bt bt = {.ne = ne, .i = i, .fork = FORK_DATA};
	size_t len = i->size;
	int rc = 0;

	if (!S_ISLNK(i->mode))
		return -EINVAL;
	if (len == 0 || len > LUNFS_SYMLINK_MAX || i->data_format == LUNFS_FORK_EMPTY)
		return bad_link(i);
	if (size <= len)
		return -ERANGE;
	if (i->data_format == LUNFS_FORK_INLINE && len <= LUNFS_DATA_FORK_BYTES)
		memcpy(buf, inline_data(i), len);
	else
		rc = get_parts(&bt, buf, len);
	if (!rc && memchr(buf, 0, len))
		rc = bad_link(i);
	if (!rc)
		buf[len] = 0;
	return rc;
}
