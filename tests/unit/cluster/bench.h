/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One incarnation at work on one sector, for the tests of atomic operations. */
#ifndef UNIT_CLUSTER_BENCH_H
#define UNIT_CLUSTER_BENCH_H

#include "world.h"

#include "base/crc.h"
#include "cluster/ats.h"

#include <errno.h>

#define OFF LUNFS_SCRATCH_OFF

struct bench {
	struct world *w;
	struct dev *dev;
	struct ats ats;
	struct ats_sector s;
	uint8_t *test, *set, *found;
};

static inline void fresh(struct world *w, uint64_t off, void *sector)
{
	memset(sector, 0, w->geo.sector_bytes);
	((uint8_t *)sector)[100] = 1;
	ats_hdr_format(&w->geo, sector, LUNFS_ATS_SCRATCH, off, 0x1234);
	simdev_poke(w->medium, off, w->geo.sector_bytes, sector);
}

static inline void bench_open(struct bench *b, struct world *w, uint64_t nonce)
{
	struct env env = {.clk = w->clk, .geo = &w->geo};

	memset(b, 0, sizeof(*b));
	b->w = w;
	b->dev = env.dev = simdev_attach(w->medium);
	dev_set_deadline(b->dev, 400);
	ats_init(&b->ats, &env);
	ats_set_owner(&b->ats, nonce, LUNFS_OWNER(nonce, 1));
	b->s = (struct ats_sector){.off_bytes = OFF, .kind = "scratch sector", .addr = 1};
	b->test = dev_buf_alloc(w->geo.sector_bytes);
	b->set = dev_buf_alloc(w->geo.sector_bytes);
	b->found = dev_buf_alloc(w->geo.sector_bytes);
	simdev_peek(w->medium, OFF, w->geo.sector_bytes, b->test);
}

static inline void bench_close(struct bench *b)
{
	ats_destroy(&b->ats);
	dev_close(b->dev);
	free(b->test);
	free(b->set);
	free(b->found);
}

/* A new image after b->test whose contents say @mark. */
static inline void make_set(struct bench *b, uint8_t mark)
{
	memcpy(b->set, b->test, b->w->geo.sector_bytes);
	b->set[100] = mark;
	ats_stamp(&b->ats, (void *)b->set, (void *)b->test, LUNFS_ATS_SCRATCH, OFF);
}

static inline enum ats_outcome put(struct bench *b, uint8_t mark)
{
	make_set(b, mark);
	return ats(&b->ats, &b->s, b->test, b->set, b->found, NULL);
}

static inline void advance(struct bench *b)
{
	memcpy(b->test, b->set, b->w->geo.sector_bytes);
}

static inline bool stands(struct bench *b, const void *image)
{
	uint8_t now[4096];

	simdev_peek(b->w->medium, OFF, b->w->geo.sector_bytes, now);
	return !memcmp(now, image, b->w->geo.sector_bytes);
}

static inline void fault(struct bench *b, enum simdev_fault_kind kind, unsigned ops, uint64_t count)
{
	struct simdev_fault f = {.kind = kind, .ops = ops, .count = count};

	simdev_inject(b->dev, &f);
}

static inline unsigned long long commands(struct bench *b)
{
	return atomic_load(&b->ats.stats.commands);
}

#endif
