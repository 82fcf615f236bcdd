/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of fsck.lunfs, as users of e2fsck and fsck(8) know it. */
#include "fsck/options.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "Usage: fsck.lunfs [-n | -p | -y] [-fvV] [-C FD] [-b BLOCK] [--json] [--undo FILE] DEVICE\n"
    "\n"
    "Check a lunfs volume that no host has mounted, and repair it.\n"
    "\n"
    "  -n                   change nothing: answer no to every question\n"
    "  -p, -a               repair without asking what is safe to repair; else exit with 4\n"
    "  -y                   answer yes to every question\n"
    "  -f                   check a volume that looks clean, too (assumed)\n"
    "  -b BLOCK             use the superblock copy at this block of 4096 bytes\n"
    "  -C FD                progress: lines for programs to file descriptor FD; 0: a line for "
    "people\n"
    "  -v                   say more\n"
    "  --undo FILE          save every block to FILE before it is overwritten\n"
    "  --put-back FILE      put back what FILE saved, and change nothing else\n"
    "  --find-superblock    search the whole device for superblocks and list them, or make one "
    "anew\n"
    "                       from the rest of the volume; with -y check and repair the volume with "
    "it\n"
    "  --fence MODE         how dead hosts are fenced: auto, pr, timer (auto)\n"
    "  --json               the result as one JSON object on standard output\n"
    "  -V, --version        print the version\n"
    "  -h, --help           print this\n"
    "\n"
    "Without -n, -p and -y it asks before each repair. Nothing is written before the last "
    "question\n"
    "is answered; then all is written as one.\n"
    "\n"
    "Exit codes, added up: 0 clean, 1 repaired, 4 problems left, 8 the check could not be done,\n"
    "16 usage, 32 canceled.\n";

enum { OPT_JSON = 256, OPT_UNDO, OPT_PUT_BACK, OPT_FIND, OPT_FENCE };

static const struct option longs[] = {{"json", no_argument, NULL, OPT_JSON},
				      {"undo", required_argument, NULL, OPT_UNDO},
				      {"put-back", required_argument, NULL, OPT_PUT_BACK},
				      {"find-superblock", no_argument, NULL, OPT_FIND},
				      {"fence", required_argument, NULL, OPT_FENCE},
				      {"help", no_argument, NULL, 'h'},
				      {"version", no_argument, NULL, 'V'},
				      {NULL, 0, NULL, 0}};

static int bad(const char *what, const char *arg)
{
	fprintf(stderr, "fsck.lunfs: %s%s; 'fsck.lunfs --help' says more\n", what, arg);
	return -1;
}

static int number(const char *arg, uint64_t max, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(arg, &end, 10);
	return errno || end == arg || *end || *arg == '-' || *out > max ? -1 : 0;
}

static int set_mode(struct options *o, enum repair_mode mode, bool *given)
{
	if (*given && o->mode != mode)
		return bad("only one of -n, -p and -y can be given", "");
	o->mode = mode;
	*given = true;
	return 0;
}

static int set_progress(struct options *o, const char *arg)
{
	uint64_t fd;

	if (number(arg, 1u << 20, &fd))
		return bad("-C wants the number of a file descriptor, not ", arg);
	if (fd && fcntl((int)fd, F_GETFD) < 0) /* the device would get that number */
		return bad("-C wants a file descriptor that is open, not ", arg);
	o->progress = true;
	o->progress_fd = (int)fd;
	return 0;
}

static int set_fence(struct options *o, const char *arg)
{
	if (!strcmp(arg, "auto"))
		o->fence = FENCE_AUTO;
	else if (!strcmp(arg, "pr"))
		o->fence = FENCE_PR;
	else if (!strcmp(arg, "timer"))
		o->fence = FENCE_TIMER;
	else
		return bad("--fence wants auto, pr or timer, not ", arg);
	return 0;
}

static int one(struct options *o, int c, bool *given)
{
	switch (c) {
	case 'n':
		return set_mode(o, MODE_CHECK, given);
	case 'a':
	case 'p':
		return set_mode(o, MODE_PREEN, given);
	case 'y':
		return set_mode(o, MODE_YES, given);
	case 'f':
		o->force = true;
		return 0;
	case 'v':
		o->verbose = true;
		return 0;
	case 'b':
		return number(optarg, UINT64_MAX >> 13, &o->super_blk) || !o->super_blk
			   ? bad("-b wants the number of a block, not ", optarg)
			   : 0;
	case 'C':
		return set_progress(o, optarg);
	case OPT_JSON:
		o->json = true;
		return 0;
	case OPT_UNDO:
		o->undo = optarg;
		return 0;
	case OPT_PUT_BACK:
		o->put_back = optarg;
		return 0;
	case OPT_FIND:
		o->find_super = true;
		return 0;
	case OPT_FENCE:
		return set_fence(o, optarg);
	default:
		fputs(usage, stderr);
		return -1;
	}
}

int options_parse(int argc, char **argv, struct options *o)
{
	bool given = false;
	int c;

	o->mode = MODE_ASK;
	while ((c = getopt_long(argc, argv, "napyfb:C:vVh", longs, NULL)) != -1) {
		if (c == 'V' || c == 'h') {
			puts(c == 'V' ? "fsck.lunfs " LUNFS_VERSION : usage);
			return 1;
		}
		if (one(o, c, &given))
			return -1;
	}
	if (argc - optind != 1)
		return bad("give one device", "");
	if (o->find_super && (o->super_blk || o->put_back))
		return bad("--find-superblock cannot be used with -b or --put-back", "");
	if (o->undo && o->mode == MODE_CHECK)
		return bad("--undo makes no sense with -n", "");
	o->device = argv[optind];
	if (o->mode == MODE_ASK && !o->find_super && !o->put_back &&
	    (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || o->json))
		return bad("need a terminal to ask; use -n, -p or -y", "");
	return 0;
}
