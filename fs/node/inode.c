/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inodes between disk and core. What inode_decode() lets through has attributes that can be handed
 * to the kernel and forks whose formats are known; what stands in the forks is checked by those who
 * read it (btree.c, inline.c).
 */
#include "base/crc.h"
#include "node/node_impl.h"

#include <errno.h>
#include <string.h>

#define LINKS_MAX 0x7fffffffu
#define NS_PER_S 1000000000u

static bool mode_ok(uint32_t mode)
{
	if (mode & ~(uint32_t)(S_IFMT | 07777))
		return false;
	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return true;
	default:
		return false;
	}
}

static bool times_ok(const struct lunfs_inode_pl *p)
{
	return le32_get(p->atime_ns) < NS_PER_S && le32_get(p->mtime_ns) < NS_PER_S &&
	       le32_get(p->ctime_ns) < NS_PER_S && le32_get(p->btime_ns) < NS_PER_S;
}

static bool orphan_ok(const struct lunfs_inode_pl *p)
{
	uint32_t flags = le32_get(p->flags);
	uint16_t slot = le16_get(p->orphan_slot);

	if (flags & ~(LUNFS_INODE_ORPHAN | LUNFS_INODE_ORPHAN_DIR))
		return false;
	if (flags & LUNFS_INODE_ORPHAN_DIR && !S_ISDIR(le32_get(p->mode)))
		return false;
	return flags & LUNFS_INODE_ORPHAN ? slot < LUNFS_MAX_SLOTS : slot == 0;
}

static bool parent_ok(const struct geo *g, const struct lunfs_inode_pl *p)
{
	uint64_t parent = le64_get(p->parent);

	if (!S_ISDIR(le32_get(p->mode)))
		return parent == 0;
	if (parent == 0) /* nowhere in the tree */
		return le32_get(p->flags) != 0;
	return parent >= g->group0_blk && cell_addr_ok(g, parent);
}

static bool rdev_ok(const struct lunfs_inode_pl *p)
{
	uint32_t mode = le32_get(p->mode);

	if (S_ISCHR(mode) || S_ISBLK(mode))
		return true;
	return le32_get(p->rdev_major) == 0 && le32_get(p->rdev_minor) == 0;
}

/* Fork formats and size go together, by type. */
static bool forks_ok(const struct lunfs_inode_pl *p)
{
	uint32_t mode = le32_get(p->mode);
	uint64_t size = le64_get(p->size);
	uint8_t df = p->data_format;

	if (p->xattr_format != LUNFS_FORK_EMPTY && p->xattr_format != LUNFS_FORK_TREE)
		return false;
	if (df > LUNFS_FORK_TREE || size > INT64_MAX)
		return false;
	if (df == LUNFS_FORK_INLINE && size > LUNFS_DATA_FORK_BYTES)
		return false;
	if (S_ISREG(mode))
		return true;
	if (S_ISDIR(mode))
		return df != LUNFS_FORK_INLINE;
	if (!S_ISLNK(mode))
		return df == LUNFS_FORK_EMPTY && size == 0;
	if (df == LUNFS_FORK_EMPTY && !(le32_get(p->flags) & LUNFS_INODE_ORPHAN))
		return false;
	return size > 0 && size <= LUNFS_SYMLINK_MAX;
}

static bool header_ok(const struct lunfs_inode_pl *p, uint64_t ino)
{
	uint64_t gen = le64_get(p->generation);

	return le32_get(p->hdr.magic) == LUNFS_BLK_MAGIC &&
	       le16_get(p->hdr.type) == LUNFS_BLK_INODE && le64_get(p->hdr.addr) == ino &&
	       le64_get(p->hdr.guard) == ino && gen != 0 && le64_get(p->hdr.guard_gen) == gen;
}

static struct timespec time_get(le64 s, le32 ns)
{
	return (struct timespec){.tv_sec = (time_t)le64_get(s), .tv_nsec = le32_get(ns)};
}

static void fill(const struct lunfs_inode_pl *p, uint64_t ino, struct inode *out)
{
	out->ino = ino;
	out->generation = le64_get(p->generation);
	out->mode = le32_get(p->mode);
	out->nlink = le32_get(p->nlink);
	out->uid = le32_get(p->uid);
	out->gid = le32_get(p->gid);
	out->size = le64_get(p->size);
	out->blks = le64_get(p->blks);
	out->atime = time_get(p->atime_s, p->atime_ns);
	out->mtime = time_get(p->mtime_s, p->mtime_ns);
	out->ctime = time_get(p->ctime_s, p->ctime_ns);
	out->btime = time_get(p->btime_s, p->btime_ns);
	out->rdev_major = le32_get(p->rdev_major);
	out->rdev_minor = le32_get(p->rdev_minor);
	out->parent = le64_get(p->parent);
	out->flags = le32_get(p->flags);
	out->orphan_slot = le16_get(p->orphan_slot);
	out->xattr_format = p->xattr_format;
	out->data_format = p->data_format;
}

