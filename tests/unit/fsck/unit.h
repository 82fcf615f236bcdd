/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of repairs: a volume with something of everything is made by whole hosts on the simulated
 * LUN, damaged by name, repaired by fsck.lunfs's own passes under a real claim, checked again, and
 * mounted: what was not damaged must be there with its contents.
 */
#ifndef FSCK_UNIT_H
#define FSCK_UNIT_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "fsck/fsck.h"
#include "simcluster.h"

#define FU_MANY 600u /* names in /many: a tree of two levels */
#define FU_FRAG 400u /* extents of /frag: two levels too */
#define FU_ATTRS 20u /* attributes of /attrs */
#define FU_BIG_ATTR 20000u

/* What is there, in the order of fu_path[]. */
enum fu_file {
	FU_ROOT,
	FU_DIR,
	FU_SUB,
	FU_DEEP,
	FU_MANY_DIR,
	FU_SMALL,
	FU_PLAIN,
	FU_OTHER,
	FU_FRAGGED,
	FU_HARD,
	FU_ATTRS_FILE,
	FU_ACL_FILE,
	FU_SHORT_LINK,
	FU_LONG_LINK,
	FU_FIFO,
	FU_FILES,
};
extern const char *const fu_path[FU_FILES];

struct fu {
	struct simcluster *t;
	struct nodeid id[FU_FILES];
	struct nodeid orphan;	      /* unlinked while it was open, its host is dead */
	struct simdev_snapshot *made; /* all of this, undamaged */
	uint64_t count[PROBLEMS];     /* of the last check */
	uint64_t found;		      /* problems in the repair of fu_repair() */
	uint64_t total, fixed, left, orphans;
	int rc;
	int log;	  /* what finishing a log came to, in the last run under a claim */
	int given_up;	  /* what giving up the claim came to */
	char why[512];	  /* the claim could not be had, or the undo file not be put back */
	const char *undo; /* make this undo file */
	unsigned threads; /* of fsck.lunfs */
	bool alone;	  /* no thread but its own */
	char *said;	  /* by the last run: all problems */
};

/* Make the volume, then call @body in it. @sector_bytes: 512 or 4096. */
void fu_run(void (*body)(struct fu *u), uint32_t sector_bytes);
/* Undamaged again. */
void fu_restore(struct fu *u);

/* One run of fsck.lunfs; fills the counts. */
void fu_fsck(struct fu *u, enum repair_mode mode);
/*
 * A run that dies at its @nth command that is no read; then the power goes with @cut. False: it
 * came to its end before.
 */
bool fu_fsck_killed(struct fu *u, unsigned nth, bool cut);
/* Does the log of a run that died stand? Where. */
bool fu_log(struct fu *u, struct maint_info *mi);
/* fsck.lunfs --put-back of @path: fills rc, why, given_up. */
void fu_put_back(struct fu *u, const char *path);
/*
 * Repairs what is damaged: @code must be found, and by -n first, which must change nothing; all
 * must be repaired, and a second run find nothing.
 */
void fu_repair(struct fu *u, enum problem_code code);
/* Mount, compare everything but @except (a bit each of 1 << enum fu_file), unmount. */
void fu_verify(struct fu *u, unsigned except);
/* All of the above after damage. */
void fu_cycle(struct fu *u, enum problem_code code, unsigned except);
bool fu_exists(struct fu *u, const char *path); /* of a mounted volume */
struct nodeid fu_at(struct fu *u, const char *path);

/* ---- damaging -------------------------------------------------------------------------------- */

void fu_get(struct fu *u, uint64_t cell, void *payload);
void fu_put(struct fu *u, uint64_t cell, void *payload); /* sealed */
void fu_put_raw(struct fu *u, uint64_t cell, const void *payload);
void fu_get_inode(struct fu *u, enum fu_file file, struct lunfs_inode_pl *pl);
/* The slot without a journal that is claimed for a repair wherever that can be. */
unsigned fu_spare(const struct fu *u);
void fu_damage_slot(struct fu *u, unsigned slot);
/*
 * A host dies, and its journal cannot be replayed, since it names a lock that is noise: of
 * FU_SMALL. What stood there (512 bytes) goes to @lock.
 */
void fu_lose_replay(struct fu *u, uint8_t *lock);
/* Cell of child @i of the data root, which has children. */
uint64_t fu_child(struct fu *u, enum fu_file file, unsigned i);
struct lunfs_bt_head *fu_head(uint8_t *area);
struct lunfs_bt_leaf_slot *fu_slot(uint8_t *area, unsigned i);
struct lunfs_dirent *fu_dirent(uint8_t *area, const char *name, unsigned *i);
struct lunfs_extent *fu_extent(uint8_t *area, unsigned i);

#endif
