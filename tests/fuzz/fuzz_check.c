/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fsck.lunfs -n of whatever is damaged: says something, writes nothing. */
#include "fuzz.h"

static void run(struct bed *b, struct clock *clk)
{
	struct fuzz_fsck r;

	fuzz_check(b, clk, &r);
	FUZZ_CHECK(r.rc == 0 || r.no_super || r.total, "the check stops with %d and says nothing",
		   r.rc);
}

const struct fuzz_target fuzz_target = {.bases = 1u << BASE_TREE | 1u << BASE_DEAD | 1u << BASE_4K,
					.run = run};
