/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fsck.lunfs: options, passes, summary, exit code. */
#include "base/log.h"
#include "base/text.h"
#include "fsck/fsck.h"
#include "vol/volume.h"
#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { /* exit codes of fsck(8) */
       EX_FSCK_CLEAN = 0,
       EX_FSCK_LEFT = 4,
       EX_FSCK_OPERATIONAL = 8,
       EX_FSCK_USAGE = 16,
};

static const char usage[] =
    "Usage: fsck.lunfs [-n] [-apyfCvV] [--json] DEVICE\n"
    "\n"
    "Check a lunfs volume and write nothing.\n"
    "\n"
    "  -n              check only: the only way there is; assumed\n"
    "  -a, -p, -y      taken for fsck(8)'s sake: checks too, repairs nothing\n"
    "  -f              taken for fsck(8)'s sake: every check is a full one\n"
    "  -C[FD]          show progress (also when standard error is a terminal)\n"
    "  -v              say more\n"
    "  --json          the result as one JSON object on standard output\n"
    "  -V, --version   print the version\n"
    "  -h, --help      print this\n"
    "\n"
    "Exit codes: 0 clean, 4 problems found, 8 the check could not be done, 16 usage.\n";

static int parse(int argc, char **argv, struct fsck *f, const char **device)
{
	static const struct option longs[] = {{"json", no_argument, NULL, 'j'},
					      {"help", no_argument, NULL, 'h'},
					      {"version", no_argument, NULL, 'V'},
					      {NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "napyfC::vVh", longs, NULL)) != -1) {
		if (c == 'j')
			f->json = true;
		else if (c == 'C')
			f->progress = true;
		else if (c == 'v')
			f->verbose = true;
		else if (c == 'V' || c == 'h') {
			puts(c == 'V' ? "fsck.lunfs " LUNFS_VERSION : usage);
			return 1;
		} else if (!strchr("napyf", c)) {
			fputs(usage, stderr);
			return -1;
		}
	}
	if (argc - optind != 1) {
		fputs("fsck.lunfs: give one device; 'fsck.lunfs --help' says more\n", stderr);
		return -1;
	}
	*device = argv[optind];
	f->problems.json = f->json;
	f->progress |= !f->json && isatty(STDERR_FILENO);
	return 0;
}

static int open_volume(struct fsck *f, const char *device)
{
	char why[512] = "";
	int rc = dev_open(device, DEV_OPEN_RDONLY, 0, &f->dev, why, sizeof(why));

	if (rc == 0)
		rc = vol_read_super(f->dev, &f->geo, NULL, why, sizeof(why));
	if (rc == 0 && f->geo.sector_bytes != f->dev->id.sector_bytes) {
		dev_close(f->dev);
		f->dev = NULL;
		rc = dev_open(device, DEV_OPEN_RDONLY, f->geo.sector_bytes, &f->dev, why,
			      sizeof(why));
	}
	if (rc)
		fprintf(stderr, "fsck.lunfs: %s\n", why);
	return rc;
}

static int run_passes(struct fsck *f)
{
	static int (*const pass[])(struct fsck *) = {
	    pass_super, pass_hosts, pass_groups, pass_cells, pass_trees, pass_links, pass_space};

	for (size_t i = 0; i < sizeof(pass) / sizeof(pass[0]); i++) {
		int rc = pass[i](f);

		if (rc)
			return rc;
	}
	return 0;
}

static void summary_json(struct fsck *f, const char *device, int rc)
{
	char *plain = text_plain_dup(device); /* JSON is UTF-8, a path need not be */
	struct json_object *o = json_object_new_object();
	static const char *const names[] = {"files", "directories", "others",	  "orphans",
					    "names", "data_blocks", "cells_used", "cells_free"};
	const uint64_t values[] = {f->files, f->dirs,	   f->others,	  f->orphans,
				   f->names, f->data_blks, f->cells_used, f->cells_free};

	json_object_object_add(o, "device", json_object_new_string(plain ? plain : ""));
	free(plain);
	json_object_object_add(o, "clean", json_object_new_boolean(!rc && !f->problems.total));
	json_object_object_add(o, "complete", json_object_new_boolean(!rc));
	json_object_object_add(o, "problem_count", json_object_new_uint64(f->problems.total));
	json_object_object_add(o, "problems",
			       f->problems.list ? f->problems.list : json_object_new_array());
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		json_object_object_add(o, names[i], json_object_new_uint64(values[i]));
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY));
	json_object_put(o);
}

static void summary_text(struct fsck *f, const char *device, int rc)
{
	for (int i = 0; f->verbose && i < PROBLEMS; i++)
		if (f->problems.count[i])
			printf("%6llu x %s\n", (unsigned long long)f->problems.count[i],
			       problem_name((enum problem_code)i));
	if (rc)
		printf("%s: the check could not be finished: %s\n", device, strerror(-rc));
	else if (f->problems.total)
		printf("%s: %llu problem%s; nothing was changed\n", device,
		       (unsigned long long)f->problems.total, f->problems.total == 1 ? "" : "s");
	else
		printf("%s: clean, %llu files, %llu directories, %llu other inodes, %llu orphans, "
		       "%llu data blocks\n",
		       device, (unsigned long long)f->files, (unsigned long long)f->dirs,
		       (unsigned long long)f->others, (unsigned long long)f->orphans,
		       (unsigned long long)f->data_blks);
}

int main(int argc, char **argv)
{
	struct fsck f = {0};
	const char *device;
	int rc = parse(argc, argv, &f, &device);

	if (rc)
		return rc > 0 ? EX_FSCK_CLEAN : EX_FSCK_USAGE;
	log_open("fsck.lunfs", f.verbose ? LOG_LVL_INFO : LOG_LVL_WARN, 0);
	rc = open_volume(&f, device);
	if (rc) {
		if (f.dev)
			dev_close(f.dev);
		return EX_FSCK_OPERATIONAL;
	}
	rc = run_passes(&f);
	if (f.json)
		summary_json(&f, device, rc);
	else
		summary_text(&f, device, rc);
	dev_close(f.dev);
	maps_free(&f);
	if (rc && !f.problems.total)
		return EX_FSCK_OPERATIONAL;
	return f.problems.total ? EX_FSCK_LEFT : EX_FSCK_CLEAN;
}
