/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the command line of fsck.lunfs asks for. */
#ifndef FSCK_OPTIONS_H
#define FSCK_OPTIONS_H

#include "cluster/host.h"
#include "fsck/problem.h"
#include <stdint.h>

struct options {
	const char *device, *undo, *put_back;
	enum repair_mode mode;
	bool force, json, verbose, progress, find_super;
	int progress_fd;    /* > 0: lines for programs go there */
	uint64_t super_blk; /* 0: find the best one */
	enum fence_choice fence;
	uint32_t beat_ms, deadline_ms, lease_ms; /* 0: the volume's */
};

enum { /* exit codes of fsck(8), added up */
       EX_FSCK_CLEAN = 0,
       EX_FSCK_REPAIRED = 1,
       EX_FSCK_LEFT = 4,
       EX_FSCK_OPERATIONAL = 8,
       EX_FSCK_USAGE = 16,
       EX_FSCK_CANCELED = 32,
};

/* 0: go on; 1: done, exit 0; -1: usage was said. */
int options_parse(int argc, char **argv, struct options *o);

#endif
