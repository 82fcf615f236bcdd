/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * First writes: whole blocks of a file, before its end, that are holes or not written yet, by many
 * side by side. The inode is pinned EX, local shared, by the writer's operation.
 */
#ifndef VOL_FIRST_H
#define VOL_FIRST_H

#include "vol/piece.h"

struct crew;

struct first { /* one of them; zero-init, then @ended if that is wanted */
	/* Another one has committed it, or could not. Called once, maybe on that one's thread. */
	void (*ended)(struct first *f);
	struct first *next, *next_sent;
	struct crew *crew;
	struct op *o; /* its writer's */
	struct piece p;
	bool planned; /* others may look at its parts */
	bool done;    /* and @rc says how */
	int rc;
};

/*
 * All at once. 0: written and committed, with new time stamps. 1: not to be had side by side,
 * nothing was committed; the inode is pinned in some way, and *@i is not to be used. -EIO, ...: as
 * an operation's body.
 */
int first_write(struct op *o, struct inode *i, uint64_t off_bytes, size_t len_bytes,
		const uint8_t *buf);

/*
 * In steps. first_begin() says where the data belongs, in @f->p; first_sent() when it is there,
 * after which the inode is parked. Then with true the caller does what first_lead() does, which
 * sleeps; with false @f->ended is called, maybe before this returns. first_end() in any case but
 * after a first_begin() that was not 0; it returns how it ended, as first_write().
 */
int first_begin(struct op *o, struct inode *i, struct first *f, uint64_t off_bytes,
		size_t len_bytes, const uint8_t *buf);
bool first_sent(struct op *o, struct inode *i, struct first *f);
void first_lead(struct op *o, struct inode *i, struct first *f);
int first_end(struct volume *v, struct first *f);

#endif
