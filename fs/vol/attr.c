/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Attributes between the inode and the caller; time stamps; generations. */
#include "vol/vol_impl.h"
#include <dirent.h>
#include <sys/sysmacros.h>

struct timespec vol_now(struct volume *v)
{
	struct timespec now;

	v->env.clk->ops->realtime(v->env.clk, &now);
	return now;
}

static bool later(struct timespec a, struct timespec b)
{
	return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

struct timespec vol_now_after(struct volume *v, struct timespec old)
{
	struct timespec now = vol_now(v);

	/* Another host's clock may be ahead by a little; a user's utimes() into the future by a
	 * lot. */
	if (later(now, old) || old.tv_sec > now.tv_sec + 2)
		return now;
	if (++old.tv_nsec == 1000000000) {
		old.tv_nsec = 0;
		old.tv_sec++;
	}
	return old;
}

void inode_touch_data(struct volume *v, struct inode *i)
{
	i->mtime = vol_now_after(v, i->mtime);
	i->ctime = vol_now_after(v, i->ctime);
}

void inode_touch(struct volume *v, struct inode *i)
{
	i->ctime = vol_now_after(v, i->ctime);
}

static uint64_t blocks_512(const struct inode *i)
{
	uint64_t n = i->blks * (BLK / 512);

	/* Inline bytes count, or archivers would take the file for one great hole. */
	if (S_ISREG(i->mode) && i->data_format == LUNFS_FORK_INLINE)
		n += (i->size + 511) / 512;
	return n;
}

void attr_fill(struct volume *v, const struct inode *i, struct vattr *out)
{
	struct stat *st = &out->st;

	(void)v;
	memset(out, 0, sizeof(*out));
	out->id = (struct nodeid){i->ino, i->generation};
	st->st_ino = i->ino;
	st->st_mode = i->mode;
	st->st_nlink = i->nlink;
	st->st_uid = i->uid;
	st->st_gid = i->gid;
	st->st_rdev = makedev(i->rdev_major, i->rdev_minor);
	st->st_size = (off_t)i->size;
	if (S_ISDIR(i->mode)) /* what it takes on the device, its own cell included */
		st->st_size = (off_t)((1 + i->blks) * BLK);
	st->st_blksize = (blksize_t)BLK;
	st->st_blocks = (blkcnt_t)blocks_512(i);
	st->st_atim = i->atime;
	st->st_mtim = i->mtime;
	st->st_ctim = i->ctime;
}

uint8_t mode_to_dtype(uint32_t mode)
{
	return (uint8_t)IFTODT(mode);
}

/*
 * Unique among all uses of a cell: which incarnation made it, and a counter. (24 bits of the slot's
 * generation, the slot, 32 bits of the counter.) The kernel, and with it an NFS client's handle,
 * knows the counter alone: each incarnation begins where its nonce says.
 */
uint64_t vol_new_generation(struct volume *v)
{
	uint64_t n = atomic_fetch_add(&v->gen_counter, 1) + 1 + host_nonce(v->host);

	return host_owner(v->host) << 32 | (n & UINT32_MAX);
}
