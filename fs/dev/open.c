/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which backend a name means, and a sentence where it means none. A disk that several machines may
 * share never falls back to the file backend by itself: its ATS would hold on this machine only.
 */
#include "dev/dev_impl.h"
#include "dev/sysfs.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#define SG_MAJOR 21u
#define ISCSI_SCHEME "iscsi://"

/* ---- help for the backends ---------------------------------------------------------------- */

uint64_t dev_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t dev_deadline_ns(const struct dev *d)
{
	uint32_t ms = d->deadline_ms ? d->deadline_ms : DEV_DEADLINE_DEFAULT_MS;

	return dev_now_ns() + (uint64_t)ms * 1000000u;
}

void dev_nap_ns(uint64_t ns)
{
	struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u),
			     .tv_nsec = (long)(ns % 1000000000u)};

	nanosleep(&t, NULL);
}

int dev_refuse(const struct dev_open_args *a, int err, const char *fmt, ...)
{
	va_list ap;

	if (a->why && a->why_len) {
		va_start(ap, fmt);
		vsnprintf(a->why, a->why_len, fmt, ap);
		va_end(ap);
	}
	return err;
}

int dev_refuse_open(const struct dev_open_args *a, int err)
{
	const char *n = a->name;

	switch (err) {
	case -ENOENT:
		return dev_refuse(a, err, "%s: there is no such device or file.", n);
	case -EACCES:
	case -EPERM:
		return dev_refuse(a, err,
				  "%s: this user may not open it; become root or change its "
				  "permissions.",
				  n);
	case -EROFS:
		return dev_refuse(a, err,
				  "%s is write-protected: lift the protection (read-only mounts, "
				  "too, write their host slot and locks), or only check it with "
				  "'fsck.lunfs -n'.",
				  n);
	case -EBUSY:
		return dev_refuse(a, err,
				  "%s is in use by the kernel of this machine (mounted, swap, or "
				  "part of a mapping); release it first.",
				  n);
	case -ENXIO:
	case -ENODEV:
	case -ENOMEDIUM:
		return dev_refuse(a, err, "%s: its node is there, but no device answers behind it.",
				  n);
	case -ENOTBLK:
		return dev_refuse(a, err, "%s is neither a block device nor a regular file.", n);
	default:
		return dev_refuse(a, err, "%s cannot be opened: %s.", n, strerror(-err));
	}
}

int dev_check_sector(const struct dev_open_args *a, uint32_t sector_bytes)
{
	if (sector_bytes != 512 && sector_bytes != 4096)
		return dev_refuse(a, -EMEDIUMTYPE,
				  "%s has sectors of %u bytes; lunfs knows 512 and "
				  "4096 only.",
				  a->name, sector_bytes);
	if (a->sector_bytes && a->sector_bytes != sector_bytes)
		return dev_refuse(a, -EMEDIUMTYPE,
				  "%s has sectors of %u bytes, %u were asked for; "
				  "a volume is used with the sector size it was made for.",
				  a->name, sector_bytes, a->sector_bytes);
	return 0;
}

/* ---- the choice --------------------------------------------------------------------------- */

static int open_block(const struct dev_open_args *a, dev_t rdev, struct dev **out)
{
	if (a->flags & DEV_OPEN_FORCE_FILE)
		return file_open(a, out);
	switch (sysfs_what(rdev)) {
	case SYSFS_SCSI:
	case SYSFS_MULTIPATH:
		return sg_open(a, out);
	case SYSFS_OVER_SCSI:
		return dev_refuse(
		    a, -EOPNOTSUPP,
		    "%s is a mapping over a SCSI disk that other machines "
		    "may share, and COMPARE AND WRITE does not pass through it; use the "
		    "disk or its multipath device itself, or force the use on this "
		    "machine alone.",
		    a->name);
	case SYSFS_PLAIN:
		break;
	}
	return file_open(a, out);
}

static int open_url(const struct dev_open_args *a, struct dev **out)
{
#ifdef HAVE_LIBISCSI
	return iscsi_dev_open(a, out);
#else
	char shown[sizeof((*out)->id.name)];

	dev_name_shown(a->name, shown, sizeof(shown));
	return dev_refuse(a, -EPROTONOSUPPORT,
			  "%s: this lunfs was built without libiscsi; log in with "
			  "the kernel's initiator and use its block device.",
			  shown);
#endif
}

static int open_path(const struct dev_open_args *a, struct dev **out)
{
	struct stat st;

	if (stat(a->name, &st))
		return dev_refuse_open(a, -errno);
	if (S_ISDIR(st.st_mode))
		return dev_refuse(
		    a, -EISDIR, "%s is a directory; a device or an image file is needed.", a->name);
	if (S_ISCHR(st.st_mode) && major(st.st_rdev) == SG_MAJOR)
		return sg_open(a, out);
	if (S_ISBLK(st.st_mode))
		return open_block(a, st.st_rdev, out);
	if (S_ISREG(st.st_mode))
		return file_open(a, out);
	return dev_refuse_open(a, -ENOTBLK);
}

void dev_name_shown(const char *name, char *out, size_t len)
{
	size_t scheme = strlen(ISCSI_SCHEME);
	const char *host = name + scheme, *at, *end;

	if (strncmp(name, ISCSI_SCHEME, scheme) != 0) {
		snprintf(out, len, "%s", name);
		return;
	}
	/* A password may hold any byte but '@', so '?' counts behind that; in doubt show less. */
	at = strchr(host, '@');
	end = strchrnul(at ? at : host, '?');
	for (; at; at = memchr(host, '@', (size_t)(end - host)))
		host = at + 1;
	snprintf(out, len, ISCSI_SCHEME "%.*s", (int)(end - host), host);
}

int dev_open(const char *name, unsigned flags, uint32_t sector_bytes, struct dev **out, char *why,
	     size_t why_len)
{
	struct dev_open_args a = {name, flags, sector_bytes, why, why_len};

	if (sector_bytes && sector_bytes != 512 && sector_bytes != 4096)
		return dev_refuse(&a, -EINVAL, "A sector has 512 or 4096 bytes, not %u.",
				  sector_bytes);
	if (strlen(name) >= sizeof(((struct dev_identity *)0)->name))
		return dev_refuse(&a, -ENAMETOOLONG,
				  "The device's name has more than %zu bytes; use a "
				  "shorter one.",
				  sizeof(((struct dev_identity *)0)->name) - 1);
	if (!strncmp(name, ISCSI_SCHEME, strlen(ISCSI_SCHEME)))
		return open_url(&a, out);
	return open_path(&a, out);
}
