/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inodes and what hangs on them: B+trees, extents, directories, xattrs, POSIX ACLs.
 *
 * Nothing in here takes locks or starts transactions: the caller (vol/) has pinned the inode's
 * lock (SH to read; EX and local exclusive to change) and, for changes, joined a transaction with
 * enough credits and reserved cells. Functions that change return -errno only before their first
 * change; what can fail is checked or read first.
 */
#ifndef NODE_NODE_H
#define NODE_NODE_H

#include "alloc/alloc.h"
#include <sys/stat.h>

struct node_env {
	const struct env *env;
	struct txns *txns;
	struct alloc *alloc;
};

/* ---- inode -------------------------------------------------------------------------- */

struct inode {		/* in core: decoded attributes of a referenced inode block */
	struct mblk *m; /* referenced; its guard is the inode's own lock */
	uint64_t ino;	/* address of its cell */
	uint64_t generation;
	uint32_t mode, nlink, uid, gid;
	uint64_t size, blks;
	struct timespec atime, mtime, ctime, btime;
	uint32_t rdev_major, rdev_minor;
	uint64_t parent;
	uint32_t flags;
	uint16_t orphan_slot;
	uint8_t xattr_format, data_format;
};

/* Check and decode a payload without a cache (fsck too). 0 or -EUCLEAN; out->m untouched. */
int inode_decode(const struct geo *g, const void *payload, uint64_t ino, struct inode *out);
/*
 * Load the inode behind pinned @lock. -ESTALE if @generation is not 0 and differs, or the cell is
 * no inode (freed); -EUCLEAN; -EIO. inode_put() when done.
 */
int inode_get(const struct node_env *ne, struct lock *lock, uint64_t generation, struct inode *out);
void inode_put(const struct node_env *ne, struct inode *i);
/* Write the attributes back into the block (marks it dirty). One credit. */
void inode_update(struct txn_handle *h, struct inode *i);
/*
 * The same; if it turns out that nothing but time stamps differs from what the block holds,
 * fdatasync does not wait for it. For those whose other changes stand in the block already, or are
 * none.
 */
void inode_update_times(struct txn_handle *h, struct inode *i);
/*
 * A new inode in @cell, whose lock @lock is pinned EX. Attributes are set by the caller in @i
 * (generation, mode, uid, gid, times, parent ...), then written. One credit. Format EMPTY.
 */
void inode_create(const struct node_env *ne, struct txn_handle *h, struct lock *lock,
		  const struct cell *cell, struct inode *i);

/* What an inode_encode does, for mkfs: a sealed payload, version 1. */
void inode_format(const struct geo *g, const struct inode *i, void *payload);

/* ---- operation context -------------------------------------------------------------- */

/* What a changing call may draw on. */
struct node_txn {
	struct txn_handle *h;
	struct cell_res *cells; /* for new tree nodes */
	struct free_res *frees; /* prepared for what is given up */
};

/*
 * Worst cases, to reserve before txn_begin(): new cells and dirtied blocks of one insertion into
 * (or removal from) this fork, the inode's own block included; allocator credits not included.
 */
struct node_need {
	unsigned cells, credits;
};
enum node_fork { FORK_DATA, FORK_XATTR };
/*
 * Looks at the root only; *need for @changes insertions/removals in one transaction. Never more
 * than ALLOC_CELLS_MAX cells for up to 12 changes. What xattrs need says xattr_need().
 */
int fork_need(const struct node_env *ne, struct inode *i, enum node_fork fork, unsigned changes,
	      struct node_need *need);

/* ---- directories -------------------------------------------------------------------- */

#define DIR_COOKIE_MIN 128u /* of the first entry there can be */
struct dir_entry {
	uint64_t ino, generation;
	uint8_t type; /* DT_* */
	uint8_t name_len;
	char name[LUNFS_NAME_MAX + 1];
	uint64_t cookie; /* own position; the next entry to ask for is cookie + 1 */
};

/* -ENOENT; -EUCLEAN; -EIO. Name is not "." or "..". */
int dir_lookup(const struct node_env *ne, struct inode *dir, const char *name,
	       struct dir_entry *out);
/* First entry with cookie >= @from (>= DIR_COOKIE_MIN). -ENOENT at the end. */
int dir_next(const struct node_env *ne, struct inode *dir, uint64_t from, struct dir_entry *out);
/*
 * Iterate many at once: fills up to @max entries from cookie @from; *n = how many (0 at the end).
 */
