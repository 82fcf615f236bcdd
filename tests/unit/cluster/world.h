/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small volume for the cluster tests: host table (4 slots with a journal, 2 spare ones) and
 * maintenance sector on a simulated LUN, on the simulated clock. Each test runs with several seeds
 * and both sector sizes; TEST_SEED=n runs it with that one only.
 */
#ifndef UNIT_CLUSTER_WORLD_H
#define UNIT_CLUSTER_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/geo.h"
#include "base/log.h"
#include "cluster/host.h"
#include "simclock.h"
#include "simdev.h"

#define WORLD_SEEDS 4u
#define WORLD_SLOTS 4u

struct world {
	struct clock *clk;
	struct dev *dev0;
	struct simdev_medium *medium;
	struct geo geo;
	uint8_t buf[4096];
	void (*body)(struct world *w);
};

static inline void world_format(struct world *w)
{
	struct geo *g = &w->geo;

	memset(g->vol_id, 0x5a, sizeof(g->vol_id));
	g->cell_blks = g->sector_bytes == 512 ? 1 : 2;
	g->slots = g->journals = WORLD_SLOTS;
	g->beat_ms = 150;
	g->deadline_ms = 400;
	g->lease_ms = 800;
	for (unsigned i = 0; i < WORLD_SLOTS; i++)
		g->journal_blk[i] = 2048 + i;
	for (unsigned i = 0; i < geo_all_slots(g); i++) {
		slot_format(g, w->buf, i, 42);
		simdev_poke(w->medium, geo_slot_off(i), g->sector_bytes, w->buf);
	}
	maint_format(g, w->buf, 42);
	simdev_poke(w->medium, LUNFS_MAINT_OFF, g->sector_bytes, w->buf);
}

static inline void world_body(void *arg)
{
	struct world *w = arg;

	w->body(w);
}

static inline void world_run(void (*body)(struct world *w), uint64_t seed)
{
	struct world *w = calloc(1, sizeof(*w));

	w->clk = simclock_new();
	w->geo.sector_bytes = seed % 2 ? 512 : 4096;
	w->dev0 = simdev_new(w->clk, LUNFS_MIN_BYTES, w->geo.sector_bytes, w->geo.sector_bytes);
	w->medium = simdev_medium_of(w->dev0);
	w->body = body;
	simdev_seed(w->medium, seed);
	simdev_set_latency(w->medium, 10000, 200000);
	world_format(w);
	simclock_run(w->clk, world_body, w, seed);
	dev_close(w->dev0);
	w->clk->ops->destroy(w->clk);
	free(w);
}

static inline void world_seeds(void (*body)(struct world *w), const char *name)
{
	const char *one = getenv("TEST_SEED");

	if (one) {
		world_run(body, strtoull(one, NULL, 10));
		return;
	}
	for (uint64_t seed = 1; seed <= WORLD_SEEDS; seed++) {
		print_message("%s: seed %llu\n", name, (unsigned long long)seed);
		world_run(body, seed);
	}
}

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
