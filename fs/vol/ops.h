/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The in-process file API of a mounted volume: what the FUSE front end, the tests and the simulator
 * call.
 * Each operation is atomic, takes and gives back all its locks and transactions itself, may sleep,
 * and returns 0 or a negative errno. Permission checks are the caller's (the kernel's).
 *
 * Inodes are named by (ino, generation); generation 0 = whatever is there. -ESTALE: gone.
 */
#ifndef VOL_OPS_H
#define VOL_OPS_H

#include "vol/volume.h"
#include <sys/stat.h>
#include <sys/statvfs.h>

struct op_ctx {
	uint32_t uid, gid, umask; /* of the caller: ownership of what is created */
	struct lock_intr *intr;	  /* may be NULL */
	bool read_excl;		  /* vol_read: what is read may be changed by a store in memory */
	/*
	 * vol_getattr: by the thread that calls the lock back, or for it: LOCK_DRAIN. -EAGAIN if
	 * the volume's own lock is not here, for which another host may wait that waits for us.
	 */
	bool drain;
	bool late;		  /* vol_write: write-back of cached pages: LOCK_LATE */
	atomic_bool *admitted;	  /* may be NULL; false while it waits for its inode's lock */
	/* vol_setxattr of an access ACL: has CAP_FSETID; else his groups beside @gid. */
	bool keeps_sgid;
	const uint32_t *groups;
	unsigned n_groups;
};

/* Wake the operation that waits with @intr (op_ctx.intr): it ends with -EINTR. Never sleeps. */
void vol_interrupt(struct volume *v, struct lock_intr *intr);

struct nodeid {
	uint64_t ino, generation;
};

struct vattr {
	struct nodeid id;
	struct stat st; /* st_ino, st_mode, st_nlink, st_size, st_blocks, times, ... filled */
};

int vol_root(struct volume *v, struct nodeid *out);
int vol_lookup(struct volume *v, const struct op_ctx *c, struct nodeid dir, const char *name,
	       struct vattr *out); /* "." and ".." too */
int vol_getattr(struct volume *v, const struct op_ctx *c, struct nodeid id, struct vattr *out);

#define VSET_MODE 0x01u
#define VSET_UID 0x02u
#define VSET_GID 0x04u
#define VSET_SIZE 0x08u
#define VSET_ATIME 0x10u
#define VSET_MTIME 0x20u
#define VSET_CTIME 0x40u
#define VSET_ATIME_NOW 0x80u
#define VSET_MTIME_NOW 0x100u
/*
 * Clear suid, and sgid where group-executable. A change of size or owner takes capabilities away in
 * any case.
 */
#define VSET_KILL_SUIDGID 0x200u
/* @set 0 is a change, too: chown(path, -1, -1) sets ctime. */
int vol_setattr(struct volume *v, const struct op_ctx *c, struct nodeid id, const struct stat *st,
		unsigned set, struct vattr *out);

/* Regular files, fifos, sockets, devices. umask and default ACLs are applied in here. */
int vol_mknod(struct volume *v, const struct op_ctx *c, struct nodeid dir, const char *name,
	      mode_t mode, dev_t rdev, struct vattr *out);
int vol_mkdir(struct volume *v, const struct op_ctx *c, struct nodeid dir, const char *name,
	      mode_t mode, struct vattr *out);
int vol_symlink(struct volume *v, const struct op_ctx *c, struct nodeid dir, const char *name,
		const char *target, struct vattr *out);
int vol_readlink(struct volume *v, const struct op_ctx *c, struct nodeid id, char *buf,
		 size_t size); /* zero-terminated */
int vol_link(struct volume *v, const struct op_ctx *c, struct nodeid id, struct nodeid dir,
	     const char *name, struct vattr *out);
int vol_unlink(struct volume *v, const struct op_ctx *c, struct nodeid dir, const char *name);
int vol_rmdir(struct volume *v, const struct op_ctx *c, struct nodeid dir, const char *name);
/*
 * @flags of <linux/fs.h>: RENAME_EXCHANGE; or RENAME_NOREPLACE, RENAME_WHITEOUT, both, none. The
 * caller may make device nodes if he may ask for a whiteout.
 */
int vol_rename(struct volume *v, const struct op_ctx *c, struct nodeid dir, const char *name,
	       struct nodeid newdir, const char *newname, unsigned flags);

struct vdirent {
	struct dir_entry de;
	uint64_t next; /* cookie to go on after this entry */
	bool has_attr;
	struct vattr attr; /* with has_attr */
};
/* Attributes are filled in too: never; where this host has the lock; or where nobody is in the way.
 */
enum vol_attrs { VATTRS_NONE, VATTRS_CACHED, VATTRS_FREE };
/* Up to @max entries from @cookie (0 = start, "." and ".." included); *n = 0 at the end. */
int vol_readdir(struct volume *v, const struct op_ctx *c, struct nodeid dir, uint64_t cookie,
		enum vol_attrs attrs, struct vdirent *out, size_t max, size_t *n);

