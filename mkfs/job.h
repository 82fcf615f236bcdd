/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One run of writing, between the files that do it. The first error ends it: later calls do
 * nothing, and .what names the thing that failed.
 */
#ifndef MKFS_JOB_H
#define MKFS_JOB_H

#include "mkfs.h"

struct job {
	struct mkfs_work *w;
	uint64_t nonce; /* of mkfs's images */
	struct timespec now;
	int err;
	const char *what;
	uint64_t done, total; /* writes; total 0: not told, not to be interrupted */
	bool final;	      /* superblocks are on their way: only failures end it now */
};

void job_put(struct job *j, const char *what, uint64_t off_bytes, size_t len_bytes,
	     const void *buf);
void job_zero(struct job *j, const char *what, uint64_t off_bytes, uint64_t len_bytes);
void job_flush(struct job *j);
/* Tell of a long step; -EINTR becomes the error where that is not wanted any more. */
void job_step(struct job *j, const char *what, uint64_t done, uint64_t total);
/* 0, or: something that had no answer may still land. Whoever goes on then writes under it. */
int job_settle(struct job *j);

/*
 * retire.c. Take away what would be found: the copies of the old superblock, then the superblock,
 * flushed; then look whether anybody mounted it in between, and if so put all back (-EBUSY, @why);
 * then the signatures of others. An error of the device stands in j->err, the result is 0 then.
 * @retired: the old superblocks are gone.
 */
int retire_all(struct job *j, bool *retired, char *why, size_t why_len);

/* discard.c. Everything but what is zeroed or written anyway. Failures are noted, if harmless. */
void discard_all(struct job *j);

#endif
