/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reference model: a POSIX tree that does one operation at a time. It knows what each operation
 * must answer in its present state; where several answers are right (an inode without a name may or
 * may not be gone yet; bytes that were written but whose host died before it committed may be old
 * or new, sector by sector) it takes any of them and remembers which it was.
 */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H

#include "history.h"

struct model;

enum model_how {
	MODEL_ANSWERED, /* it must answer what it did answer */
	MODEL_DONE,	/* no answer is known, but it took effect */
	MODEL_LOST,	/* its transaction was lost; only bytes in place may show it */
	MODEL_IN_PART,	/* some of it was done: what the file holds is not known any more */
};

/* Operations at the same time on the same host that may write or read the same bytes: see lin.c. */
struct model_peers {
	const struct hop *const *hop;
	unsigned n;
};

/* @full: -ENOSPC is a right answer of whatever may take space. */
struct model *model_new(uint32_t objects, bool full);
void model_free(struct model *m);
/* Empty but for the root directory, which is object @root of that inode number. */
void model_reset(struct model *m, uint32_t root, uint64_t root_ino);
/* True: it fits. False: @why says what should have been. The model is then of no use any more. */
bool model_apply(struct model *m, const struct hop *h, enum model_how how,
		 const struct model_peers *peers, char *why, size_t why_len);
void model_host_gone(struct model *m, unsigned host); /* what it had open is closed */
/* Size of the file that @h names, before it; 0 if it is none. */
uint64_t model_size(const struct model *m, const struct hop *h);
bool hop_changes(const struct hop *h); /* could this kind of operation change anything? */

#endif
