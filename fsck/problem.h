/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The problems that fsck.lunfs can find: one row each, with a permanent code. A code never changes
 * its meaning and is never used again. fsck.lunfs(8) has a paragraph for each, tests/images a
 * damaged volume.
 */
#ifndef FSCK_PROBLEM_H
#define FSCK_PROBLEM_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

enum problem_severity {
	SEV_MINOR,  /* copies and counts: the volume works */
	SEV_DAMAGE, /* something does not work; repaired without loss */
	SEV_LOSS,   /* the repair gives something up, or something is gone already */
};

enum problem_preen { PREEN_FIX, PREEN_STOP }; /* what -p does */

/* code, severity, -p, what the repair does (NULL: none), text */
#define PROBLEM_LIST(X)                                                                            \
	X(SB_DAMAGED, SEV_DAMAGE, PREEN_FIX, "Write it anew from a copy",                          \
	  "the superblock is damaged")                                                             \
	X(SB_COPY, SEV_MINOR, PREEN_FIX, "Write the copy anew",                                    \
	  "a superblock copy is damaged or differs")                                               \
	X(HOST_SLOT, SEV_DAMAGE, PREEN_STOP, "Make the slot free",                                 \
	  "a host slot's record is damaged")                                                       \
	X(HOST_NOT_FREE, SEV_LOSS, PREEN_STOP, "Give up what stands only in its journal",          \
	  "a host slot is not free: its journal was not replayed")                                 \
	X(MAINT, SEV_DAMAGE, PREEN_FIX, "Set it anew", "the maintenance sector is damaged")        \
	X(MUST_CHECK, SEV_MINOR, PREEN_FIX, "Take the mark off after this check",                  \
	  "an unfinished repair left its mark")                                                    \
	X(JOURNAL, SEV_DAMAGE, PREEN_FIX, "Write it anew", "a journal header is damaged")          \
	X(BOARD, SEV_MINOR, PREEN_FIX, "Clear it", "a request board sector is damaged")            \
	X(ANCHOR, SEV_DAMAGE, PREEN_FIX, "Write it anew", "an anchor cell is damaged")             \
	X(WATERMARK, SEV_DAMAGE, PREEN_STOP, "Set it to the groups that are there",                \
	  "the group watermark is out of range or too low")                                        \
	X(READ, SEV_LOSS, PREEN_STOP, "Overwrite it", "a block cannot be read")                    \
	X(LOCK_RECORD, SEV_DAMAGE, PREEN_FIX, "Make the lock free", "a lock record is damaged")    \
	X(LOCK_OWNER, SEV_DAMAGE, PREEN_FIX, "Make the lock free",                                 \
	  "a lock names a host incarnation that never was")                                        \
	X(LOST_WRITE, SEV_LOSS, PREEN_STOP, "Take the older contents as they are",                 \
	  "a block is older than its lock record says")                                            \
	X(GROUP, SEV_DAMAGE, PREEN_STOP, "Build it anew", "a group header is damaged")             \
	X(BITMAP, SEV_DAMAGE, PREEN_STOP, "Build it anew", "a bitmap block is damaged")            \
	X(FREE_COUNT, SEV_MINOR, PREEN_FIX, "Correct it", "a count of free blocks is wrong")       \
	X(CHUNK, SEV_DAMAGE, PREEN_STOP, "Build it anew", "a chunk header is damaged")             \
	X(CHUNK_LOST, SEV_DAMAGE, PREEN_STOP, "List it",                                           \
	  "a chunk that is in use is not listed by its group")                                     \
	X(CHUNK_PLACE, SEV_DAMAGE, PREEN_STOP, "List it there",                                    \
	  "a group lists a chunk's header where it is not")                                        \
	X(CHUNK_COUNT, SEV_MINOR, PREEN_FIX, "Correct it",                                         \
	  "a count of chunks or free cells is wrong")                                              \
	X(CELL, SEV_LOSS, PREEN_STOP, "Free the cell", "a used cell is damaged")                   \
	X(CHECKSUM, SEV_DAMAGE, PREEN_STOP, "Keep the contents and correct the checksum",          \
	  "a block's checksum is wrong, its contents make sense")                                  \
	X(INODE, SEV_LOSS, PREEN_STOP, "Clear the inode", "an inode is damaged")                   \
	X(INODE_FIELD, SEV_DAMAGE, PREEN_STOP, "Correct the field",                                \
	  "a field of an inode is wrong")                                                          \
	X(ROOT, SEV_LOSS, PREEN_STOP, "Make an empty one", "the root directory is gone")           \
	X(ORPHAN_DIR, SEV_DAMAGE, PREEN_STOP, "Make an empty one",                                 \
	  "the orphan directory of a journal is gone")                                             \
	X(TREE, SEV_LOSS, PREEN_STOP, "Build the tree anew from what is good",                     \
	  "a tree node is damaged")                                                                \
	X(TREE_ORDER, SEV_DAMAGE, PREEN_STOP, "Build the tree anew from what is good",             \
	  "keys of a tree are out of order or out of range")                                       \
	X(TREE_NODE, SEV_LOSS, PREEN_STOP, "Build the tree anew from what is good",                \
	  "a tree refers to a cell that is not its node")                                          \
	X(EXTENT, SEV_LOSS, PREEN_STOP, "Drop the extent",                                         \
	  "an extent is malformed or out of range")                                                \
	X(EXTENT_OVERLAP, SEV_LOSS, PREEN_STOP, "Cut the later one",                               \
	  "two extents hold the same part of a file")                                              \
	X(DOUBLE, SEV_DAMAGE, PREEN_STOP, "Give the file a copy of its own",                       \
	  "a block has two owners")                                                                \
	X(DOUBLE_LOST, SEV_LOSS, PREEN_STOP, "Leave a hole in the file",                           \
	  "a block with two owners cannot be copied")                                              \
	X(BLOCK_COUNT, SEV_MINOR, PREEN_FIX, "Correct it", "an inode's block count is wrong")      \
	X(INLINE_SIZE, SEV_LOSS, PREEN_STOP, "Cut the size",                                       \
	  "a file is larger than what it holds in place")                                          \
	X(INLINE_TAIL, SEV_MINOR, PREEN_FIX, "Zero them",                                          \
	  "bytes stand behind the end of a file that is held in place")                            \
	X(SPECIAL, SEV_MINOR, PREEN_STOP, "Drop the data", "a special file has data")              \
	X(DIRENT, SEV_LOSS, PREEN_STOP, "Drop the entry", "a directory entry is malformed")        \
	X(DIRENT_TYPE, SEV_MINOR, PREEN_FIX, "Correct it",                                         \
	  "a directory entry says another type than its inode")                                    \
	X(DIRENT_HASH, SEV_DAMAGE, PREEN_FIX, "Put it where it belongs",                           \
	  "a directory entry stands under the wrong hash")                                         \
	X(DIRENT_TWICE, SEV_DAMAGE, PREEN_STOP, "Rename the second, or drop it if it is the same", \
	  "a directory has two entries of one name")                                               \
	X(DIRENT_TARGET, SEV_LOSS, PREEN_STOP, "Drop the entry",                                   \
	  "a directory entry names no such inode")                                                 \
	X(DIR_SIZE, SEV_MINOR, PREEN_FIX, "Correct it",                                            \
	  "a directory's number of entries is wrong")                                              \
	X(DIR_PARENT, SEV_DAMAGE, PREEN_FIX, "Correct it", "a directory's parent is wrong")        \
	X(DIR_LINKS, SEV_DAMAGE, PREEN_STOP, "Keep one name", "a directory has two names")         \
	X(DIR_CYCLE, SEV_DAMAGE, PREEN_STOP, "Move it to lost+found",                              \
	  "a directory stands inside itself")                                                      \
	X(LOST_DIR, SEV_DAMAGE, PREEN_STOP, "Move it to lost+found", "a directory has no name")    \
	X(NLINK, SEV_MINOR, PREEN_FIX, "Correct it", "an inode's link count is wrong")             \
	X(LOST_INODE, SEV_DAMAGE, PREEN_STOP, "Move it to lost+found", "an inode has no name")     \
	X(ORPHAN, SEV_DAMAGE, PREEN_FIX, "Make them agree", "an orphan and its list do not agree") \
	X(ORPHAN_ENTRY, SEV_DAMAGE, PREEN_FIX, "Drop the entry",                                   \
	  "a list of orphans names what is none")                                                  \
	X(ORPHAN_USED, SEV_DAMAGE, PREEN_STOP, "Keep it", "a deleted inode is still in use")       \
	X(XATTR, SEV_LOSS, PREEN_STOP, "Drop it", "an extended attribute is malformed")            \
	X(XATTR_HASH, SEV_DAMAGE, PREEN_FIX, "Put it where it belongs",                            \
	  "an extended attribute stands under the wrong hash")                                     \
	X(XATTR_TWICE, SEV_LOSS, PREEN_STOP, "Drop the second",                                    \
	  "an inode has two extended attributes of one name")                                      \
	X(ACL, SEV_LOSS, PREEN_STOP, "Drop it", "an access control list is malformed")             \
	X(SYMLINK, SEV_LOSS, PREEN_STOP, "Clear the inode", "a symbolic link is malformed")        \
	X(LOST_CELL, SEV_MINOR, PREEN_FIX, "Free it", "a used cell belongs to nothing")            \
	X(LEAK, SEV_MINOR, PREEN_FIX, "Free them",                                                 \
	  "blocks are marked in use but belong to nothing")                                        \
	X(NOT_MARKED, SEV_DAMAGE, PREEN_FIX, "Mark them in use", "blocks in use are marked free")

