/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading a disk's facts and paths out of sysfs; see paths.h.
 */
#include "dev/paths.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static bool attr(const char *dir, const char *name, char *buf, size_t len)
{
	char path[PATH_MAX + 64];
	size_t n;
	FILE *f;

	buf[0] = 0;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "re");
	if (!f)
		return false;
	n = fread(buf, 1, len - 1, f);
	fclose(f);
	buf[n] = 0;
	buf[strcspn(buf, "\n")] = 0;
	while ((n = strlen(buf)) && buf[n - 1] == ' ')
		buf[n - 1] = 0;
	for (char *p = buf; *p; p++) /* a device's own words go to a terminal */
		if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e)
			*p = '?';
	return true;
}

static unsigned number(const char *dir, const char *name)
{
	char buf[32];

	return attr(dir, name, buf, sizeof(buf)) ? (unsigned)strtoul(buf, NULL, 10) : 0;
}

/* By what the way to it in the kernel's tree of devices passes. */
static const char *transport_of(const char *dir)
{
	static const struct {
		const char *part, *name;
	} known[] = {
	    {"/session", "iSCSI"},   {"/rport-", "Fibre Channel"},
	    {"/end_device-", "SAS"}, {"/virtio", "virtio"},
	    {"/ata", "ATA"},	     {"/tcm_loop", "loop of the target"},
	    {"/usb", "USB"},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strstr(dir, known[i].part))
			return known[i].name;
	return "";
}

/* @dir: of the block device in sysfs, of a whole disk. */
static bool read_path(const char *dir, const char *node, struct disk_path *p)
{
	char device[PATH_MAX + 16], real[PATH_MAX];

	memset(p, 0, sizeof(*p));
	snprintf(device, sizeof(device), "%s/device", dir);
	if (!realpath(device, real) || !attr(device, "state", p->state, sizeof(p->state)))
		return false;
	snprintf(p->node, sizeof(p->node), "%s", node);
	snprintf(p->address, sizeof(p->address), "%.31s", strrchr(real, '/') + 1);
	snprintf(p->transport, sizeof(p->transport), "%s", transport_of(real));
	attr(device, "access_state", p->access, sizeof(p->access));
	p->queue_depth = number(device, "queue_depth");
	p->timeout_s = number(device, "timeout");
	return true;
}

/* The disk's directory in sysfs, partition or not. */
static bool disk_dir(dev_t rdev, char *dir)
{
	char link[64], buf[16];

	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(rdev), minor(rdev));
	if (!realpath(link, dir))
		return false;
	if (attr(dir, "partition", buf, sizeof(buf)))
		*strrchr(dir, '/') = 0;
	return true;
}

static void add_path(dev_t rdev, struct disk_facts *out)
{
	struct disk_path *p = &out->path[out->paths];
	char dir[PATH_MAX], device[PATH_MAX + 16], node[64];

	if (out->paths == SYSFS_PATHS_MAX || !disk_dir(rdev, dir))
		return;
	snprintf(node, sizeof(node), "/dev/%.58s", strrchr(dir, '/') + 1);
	if (!read_path(dir, node, p))
		return;
	snprintf(device, sizeof(device), "%s/device", dir);
	if (!out->paths++) {
		attr(device, "vendor", out->vendor, sizeof(out->vendor));
		attr(device, "model", out->model, sizeof(out->model));
		attr(device, "rev", out->revision, sizeof(out->revision));
	}
}

static void add_slaves(dev_t rdev, struct disk_facts *out)
{
	struct sysfs_path path[SYSFS_PATHS_MAX];
	unsigned n = sysfs_paths(rdev, path);
	struct stat st;

	for (unsigned i = 0; i < n; i++)
		if (path[i].node[0] && !stat(path[i].node, &st))
			add_path(st.st_rdev, out);
}

bool disk_facts_read(const char *name, struct disk_facts *out)
{
	char path[PATH_MAX], dir[PATH_MAX], link[64];
	struct stat st;

	memset(out, 0, sizeof(*out));
	if (stat(name, &st))
		return false;
	if (S_ISCHR(st.st_mode) &&
	    (!sysfs_block_of_sg(st.st_rdev, path, sizeof(path)) || stat(path, &st)))
		return false;
	if (!S_ISBLK(st.st_mode))
		return false;
	add_path(st.st_rdev, out);
	if (!out->paths)
		add_slaves(st.st_rdev, out);
	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(st.st_rdev), minor(st.st_rdev));
	out->misaligned_bytes = number(link, "alignment_offset");
	if (disk_dir(st.st_rdev, dir))
		attr(dir, "queue/write_cache", out->cache, sizeof(out->cache));
	return true;
}
