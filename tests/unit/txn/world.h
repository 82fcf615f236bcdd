/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small volume for the transaction tests, on the simulated LUN and clock. Locks and hosts are
 * doubles: a lock is a number that the test says is held; a host is a slot, a nonce and a switch
 * that loses it. Every test runs with both sector sizes and several seeds; TEST_SEED=n picks one.
 */
#ifndef UNIT_TXN_WORLD_H
#define UNIT_TXN_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc.h"
#include "simclock.h"
#include "simdev.h"
#include "txn/txn_impl.h"

#define WORLD_SEEDS 4u
#define WORLD_SLOTS 3u
#define WORLD_BYTES (16ull << 20)
#define WORLD_JOURNAL_BLKS 64u
#define WORLD_LOCKS 16u

struct lock { /* double */
	uint64_t addr, possession, recorded;
	bool ex;
};

struct host { /* double */
	unsigned slot;
	uint64_t owner, nonce;
	bool lost;
	bool lease_gone; /* host_lease_ok says no; host_wait_active brings it back */
	bool others_live;
	unsigned gates;
	uint64_t written;
};

struct locks { /* double: what the lock sectors on disk say, shared by all hosts */
	struct {
		uint64_t addr, owner, possession, recorded;
	} rec[WORLD_LOCKS];
	unsigned n, renewals;
	uint64_t unproven;
};

struct world {
	struct clock *clk;
	struct dev *dev0;
	struct simdev_medium *medium;
	struct geo geo;
	struct locks locks;
	uint8_t buf[LUNFS_BLOCK_BYTES];
	uint32_t journal_blks;
	void (*body)(struct world *w);
};

struct node { /* one host with its transactions */
	struct world *w;
	struct env env;
	struct host host;
	struct txns *t;
	struct lock lock[WORLD_LOCKS];
};

void world_run(void (*body)(struct world *w), uint64_t seed, uint32_t journal_blks);
void world_run_threads(void (*body)(struct world *w), uint32_t journal_blks); /* the real clock */
void world_seeds(void (*body)(struct world *w), const char *name);

uint64_t world_cell(const struct world *w, unsigned n); /* address of cell n */
/* A payload of @type in place, as if checkpointed long ago. */
void world_plant(struct world *w, uint64_t addr, uint64_t guard, uint16_t type, uint64_t version,
		 uint32_t value);
bool world_place(struct world *w, uint64_t addr, void *payload); /* false: fails its checks */
uint32_t world_value(struct world *w, uint64_t addr);		 /* in place; asserts it is valid */
uint64_t world_version(struct world *w, uint64_t addr);

void node_up(struct world *w, struct node *n, unsigned slot);	  /* attaches, starts */
void node_attach(struct world *w, struct node *n, unsigned slot); /* without txns_start() */
void node_down(struct node *n);					  /* txns_stop, must succeed */
void node_crash(struct node *n); /* abandons; the device stays as it is */
int node_replay(struct node *n, const struct node *dead);
struct lock *node_lock(struct node *n, unsigned i, uint64_t addr); /* take it EX */
void node_give(struct node *n, struct lock *l); /* the lock sector says somebody else has it */

/* One block set to @value in a transaction of its own; its id. */
uint64_t node_set(struct node *n, struct lock *l, uint64_t addr, uint16_t type, uint32_t value);
uint32_t node_value(struct node *n, struct lock *l, uint64_t addr, uint16_t type);

void payload_set(void *payload, uint32_t value);
uint32_t payload_get(const void *payload);

#define TEST(name)                                                                                 \
	static void body_##name(struct world *w);                                                  \
	static void name(void **state)                                                             \
	{                                                                                          \
		(void)state;                                                                       \
		world_seeds(body_##name, #name);                                                   \
	}                                                                                          \
	static void body_##name(struct world *w)
#define UNIT(name) cmocka_unit_test(name)

#endif
