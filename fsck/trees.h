/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What hangs on inodes, between the files that check and repair it.
 *
 * Trees are walked as they stand (tree.c), their items looked at by dirents.c, extents.c, xattrs.c.
 * A fork with anything to repair gets a job. After all trees were walked, jobs are done
 * (rebuild.c): all items that the fork's cells hold are gathered, put right by the file that knows
 * them, and a new tree is built of them (tree_build.c). Names that pass_links.c wants added or
 * dropped are done in the same way (lost_found.c).
 */
#ifndef FSCK_TREES_H
#define FSCK_TREES_H

#include "fsck/fsck.h"

#define ULL(x) ((unsigned long long)(x))

/* ---- items of a tree, in memory (tree_build.c) ----------------------------------------------- */

struct item {
	uint64_t key;
	uint64_t aux; /* for who puts them right */
	size_t off;   /* of the body in the arena */
	uint16_t len;
	bool found; /* in a cell that the tree had lost: counts less than others */
	bool drop;
};

struct items {
	struct item *it;
	size_t n, room;
	uint8_t *arena;
	size_t used, size;
};

void items_add(struct items *l, uint64_t key, const void *body, size_t len, bool found);
uint8_t *items_body(const struct items *l, size_t i);
void items_sort(struct items *l);    /* by key; of equal ones the found ones last */
void items_squeeze(struct items *l); /* without those to drop; sorted; of equal keys the first */
void items_free(struct items *l);

struct cell_list {
	struct owned_cell {
		uint64_t addr;
		bool found;
	} * c;
	size_t n, room;
};
void cells_add(struct cell_list *l, uint64_t addr, bool found);

/*
 * A fork of an inode whose payload is @pl is to hold @l (squeezed): sets its format and root, makes
 * the other nodes in cells of @own first, then in new ones; drops what it does not need. *cells:
 * how many it has. -ENOSPC: nothing was changed.
 */
int tree_build(struct fsck *f, struct lunfs_inode_pl *pl, bool xattr, const struct items *l,
	       const struct cell_list *own, size_t *cells);
/* Add all items of the fork that are in the root or in @own and whose place can be made out. */
int tree_gather(struct fsck *f, const struct lunfs_inode_pl *pl, bool xattr,
		const struct cell_list *own, struct items *l);
/* Grow an array by one; the program ends if there is no memory. */
void *room_for_one(void *array, size_t n, size_t *room, size_t size);

/* ---- walking (tree.c) ------------------------------------------------------------------------ */

struct tree_visit {
	struct fsck_inode *fi;
	const char *what; /* "directory", "extent tree", "xattrs" */
	bool xattr;
	/* One leaf item, in ascending order of keys. */
	void (*item)(struct fsck *f, struct tree_visit *v, uint64_t key, const uint8_t *body,
		     size_t len);
	void *ctx;
	/* Out: */
	bool damaged, lost;	/* the tree itself; parts of it were not found */
	bool rebuild;		/* something of it is to be repaired */
	bool kept;		/* damage of it was left: built anew, it would lose more */
	uint64_t counted;	/* blocks: cells, and what item() adds */
	struct cell_list cells; /* claimed */
	uint64_t next;		/* least key that may follow */
};
/* Walk the tree whose root node stands in @area of @size bytes. */
void tree_walk(struct fsck *f, struct tree_visit *v, const uint8_t *area, size_t size);

/*
 * Any thread: how many items the tree whose root stands in @area has, if that is a good leaf with
 * at most one, of @len bytes, which goes to @key and @body. -1: it is something else.
 */
int tree_single(const uint8_t *area, size_t size, uint64_t *key, void *body, size_t len);

/* dirents.c, extents.c, xattrs.c: what hangs on one inode. */
void check_directory(struct fsck *f, struct fsck_inode *fi, const struct lunfs_inode_pl *pl);
void check_extents(struct fsck *f, struct fsck_inode *fi, struct lunfs_inode_pl *pl);
/* The same of a simple file, by what the table holds. False: something is wrong, nothing was done.
 */
bool check_simple(struct fsck *f, struct fsck_inode *fi);
void check_xattrs(struct fsck *f, struct fsck_inode *fi, const struct lunfs_inode_pl *pl);
void check_symlink(struct fsck *f, struct fsck_inode *fi, const struct lunfs_inode_pl *pl);

/* The cells of a fork that was walked before, without looking at anything else. */
void tree_cells(struct fsck *f, const struct fsck_inode *fi, const struct lunfs_inode_pl *pl,
		bool xattr, struct cell_list *out);
/* A node of this inode in a cell, checksum and all. */
bool tree_node(struct fsck *f, uint64_t addr, uint64_t ino, uint64_t generation, void *payload);

/* ---- jobs (rebuild.c) ------------------------------------------------------------------------ */

struct fork_job {
	uint64_t ino;
	bool xattr, lost; /* cells of it were not found */
	struct cell_list cells;
	uint64_t counted; /* blocks of this fork, of what fi->counted has */
};

struct conflict { /* a file's blocks that have another owner (clone.c) */
	uint64_t ino, lblk, blk, n;
	bool unwritten;
};

