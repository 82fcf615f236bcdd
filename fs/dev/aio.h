/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transfers on a file descriptor that is open for direct I/O, many on their way at once without a
 * thread for each: what dev_start() of the backends on the kernel's block layer stands on.
 */
#ifndef DEV_AIO_H
#define DEV_AIO_H

#include <lunfs/dev.h>

struct aio;

/* NULL: the kernel grants none (said once in the log); the callers then do without. */
struct aio *aio_new(int fd, const char *name, uint32_t sector_bytes);
/* Waits until nothing is on its way. Nobody starts anything any more. */
void aio_free(struct aio *q);
/* 0: dev_started_done() will be called, on the queue's thread. -EAGAIN: too many are on their way.
 */
int aio_start(struct aio *q, struct dev_async *a);

#endif
