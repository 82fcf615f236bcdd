/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A few threads that do the elements of a batch at the same time, where the kernel's interface for
 * one command is a system call that blocks.
 */
#ifndef DEV_POOL_H
#define DEV_POOL_H

#include <stddef.h>

struct pool;

struct pool *pool_new(void);	/* starts no thread yet; NULL: no memory */
void pool_free(struct pool *p); /* nobody is in pool_run() */
/* Call fn(arg, 0 .. n - 1), several at once, and return when all have ended. */
void pool_run(struct pool *p, size_t n, void (*fn)(void *arg, size_t i), void *arg);

#endif
