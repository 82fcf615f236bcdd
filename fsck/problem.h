/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The problems that fsck.lunfs can find, each with a stable code; fsck.lunfs(8) explains them. */
#ifndef FSCK_PROBLEM_H
#define FSCK_PROBLEM_H

#include <stdbool.h>
#include <stdint.h>

#define PROBLEM_LIST(X)                                                                            \
	X(SB_DAMAGED, "the superblock is damaged")                                                 \
	X(SB_COPY, "a superblock copy is damaged or differs")                                      \
	X(HOST_SLOT, "a host slot's record is damaged")                                            \
	X(HOST_NOT_FREE, "a host slot is not free: its journal was not replayed")                  \
	X(MAINT, "the maintenance sector is damaged")                                              \
	X(JOURNAL, "a journal header is damaged")                                                  \
	X(BOARD, "a request board sector is damaged")                                              \
	X(ANCHOR, "an anchor cell is damaged")                                                     \
	X(WATERMARK, "the group watermark is out of range")                                        \
	X(READ, "a block cannot be read")                                                          \
	X(LOCK_RECORD, "a lock record is damaged")                                                 \
	X(LOCK_OWNER, "a lock names a host incarnation that never was")                            \
	X(LOST_WRITE, "a block is older than its lock record says")                                \
	X(GROUP, "a group header is damaged")                                                      \
	X(BITMAP, "a bitmap block is damaged")                                                     \
	X(FREE_COUNT, "a count of free blocks is wrong")                                           \
	X(CHUNK, "a chunk header is damaged")                                                      \
	X(CHUNK_COUNT, "a count of chunks or free cells is wrong")                                 \
	X(CELL, "a used cell is damaged")                                                          \
	X(INODE, "an inode is damaged")                                                            \
	X(TREE, "a tree node is damaged")                                                          \
	X(TREE_ORDER, "keys of a tree are out of order or out of range")                           \
	X(TREE_NODE, "a tree refers to a cell that is not its node")                               \
	X(EXTENT, "an extent is out of range or overlaps another")                                 \
	X(DOUBLE, "a block has two owners")                                                        \
	X(BLOCK_COUNT, "an inode's block count is wrong")                                          \
	X(DIRENT, "a directory entry is malformed")                                                \
	X(DIRENT_HASH, "a directory entry stands under the wrong hash")                            \
	X(DIRENT_TARGET, "a directory entry names no such inode")                                  \
	X(DIR_SIZE, "a directory's number of entries is wrong")                                    \
	X(DIR_PARENT, "a directory's parent is wrong")                                             \
	X(DIR_LINKS, "a directory has two names or none")                                          \
	X(DIR_CYCLE, "a directory is not reachable from the root")                                 \
	X(NLINK, "an inode's link count is wrong")                                                 \
	X(LOST_INODE, "an inode has no name")                                                      \
	X(ORPHAN, "an orphan and its list do not agree")                                           \
	X(XATTR, "an extended attribute is malformed")                                             \
	X(SYMLINK, "a symbolic link is malformed")                                                 \
	X(LOST_CELL, "a used cell belongs to nothing")                                             \
	X(LEAK, "blocks are marked in use but belong to nothing")                                  \
	X(NOT_MARKED, "blocks in use are marked free")

enum problem_code {
#define X(name, text) PROBLEM_##name,
	PROBLEM_LIST(X)
#undef X
	    PROBLEMS
};

struct problems {
	bool json;
	uint64_t count[PROBLEMS];
	uint64_t total, shown;
	void *list; /* json_object array */
};

const char *problem_name(enum problem_code code); /* "NLINK" */
const char *problem_text(enum problem_code code);
/* Report one: @addr is the block or inode it is about, 0 if none. */
void problem(struct problems *p, enum problem_code code, uint64_t addr, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
