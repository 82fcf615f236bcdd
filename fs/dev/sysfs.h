/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel's sysfs says about a block or sg device. Everything here is advice for choosing
 * a backend and for finding the node of a disk; nothing is taken as proof.
 */
#ifndef DEV_SYSFS_H
#define DEV_SYSFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum sysfs_what {
	SYSFS_PLAIN,	 /* not SCSI: loop, virtio, NVMe, RAM disk ... */
	SYSFS_SCSI,	 /* a SCSI disk or a partition of one */
	SYSFS_MULTIPATH, /* dm-multipath over SCSI disks */
	SYSFS_OVER_SCSI, /* a mapping (LVM, md, crypt) with a SCSI disk beneath */
};

enum sysfs_what sysfs_what(dev_t rdev);
#define SYSFS_PATHS_MAX 64u
struct sysfs_path {
	char node[64]; /* /dev/sdX, or "": it has none */
	bool running;  /* the kernel has not given it up */
};
/* The SCSI disks directly beneath a mapping; the number of @out that is filled. */
unsigned sysfs_paths(dev_t rdev, struct sysfs_path out[SYSFS_PATHS_MAX]);
/* false: the kernel has removed it, its open descriptors are of no use any more. */
bool sysfs_has_block(dev_t rdev);
/* First byte of a partition on its disk, 0 for a whole disk. */
uint64_t sysfs_start_bytes(dev_t rdev);
/* The kernel's own node (/dev/NAME) of a block device if it is there; false: none. */
bool sysfs_node(dev_t rdev, char *path, size_t path_len);
/* The block node (/dev/sdX) of the disk behind /dev/sgN; false: none. */
bool sysfs_block_of_sg(dev_t rdev, char *path, size_t path_len);
/* The file behind a loop device, and where in it the device begins; false: no loop device. */
bool sysfs_loop_file(dev_t rdev, char *path, size_t path_len, uint64_t *off_bytes);
/* Bytes of the longest discard that its queue takes, 0: none. */
uint64_t sysfs_discard_max(dev_t rdev);
/*
 * The disk, or those beneath a mapping, as a part of a sentence: "sdb: queue depth 32, time-out 30
 * s, running". Left alone if sysfs knows nothing.
 */
void sysfs_facts(dev_t rdev, char *buf, size_t len);

#endif
