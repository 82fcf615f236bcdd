/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The FUSE session: its operations, and what is asked of the kernel. */
#include "fuse/front.h"
#include <stdio.h>

#define MAX_WRITE_BYTES (1u << 20)
#define MAX_BACKGROUND 128u
#define EPOCH_MINOR 44u	  /* FUSE_NOTIFY_INC_EPOCH: Linux 6.16 */
#define SUIDGID_MINOR 31u /* FUSE_WRITE_KILL_SUIDGID: Linux 5.2 */

static void want(struct fuse_conn_info *conn, unsigned flag, bool on)
{
	if (on)
		conn->want |= conn->capable & flag;
	else
		conn->want &= ~flag;
}

static void req_init(void *userdata, struct fuse_conn_info *conn)
{
	struct front *f = userdata;

	want(conn, FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO, true);
	want(conn, FUSE_CAP_AUTO_INVAL_DATA, true);
	f->epochs = conn->proto_minor >= EPOCH_MINOR;
	/* The kernel takes names out of a listing into an epoch that may be later (keep.c). */
	want(conn, FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO, !f->epochs);
	want(conn, FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_EXPORT_SUPPORT, true);
	want(conn, FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK, true);
	/* Requests arrive in the worker's own, aligned buffer. */
	want(conn, FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE, false);
	/* Size and mtime belong to the lock's holder, not to this kernel. */
	want(conn, FUSE_CAP_WRITEBACK_CACHE, false);
	/* O_TRUNC comes as a setattr. */
	want(conn, FUSE_CAP_ATOMIC_O_TRUNC, false);
	/* It is version 2 of this that is asked for: wire.c. */
	want(conn, FUSE_CAP_HANDLE_KILLPRIV, false);
	f->tells_suidgid = conn->proto_minor >= SUIDGID_MINOR;
	conn->max_write = MAX_WRITE_BYTES;
	conn->max_readahead = MAX_WRITE_BYTES;
	conn->max_background = MAX_BACKGROUND;
	conn->congestion_threshold = MAX_BACKGROUND * 3 / 4;
	atomic_store(&f->initialised, true);
	if (f->on_ready)
		f->on_ready(f->on_ready_ctx);
}

/* flock and fcntl locks have no entry: the kernel keeps them, correct within this host. */
static const struct fuse_lowlevel_ops ops = {
    .init = req_init,
    .lookup = req_lookup,
    .forget = req_forget,
    .forget_multi = req_forget_multi,
    .getattr = req_getattr,
    .setattr = req_setattr,
    .readlink = req_readlink,
    .mknod = req_mknod,
    .mkdir = req_mkdir,
    .unlink = req_unlink,
    .rmdir = req_rmdir,
    .symlink = req_symlink,
    .rename = req_rename,
    .link = req_link,
    .open = req_open,
    .create = req_create,
    .read = req_read,
    .write = req_write,
    .flush = req_flush,
    .release = req_release,
    .fsync = req_fsync,
    .opendir = req_opendir,
    .readdir = req_readdir,
    .readdirplus = req_readdirplus,
    .releasedir = req_releasedir,
    .fsyncdir = req_fsync,
    .statfs = req_statfs,
    .setxattr = req_setxattr,
    .getxattr = req_getxattr,
    .listxattr = req_listxattr,
    .removexattr = req_removexattr,
    .fallocate = req_fallocate,
    .lseek = req_lseek,
    .ioctl = req_ioctl,
};

struct fuse_session *front_session_new(struct front *f, struct fuse_args *args)
{
	return fuse_session_new(args, &ops, sizeof(ops), f);
}

/* The kernel reads 128 KiB ahead unless it is told, and takes that from nobody but its own files. */
void session_tune(const struct front *f)
{
	char path[64];
	FILE *fp;

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", f->dev_major,
		 f->dev_minor);
	fp = fopen(path, "we");
	if (!fp)
		return; /* not root, or a container: slower, no more */
	fprintf(fp, "%u\n", MAX_WRITE_BYTES >> 10);
	fclose(fp);
}
