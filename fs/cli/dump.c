/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lunfs dump: structures by name or block, with offsets, meanings and the checks that they pass or
 * fail. Reads only; a volume without any valid superblock is shown as far as places are fixed.
 */
#include "cli/dump.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const struct option longs[] = {{"all", no_argument, NULL, 'a'},
				      {"json", no_argument, NULL, 'j'},
				      {"help", no_argument, NULL, 'h'},
				      {"version", no_argument, NULL, 'V'},
				      {NULL, 0, NULL, 0}};

static void usage(FILE *to)
{
	fputs("Usage: lunfs dump [options] DEVICE [NAME...]\n"
	      "Print on-disk structures: fields, meanings, checks, and how fresh they are.\n\n"
	      "  superblock[:COPY]  maint  slot:N  board:ROW,COLUMN  redo[:I]\n"
	      "  anchor:volume|rename|watermark  group:N  bitmap:N,I  chunk:N,WINDOW\n"
	      "  journal:SLOT[:TXN[:desc:I|:commit|:image:K]]  log:SLOT\n"
	      "  inode:PATH  dir:PATH  extents:PATH  attributes:PATH  tree:PATH  xattrs:PATH\n"
	      "  dirent:PATH  extent:PATH,K  xattr:PATH,NAME  piece:PATH,K\n"
	      "  node:BLOCK  cell:BLOCK  lock:NAME  block:N\n\n"
	      "PATH is /a/b from the root, an inode number, root or orphan:SLOT.\n\n"
	      "  -a, --all      reserved bytes, empty elements and the bytes of blocks too\n"
	      "      --json     one JSON object on standard output\n"
	      "  -V, --version  print the version\n  -h, --help     print this\n",
	      to);
}

/* Without a superblock: sizes from the device, no groups, every slot there can be. */
static void bare_geo(const struct dev *dev, struct geo *g)
{
	*g = (struct geo){.sector_bytes = dev->id.sector_bytes,
			  .cell_blks = dev->id.phys_bytes > 512 ? 2 : 1,
			  .payload_off = dev->id.phys_bytes > 512 ? 4096 : 512,
			  .slots = LUNFS_MAX_SLOTS,
			  .dev_blks = dev->id.size_bytes / LUNFS_BLOCK_BYTES};
}

static int open_volume(const char *name, struct dump *d, char *why, size_t why_len)
{
	int rc = dev_open(name, DEV_OPEN_RDONLY, 0, &d->in.dev, why, why_len);

	if (rc)
		return rc;
	rc = vol_read_super(d->in.dev, &d->geo, NULL, why, why_len);
	if (rc) {
		fprintf(stderr, "lunfs: %s; only what stands in fixed places can be shown\n", why);
		bare_geo(d->in.dev, &d->geo);
		d->bare = true;
	} else if (d->geo.sector_bytes != d->in.dev->id.sector_bytes) {
		dev_close(d->in.dev);
		rc = dev_open(name, DEV_OPEN_RDONLY, d->geo.sector_bytes, &d->in.dev, why, why_len);
		if (rc)
			return rc;
	}
	d->in.geo = &d->geo;
	rc = clock_real_new(&d->clk);
	if (rc)
		dev_close(d->in.dev);
	return rc;
}

static int run(struct dump *d, char **what, int n, struct json_object *out)
{
	struct json_object *list = json_object_new_array();
	int rc = EX_CLI_OK;

	if (out)
		json_object_object_add(out, "structures", list);
	for (int i = 0; i < n; i++) {
		char why[512] = "it failed";
		struct json_object *o = dump_show(d, what[i], why, sizeof(why));

		if (!o) {
			fprintf(stderr, "lunfs: %s\n", why);
			rc = EX_CLI_FAIL;
		} else if (out) {
			json_object_array_add(list, o);
		} else {
			dump_text(o);
			if (i + 1 < n)
				putchar('\n');
			json_object_put(o);
		}
	}
	if (!out)
		json_object_put(list);
	return rc;
}

static int run_all(char **what, int n, bool json, struct dump *d)
{
	static char *first[] = {"superblock"};
	struct json_object *out = json ? json_object_new_object() : NULL;
	char uuid[37];
	int rc;

	if (out) {
		cli_uuid_string(d->geo.uuid, uuid);
		cli_add_text(out, "device", d->in.dev->id.name);
		json_object_object_add(out, "uuid", d->bare ? NULL : json_object_new_string(uuid));
	}
	rc = n ? run(d, what, n, out) : run(d, first, 1, out);
	if (out)
		cli_print_json(out);
	return rc;
}

int cmd_dump(int argc, char **argv, bool json)
{
	struct dump d = {0};
	char why[512] = "";
	int o, rc;

	while ((o = getopt_long(argc, argv, "ahV", longs, NULL)) != -1) {
		if (o == 'a') {
			d.all = true;
		} else if (o == 'j') {
			json = true;
		} else if (o == 'V') {
			puts("lunfs " LUNFS_VERSION);
			return EX_CLI_OK;
		} else {
			usage(o == 'h' ? stdout : stderr);
			return o == 'h' ? EX_CLI_OK : EX_CLI_USAGE;
		}
	}
	if (optind == argc) {
		fputs("lunfs: 'lunfs dump' takes a DEVICE and names of structures\n", stderr);
		return EX_CLI_USAGE;
	}
	if (open_volume(argv[optind], &d, why, sizeof(why))) {
		fprintf(stderr, "lunfs: %s\n", why);
		return EX_CLI_FAIL;
	}
	rc = run_all(argv + optind + 1, argc - optind - 1, json, &d);
	d.clk->ops->destroy(d.clk);
	dev_close(d.in.dev);
	return rc;
}
