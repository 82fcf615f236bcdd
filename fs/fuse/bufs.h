/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory of requests, page-aligned. Buffers in huge pages are taken before all others: a transfer
 * of 1 MiB costs the kernel a fifth less with one of them, and a burst of small requests would
 * leave workers with others.
 */
#ifndef FUSE_BUFS_H
#define FUSE_BUFS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define BUF_BYTES ((1u << 20) + (2u << 12))

struct front_buf {
	struct front_buf *next;
	uint8_t *mem; /* the first block ends with the header of a WRITE */
	int fd;	      /* the clone that its request came from */
	bool arena;   /* its memory is */
};

struct bufs {
	pthread_mutex_t mtx;
	struct front_buf *spare_arena, *spare; /* given back last: first */
	unsigned nspare;		       /* without those of the arena */
	uint8_t *arena_map, *arena;
	unsigned narena; /* of its buffers that were handed out */
};

void bufs_init(struct bufs *b);
void bufs_destroy(struct bufs *b); /* all were given back */
struct front_buf *buf_get(struct bufs *b);
void buf_put(struct bufs *b, struct front_buf *buf);

#endif
