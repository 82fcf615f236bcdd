/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fsck.lunfs -y: comes to its end, leaves only what it says cannot be repaired, writes nothing
 * outside of the volume; and a second run finds nothing.
 */
#include "fuzz.h"

const struct fuzz_target fuzz_target = {.bases = 1u << BASE_TREE | 1u << BASE_DEAD | 1u << BASE_4K,
					.run = fuzz_mend};
