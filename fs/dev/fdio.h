/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Plain I/O on a file descriptor, direct where the kernel allows it: what the file and the sg
 * backend have in common. A process that was killed is not reaped before its system calls and its
 * asynchronous transfers (aio.h) have ended, so its exit proves that nothing of it is still on its
 * way to the device. (An io_uring may be torn down after the exit was reported.)
 *
 * What the kernel gave up is sent again, but a write or a discard only within the deadline, counted
 * from the call: whoever called was allowed to change the device then, and may not be any more. The
 * kernel itself may try for longer, and only reservations keep that from landing.
 */
#ifndef DEV_FDIO_H
#define DEV_FDIO_H

#include "dev/aio.h"

#include <lunfs/dev.h>

struct fdio {
	const struct dev *dev; /* whose deadline it keeps */
	int fd;
	bool direct;
	bool block; /* a block device, else a regular file */
	bool read_only;
	uint32_t sector_bytes, phys_bytes;
	uint64_t size_bytes;
	char *path;
	struct aio *aio;	 /* made by the first who wants it; NULL: none. Of block devices. */
	pthread_mutex_t aio_mtx; /* of the three below; the first is read without it, too */
	atomic_bool aio_tried;
	pthread_cond_t no_rest;
	unsigned rests; /* started transfers that are ended by threads of their own */
	/*
	 * Optional. The kernel has given a command up, or the device, and does not tell whether
	 * that failed or did not answer. 0: send it again, if it is time; else the result. @tries:
	 * how often it was asked about this command before. (What the device said itself has other
	 * errnos.)
	 */
	int (*doubt)(void *ctx, unsigned tries);
	void *doubt_ctx;
};

/* Open @path; -EINVAL etc. as open(2). Fills everything but the sector size of a regular file. */
int fdio_open(struct fdio *f, const struct dev *d, const char *path, unsigned dev_open_flags);
/* Regular file: settle the sector size, fall back to the page cache where direct I/O refuses it. */
int fdio_set_sector(struct fdio *f, uint32_t sector_bytes);
void fdio_close(struct fdio *f);

int fdio_read(struct fdio *f, uint64_t off_bytes, size_t len_bytes, void *buf);
int fdio_write(struct fdio *f, uint64_t off_bytes, size_t len_bytes, const void *buf);
int fdio_flush(struct fdio *f);
/* The most that one command discards, where the kernel takes @kernels_bytes at once (0: none). */
uint64_t fdio_discard_max(uint64_t kernels_bytes);
int fdio_discard(struct fdio *f, uint64_t off_bytes, uint64_t len_bytes);
int fdio_zero(struct fdio *f, uint64_t off_bytes, uint64_t len_bytes);
/* Block devices: neighbours are one transfer, and all of them on their way at once. */
void fdio_batch(struct fdio *f, struct dev_io *io, size_t n);
/* dev_lane_new() of the backends; @d is theirs. */
struct dev_lane *fdio_lane_new(struct fdio *f, struct dev *d);

/* What the block layer's or a file system's errno (positive) means in terms of dev.h. */
int fdio_errno(int err);

#endif
