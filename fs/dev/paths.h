/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A SCSI disk and the paths to it as this machine's kernel knows them, item by item. For people and
 * scripts that look at a device; nothing in lunfs relies on it. (The same as a part of a sentence:
 * sysfs_facts().)
 */
#ifndef DEV_PATHS_H
#define DEV_PATHS_H

#include "dev/sysfs.h"

struct disk_path { /* "" and 0: not known */
	char node[64], address[32], transport[32];
	char state[32];	 /* "running", "offline", "blocked" ... */
	char access[32]; /* ALUA: "active/optimized", "standby" ... */
	unsigned queue_depth, timeout_s;
};

struct disk_facts {
	char vendor[32], model[64], revision[32];
	char cache[32];		   /* "write back": the kernel flushes it */
	uint32_t misaligned_bytes; /* how far the beginning is off a physical block */
	struct disk_path path[SYSFS_PATHS_MAX];
	unsigned paths;
};

/* Of block device or /dev/sgN @name. false, and zero: sysfs knows nothing of it. */
bool disk_facts_read(const char *name, struct disk_facts *out);

#endif
