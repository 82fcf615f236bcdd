/* SPDX-License-Identifier: GPL-2.0-or-later */
/* As fuzz_repair, on a volume whose last repair died: its redo log and what names it. */
#include "fuzz.h"

static const char *const prefixes[] = {
    "redo", "maint", "block:", "journal:", "superblock", "slot:", NULL};
const struct fuzz_target fuzz_target = {
    .bases = 1u << BASE_REDO, .prefixes = prefixes, .run = fuzz_mend};
