/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Command line of mount.lunfs, as mount(8) passes it. */
#ifndef FUSE_OPTIONS_H
#define FUSE_OPTIONS_H

#include "vol/volume.h"

struct options {
	char *device;	  /* absolute unless a URL */
	char *shown;	  /* the same for everybody's eyes: a URL without its password */
	char *mountpoint; /* absolute */
	struct vol_options vol;
	bool foreground, verbose, debug_fuse, force_file, netdev;
	char *log_file;	   /* NULL: stderr in the foreground, else syslog */
	char *kernel_opts; /* for fuse: comma separated */
};

enum { /* exit codes of mount(8) */
       EX_MOUNT_USAGE = 1,
       EX_MOUNT_SYSTEM = 2,
       EX_MOUNT_FAIL = 32,
};

/* 0: go on; > 0: exit with this - 1 (help, version: 1 -> 0). Prints its own messages. */
int options_parse(int argc, char **argv, struct options *o);
void options_free(struct options *o);
/*
 * The name of the mount's source: @real, the one without links, but of a device-mapper device
 * @given. mount(8) calls it /dev/mapper/NAME, also when 'mount -a' looks whether it is mounted.
 * NULL: no memory; else the caller frees it.
 */
char *options_device_name(const char *given, const char *real);
/* One sentence on standard error, after the program's name. */
void options_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
