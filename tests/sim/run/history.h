/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The history of a run: every file operation with the moments of its call and its return, its
 * arguments and its answer. Moments are numbers that count all such events of the run.
 *
 * The linker wraps op_run() and change_begin(), so each operation also gets a hint when it took
 * effect: the end of its body, while all its locks were pinned; and which transactions it was part
 * of. lin.c tries the order of these hints first; it does not have to believe them.
 */
#ifndef SIM_HISTORY_H
#define SIM_HISTORY_H

#include "vol/ops.h"

#define HOP_KINDS(X)                                                                               \
	X(LOOKUP, "lookup")                                                                        \
	X(GETATTR, "getattr")                                                                      \
	X(TOUCH, "touch")                                                                          \
	X(READDIR, "readdir")                                                                      \
	X(READLINK, "readlink")                                                                    \
	X(CREATE, "create")                                                                        \
	X(MKNOD, "mknod")                                                                          \
	X(MKDIR, "mkdir")                                                                          \
	X(SYMLINK, "symlink")                                                                      \
	X(LINK, "link")                                                                            \
	X(UNLINK, "unlink")                                                                        \
	X(RMDIR, "rmdir")                                                                          \
	X(RENAME, "rename")                                                                        \
	X(WRITE, "write")                                                                          \
	X(READ, "read")                                                                            \
	X(TRUNCATE, "truncate")                                                                    \
	X(FALLOCATE, "fallocate")                                                                  \
	X(SETXATTR, "setxattr")                                                                    \
	X(GETXATTR, "getxattr")                                                                    \
	X(RMXATTR, "removexattr")                                                                  \
	X(OPEN, "open")                                                                            \
	X(RELEASE, "release")                                                                      \
	X(FSYNC, "fsync")                                                                          \
	X(SYNCFS, "syncfs")                                                                        \
	X(STATFS, "statfs")

enum hop_kind {
#define X(name, text) HOP_##name,
	HOP_KINDS(X)
#undef X
	    HOP_KINDS_N
};
const char *hop_name(enum hop_kind k);

#define HOP_NEVER UINT64_MAX
#define HOP_LINK_BYTES 24

struct hop_entry { /* of a directory listing */
	char name[12];
	uint64_t ino, generation;
	uint8_t type;
};

struct hop {
	struct op_ctx ctx; /* first: how op_run() knows us */
	uint32_t index;	   /* in the history; index + 1 is the tag of what it writes */
	enum hop_kind kind;
	unsigned host, inc, task;
	uint64_t call, ret, point; /* moments; ret HOP_NEVER: no answer */
	uint64_t call_ns, ret_ns;
	uint64_t early;		 /* the moment of the first step, of what goes in steps */
	unsigned runs;		 /* of op_run() */
	unsigned bodies;	 /* how often its body ran: it let its locks go in between */
	unsigned changes;	 /* transactions joined */
	bool finishing;		 /* what another one left: its transactions do not count */
	uint64_t joined;	 /* the moment of the first */
	uint64_t txn_lo, txn_hi; /* the first and the last of them */
	/* A write over written space that joined none: txn_hi is the one that ran at its end. What a
	 * commit or an fsync flushes after it is safe. */
	bool in_place, flushed;
	int body_rc;		 /* at .point */
	int rc;
	/* arguments */
	struct nodeid id, dir; /* the inode; the second directory of a rename or link */
	char name[12], name2[12];
	unsigned flags; /* of write, rename, setxattr, fallocate; fsync: 1: of the data alone */
	uint64_t off, len;
	/* answer */
	struct nodeid out;
	uint32_t mode, nlink;
	uint64_t size;
	uint64_t done; /* bytes, entries */
	uint64_t at;   /* write: where */
	void *data;    /* bytes read, entries listed */
	/* for lin.c: numbers of the objects */
	uint32_t o_id, o_dir, o_out;
	uint64_t lost_size; /* size of the file before it, as its host saw it */
};

struct sim_run;
struct history;
struct history *history_new(struct sim_run *r, size_t max);
void history_free(struct history *h);
size_t history_len(const struct history *h);
struct hop *history_at(const struct history *h, size_t i);
uint64_t history_now(const struct history *h); /* the number of the latest event */
uint64_t history_tick(struct history *h);
/* NULL: the history is full. */
struct hop *hop_begin(struct sim_run *r, unsigned host, unsigned task, enum hop_kind kind);
void hop_call(struct sim_run *r, struct hop *h); /* the arguments are in: the call begins */
void hop_end(struct sim_run *r, struct hop *h, int rc, const struct vattr *va);
/* One line that a person can read. */
const char *hop_text(const struct hop *h, char *buf, size_t len);

/* The bytes that operation @tag writes at @off of a file; tag 0: zeroes. */
void pattern_fill(uint8_t *buf, uint32_t tag, uint64_t off, size_t len);
bool pattern_is(const uint8_t *buf, uint32_t tag, uint64_t off, size_t len);

#endif
