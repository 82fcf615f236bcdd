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
	void (*waits)(void *ctx); /* before a thread waits for plain reads; NULL: nobody asks */
	void *waits_ctx;
};

#endif
