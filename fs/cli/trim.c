/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lunfs trim: has the daemon of a mount point give free space back to the device. It is asked for a
 * gibibyte at a time (FITRIM), so that progress can be shown and an interrupt ends it soon.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PIECE_BYTES (1ull << 30)

struct trim {
	const char *dir;
	uint64_t min_bytes, done_bytes, size_bytes;
	bool json, quiet, progress;
};

static void usage(FILE *to)
{
	fputs("Usage: lunfs trim [OPTIONS] DIRECTORY\n\n"
	      "Give the free space of the volume mounted on DIRECTORY back to the device.\n\n"
	      "Options:\n"
	      "  -m, --minimum BYTES  leave shorter free runs alone (K, M, G: powers of 1024)\n"
	      "  -q, --quiet          no progress\n"
	      "      --json           one JSON object on standard output\n"
	      "  -h, --help           print this\n"
	      "\nExit codes: 0 done, 1 failed, 2 usage.\n",
	      to);
}

static bool parse_bytes(const char *s, uint64_t *out)
{
	static const char units[] = "KMG";
	const char *unit;
	char *end;

	errno = 0;
	*out = strtoull(s, &end, 10);
	if (errno || end == s || *s == '-')
		return false;
	unit = *end ? strchr(units, *end) : NULL;
	for (const char *u = units; unit && u <= unit; u++)
		if (__builtin_mul_overflow(*out, 1024u, out))
			return false;
	return *end == '\0' || (unit && end[1] == '\0');
}

static const char *reason(int err)
{
	switch (err) {
	case EOPNOTSUPP:
		return "the device takes no discards, so free space stays occupied on it";
	case EPERM:
		return "only root may do this";
	case EROFS:
		return "the volume is mounted read-only";
	case EBUSY:
		return "other hosts kept taking the space that was to be looked at; try again "
		       "later";
	case EUCLEAN:
		return "the volume is damaged; unmount it everywhere and run fsck.lunfs";
	default:
		return strerror(err);
	}
}

static void show_progress(const struct trim *t, uint64_t at)
{
	if (t->progress)
		fprintf(stderr, "\r%3u %%, %" PRIu64 " MiB given back",
			t->size_bytes ? (unsigned)(100 * (at >> 20) / ((t->size_bytes >> 20) + 1))
				      : 0,
			t->done_bytes >> 20);
}

/* errno, or 0 at the end of the device. */
static int trim_all(struct trim *t, int fd)
{
	for (uint64_t at = 0;; at += PIECE_BYTES) {
		struct fstrim_range r = {at, PIECE_BYTES, t->min_bytes};

		show_progress(t, at);
		if (ioctl(fd, FITRIM, &r))
			return errno == EINVAL && at ? 0 : errno;
		t->done_bytes += r.len;
	}
}

static bool is_lunfs(const char *dir)
{
	return getxattr(dir, VOL_STATS_XATTR, NULL, 0) >= 0;
}

static void report(const struct trim *t)
{
	struct json_object *o;

	if (!t->json) {
		if (!t->quiet)
			printf("%s: %" PRIu64 " bytes (%.1f MiB) given back to the device\n",
			       t->dir, t->done_bytes, (double)t->done_bytes / (1u << 20));
		return;
	}
	o = json_object_new_object();
	cli_add_text(o, "directory", t->dir);
	json_object_object_add(o, "trimmed_bytes", json_object_new_uint64(t->done_bytes));
	json_object_object_add(o, "minimum_bytes", json_object_new_uint64(t->min_bytes));
	cli_print_json(o);
}

static int run(struct trim *t)
{
	int fd = open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err;
	struct statvfs st;

	if (fd < 0) {
		fprintf(stderr, "lunfs: %s: %s\n", t->dir, strerror(errno));
		return EX_CLI_FAIL;
	}
	if (!is_lunfs(t->dir)) {
		fprintf(stderr, "lunfs: %s: not the mount point of a lunfs volume\n", t->dir);
		close(fd);
		return EX_CLI_FAIL;
	}
	if (fstatvfs(fd, &st) == 0)
		t->size_bytes = (uint64_t)st.f_blocks * st.f_frsize;
	err = trim_all(t, fd);
	close(fd);
	if (t->progress)
		fputs("\r\033[K", stderr);
	if (err)
		fprintf(stderr,
			"lunfs: %s: %s; %" PRIu64 " bytes were given back to the device before\n",
			t->dir, reason(err), t->done_bytes);
	else
		report(t);
	return err ? EX_CLI_FAIL : EX_CLI_OK;
}

int cmd_trim(int argc, char **argv, bool json)
{
	static const struct option longs[] = {{"minimum", required_argument, NULL, 'm'},
					      {"quiet", no_argument, NULL, 'q'},
					      {"json", no_argument, NULL, 'j'},
					      {"help", no_argument, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	struct trim t = {.json = json};
	int o;

	while ((o = getopt_long(argc, argv, "m:qh", longs, NULL)) != -1) {
		if (o == 'm' && !parse_bytes(optarg, &t.min_bytes)) {
			fprintf(stderr, "lunfs: --minimum %s: give a number of bytes\n", optarg);
			return EX_CLI_USAGE;
		}
		t.quiet |= o == 'q';
		t.json |= o == 'j';
		if (o == 'h' || o == '?') {
			usage(o == 'h' ? stdout : stderr);
			return o == 'h' ? EX_CLI_OK : EX_CLI_USAGE;
		}
	}
	if (argc - optind != 1) {
		fputs("lunfs: 'lunfs trim' takes one DIRECTORY\n", stderr);
		return EX_CLI_USAGE;
	}
	t.dir = argv[optind];
	t.progress = !t.quiet && isatty(STDERR_FILENO);
	return run(&t);
}