int dir_list(const struct node_env *ne, struct inode *dir, uint64_t from, struct dir_entry *out,
	     size_t max, size_t *n);
/* Caller checked that it does not exist. Adjusts dir->size and blks; caller updates times and
 * inode. */
int dir_insert(const struct node_env *ne, const struct node_txn *nt, struct inode *dir,
	       const char *name, uint64_t ino, uint64_t generation, uint8_t type);
/* Point an existing name at another inode (rename over). No new cells. */
int dir_replace(const struct node_env *ne, const struct node_txn *nt, struct inode *dir,
		const char *name, uint64_t ino, uint64_t generation, uint8_t type);
/*
 * Emptied tree nodes are given up: dir_remove_prepare() (before the transaction; may be skipped for
 * a name in a leaf that keeps other entries) collects their cells in @frees by cell_free_prepare;
 * -EAGAIN with frees->want. If it was not possible, dir_remove keeps the empty node.
 */
int dir_remove_prepare(const struct node_env *ne, struct inode *dir, const char *name,
		       struct free_res *frees);
/* Adjusts dir->size and blks; caller updates times and inode. */
int dir_remove(const struct node_env *ne, const struct node_txn *nt, struct inode *dir,
	       const char *name);

/* ---- extents ------------------------------------------------------------------------ */

struct ext {		/* in core; blk 0 = hole */
	uint64_t lblk;	/* logical, blocks */
	uint64_t blk;	/* address */
	uint64_t len;	/* blocks */
	uint32_t flags; /* LUNFS_EXT_* */
};

/*
 * The mapping at @lblk: an extent clipped to start there, or a hole (blk 0) up to the next extent
 * (len up to UINT64_MAX - lblk). At most *one* extent a call. Inline/empty forks: one endless hole.
 */
int ext_map(const struct node_env *ne, struct inode *i, uint64_t lblk, struct ext *out);
/* The extent that begins at or before @lblk, whole. -ENOENT: there is none. */
int ext_before(const struct node_env *ne, struct inode *i, uint64_t lblk, struct ext *out);
/* Insert @e where a hole is; merges with neighbours. Uses up to need.cells. Adjusts blks. */
int ext_insert(const struct node_env *ne, const struct node_txn *nt, struct inode *i,
	       const struct ext *e);
/*
 * Change the UNWRITTEN flag of [lblk, lblk+len) where one extent covers it all; may split it in
 * three: counts as 3 changes.
 */
int ext_set_written(const struct node_env *ne, const struct node_txn *nt, struct inode *i,
		    uint64_t lblk, uint64_t len, bool written);
/*
 * fork_need() for @changes to extents, all of them in [lblk, lblk+len): no cells if the leaf that
 * new ones go to has room for them. What cannot be read for them is met here (-EIO, -EUCLEAN).
 */
int ext_need(const struct node_env *ne, struct inode *i, uint64_t lblk, uint64_t len,
	     unsigned changes, struct node_need *need);
/*
 * Remove the mapping of [lblk, lblk+len), which one extent covers (clip first by ext_map); may
 * split it: counts as 2 changes. The caller frees the blocks (blk_free) in the same transaction.
 * Tree nodes that become empty are given up if @nt->frees holds them; ext_remove_prepare() sees to
 * that where it can, and says -EIO, -EUCLEAN if the removal would.
 */
int ext_remove_prepare(const struct node_env *ne, struct inode *i, uint64_t lblk, uint64_t len,
		       struct free_res *frees);
int ext_remove(const struct node_env *ne, const struct node_txn *nt, struct inode *i, uint64_t lblk,
	       uint64_t len);

/* ---- inline data and symlinks ------------------------------------------------------- */

/* Inline bytes: file data when data_format is INLINE (bytes past size are zero). */
const uint8_t *inline_data(const struct inode *i);
/* Caller announced nothing: dirties the block, sets INLINE, zeroes the rest of the fork. */
void inline_set(struct txn_handle *h, struct inode *i, const void *buf, size_t len_bytes);
void fork_clear(struct txn_handle *h,
		struct inode *i); /* data fork becomes EMPTY (it was INLINE) */

unsigned symlink_need_changes(size_t len_bytes); /* tree insertions; 0 if it fits in place */
int symlink_set(const struct node_env *ne, const struct node_txn *nt, struct inode *i,
		const char *target, size_t len_bytes);
int symlink_get(const struct node_env *ne, struct inode *i, char *buf, size_t size);