struct remap { /* where a file's data stands instead; blk 0: it becomes a hole */
	uint64_t ino, lblk, old, blk, n;
};

enum edit_kind {
	EDIT_ADD,
	EDIT_DROP,	   /* all names of the target */
	EDIT_DROP_BUT_ONE, /* all but the first one */
};

struct dir_edit {
	uint64_t dir, target, generation;
	enum edit_kind kind;
	uint8_t type;
	char name[32];
};

struct extra_name { /* one of several of a directory, or of an orphan */
	uint64_t dir, target;
};

struct trees {
	struct fork_job *job;
	struct conflict *conflict;
	struct remap *remap;
	struct dir_edit *edit;
	struct extra_name *extra;
	uint64_t *lost;
	size_t losts, losts_room;
	size_t jobs, jobs_room, conflicts, conflicts_room, remaps, remaps_room, edits, edits_room,
	    extras, extras_room;
	bool rebuilt;	 /* in this round: what names come to is for the next one */
	uint64_t *stuck; /* inodes whose repair failed; for good */
	size_t stucks, stucks_room;
};

/* Forget the jobs of a round. */
void trees_reset(struct fsck *f);
/*
 * A fork was walked and is to be built anew: takes over the visit's list of cells. Where damage of
 * the tree was left nothing of the inode is repaired.
 */
void job_add(struct fsck *f, struct tree_visit *v);
bool job_pending(struct fsck *f, uint64_t ino);
/* All jobs; then what they need of each other is done. */
int jobs_run(struct fsck *f);
/* Build one fork anew: gathers, puts right, writes the inode. @edits: of this directory. */
int rebuild_fork(struct fsck *f, struct fork_job *job, const struct dir_edit *edits, size_t n);
/* Repairs of this inode fail for lack of room: nothing of it is asked any more. */
void stuck_add(struct fsck *f, uint64_t ino);
bool is_stuck(const struct fsck *f, uint64_t ino);

/* What a fork's file puts right in its items (sorted); leaves them squeezed. */
void dirents_fix(struct fsck *f, struct fsck_inode *dir, struct items *l,
		 const struct dir_edit *edits, size_t n);
void extents_fix(struct fsck *f, struct fsck_inode *fi, struct items *l);
void xattrs_fix(struct fsck *f, struct fsck_inode *fi, struct items *l);
void symlink_fix(struct fsck *f, struct fsck_inode *fi, struct items *l);
/* Refer to the blocks of all extents in @l without a word. */
void extents_refer(struct fsck *f, const struct items *l);
uint64_t extents_blks(const struct items *l);

/* ---- clone.c --------------------------------------------------------------------------------- */

/* Note the reference; true: some of it has another owner and is to be copied. */
bool claim_extent(struct fsck *f, struct fsck_inode *fi, uint64_t lblk, uint64_t blk, uint64_t n,
		  bool unwritten);
/* Copy what has two owners: fills the remaps, sorted. */
int clone_all(struct fsck *f);

/* ---- names (dirents.c, lost_found.c) --------------------------------------------------------- */

bool is_orphan_list(const struct fsck *f, uint64_t ino);
/* The cell is kept for the root or a list of orphans. */
bool is_place(const struct fsck *f, uint64_t cell);
bool is_top(const struct fsck *f, const struct fsck_inode *fi);
uint64_t dirent_hash(const struct fsck *f, const uint8_t *name, size_t len);

void edit_add(struct fsck *f, uint64_t dir, const struct fsck_inode *target, const char *name);
void edit_drop(struct fsck *f, uint64_t dir, uint64_t target, bool but_one);
/* All edits of the round. */
int edits_run(struct fsck *f);
/* Is it a directory whose names can be changed? */
bool can_edit(struct fsck *f, uint64_t dir);
/* An inode that is to go to lost+found. */
void lost_add(struct fsck *f, uint64_t ino);
/* Make lost+found if there is none, and edits that move all of them there; not yet done. */
int lost_run(struct fsck *f);
/* A new empty directory in cell @ino. */
int make_dir(struct fsck *f, uint64_t ino, uint64_t generation, uint64_t parent, uint32_t mode,
	     uint32_t flags);
uint64_t new_generation(struct fsck *f, uint64_t ino);

/* ---- inode_fix.c ----------------------------------------------------------------------------- */

int inode_load(struct fsck *f, uint64_t ino, uint8_t *payload);
int set_nlink(struct fsck *f, struct fsck_inode *fi, uint32_t nlink);
int set_parent(struct fsck *f, struct fsck_inode *fi, uint64_t parent);
int set_size(struct fsck *f, struct fsck_inode *fi, uint64_t size);
int set_blks(struct fsck *f, struct fsck_inode *fi, uint64_t blks);
int set_flags(struct fsck *f, struct fsck_inode *fi, uint32_t flags, uint16_t orphan_slot);
/* The inode and all that was found to hang on it are given up. */
void clear_inode(struct fsck *f, struct fsck_inode *fi, const struct cell_list *cells);

#endif
