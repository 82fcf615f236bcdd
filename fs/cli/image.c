/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lunfs image: the metadata of a volume in a sparse file, for bug reports. The device is only read.
 * No contents of files are in it; with --scramble-names no names either. fsck.lunfs and lunfs dump
 * open the file as they open the device.
 */
#include "cli/image.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct image_cmd {
	const char *device, *file;
	char shown[sizeof(((struct dev_identity *)0)->name)]; /* the device, without a password */
	bool json, quiet, scramble;
};

static const struct option longs[] = {
    {"scramble-names", no_argument, NULL, 's'}, {"quiet", no_argument, NULL, 'q'},
    {"json", no_argument, NULL, 'j'},		{"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},	{NULL, 0, NULL, 0}};

static void usage(FILE *to)
{
	fputs("Usage: lunfs image [options] DEVICE FILE\n"
	      "Save the metadata of a volume, without the contents of files, in a sparse file.\n\n"
	      "  -s, --scramble-names  other names, targets of links, host names and label\n"
	      "  -q, --quiet           no progress\n"
	      "      --json            the summary as one JSON object\n"
	      "  -V, --version         print the version\n  -h, --help            print this\n",
	      to);
}

/* -1: go on. */
static int options(int argc, char **argv, struct image_cmd *c)
{
	int o;

	while ((o = getopt_long(argc, argv, "sqhV", longs, NULL)) != -1) {
		c->scramble |= o == 's';
		c->quiet |= o == 'q';
		c->json |= o == 'j';
		if (o == 'h' || o == '?') {
			usage(o == 'h' ? stdout : stderr);
			return o == 'h' ? EX_CLI_OK : EX_CLI_USAGE;
		}
		if (o == 'V') {
			puts("lunfs " LUNFS_VERSION);
			return EX_CLI_OK;
		}
	}
	if (argc - optind != 2) {
		fputs("lunfs: 'lunfs image' takes a DEVICE and a FILE\n", stderr);
		return EX_CLI_USAGE;
	}
	c->device = argv[optind];
	dev_name_shown(c->device, c->shown, sizeof(c->shown));
	c->file = argv[optind + 1];
	return -1;
}

/* ---- progress and summary -------------------------------------------------------------------- */

void image_say(const struct image *im, const char *what, uint64_t done, uint64_t total)
{
	if (im->progress && (done % 16 == 0 || done + 1 == total))
		fprintf(stderr, "\r%s %llu of %llu        ", what, (unsigned long long)done + 1,
			(unsigned long long)total);
}

static void when(struct image *im, char out[64])
{
	struct timespec ts;
	struct tm tm;

	im->clk->ops->realtime(im->clk, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	strftime(out, 64, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static void add_u64(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static void print_json(const struct image_cmd *c, const struct image *im, const char *began,
		       const char *ended)
{
	struct json_object *o = json_object_new_object();

	cli_add_text(o, "device", c->shown);
	cli_add_text(o, "file", c->file);
	json_object_object_add(o, "read_from", json_object_new_string(began));
	json_object_object_add(o, "read_to", json_object_new_string(ended));
	add_u64(o, "live_hosts", im->live_hosts);
	add_u64(o, "size_bytes", im->to.dev->id.size_bytes);
	add_u64(o, "copied_bytes", im->copied_blks * LUNFS_BLOCK_BYTES);
	add_u64(o, "groups", im->groups_done);
	add_u64(o, "cells_used", im->cells_used);
	add_u64(o, "cells_unused", im->cells_unused);
	add_u64(o, "inodes", im->inodes);
	add_u64(o, "tree_nodes", im->nodes);
	add_u64(o, "transactions", im->transactions);
	add_u64(o, "damaged_payloads", im->damaged);
	add_u64(o, "unreadable_blocks", im->unreadable_blks);
	json_object_object_add(o, "scrambled", json_object_new_boolean(im->scramble));
	add_u64(o, "names_scrambled", im->names);
	add_u64(o, "names_misplaced", im->names_misplaced);
	cli_print_json(o);
}

static void print_text(const struct image_cmd *c, const struct image *im, const char *began,
		       const char *ended)
{
	printf("%s: %.1f MiB of metadata of %s: %llu groups, %llu inodes, %llu tree nodes, %llu "
	       "transactions in journals\n",
	       c->file, (double)im->copied_blks * LUNFS_BLOCK_BYTES / (1u << 20), c->shown,
	       (unsigned long long)im->groups_done, (unsigned long long)im->inodes,
	       (unsigned long long)im->nodes, (unsigned long long)im->transactions);
	if (im->live_hosts)
		printf(
		    "Read from %s to %s while the slots of %u hosts were live: what they hold in "
		    "memory is not in it, and parts that were read at different times may not "
		    "agree.\n",
		    began, ended, im->live_hosts);
	else
		printf("Read at %s; no host had the volume mounted.\n", ended);
	if (im->damaged || im->unreadable_blks)
		printf("%llu payloads have wrong checksums (kept so), %llu blocks could not be "
		       "read (zero in the image).\n",
		       (unsigned long long)im->damaged, (unsigned long long)im->unreadable_blks);
	if (im->scramble)
		printf("%llu names were scrambled; logs of journals were left out.\n",
		       (unsigned long long)im->names);
	if (im->names_misplaced)
		printf("For %llu names none was found that hashes as it must: fsck.lunfs reports "
		       "them.\n",
		       (unsigned long long)im->names_misplaced);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* A new sparse file of the device's size; for its owner's eyes only. Never one that is there. */
static int make_file(const struct image_cmd *c, uint64_t size, char *why, size_t why_len)
{
	int fd = open(c->file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), rc = 0;

	if (fd < 0) {
		rc = -errno;
		snprintf(why, why_len, "%s: %s%s", c->file, strerror(errno),
			 errno == EEXIST ? "; nothing is overwritten, name a new file" : "");
		return rc;
	}
	if (ftruncate(fd, (off_t)size)) {
		rc = -errno;
		unlink(c->file);
		snprintf(why, why_len, "%s cannot be made a sparse file of %llu bytes: %s", c->file,
			 (unsigned long long)size, strerror(errno));
	}
	close(fd);
	return rc;
}

static int open_source(const struct image_cmd *c, struct image *im, char *why, size_t why_len)
{
	int rc = dev_open(c->device, DEV_OPEN_RDONLY, 0, &im->from.dev, why, why_len);

	if (rc)
		return rc;
	rc = vol_read_super(im->from.dev, &im->geo, NULL, why, why_len);
	if (rc == 0 && im->geo.sector_bytes != im->from.dev->id.sector_bytes) {
		dev_close(im->from.dev);
		return dev_open(c->device, DEV_OPEN_RDONLY, im->geo.sector_bytes, &im->from.dev,
				why, why_len);
	}
	if (rc)
		dev_close(im->from.dev);
	return rc;
}

/* The main superblock, last. */
static int finish(struct image *im)
{
	uint8_t *sb = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	int rc = dev_flush(im->to.dev);

	if (rc == 0 && insp_read(&im->from, LUNFS_SB_OFF, LUNFS_BLOCK_BYTES, sb) == 0) {
		image_clean_super(im, sb);
		rc = dev_write(im->to.dev, LUNFS_SB_OFF, LUNFS_BLOCK_BYTES, sb);
		im->copied_blks++;
	} else if (rc == 0) {
		im->unreadable_blks++;
	}
	free(sb);
	return rc ? rc : dev_flush(im->to.dev);
}

/* ---- run ------------------------------------------------------------------------------------- */

static bool unfinished_repair(const struct image *im)
{
	struct lunfs_maint_rec m;

	return insp_read(&im->from, LUNFS_MAINT_OFF, sizeof(m), &m) == 0 &&
	       (le32_get(m.flags) & LUNFS_MAINT_REDO);
}

static int copy_all(const struct image_cmd *c, struct image *im, char *why, size_t why_len)
{
	int rc = make_file(c, im->from.dev->id.size_bytes, why, why_len);

	if (rc)
		return rc;
	rc =
	    dev_open(c->file, DEV_OPEN_FORCE_FILE, im->geo.sector_bytes, &im->to.dev, why, why_len);
	if (rc == 0) {
		im->from.geo = im->to.geo = &im->geo;
		rc = image_copy(im);
		if (rc == 0 && im->scramble)
			rc = image_scramble(im);
		if (rc == 0)
			rc = finish(im);
		if (im->progress)
			fputs("\r                              \r", stderr);
		if (rc)
			snprintf(why, why_len, "%s: writing it failed: %s", c->file, strerror(-rc));
		if (rc)
			dev_close(im->to.dev);
	}
	if (rc)
		unlink(c->file);
	return rc;
}

static int run(const struct image_cmd *c, struct image *im, char *why, size_t why_len)
{
	char began[64], ended[64];
	int rc;

	im->from.geo = &im->geo;
	if (c->scramble && unfinished_repair(im)) {
		snprintf(why, why_len,
			 "%s: a repair was cut off and names stand in its log: run fsck.lunfs to "
			 "finish it, or make the image without --scramble-names",
			 c->shown);
		return -EBUSY;
	}
	when(im, began);
	rc = copy_all(c, im, why, why_len);
	if (rc)
		return rc;
	when(im, ended);
	if (c->json)
		print_json(c, im, began, ended);
	else
		print_text(c, im, began, ended);
	dev_close(im->to.dev);
	return 0;
}

int cmd_image(int argc, char **argv, bool json)
{
	struct image_cmd c = {.json = json};
	struct image im = {0};
	char why[512] = "it failed";
	int rc = options(argc, argv, &c);

	if (rc >= 0)
		return rc;
	im.scramble = c.scramble;
	im.progress = !c.quiet && isatty(STDERR_FILENO);
	rc = clock_real_new(&im.clk);
	if (rc == 0) {
		im.clk->ops->random(im.clk, &im.seed, sizeof(im.seed));
		rc = open_source(&c, &im, why, sizeof(why));
	}
	if (rc == 0) {
		rc = run(&c, &im, why, sizeof(why));
		dev_close(im.from.dev);
	}
	if (rc)
		fprintf(stderr, "lunfs: %s\n", why);
	if (im.clk)
		im.clk->ops->destroy(im.clk);
	free(im.dirs.v);
	free(im.leaves.v);
	return rc ? EX_CLI_FAIL : EX_CLI_OK;
}
