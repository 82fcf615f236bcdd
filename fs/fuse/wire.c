/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel's protocol (<linux/fuse.h>) has and libfuse 3.14 does not hand on: lookups side
 * by side in one directory, direct writes side by side in one file, mappings of files that are
 * open for direct I/O, and that set-id bits and capabilities are dropped here (vol/priv.c), so that
 * the kernel need not ask for them before each write. Three flags are added to the answer to INIT
 * on its way to the kernel, one to the answers to OPEN and CREATE; one is read from WRITE and
 * SETATTR on its way here. A libfuse that knows them is used as it is.
 */
#include "fuse/front.h"
#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef FUSE_DIRECT_IO_ALLOW_MMAP
#define FUSE_DIRECT_IO_ALLOW_MMAP (1ull << 36) /* Linux 6.6 */
#endif
#ifndef FUSE_HANDLE_KILLPRIV_V2
#define FUSE_HANDLE_KILLPRIV_V2 (1u << 28) /* Linux 5.11 */
#endif
#ifndef FATTR_KILL_SUIDGID
#define FATTR_KILL_SUIDGID (1u << 11)
#endif
#ifndef FUSE_WRITE_KILL_SUIDGID
#define FUSE_WRITE_KILL_SUIDGID (1u << 2) /* for direct writes since Linux 5.2 */
#endif
#define ALLOW_MMAP2 ((uint32_t)(FUSE_DIRECT_IO_ALLOW_MMAP >> 32))

/* ---- which clone of the kernel's device ------------------------------------------------------ */

static _Thread_local int own_fd = -1;

int wire_fd(void)
{
	return own_fd;
}

void wire_set_fd(int fd)
{
	own_fd = fd;
}

/* ---- INIT ------------------------------------------------------------------------------------ */

static void note_init(struct front *f, const uint8_t *buf, size_t len)
{
	const struct fuse_in_header *h = (const void *)buf;
	const struct fuse_init_in *in = (const void *)(h + 1);

	if (len < sizeof(*h) + offsetof(struct fuse_init_in, flags2) || h->opcode != FUSE_INIT)
		return;
	f->init_unique = h->unique;
	f->init_flags = in->flags;
	if (len >= sizeof(*h) + sizeof(*in) && in->flags & FUSE_INIT_EXT)
		f->init_flags2 = in->flags2;
}

/* ---- what the request in hand says beside what libfuse hands on ------------------------------ */

static _Thread_local bool kills_suidgid;

/*
 * Not at an OPEN: the flag there belongs to O_TRUNC, which comes as a SETATTR (session.c); and what
 * CREATE makes had nothing to lose.
 */
static bool asks_to_kill(const uint8_t *buf, size_t len)
{
	const struct fuse_in_header *h = (const void *)buf;
	const struct fuse_write_in *w = (const void *)(h + 1);
	const struct fuse_setattr_in *s = (const void *)(h + 1);

	if (len >= sizeof(*h) + sizeof(*w) && h->opcode == FUSE_WRITE)
		return w->write_flags & FUSE_WRITE_KILL_SUIDGID;
	if (len >= sizeof(*h) + sizeof(*s) && h->opcode == FUSE_SETATTR)
		return s->valid & FATTR_KILL_SUIDGID;
	return false;
}

bool wire_kills_suidgid(void)
{
	return kills_suidgid;
}

static ssize_t wire_read(int fd, void *buf, size_t len, void *userdata)
{
	struct front *f = userdata;
	ssize_t n = read(own_fd < 0 ? fd : own_fd, buf, len);

	if (n > 0 && !atomic_load(&f->initialised))
		note_init(f, buf, (size_t)n);
	kills_suidgid = n > 0 && asks_to_kill(buf, (size_t)n);
	/* The kernel had no memory to hand that request over and has failed it: the next may do. */
	if (n < 0 && errno == ENOMEM)
		errno = EINTR;
	return n;
}

