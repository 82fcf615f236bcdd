/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fsck.lunfs -n in this process, on the simulated medium. */
#include "run.h"

#include "fsck/fsck.h"

unsigned long long run_fsck(struct simcluster *t, unsigned long long *stale)
{
	struct dev *dev = simdev_attach(t->medium);
	unsigned long long total;
	char why[512] = "";
	struct fsck f = {0};
	struct geo geo;
	int rc;

	SC_CHECK(t, vol_read_super(dev, &geo, NULL, why, sizeof(why)) == 0, "fsck: %s", why);
	fsck_init(&f, dev, &geo, MODE_CHECK, NULL);
	rc = fsck_run(&f);
	SC_CHECK(t, rc == 0 || f.problems.total, "fsck could not be finished: %s", strerror(-rc));
	dev_close(dev);
	*stale = f.problems.count[PROBLEM_LOST_WRITE];
	total = f.problems.total;
	fsck_free(&f);
	return total;
}