/* ---- giving a whole inode up -------------------------------------------------------- */

/*
 * Shrink by steps for the orphan worker: one step collects at most ALLOC_CELLS_MAX / 2 extents or
 * nodes at the end of either fork. prepare fills @step and @frees (-EAGAIN with frees->want);
 * commit applies it inside a transaction of step->credits blocks (all included), frees the blocks
 * and cells, and writes the inode. step->done: nothing is left to do, both forks were empty
 * already; the inode's own cell can be freed. step->last: that will be so after this step.
 * -ENOTEMPTY: a directory with entries.
 */
struct node_shrink {
	unsigned credits;
	bool done, last;
	unsigned n_ext;
	struct ext ext[ALLOC_CELLS_MAX];
	unsigned n_cell;
	uint64_t cell[ALLOC_CELLS_MAX];
	enum node_fork fork;
};
int node_shrink_prepare(const struct node_env *ne, struct inode *i, struct node_shrink *step,
			struct free_res *frees);
int node_shrink_commit(const struct node_env *ne, const struct node_txn *nt, struct inode *i,
		       const struct node_shrink *step);

/* ---- xattrs ---------------------------------------------------------------------------------- */

/* @name with its prefix ("user.x"). -EOPNOTSUPP: prefix unknown. */
int xattr_get(const struct node_env *ne, struct inode *i, const char *name, void *buf, size_t size,
	      size_t *len); /* size 0: only *len; -ERANGE; -ENODATA */
/* @trusted: with the names that xattr(7) shows to the superuser alone. */
int xattr_list(const struct node_env *ne, struct inode *i, bool trusted, char *buf, size_t size,
	       size_t *len);
/*
 * What setting it to @keep_bytes takes, or removing it (XATTR_KEEP_NOTHING), with the nodes there
 * are. -E2BIG, -ERANGE: beyond the limits.
 */
#define XATTR_KEEP_NOTHING SIZE_MAX
int xattr_need(const struct node_env *ne, struct inode *i, const char *name, size_t keep_bytes,
	       struct node_need *need);
#define XATTR_MUST_CREATE 0x1
#define XATTR_MUST_EXIST 0x2
/* -EEXIST, -ENODATA before any change. The xattr fork only; caller updates ctime and inode. */
int xattr_set(const struct node_env *ne, const struct node_txn *nt, struct inode *i,
	      const char *name, const void *value, size_t len_bytes, int flags);
/*
 * Optional, before the transaction: collect the tree cells that xattr_set() to @keep_bytes, or
 * xattr_remove() (XATTR_KEEP_NOTHING), will empty; -EAGAIN with frees->want. Cells that are not
 * prepared stay in the tree, empty.
 */
int xattr_free_prepare(const struct node_env *ne, struct inode *i, const char *name,
		       size_t keep_bytes, struct free_res *frees);
/*
 * What a file may do by itself, capabilities(7). Once looked for, it is known in memory that a file
 * has none, until its xattrs change or its inode's block leaves the cache, with its lock at the
 * latest. False of xattr_no_caps(): it has some, or that is not known yet.
 */
#define XATTR_CAPS_NAME "security.capability"
bool xattr_no_caps(const struct inode *i);
int xattr_has_caps(const struct node_env *ne, struct inode *i, bool *has);
/* -ENODATA. */
int xattr_remove(const struct node_env *ne, const struct node_txn *nt, struct inode *i,
		 const char *name);

/* ---- POSIX ACLs (in the xattr form of linux/posix_acl_xattr.h) ---------------------- */

#define ACL_ACCESS_NAME "system.posix_acl_access"
#define ACL_DEFAULT_NAME "system.posix_acl_default"
/* Valid? -EINVAL. */
int acl_check(const void *acl, size_t len_bytes);
/* Setting an access ACL: *mode gets its permission bits; *minimal: it says no more than the mode.
 */
int acl_to_mode(const void *acl, size_t len_bytes, uint32_t *mode, bool *minimal);
/* chmod: the ACL in @acl follows the new mode (in place). */
int acl_chmod(void *acl, size_t len_bytes, uint32_t mode);
/*
 * Create under a directory with default ACL @def: *mode (asked for, umask NOT applied) is cut down
 * and @access (same length) filled; *minimal: no access ACL need be stored.
 */
int acl_inherit(const void *def, size_t len_bytes, uint32_t *mode, void *access, bool *minimal);

#endif