enum problem_code {
#define X(name, severity, preen, question, text) PROBLEM_##name,
	PROBLEM_LIST(X)
#undef X
	    PROBLEMS
};

enum repair_mode {
	MODE_CHECK, /* -n: answer no */
	MODE_PREEN, /* -p */
	MODE_YES,   /* -y */
	MODE_ASK,
};

struct marked; /* a set of problems */

struct problems {
	enum repair_mode mode;
	bool json, progress; /* a progress line is on the terminal */
	bool stopped;	     /* nothing is written: what -p must not repair; an answer; cancelled */
	bool cancelled;	     /* by who was asked, or by a signal */
	const volatile sig_atomic_t *interrupt; /* set by the signal; may be NULL */
	unsigned round; /* 1 is the first; those that began anew at once do not count */
	bool hold;   /* what is found now cannot be repaired: do not ask */
	bool halted; /* the device is gone: what is found now says nothing */
	uint64_t count[PROBLEMS];
	uint64_t total, fixed;
	uint64_t declined_n;	 /* of the round: found again and left */
	struct marked *declined; /* to be left as they are */
	struct marked *again;	 /* repaired in a late round */
	void *list;		 /* json_object array */
};

/* Nothing was written: the list says so of each. */
void problems_none_repaired(struct problems *p);
const char *problem_name(enum problem_code code); /* "NLINK" */
const char *problem_text(enum problem_code code);
const char *problem_question(enum problem_code code); /* NULL: cannot be repaired */
enum problem_severity problem_severity(enum problem_code code);
bool problem_preen(enum problem_code code); /* -p repairs it */
/*
 * Report one; @addr is the block or inode it is about, 0 if none. True: repair it now. What was
 * left once is neither told nor asked again for the same @addr.
 */
bool problem(struct problems *p, enum problem_code code, uint64_t addr, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The same for one of several of the same @addr, told apart by @item. */
bool problem_item(struct problems *p, enum problem_code code, uint64_t addr, uint64_t item,
		  const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* Was it found and left? */
bool problem_left(const struct problems *p, enum problem_code code, uint64_t addr, uint64_t item);
/* The round ends before what it has repaired counts: that will be found once more. */
void problems_begin_anew(struct problems *p);
void problems_free(struct problems *p);

#endif
