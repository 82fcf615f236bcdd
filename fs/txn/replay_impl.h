/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the two halves of replay: scan.c reads a journal, replay.c acts on what it says. */
#ifndef TXN_REPLAY_IMPL_H
#define TXN_REPLAY_IMPL_H

#include "txn/txn_impl.h"

struct mention { /* the last one of a block so far */
	UT_hash_handle hh;
	uint64_t addr, guard, possession, version;
	uint8_t *img; /* LUNFS_PAYLOAD_BYTES; NULL: revoke */
	bool live;
	bool torn; /* a FREE image, and what stands in place fails its checks */
};

struct replay {
	struct txns *t;
	const struct geo *g;
	unsigned slot;
	uint64_t owner, nonce;
	uint64_t region_blk;
	uint32_t log_blks;
	uint32_t pos;	  /* in the ring */
	uint32_t scanned; /* blocks of valid transactions */
	uint64_t seq;
	unsigned txns, torn;
	bool unknown; /* a write may still land */
	struct mention *mentions;
};

/*
 * Read the dead host's journal into rp->mentions (mentions_free()). 0; -ENOENT: that incarnation
 * never wrote a journal header, so it committed nothing; -EUCLEAN: damaged, logged; -EIO.
 */
int journal_scan(struct replay *rp);
void mentions_free(struct replay *rp);

#endif
