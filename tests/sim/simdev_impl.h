/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Private to the simulated device: simdev.c has the commands, simmedium.c media and handles. */
#ifndef TESTS_SIMDEV_IMPL_H
#define TESTS_SIMDEV_IMPL_H

#include "base/log.h"
#include "simdev.h"
#include "simpages.h"
#include "simrand.h"

#define SIMDEV_MAX_FAULTS 32

struct late { /* a command that takes effect after its answer */
	struct late *next;
	struct dev *from;
	uint64_t due_ns;
	enum simdev_op op;
	uint64_t off_bytes, len_bytes;
	uint8_t *set;  /* what a write or a CAW writes */
	uint8_t *test; /* CAW */
};

struct simdev_medium {
	pthread_mutex_t mtx;
	struct clock *clk;
	unsigned refs;
	uint64_t size_bytes;
	uint32_t sector_bytes, phys_bytes;
	uint64_t rng, min_ns, max_ns, epoch, commands;
	bool can_drain;
	struct late *late;
	simdev_hook hook;
	void *hook_ctx;
	struct simdev_counts counts;
	struct simpages pages;
};

struct simdev {
	struct dev dev; /* first */
	struct simdev_medium *m;
	atomic_bool killed;
	unsigned n_faults;
	struct simdev_fault fault[SIMDEV_MAX_FAULTS];
};

static inline struct simdev *simdev_of(struct dev *d)
{
	return (struct simdev *)d;
}

static inline void medium_lock(struct simdev_medium *m)
{
	lunfs_assert(pthread_mutex_lock(&m->mtx) == 0);
}

static inline void medium_unlock(struct simdev_medium *m)
{
	lunfs_assert(pthread_mutex_unlock(&m->mtx) == 0);
}

extern const struct dev_ops simdev_ops;
/* The medium is locked. */
void simdev_late_land(struct simdev_medium *m, uint64_t now_ns);
void simdev_late_free(struct late *l);

#endif
