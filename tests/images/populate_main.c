/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lunfs-populate IMAGE LINE...: mount a volume in this process and make files, as the lines say
 * (README.md, "Trees"). No mount of the kernel's and no root is needed.
 */
#include "base/log.h"
#include "open.h"
#include "populate.h"

#include <errno.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	struct vol_options opt = {
	    .host = {.name = "recipe", .beat_ms = 200, .deadline_ms = 10000, .lease_ms = 20000}};
	bool crash = false;
	struct volume *v;
	char why[512] = "";
	struct clock *clk;
	struct dev *dev;
	struct geo geo;
	int rc;

	if (argc < 3) {
		fputs(
		    "Usage: lunfs-populate IMAGE LINE...\n"
		    "Lines: standard, dir PATH, file PATH BYTES, ... see tests/images/README.md\n",
		    stderr);
		return 2;
	}
	log_open("lunfs-populate", LOG_LVL_WARN, 0);
	rc = clock_real_new(&clk);
	if (rc == 0)
		rc = image_open(argv[1], &dev, &geo, why, sizeof(why));
	if (rc == 0) {
		rc = vol_mount(dev, clk, &opt, &v, why, sizeof(why));
		if (rc)
			dev_close(dev);
	}
	if (rc) {
		fprintf(stderr, "lunfs-populate: %s\n", why);
		return 1;
	}
	for (int i = 2; rc == 0 && i < argc; i++)
		rc = populate_line(v, argv[i], &crash);
	if (crash)
		vol_crash(v);
	else if (vol_unmount(v))
		rc = -EIO;
	clk->ops->destroy(clk);
	return rc ? 1 : 0;
}
