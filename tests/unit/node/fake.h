/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One inode on a volume in memory: the parts of txn/, alloc/ and cluster/ that node/ calls. It
 * holds node/ to its promises:
 * - no block changes that was not announced by mblk_dirty() in the transaction (shadow copies);
 * - no transaction dirties more blocks, or takes more cells, than were asked for;
 * - after the first change of an operation no block is read that is not referenced already;
 * - what is given up was prepared; references are all given back.
 */
#ifndef FAKE_H
#define FAKE_H

#include "node/node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct fake {
	struct node_env ne;
	struct env env;
	struct geo geo;
	struct inode i;
	struct free_res frees;
	bool with_frees;      /* fake_begin() hands frees to the operation */
	unsigned busy_permil; /* chance that a prepare says -EAGAIN */
	bool count_frees;     /* freeing takes credits, as with the real allocator */
	bool hostile;	      /* damage is expected: the volume may be aborted */
	bool aborted;
	uint64_t live_cells, data_blks;	   /* given out at present */
	unsigned most_cells, most_credits; /* asked for by any transaction */
	uint64_t rnd;
};

/* A fresh inode of this type. */
struct fake *fake_new(uint32_t mode);
void fake_free(struct fake *f); /* asserts that no reference is left but the inode's */
uint64_t fake_random(struct fake *f);

/* A transaction with what fork_need() says for @changes. Ends with fake_end(). */
struct node_txn fake_begin(struct fake *f, enum node_fork fork, unsigned changes);
/* The same with a free hand. */
struct node_txn fake_begin_with(struct fake *f, unsigned cells, unsigned credits);
void fake_next_op(struct fake *f); /* one more operation in the same transaction */
void fake_end(struct fake *f);

/* A run of data blocks becomes allocated. */
uint64_t fake_blocks(struct fake *f, uint32_t len);
bool fake_block_used(struct fake *f, uint64_t blk);
void fake_blocks_free(struct fake *f, uint64_t blk, uint32_t len);

/* Payloads in use, the inode's among them; and one byte of one of them as if read so from disk. */
unsigned fake_payloads(struct fake *f);
const uint8_t *fake_payload(struct fake *f, unsigned n);
void fake_damage(struct fake *f, unsigned n, size_t off, uint8_t byte);
int fake_reload(struct fake *f); /* inode_put(), inode_get() */

/*
 * An independent walk over both forks that asserts the tree's form; also that every live cell is in
 * one of them and that inode.blks counts them and the data blocks.
 */
struct walk {
	unsigned depth[2], cells, leaves, empty_leaves;
	uint64_t items[2];
};
struct walk fake_walk(struct fake *f);

#endif
