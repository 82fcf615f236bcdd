/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finding a superblock where the usual search finds none. */
#ifndef FSCK_SUPER_H
#define FSCK_SUPER_H

#include "base/geo.h"
#include <lunfs/dev.h>

/* The copy at block @blk. 0, -EUCLEAN, -EIO ...; @why: one sentence. */
int super_at(struct dev *dev, uint64_t blk, struct geo *out, char *why, size_t why_len);
/* Search the whole device, print what is found. Number of superblocks. */
unsigned super_search(struct dev *dev);

#endif