int inode_decode(const struct geo *g, const void *payload, uint64_t ino, struct inode *out)
{
	const struct lunfs_inode_pl *p = payload;

	if (!header_ok(p, ino) || !mode_ok(le32_get(p->mode)) || !times_ok(p))
		return -EUCLEAN;
	if (le32_get(p->nlink) > LINKS_MAX || le64_get(p->blks) > g->end_blk)
		return -EUCLEAN;
	if (!orphan_ok(p) || !parent_ok(g, p) || !rdev_ok(p) || !forks_ok(p))
		return -EUCLEAN;
	if (!mem_is_zero(p->reserved, sizeof(p->reserved)))
		return -EUCLEAN;
	fill(p, ino, out);
	return 0;
}

/* Everything but the block header and what stands in the forks. */
static void encode(const struct inode *i, struct lunfs_inode_pl *p)
{
	p->generation = le64_make(i->generation);
	p->mode = le32_make(i->mode);
	p->nlink = le32_make(i->nlink);
	p->uid = le32_make(i->uid);
	p->gid = le32_make(i->gid);
	p->size = le64_make(i->size);
	p->blks = le64_make(i->blks);
	p->atime_s = le64_make((uint64_t)i->atime.tv_sec);
	p->mtime_s = le64_make((uint64_t)i->mtime.tv_sec);
	p->ctime_s = le64_make((uint64_t)i->ctime.tv_sec);
	p->btime_s = le64_make((uint64_t)i->btime.tv_sec);
	p->atime_ns = le32_make((uint32_t)i->atime.tv_nsec);
	p->mtime_ns = le32_make((uint32_t)i->mtime.tv_nsec);
	p->ctime_ns = le32_make((uint32_t)i->ctime.tv_nsec);
	p->btime_ns = le32_make((uint32_t)i->btime.tv_nsec);
	p->rdev_major = le32_make(i->rdev_major);
	p->rdev_minor = le32_make(i->rdev_minor);
	p->parent = le64_make(i->parent);
	p->flags = le32_make(i->flags);
	p->orphan_slot = le16_make(i->orphan_slot);
	p->xattr_format = i->xattr_format;
	p->data_format = i->data_format;
}

int inode_get(const struct node_env *ne, struct lock *lock, uint64_t generation, struct inode *out)
{
	uint64_t ino = lock_addr(lock);
	struct inode in;
	struct mblk *m;
	int rc;

	rc = mblk_get(ne->txns, lock, ino, LUNFS_BLK_INODE, &m);
	if (rc)
		return rc;
	memset(&in, 0, sizeof(in));
	if (inode_decode(ne->env->geo, m->data, ino, &in)) {
		log_err("inode-damaged",
			"inode %llu holds attributes that cannot be true; it is not used, run "
			"fsck.lunfs",
			ULL(ino));
		rc = -EUCLEAN;
	} else if (generation && in.generation != generation) {
		rc = -ESTALE;
	}
	if (rc) {
		mblk_put(ne->txns, m);
		return rc;
	}
	in.m = m;
	*out = in;
	return 0;
}

void inode_put(const struct node_env *ne, struct inode *i)
{
	if (i->m)
		mblk_put(ne->txns, i->m);
	i->m = NULL;
}

void inode_update(struct txn_handle *h, struct inode *i)
{
	mblk_dirty(h, i->m);
	encode(i, inode_pl(i));
}

static bool only_times_differ(const struct lunfs_inode_pl *p, const struct inode *i)
{
	struct lunfs_inode_pl q = *p;

	encode(i, &q);
	q.atime_s = p->atime_s;
	q.mtime_s = p->mtime_s;
	q.ctime_s = p->ctime_s;
	q.btime_s = p->btime_s;
	q.atime_ns = p->atime_ns;
	q.mtime_ns = p->mtime_ns;
	q.ctime_ns = p->ctime_ns;
	q.btime_ns = p->btime_ns;
	return memcmp(&q, p, sizeof(q)) == 0;
}

void inode_update_times(struct txn_handle *h, struct inode *i)
{
	if (only_times_differ(inode_pl(i), i))
		mblk_dirty_times(h, i->m);
	else
		mblk_dirty(h, i->m);
	encode(i, inode_pl(i));
}

void inode_create(const struct node_env *ne, struct txn_handle *h, struct lock *lock,
		  const struct cell *cell, struct inode *i)
{
	(void)ne;
	lunfs_assert(lock_addr(lock) == cell->addr && i->generation != 0);
	i->m = mblk_new(h, lock, cell->addr, LUNFS_BLK_INODE, cell->version, i->generation);
	i->ino = cell->addr;
	i->data_format = i->xattr_format = LUNFS_FORK_EMPTY;
	encode(i, inode_pl(i));
}

void inode_format(const struct geo *g, const struct inode *i, void *payload)
{
	struct lunfs_inode_pl *p = payload;

	lunfs_assert(i->data_format == LUNFS_FORK_EMPTY && i->xattr_format == LUNFS_FORK_EMPTY);
	memset(p, 0, sizeof(*p));
	blk_init(g, p, LUNFS_BLK_INODE, i->ino, 1, i->ino, i->generation);
	encode(i, p);
	blk_seal(p);
}
