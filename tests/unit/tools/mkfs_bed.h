/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A simulated device that mkfs's own code formats, and the proof that a volume on it is whole. */
#ifndef TESTS_MKFS_BED_H
#define TESTS_MKFS_BED_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "mkfs.h"
#include "simclock.h"
#include "simdev.h"

#define MS 1000000ull
#define MIB (1ull << 20)

struct bed {
	struct clock *clk;
	struct dev *d, *other;
	struct simdev_medium *m;
	struct geo g;
	char why[MKFS_WHY_BYTES];
	int err;
};

void bed_init(struct bed *b, uint64_t size, uint32_t sector);
void bed_end(struct bed *b);
int bed_make(struct bed *b); /* mkfs.lunfs; says why in b->why */
/* b->g as it was written: fixed places, group 0, first inodes. */
void bed_check_body(struct bed *b);
/* All of it, superblocks too, on the medium and not in its cache. */
void bed_check_volume(struct bed *b);

#endif
