/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fsck.lunfs -y: comes to its end, leaves only what it says cannot be repaired, writes nothing
 * outside of the volume; and a second run finds nothing.
 */
#include "fuzz.h"

static void run(struct bed *b, struct clock *clk)
{
	struct fuzz_fsck r, again;

	fuzz_repair(b, clk, &r);
	if (r.no_super || r.no_claim)
		return;
	FUZZ_CHECK(r.rc == 0, "the repair ends with %d (%s)", r.rc, r.first ? r.first : "");
	FUZZ_CHECK(r.left <= r.hopeless, "%llu problems are left (%s)", (unsigned long long)r.left,
		   r.first ? r.first : "");
	fuzz_check(b, clk, &again);
	FUZZ_CHECK(again.rc == 0, "the second run ends with %d", again.rc);
	FUZZ_CHECK(!again.first, "the second run finds %s", again.first);
}

const struct fuzz_target fuzz_target = {.bases = 1u << BASE_TREE | 1u << BASE_DEAD | 1u << BASE_4K,
					.run = run};
