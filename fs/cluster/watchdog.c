/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's watchdog device. Opening it arms it; closing it disarms it only after the magic
 * character was written. So a daemon that is killed takes the machine with it, which is the point.
 */
#include "cluster/watchdog.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/watchdog.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct wd_real {
	struct watchdog w; /* first */
	char path[64];
	int fd; /* -1: not armed */
};

static struct wd_real *real_of(struct watchdog *w)
{
	return (struct wd_real *)w;
}

static void magic_close(struct wd_real *r)
{
	if (write(r->fd, "V", 1) != 1)
		log_err("watchdog-stays",
			"%s cannot be disarmed (%s): this machine will be reset by it.", r->path,
			strerror(errno));
	close(r->fd);
	r->fd = -1;
}

static bool attr_is_set(const char *path)
{
	FILE *f = fopen(path, "re");
	bool set = f && getc(f) == '1';

	if (f)
		fclose(f);
	return set;
}

/* To be asked before it is opened, which arms it: one that is set so is never disarmed again. */
static bool no_way_out(const struct wd_real *r)
{
	char attr[64];
	struct stat st;

	if (stat(r->path, &st))
		return false;
	if (st.st_rdev == makedev(10, 130)) /* the old name of the first one */
		return attr_is_set("/sys/class/watchdog/watchdog0/nowayout");
	snprintf(attr, sizeof(attr), "/sys/dev/char/%u:%u/nowayout", major(st.st_rdev),
		 minor(st.st_rdev));
	return attr_is_set(attr);
}

static int set_timeout(struct wd_real *r, unsigned timeout_s, unsigned *actual_s)
{
	struct watchdog_info info = {0};
	int s = (int)timeout_s;

	if (ioctl(r->fd, WDIOC_GETSUPPORT, &info) || !(info.options & WDIOF_MAGICCLOSE))
		return -EOPNOTSUPP;
	if (ioctl(r->fd, WDIOC_SETTIMEOUT, &s) || ioctl(r->fd, WDIOC_GETTIMEOUT, &s) || s <= 0)
		return -EINVAL;
	*actual_s = (unsigned)s;
	return 0;
}

static int real_start(struct watchdog *w, unsigned timeout_s, unsigned *actual_s, char *why,
		      size_t why_len)
{
	struct wd_real *r = real_of(w);
	int rc;

	if (no_way_out(r)) {
		snprintf(why, why_len,
			 "The watchdog %s is set to nowayout, so that an unmount would not disarm "
			 "it; load its driver without, or use another watchdog.",
			 r->path);
		return -EOPNOTSUPP;
	}
	r->fd = open(r->path, O_WRONLY | O_CLOEXEC);
	if (r->fd < 0) {
		rc = -errno;
		snprintf(why, why_len,
			 "The watchdog %s cannot be opened (%s); is its driver loaded, and does "
			 "another program use it?",
			 r->path, strerror(-rc));
		return rc;
	}
	rc = set_timeout(r, timeout_s, actual_s);
	if (!rc)
		return 0;
	magic_close(r);
	snprintf(why, why_len,
		 "The watchdog %s cannot be set to %u s, or cannot be disarmed again by a clean "
		 "unmount; use another watchdog.",
		 r->path, timeout_s);
	return rc;
}

static void real_keepalive(struct watchdog *w)
{
	if (ioctl(real_of(w)->fd, WDIOC_KEEPALIVE, 0))
		log_err("watchdog-keepalive", "%s does not take a sign of life (%s).",
			real_of(w)->path, strerror(errno));
}

static void real_stop(struct watchdog *w)
{
	magic_close(real_of(w));
}

struct watchdog *watchdog_new(const char *path)
{
	struct wd_real *r = calloc(1, sizeof(*r));

	lunfs_assert(r);
	r->w = (struct watchdog){real_start, real_keepalive, real_stop};
	r->fd = -1;
	snprintf(r->path, sizeof(r->path), "%s", path[0] ? path : WATCHDOG_DEFAULT);
	return &r->w;
}

void watchdog_free(struct watchdog *w)
{
	if (w && real_of(w)->fd >= 0)
		close(real_of(w)->fd);
	free(w);
}
