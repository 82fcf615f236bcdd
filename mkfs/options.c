/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of mkfs.lunfs. */
#include "base/text.h"
#include "mkfs.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#define MAX_LEASE_MS 3600000ul

enum { OPT_HOSTS = 256, OPT_JOURNAL, OPT_SECTOR, OPT_TIMING, OPT_FORCE_FILE, OPT_JSON };

static const struct option longs[] = {{"label", required_argument, NULL, 'L'},
				      {"uuid", required_argument, NULL, 'U'},
				      {"hosts", required_argument, NULL, OPT_HOSTS},
				      {"journal-size", required_argument, NULL, OPT_JOURNAL},
				      {"sector-size", required_argument, NULL, OPT_SECTOR},
				      {"timing", required_argument, NULL, OPT_TIMING},
				      {"force-file", no_argument, NULL, OPT_FORCE_FILE},
				      {"nodiscard", no_argument, NULL, 'K'},
				      {"json", no_argument, NULL, OPT_JSON},
				      {"dry-run", no_argument, NULL, 'n'},
				      {"quiet", no_argument, NULL, 'q'},
				      {"force", no_argument, NULL, 'f'},
				      {"version", no_argument, NULL, 'V'},
				      {"help", no_argument, NULL, 'h'},
				      {NULL, 0, NULL, 0}};

static void usage(FILE *to)
{
	fputs(
	    "Usage: mkfs.lunfs [options] DEVICE\n"
	    "Make a lunfs volume on DEVICE (block device, iscsi:// URL or file), for many hosts.\n"
	    "\n"
	    "  -L, --label LABEL      name of the volume, up to 64 bytes\n"
	    "  -U, --uuid UUID        UUID instead of a random one\n"
	    "      --hosts N          hosts that may mount it at once: 1 to 128\n"
	    "      --journal-size SIZE  journal of each host: 1M to 1G\n"
	    "      --sector-size N    512 or 4096, for files; devices have their own\n"
	    "      --timing BEAT,DEADLINE,LEASE  milliseconds; default 3000,8000,16000\n"
	    "      --force-file       a disk without COMPARE AND WRITE, for this machine alone\n"
	    "  -K, --nodiscard        do not discard the device's blocks first\n"
	    "  -n, --dry-run          do everything but write: print the layout\n"
	    "  -f, -F, --force        overwrite what stands on DEVICE, without asking (never a\n"
	    "                         volume in use)\n"
	    "  -q, --quiet            say nothing but errors\n"
	    "      --json             print the layout as one JSON object\n"
	    "  -V, --version          print the version\n"
	    "  -h, --help             print this\n"
	    "\n"
	    "SIZE may end in K, M, G or T. See mkfs.lunfs(8).\n",
	    to);
}

static int bad(const char *what, const char *value, const char *wanted)
{
	fprintf(stderr, "mkfs.lunfs: %s \"%s\" cannot be used: %s.\n", what, value, wanted);
	return -1;
}

static int number_parse(const char *text, char **end, unsigned long max, unsigned long *out)
{
	unsigned long n;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	n = strtoul(text, end, 10);
	if (errno || n > max)
		return -ERANGE;
	*out = n;
	return 0;
}

int size_parse(const char *text, uint64_t *bytes)
{
	static const char suffix[] = "KMGT";
	unsigned long n;
	unsigned shift = 0;
	char *end;
	const char *s;
	int err = number_parse(text, &end, UINT64_MAX, &n);

	if (err)
		return err;
	if (*end) {
		s = strchr(suffix, *end >= 'a' && *end <= 'z' ? *end - 32 : *end);
		if (!s || end[1])
			return -EINVAL;
		shift = 10 * (unsigned)(s - suffix + 1);
	}
	if (n > UINT64_MAX >> shift)
		return -ERANGE;
	*bytes = (uint64_t)n << shift;
	return 0;
}

