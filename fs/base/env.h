/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What every layer of a mounted volume needs: the device, the clock and the geometry. */
#ifndef BASE_ENV_H
#define BASE_ENV_H

#include "base/geo.h"
#include <lunfs/dev.h>

struct health;

struct env {
	struct dev *dev;
	struct clock *clk;
	const struct geo *geo; /* changes only while the volume lock is held exclusively */
	struct health *health; /* told how long I/O takes (cluster/health.h); NULL: nobody is */
	/* Before a thread waits for plain reads, or takes a lock from the disk; NULL: nobody asks.
	 */
	void (*waits)(void *ctx);
	void *waits_ctx;
};

static inline void env_waits(const struct env *env)
{
	if (env->waits)
		env->waits(env->waits_ctx);
}

#endif
