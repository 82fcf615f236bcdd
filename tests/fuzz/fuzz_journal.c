/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A dead host's journal: whoever takes the volume (a repair here) scans and replays it. What is
 * refused stays as it was; what a repair makes of it is clean.
 */
#include "fuzz.h"

static void run(struct bed *b, struct clock *clk)
{
	struct fuzz_fsck r, again;

	fuzz_repair(b, clk, &r);
	if (r.no_super || r.no_claim)
		return;
	FUZZ_CHECK(r.rc == 0, "the repair ends with %d (%s)", r.rc, r.first ? r.first : "");
	fuzz_check(b, clk, &again);
	FUZZ_CHECK(!again.rc && !again.first, "the second run finds %s",
		   again.first ? again.first : "an error");
}

static const char *const prefixes[] = {"journal:0:", "journal:", "slot:", "lock:", NULL};
const struct fuzz_target fuzz_target = {.bases = 1u << BASE_DEAD, .prefixes = prefixes, .run = run};
