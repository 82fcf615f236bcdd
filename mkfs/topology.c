/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How the device likes its I/O, from libblkid. Advice; an iscsi:// URL or a file has none. */
#include "mkfs.h"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void fill(struct mkfs_topology *t, blkid_topology tp)
{
	t->logical_bytes = (uint32_t)blkid_topology_get_logical_sector_size(tp);
	t->physical_bytes = (uint32_t)blkid_topology_get_physical_sector_size(tp);
	t->min_io_bytes = (uint32_t)blkid_topology_get_minimum_io_size(tp);
	t->opt_io_bytes = (uint32_t)blkid_topology_get_optimal_io_size(tp);
	t->misaligned_bytes = (uint32_t)blkid_topology_get_alignment_offset(tp);
}

void topology_read(const char *path, struct mkfs_topology *t)
{
	struct stat st;
	blkid_topology tp;
	blkid_probe pr;
	int fd;

	memset(t, 0, sizeof(*t));
	if (stat(path, &st) || !S_ISBLK(st.st_mode))
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return;
	pr = blkid_new_probe();
	if (pr && blkid_probe_set_device(pr, fd, 0, 0) == 0) {
		tp = blkid_probe_get_topology(pr);
		if (tp)
			fill(t, tp);
	}
	blkid_free_probe(pr);
	close(fd);
}
