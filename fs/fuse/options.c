/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Command line of mount.lunfs: its own options, and -o as mount(8) hands it on: what lunfs knows,
 * what the kernel knows (nosuid, noexec ...), and what only fstab and systemd care about.
 */
#include "fuse/options.h"
#include "base/text.h"
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "Usage: mount.lunfs [-fhrvwV] [-o OPTION[,OPTION...]] DEVICE DIRECTORY\n"
    "\n"
    "Mount the lunfs volume on DEVICE (a block device, an image file or an iscsi:// URL).\n"
    "\n"
    "  -f             stay in the foreground and log to standard error\n"
    "  -o OPTIONS     ro, rw, host=NAME, logfile=PATH, timeout=SECONDS, force_file, debug,\n"
    "                 fence=auto|pr|timer|watchdog[:DEVICE], and the options of mount(8); see\n"
    "                 mount.lunfs(8)\n"
    "  -r, -w         read-only, read-write (default)\n"
    "  -v             say more\n"
    "  -V, --version  print the version\n"
    "  -h, --help     print this\n";

void options_say(const char *fmt, ...)
{
	va_list ap;

	fputs("mount.lunfs: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static void kernel_opt(struct options *o, const char *opt)
{
	char *joined;

	if (asprintf(&joined, "%s,%s", o->kernel_opts, opt) < 0)
		abort();
	free(o->kernel_opts);
	o->kernel_opts = joined;
}

static bool in_list(const char *const *list, const char *word)
{
	for (; *list; list++)
		if (strcmp(*list, word) == 0)
			return true;
	return false;
}

/* Meant for the kernel; libfuse turns them into mount flags. */
static const char *const kernel_words[] = {"suid",    "nosuid", "dev",	   "nodev",
					   "exec",    "noexec", "async",   "sync",
					   "dirsync", "atime",	"noatime", NULL};
/* Meant for fstab, mount(8) and systemd, or what lunfs does anyway. */
static const char *const ignored_words[] = {
    "defaults",	     "auto",	    "noauto",	  "user",	"nouser",
    "users",	     "group",	    "owner",	  "nofail",	"relatime",
    "norelatime",    "lazytime",    "nolazytime", "nodiratime", "diratime",
    "nostrictatime", "allow_other", "acl",	  "user_xattr", "default_permissions",
    "nonempty",	     "loud",	    "silent",	  NULL};

static int opt_host(struct options *o, const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len >= LUNFS_HOSTNAME_BYTES || strpbrk(name, "/ ") ||
	    !text_is_plain(name)) {
		options_say(
		    "host=%s: a host name has 1 to %u characters and neither '/' nor blanks", name,
		    LUNFS_HOSTNAME_BYTES - 1);
		return -EINVAL;
	}
	strcpy(o->vol.host.name, name);
	return 0;
}

static int opt_timeout(struct options *o, const char *arg)
{
	char *end;
	unsigned long s = strtoul(arg, &end, 10);

	if (*arg == '\0' || *end || s > 86400) {
		options_say("timeout=%s: give whole seconds, 0 to 86400", arg);
		return -EINVAL;
	}
	o->vol.host.claim_wait_ms = (uint32_t)s * 1000;
	return 0;
}

static int opt_watchdog(struct options *o, const char *path)
{
	size_t room = sizeof(o->vol.host.watchdog_path);

	if (path[0] != '/' || strlen(path) >= room) {
		options_say("fence=watchdog:%s: give the path of a watchdog device, at most %zu "
			    "bytes",
			    path, room - 1);
		return -EINVAL;
	}
	strcpy(o->vol.host.watchdog_path, path);
	return 0;
}

static int opt_fence(struct options *o, const char *how)
{
	enum fence_choice *f = &o->vol.host.fence;

	o->vol.host.watchdog_path[0] = '\0';
	if (strcmp(how, "auto") == 0)
		*f = FENCE_AUTO;
	else if (strcmp(how, "pr") == 0)
		*f = FENCE_PR;
	else if (strcmp(how, "timer") == 0)
		*f = FENCE_TIMER;
	else if (strncmp(how, "watchdog", 8) == 0 && (how[8] == '\0' || how[8] == ':'))
		*f = FENCE_WATCHDOG;
	else {
		options_say("fence=%s: give auto, pr, timer, watchdog or watchdog:DEVICE", how);
		return -EINVAL;
	}
	return *f == FENCE_WATCHDOG && how[8] ? opt_watchdog(o, how + 9) : 0;
}

static int one_option(struct options *o, char *opt)
{
	if (strcmp(opt, "ro") == 0)
		o->vol.read_only = true;
	else if (strcmp(opt, "rw") == 0)
		o->vol.read_only = false;
	else if (strncmp(opt, "host=", 5) == 0)
		return opt_host(o, opt + 5);
	else if (strncmp(opt, "timeout=", 8) == 0)
		return opt_timeout(o, opt + 8);
	else if (strncmp(opt, "fence=", 6) == 0)
		return opt_fence(o, opt + 6);
	else if (strncmp(opt, "logfile=", 8) == 0)
		o->log_file = strdup(opt + 8);
	else if (strcmp(opt, "force_file") == 0)
		o->force_file = true;
	else if (strcmp(opt, "debug") == 0)
		o->debug_fuse = true;
	else if (strcmp(opt, "remount") == 0) {
		options_say("remount is not supported: unmount %s and mount it again",
			    o->mountpoint ? o->mountpoint : "the volume");
		return -EINVAL;
	} else if (in_list(kernel_words, opt))
		kernel_opt(o, opt);
	else if (strcmp(opt, "_netdev") == 0)
		o->netdev = true;
	else if (!in_list(ignored_words, opt) && strncmp(opt, "x-", 2) != 0 &&
		 strncmp(opt, "comment=", 8) != 0 && *opt) {
		options_say("unknown mount option '%s'; see mount.lunfs(8)", opt);
		return -EINVAL;
	}
	return 0;
}

static int option_list(struct options *o, const char *list)
{
	char *copy = strdup(list), *save = NULL;
	int rc = copy ? 0 : -ENOMEM;

	for (char *opt = copy ? strtok_r(copy, ",", &save) : NULL; opt && !rc;
	     opt = strtok_r(NULL, ",", &save))
		rc = one_option(o, opt);
	free(copy);
	return rc;
}

static int absolute(const char *what, const char *path, char **out)
{
	char *real;

	if (strlen(path) >= PATH_MAX) {
		options_say("the path of the %s is too long (%zu bytes, at most %d)", what,
			    strlen(path), PATH_MAX - 1);
		return -ENAMETOOLONG;
	}
	real = realpath(path, NULL);
	if (!real && errno != ENOTCONN) {
		options_say("%s %s: %s", what, path, strerror(errno));
		return -errno;
	}
	*out = real ? real : strdup(path);
	return *out ? 0 : -ENOMEM;
}

char *options_device_name(const char *given, const char *real)
{
	bool dm = strncmp(real, "/dev/dm-", 8) == 0;

	return strdup(dm && strncmp(given, "/dev/", 5) == 0 ? given : real);
}

static int device_path(struct options *o, const char *given)
{
	char *real;
	int rc = absolute("device", given, &real);

	if (rc)
		return rc;
	o->device = options_device_name(given, real);
	free(real);
	return 0;
}

/* What others may see of the device; @arg, which they see in ps(1), becomes the same. */
static int hide_password(struct options *o, char *arg)
{
	size_t size = strlen(o->device) + 1;

	o->shown = malloc(size);
	if (!o->shown)
		return -ENOMEM;
	dev_name_shown(o->device, o->shown, size);
	if (strcmp(arg, o->device) == 0 && strcmp(o->shown, o->device) != 0) {
		memset(arg, 0, size);
		strcpy(arg, o->shown);
	}
	return 0;
}

static int positionals(struct options *o, int argc, char **argv)
{
	if (argc - optind != 2) {
		options_say("give a device and a directory; 'mount.lunfs --help' says more");
		return 1 + EX_MOUNT_USAGE;
	}
	if (strncmp(argv[optind], "iscsi://", 8) == 0)
		o->device = strdup(argv[optind]);
	else if (device_path(o, argv[optind]))
		return 1 + EX_MOUNT_FAIL;
	if (!o->device || hide_password(o, argv[optind])) {
		options_say("there is no memory");
		return 1 + EX_MOUNT_SYSTEM;
	}
	if (absolute("mount point", argv[optind + 1], &o->mountpoint))
		return 1 + EX_MOUNT_FAIL;
	return 0;
}

int options_parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {{"help", no_argument, NULL, 'h'},
					      {"version", no_argument, NULL, 'V'},
					      {NULL, 0, NULL, 0}};
	int c;

	o->kernel_opts = strdup("default_permissions,allow_other,subtype=lunfs,dev,suid");
	while ((c = getopt_long(argc, argv, "fho:rwvVnst:N:", longs, NULL)) != -1) {
		switch (c) {
		case 'f':
			o->foreground = true;
			break;
		case 'o':
			if (option_list(o, optarg))
				return 1 + EX_MOUNT_USAGE;
			break;
		case 'r':
			o->vol.read_only = true;
			break;
		case 'w':
			o->vol.read_only = false;
			break;
		case 'v':
			o->verbose = true;
			break;
		case 'n': /* mtab, sloppy, type, namespace: nothing to do for us */
		case 's':
		case 't':
		case 'N':
			break;
		case 'V':
			puts("mount.lunfs " LUNFS_VERSION);
			return 1;
		case 'h':
			fputs(usage, stdout);
			return 1;
		default:
			fputs(usage, stderr);
			return 1 + EX_MOUNT_USAGE;
		}
	}
	return positionals(o, argc, argv);
}

void options_free(struct options *o)
{
	free(o->device);
	free(o->shown);
	free(o->mountpoint);
	free(o->log_file);
	free(o->kernel_opts);
}
