/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fsck.lunfs -n in this process, on the simulated medium. */
#include "run.h"

#include "fsck/fsck.h"

unsigned long long run_fsck(struct simcluster *t, unsigned long long *stale)
{
	static int (*const pass[])(struct fsck *) = {
	    pass_super, pass_hosts, pass_groups, pass_cells, pass_trees, pass_links, pass_space};
	struct fsck f = {.dev = simdev_attach(t->medium)};
	char why[512] = "";

	SC_CHECK(t, vol_read_super(f.dev, &f.geo, NULL, why, sizeof(why)) == 0, "fsck: %s", why);
	for (size_t i = 0; i < sizeof(pass) / sizeof(pass[0]); i++) {
		int rc = pass[i](&f);

		SC_CHECK(t, rc == 0 || f.problems.total, "fsck could not be finished: %s",
			 strerror(-rc));
		if (rc)
			break;
	}
	dev_close(f.dev);
	maps_free(&f);
	*stale = f.problems.count[PROBLEM_LOST_WRITE];
	return f.problems.total;
}