static int timing_parse(struct mkfs_options *o, const char *text)
{
	static const char wanted[] =
	    "three numbers of milliseconds, BEAT,DEADLINE,LEASE, with BEAT + DEADLINE < LEASE, "
	    "none 0 and none over an hour";
	unsigned long v[3];
	const char *at = text;
	char *end;

	for (int i = 0; i < 3; i++) {
		if (number_parse(at, &end, MAX_LEASE_MS, &v[i]) || v[i] == 0)
			return bad("--timing", text, wanted);
		if (*end != (i < 2 ? ',' : '\0'))
			return bad("--timing", text, wanted);
		at = end + 1;
	}
	if (v[0] + v[1] >= v[2])
		return bad("--timing", text, wanted);
	o->beat_ms = (uint32_t)v[0];
	o->deadline_ms = (uint32_t)v[1];
	o->lease_ms = (uint32_t)v[2];
	return 0;
}

static int hosts_parse(struct mkfs_options *o, const char *text)
{
	unsigned long n;
	char *end;

	if (number_parse(text, &end, LUNFS_MAX_SLOTS, &n) || *end || n == 0)
		return bad("--hosts", text, "a number from 1 to 128");
	o->hosts = (unsigned)n;
	return 0;
}

static int sector_parse(struct mkfs_options *o, const char *text)
{
	if (strcmp(text, "512") != 0 && strcmp(text, "4096") != 0)
		return bad("--sector-size", text, "512 or 4096");
	o->sector_bytes = text[0] == '5' ? 512 : 4096;
	return 0;
}

static int label_parse(struct mkfs_options *o, const char *text)
{
	if (strlen(text) > LUNFS_LABEL_BYTES)
		return bad("The label", text, "it is longer than 64 bytes");
	if (!text_is_plain(text))
		return bad("The label", "", "it is not UTF-8 text, or holds a control character");
	o->label = text;
	return 0;
}

static int uuid_option(struct mkfs_options *o, const char *text)
{
	if (strcmp(text, "random") == 0)
		uuid_generate(o->uuid);
	else if (strcmp(text, "time") == 0)
		uuid_generate_time(o->uuid);
	else if (uuid_parse(text, o->uuid) != 0 || uuid_is_null(o->uuid))
		return bad("The UUID", text,
			   "give \"random\", \"time\" or 32 hex digits in the usual form");
	o->uuid_given = true;
	return 0;
}

static int journal_parse(struct mkfs_options *o, const char *text)
{
	if (size_parse(text, &o->journal_bytes) || o->journal_bytes == 0)
		return bad("--journal-size", text, "a size from 1M to 1G");
	return 0;
}

static int option(struct mkfs_options *o, int c)
{
	switch (c) {
	case 'L':
		return label_parse(o, optarg);
	case 'U':
		return uuid_option(o, optarg);
	case OPT_HOSTS:
		return hosts_parse(o, optarg);
	case OPT_JOURNAL:
		return journal_parse(o, optarg);
	case OPT_SECTOR:
		return sector_parse(o, optarg);
	case OPT_TIMING:
		return timing_parse(o, optarg);
	case OPT_FORCE_FILE:
		o->force_file = true;
		return 0;
	case OPT_JSON:
		o->json = true;
		return 0;
	case 'K':
		o->keep = true;
		return 0;
	case 'n':
		o->dry_run = true;
		return 0;
	case 'q':
		o->quiet = true;
		return 0;
	case 'f':
	case 'F':
		o->force = true;
		return 0;
	case 'V':
		printf("mkfs.lunfs %s\n", LUNFS_VERSION);
		return 1;
	case 'h':
		usage(stdout);
		return 1;
	default: /* getopt has said what is wrong */
		return -1;
	}
}

int options_parse(struct mkfs_options *o, int argc, char **argv)
{
	int c, rc;

	*o = (struct mkfs_options){
	    .label = "", .beat_ms = 3000, .deadline_ms = 8000, .lease_ms = 16000};
	while ((c = getopt_long(argc, argv, "L:U:KnqfFVh", longs, NULL)) != -1) {
		rc = option(o, c);
		if (rc)
			return rc;
	}
	if (argc - optind != 1) {
		fprintf(stderr, "mkfs.lunfs: %s; see mkfs.lunfs --help.\n",
			optind == argc ? "no device is named" : "more than one device is named");
		return -1;
	}
	o->device = argv[optind];
	if (!o->uuid_given)
		uuid_generate(o->uuid);
	return 0;
}
