/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A dead host's journal: whoever takes the volume (a repair here) scans and replays it. What is
 * refused stays as it was; what a repair makes of it is clean.
 */
#include "fuzz.h"

static const char *const prefixes[] = {"journal:0:", "journal:", "slot:", "lock:", NULL};
const struct fuzz_target fuzz_target = {
    .bases = 1u << BASE_DEAD, .prefixes = prefixes, .run = fuzz_mend};