/*
 * Open counts keep an unlinked file's space until the last close on any host. Every vol_open is
 * paired with one vol_release. vol_create = mknod of a regular file + open in one operation
 * (-EEXIST if the name exists).
 */
int vol_open(struct volume *v, const struct op_ctx *c, struct nodeid id);
int vol_create(struct volume *v, const struct op_ctx *c, struct nodeid dir, const char *name,
	       mode_t mode, struct vattr *out);
void vol_release(struct volume *v, struct nodeid id);

/* @buf 4096-aligned is fastest; any off/len works. *done = bytes (short only at end of file). */
int vol_read(struct volume *v, const struct op_ctx *c, struct nodeid id, uint64_t off_bytes,
	     size_t len_bytes, void *buf, size_t *done);
#define VWRITE_APPEND 0x1u	 /* at the end of file as known under the lock, off is ignored */
#define VWRITE_KILL_SUIDGID 0x2u /* clear suid, and sgid where group-executable */
/*
 * Whoever writes, the file loses its capabilities; but not by the write-back of pages (c->late),
 * since a store into a mapping leaves them, as on other file systems.
 * *done = bytes written, short on ENOSPC after some, which is an error with c->late; *off_out (may
 * be NULL) where. Other hosts see a write of up to 1 MiB whole, or as short as it ends.
 */
int vol_write(struct volume *v, const struct op_ctx *c, struct nodeid id, uint64_t off_bytes,
	      size_t len_bytes, const void *buf, unsigned flags, size_t *done, uint64_t *off_out);

/*
 * A read or a write without a thread that waits for the device, where that can be had: whole blocks
 * before the end of file that lie in one piece, to read, overwrite, or (first.h) write first, and
 * locks that are held. All of it and what it points to stays as it is until vol_io_end() has
 * answered.
 */
struct vol_io {
	bool write;
	unsigned flags;		/* of a write: 0 or VWRITE_KILL_SUIDGID */
	const struct op_ctx *c; /* without intr: there is nothing to interrupt */
	struct nodeid id;
	uint64_t off_bytes;
	size_t len_bytes;
	void *buf; /* 4096-aligned */
	/*
	 * The device has answered, or somebody else has done the rest: vol_io_end() is to be
	 * called. Must not sleep.
	 */
	void (*ended)(struct vol_io *x);
	struct vol_io_job *job; /* the volume's own */
};
/* False: nothing was started, use vol_read() or vol_write(). May come after x->ended() has. */
bool vol_io_start(struct volume *v, struct vol_io *x);
/*
 * The answer of vol_read() or vol_write(); or VOL_IO_WAITS, if not @may_sleep and there is
 * something to wait for: to be called again on a thread that may; or VOL_IO_LATER: @x->ended is
 * called once more, maybe before this returns, so that @x may be gone.
 */
#define VOL_IO_WAITS 1
#define VOL_IO_LATER 2
int vol_io_end(struct vol_io *x, bool may_sleep, size_t *done);

#define VFALLOC_KILL_SUIDGID 0x10000000 /* in @mode; as VWRITE_KILL_SUIDGID */
/* @mode: FALLOC_FL_* : 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE[|KEEP_SIZE]. */
int vol_fallocate(struct volume *v, const struct op_ctx *c, struct nodeid id, int mode,
		  uint64_t off_bytes, uint64_t len_bytes);
/*
 * Give free space in [@off_bytes, @off_bytes + @len_bytes) of the device back to it, in runs of at
 * least @min_bytes; *@done_bytes, also with an error, says how much. Space that another host holds
 * is asked for. -EOPNOTSUPP: the device takes no discards. -EINVAL: it begins beyond the end.
 */
int vol_trim(struct volume *v, const struct op_ctx *c, uint64_t off_bytes, uint64_t len_bytes,
	     uint64_t min_bytes, uint64_t *done_bytes);
int vol_lseek(struct volume *v, const struct op_ctx *c, struct nodeid id, uint64_t off_bytes,
	      int whence, uint64_t *out); /* SEEK_DATA, SEEK_HOLE */
int vol_fsync(struct volume *v, const struct op_ctx *c, struct nodeid id, bool data_only);
int vol_syncfs(struct volume *v);
int vol_statfs(struct volume *v, struct statvfs *out);

int vol_getxattr(struct volume *v, const struct op_ctx *c, struct nodeid id, const char *name,
		 void *buf, size_t size, size_t *len);
int vol_listxattr(struct volume *v, const struct op_ctx *c, struct nodeid id, char *buf,
		  size_t size, size_t *len);
/* @flags: XATTR_CREATE, XATTR_REPLACE of <sys/xattr.h>. ACL names change the mode as they must. */
int vol_setxattr(struct volume *v, const struct op_ctx *c, struct nodeid id, const char *name,
		 const void *value, size_t len_bytes, int flags);
int vol_removexattr(struct volume *v, const struct op_ctx *c, struct nodeid id, const char *name);

#endif