static void add_to_init(struct front *f, struct fuse_init_out *out)
{
	out->flags |= f->init_flags & (FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2);
	if (!(f->init_flags2 & ALLOW_MMAP2))
		return;
	out->flags |= FUSE_INIT_EXT;
	out->flags2 |= ALLOW_MMAP2;
}

static ssize_t wire_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct front *f = userdata;
	const struct fuse_out_header *h = iov[0].iov_base;

	if (f->init_unique && h->unique == f->init_unique) {
		if (count == 2 && h->error == 0 && iov[1].iov_len == sizeof(struct fuse_init_out))
			add_to_init(f, iov[1].iov_base);
		f->init_unique = 0;
	}
	return writev(own_fd < 0 ? fd : own_fd, iov, count);
}

int wire_attach(struct fuse_session *se)
{
	static const struct fuse_custom_io io = {.read = wire_read, .writev = wire_writev};

	return fuse_session_custom_io(se, &io, fuse_session_fd(se));
}

bool wire_direct_mmap(const struct front *f)
{
	return f->init_flags2 & ALLOW_MMAP2;
}

/* ---- OPEN, CREATE ---------------------------------------------------------------------------- */

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 15)

int reply_open(fuse_req_t req, struct fuse_file_info *fi, bool side_by_side)
{
	fi->parallel_direct_writes = side_by_side;
	return fuse_reply_open(req, fi);
}

int reply_create(fuse_req_t req, const struct fuse_entry_param *e, struct fuse_file_info *fi,
		 bool side_by_side)
{
	fi->parallel_direct_writes = side_by_side;
	return fuse_reply_create(req, e, fi);
}

#else

static void fill_open(struct fuse_open_out *out, const struct fuse_file_info *fi, bool side_by_side)
{
	memset(out, 0, sizeof(*out));
	out->fh = fi->fh;
	out->open_flags = (fi->direct_io ? FOPEN_DIRECT_IO : 0) |
			  (side_by_side ? FOPEN_PARALLEL_DIRECT_WRITES : 0);
}

static void fill_attr(struct fuse_attr *a, const struct stat *st)
{
	a->ino = st->st_ino;
	a->size = (uint64_t)st->st_size;
	a->blocks = (uint64_t)st->st_blocks;
	a->atime = (uint64_t)st->st_atim.tv_sec;
	a->mtime = (uint64_t)st->st_mtim.tv_sec;
	a->ctime = (uint64_t)st->st_ctim.tv_sec;
	a->atimensec = (uint32_t)st->st_atim.tv_nsec;
	a->mtimensec = (uint32_t)st->st_mtim.tv_nsec;
	a->ctimensec = (uint32_t)st->st_ctim.tv_nsec;
	a->mode = st->st_mode;
	a->nlink = (uint32_t)st->st_nlink;
	a->uid = st->st_uid;
	a->gid = st->st_gid;
	a->rdev = (uint32_t)st->st_rdev;
	a->blksize = (uint32_t)st->st_blksize;
}

int reply_open(fuse_req_t req, struct fuse_file_info *fi, bool side_by_side)
{
	struct fuse_open_out out;

	fill_open(&out, fi, side_by_side);
	return fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

static void fill_entry(struct fuse_entry_out *out, const struct fuse_entry_param *e)
{
	memset(out, 0, sizeof(*out));
	out->nodeid = e->ino;
	out->generation = e->generation;
	out->entry_valid = (uint64_t)e->entry_timeout;
	out->entry_valid_nsec = (uint32_t)((e->entry_timeout - (double)out->entry_valid) * 1e9);
	out->attr_valid = (uint64_t)e->attr_timeout;
	out->attr_valid_nsec = (uint32_t)((e->attr_timeout - (double)out->attr_valid) * 1e9);
	fill_attr(&out->attr, &e->attr);
}

int reply_create(fuse_req_t req, const struct fuse_entry_param *e, struct fuse_file_info *fi,
		 bool side_by_side)
{
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out;

	fill_entry(&out.entry, e);
	fill_open(&out.open, fi, side_by_side);
	return fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

#endif
