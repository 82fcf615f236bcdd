/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Several hosts on one simulated LUN, each with the real layers up to the allocator. An oracle
 * beside them knows which block and which cell is whose and asserts at once that nothing is handed
 * out twice; after the last host is down the volume on the medium is compared with it.
 */
#ifndef ALLOC_FIXTURE_H
#define ALLOC_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc/alloc_impl.h"
#include "simclock.h"
#include "simdev.h"

#define FIX_HOSTS 4u
#define FIX_BEAT_MS 150u
#define FIX_DEADLINE_MS 400u
#define FIX_LEASE_MS 900u

struct fix;

struct box { /* one host */
	struct fix *f;
	unsigned n;
	struct dev *dev;
	struct env env;
	struct ats ats;
	struct host *host;
	struct locks *ls;
	struct txns *txns;
	struct alloc *a;
	bool up;
};

struct fix {
	struct clock *clk;
	struct simdev_medium *medium;
	struct dev *first;
	struct geo geo;
	struct box box[FIX_HOSTS];
	uint8_t *
	    owned; /* a bit a block from group 0 on: handed out by the allocator, or not free yet */
	bool check; /* compare the medium with the oracle at the end */
	uint64_t rng;
};

struct fix_shape {
	uint32_t sector_bytes, group_blks;
	uint64_t groups;
	uint64_t seed;
};

/* Run @body as the first task of a fresh cluster whose volume has one group initialised. */
void fix_run(void (*body)(struct fix *f), const struct fix_shape *shape);
void fix_up(struct fix *f, unsigned host);
void fix_down(struct fix *f, unsigned host);
void fix_kill(struct fix *f, unsigned host); /* kill -9 and power off */
struct task *fix_task(struct fix *f, unsigned host, void (*fn)(void *), void *arg);
void fix_join(struct fix *f, struct task *t);
uint64_t fix_random(struct fix *f, uint64_t below);

/* What an operation does after -EAGAIN: wait for the lock with nothing else pinned. */
void fix_wait_for(struct box *b, uint64_t want);

/* Whole operations with the oracle: reserve, take in a transaction of their own; retry -EAGAIN. */
int fix_blk_alloc(struct box *b, uint32_t max, uint64_t goal, unsigned flags, uint64_t *blk,
		  uint32_t *len);
int fix_blk_free(struct box *b, uint64_t blk, uint32_t len);
int fix_cell_alloc(struct box *b, unsigned flags, struct cell *out);
int fix_cell_free(struct box *b, uint64_t cell);
void fix_commit(struct box *b);

/* Off the medium; fails the test when it does not decode. */
void fix_group(struct fix *f, uint64_t group, struct group_info *out);
uint64_t fix_watermark(struct fix *f);
uint64_t fix_ats(struct box *b); /* compare-and-write commands sent by this host so far */

#endif
