/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looking up devices in sysfs; see sysfs.h.
 */
#include "dev/sysfs.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define ATTR_MAX 256
#define DEPTH_MAX 8 /* mappings over mappings */

static bool read_attr(const char *dir, const char *attr, char *buf, size_t len)
{
	char path[PATH_MAX];
	FILE *f;
	size_t n;

	if (snprintf(path, sizeof(path), "%s/%s", dir, attr) >= (int)sizeof(path))
		return false;
	f = fopen(path, "re");
	if (!f)
		return false;
	n = fread(buf, 1, len - 1, f);
	fclose(f);
	buf[n] = 0;
	buf[strcspn(buf, "\n")] = 0;
	return true;
}

static bool block_dir(dev_t rdev, char *dir)
{
	char link[64];

	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(rdev), minor(rdev));
	return realpath(link, dir) != NULL;
}

bool sysfs_has_block(dev_t rdev)
{
	char dir[PATH_MAX];

	return block_dir(rdev, dir);
}

static bool on_scsi_bus(const char *dir)
{
	char link[PATH_MAX], target[PATH_MAX];
	ssize_t n;

	if (snprintf(link, sizeof(link), "%s/device/subsystem", dir) >= (int)sizeof(link))
		return false;
	n = readlink(link, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = 0;
	n -= 5;
	return n >= 0 && !strcmp(target + n, "/scsi");
}

static bool is_partition(const char *dir)
{
	char buf[ATTR_MAX];

	return read_attr(dir, "partition", buf, sizeof(buf));
}

/* Some disk beneath the mapping in @dir is SCSI. */
static bool any_slave_scsi(const char *dir, int depth)
{
	char path[PATH_MAX], slave[PATH_MAX];
	struct dirent *e;
	bool found = false;
	DIR *dp;

	if (depth > DEPTH_MAX ||
	    snprintf(path, sizeof(path), "%s/slaves", dir) >= (int)sizeof(path))
		return false;
	dp = opendir(path);
	if (!dp)
		return false;
	while (!found && (e = readdir(dp))) {
		char entry[2 * PATH_MAX];

		if (e->d_name[0] == '.')
			continue;
		snprintf(entry, sizeof(entry), "%s/%s", path, e->d_name);
		if (!realpath(entry, slave))
			continue;
		if (is_partition(slave) && strrchr(slave, '/'))
			*strrchr(slave, '/') = 0;
		found = on_scsi_bus(slave) || any_slave_scsi(slave, depth + 1);
	}
	closedir(dp);
	return found;
}

enum sysfs_what sysfs_what(dev_t rdev)
{
	char dir[PATH_MAX], uuid[ATTR_MAX];

	if (!block_dir(rdev, dir))
		return SYSFS_PLAIN;
	if (is_partition(dir) && strrchr(dir, '/'))
		*strrchr(dir, '/') = 0;
	if (on_scsi_bus(dir))
		return SYSFS_SCSI;
	if (!any_slave_scsi(dir, 0))
		return SYSFS_PLAIN;
	if (read_attr(dir, "dm/uuid", uuid, sizeof(uuid)) && !strncmp(uuid, "mpath-", 6))
		return SYSFS_MULTIPATH;
	return SYSFS_OVER_SCSI;
}

uint64_t sysfs_start_bytes(dev_t rdev)
{
	char dir[PATH_MAX], start[ATTR_MAX];

	if (!block_dir(rdev, dir) || !is_partition(dir) ||
	    !read_attr(dir, "start", start, sizeof(start)))
		return 0;
	return strtoull(start, NULL, 10) * 512;
}

static bool node_is(const char *path, dev_t rdev)
{
	struct stat st;

	return !stat(path, &st) && S_ISBLK(st.st_mode) && st.st_rdev == rdev;
}

bool sysfs_node(dev_t rdev, char *path, size_t path_len)
{
	char dir[PATH_MAX];
	const char *name;

	if (!block_dir(rdev, dir))
		return false;
	name = strrchr(dir, '/');
	if (!name || snprintf(path, path_len, "/dev%s", name) >= (int)path_len)
		return false;
	return node_is(path, rdev);
}

static bool path_at(const char *dir, struct sysfs_path *out)
{
	char dev[ATTR_MAX], state[ATTR_MAX];
	unsigned maj, min;

	memset(out, 0, sizeof(*out));
	if (!on_scsi_bus(dir) || !read_attr(dir, "dev", dev, sizeof(dev)) ||
	    sscanf(dev, "%u:%u", &maj, &min) != 2)
		return false;
	if (!sysfs_node(makedev(maj, min), out->node, sizeof(out->node)))
		out->node[0] = 0;
	out->running =
	    read_attr(dir, "device/state", state, sizeof(state)) && !strcmp(state, "running");
	return true;
}

unsigned sysfs_paths(dev_t rdev, struct sysfs_path out[SYSFS_PATHS_MAX])
{
	char dir[PATH_MAX], slaves[PATH_MAX], slave[2 * PATH_MAX];
	struct dirent *e;
	unsigned n = 0;
	DIR *dp;

	if (!block_dir(rdev, dir) ||
	    snprintf(slaves, sizeof(slaves), "%s/slaves", dir) >= (int)sizeof(slaves))
		return 0;
	dp = opendir(slaves);
	if (!dp)
		return 0;
	while (n < SYSFS_PATHS_MAX && (e = readdir(dp))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(slave, sizeof(slave), "%s/%s", slaves, e->d_name);
		n += path_at(slave, &out[n]);
	}
	closedir(dp);
	return n;
}

bool sysfs_block_of_sg(dev_t rdev, char *path, size_t path_len)
{
	char dir[PATH_MAX];
	struct dirent *e;
	bool found = false;
	DIR *dp;

	snprintf(dir, sizeof(dir), "/sys/dev/char/%u:%u/device/block", major(rdev), minor(rdev));
	dp = opendir(dir);
	if (!dp)
		return false;
	while (!found && (e = readdir(dp))) {
		struct stat st;

		if (e->d_name[0] == '.')
			continue;
		found = snprintf(path, path_len, "/dev/%s", e->d_name) < (int)path_len &&
			!stat(path, &st) && S_ISBLK(st.st_mode);
	}
	closedir(dp);
	return found;
}

bool sysfs_loop_file(dev_t rdev, char *path, size_t path_len, uint64_t *off_bytes)
{
	char dir[PATH_MAX], off[ATTR_MAX];

	if (!block_dir(rdev, dir) || !read_attr(dir, "loop/backing_file", path, path_len) ||
	    !read_attr(dir, "loop/offset", off, sizeof(off)))
		return false;
	*off_bytes = strtoull(off, NULL, 10);
	return true;
}

uint64_t sysfs_discard_max(dev_t rdev)
{
	char dir[PATH_MAX], max[ATTR_MAX];

	if (!block_dir(rdev, dir))
		return 0;
	if (!read_attr(dir, "queue/discard_max_bytes", max, sizeof(max)) &&
	    !read_attr(dir, "../queue/discard_max_bytes", max, sizeof(max)))
		return 0;
	return strtoull(max, NULL, 10);
}

/* Append what is known of the disk in @dir; returns the new length. */
static size_t disk_facts(const char *dir, char *buf, size_t at, size_t len)
{
	char depth[ATTR_MAX], timeout[ATTR_MAX], state[ATTR_MAX], one[512];
	const char *name = strrchr(dir, '/');
	int n;

	if (!name || !read_attr(dir, "device/state", state, sizeof(state)))
		return at;
	if (!read_attr(dir, "device/queue_depth", depth, sizeof(depth)))
		snprintf(depth, sizeof(depth), "unknown");
	if (!read_attr(dir, "device/timeout", timeout, sizeof(timeout)))
		snprintf(timeout, sizeof(timeout), "?");
	n = snprintf(one, sizeof(one), "%s%.32s: queue depth %.16s, time-out %.16s s, %.32s",
		     at ? "; " : "", name + 1, depth, timeout, state);
	if (n < 0 || at + (size_t)n >= len)
		return at;
	memcpy(buf + at, one, (size_t)n + 1);
	return at + (size_t)n;
}

void sysfs_facts(dev_t rdev, char *buf, size_t len)
{
	char dir[PATH_MAX], path[PATH_MAX], slave[PATH_MAX];
	struct dirent *e;
	size_t at = 0;
	DIR *dp;

	if (!block_dir(rdev, dir))
		return;
	if (is_partition(dir) && strrchr(dir, '/'))
		*strrchr(dir, '/') = 0;
	at = disk_facts(dir, buf, at, len);
	if (at || snprintf(path, sizeof(path), "%s/slaves", dir) >= (int)sizeof(path))
		return;
	dp = opendir(path);
	if (!dp)
		return;
	while ((e = readdir(dp))) {
		char entry[2 * PATH_MAX];

		snprintf(entry, sizeof(entry), "%s/%s", path, e->d_name);
		if (e->d_name[0] != '.' && realpath(entry, slave))
			at = disk_facts(slave, buf, at, len);
	}
	closedir(dp);
}
