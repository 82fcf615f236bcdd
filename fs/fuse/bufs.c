/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/bufs.h"

#include "base/log.h"

#include <lunfs/format.h>
#include <stdlib.h>
#include <sys/mman.h>

#define SPARE_MAX 160u /* idle buffers that are kept */
#define ARENA_BUFS 32u /* buffers in huge pages: the kernel takes hold of one, not of hundreds */
#define HUGE_BYTES (2u << 20)
#define STRIDE (BUF_BYTES + LUNFS_BLOCK_BYTES)
#define ARENA_BYTES ((ARENA_BUFS * STRIDE + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES)

/* Memory whose pages come when they are first used. */
static uint8_t *map(size_t len)
{
	void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	lunfs_assert(mem != MAP_FAILED);
	return mem;
}

void bufs_init(struct bufs *b)
{
	*b = (struct bufs){.mtx = PTHREAD_MUTEX_INITIALIZER};
	b->arena_map = map(ARENA_BYTES + HUGE_BYTES);
	b->arena = b->arena_map + (HUGE_BYTES - (uintptr_t)b->arena_map % HUGE_BYTES) % HUGE_BYTES;
	madvise(b->arena, ARENA_BYTES, MADV_HUGEPAGE);
}

static struct front_buf *spare(struct bufs *b) /* b->mtx held */
{
	struct front_buf *buf = b->spare_arena;

	if (buf) {
		b->spare_arena = buf->next;
	} else if (b->spare) {
		buf = b->spare;
		b->spare = buf->next;
		b->nspare--;
	}
	return buf;
}

struct front_buf *buf_get(struct bufs *b)
{
	struct front_buf *buf;

	pthread_mutex_lock(&b->mtx);
	buf = spare(b);
	if (buf) {
		pthread_mutex_unlock(&b->mtx);
		return buf;
	}
	buf = calloc(1, sizeof(*buf));
	lunfs_assert(buf);
	buf->arena = b->narena < ARENA_BUFS;
	if (buf->arena)
		buf->mem = b->arena + (size_t)b->narena++ * STRIDE;
	pthread_mutex_unlock(&b->mtx);
	if (!buf->arena)
		buf->mem = map(STRIDE);
	return buf;
}

static void buf_free(struct front_buf *buf)
{
	if (!buf->arena)
		munmap(buf->mem, STRIDE);
	free(buf);
}

void buf_put(struct bufs *b, struct front_buf *buf)
{
	pthread_mutex_lock(&b->mtx);
	if (buf->arena) {
		buf->next = b->spare_arena;
		b->spare_arena = buf;
		buf = NULL;
	} else if (b->nspare < SPARE_MAX) {
		buf->next = b->spare;
		b->spare = buf;
		b->nspare++;
		buf = NULL;
	}
	pthread_mutex_unlock(&b->mtx);
	if (buf)
		buf_free(buf);
}

void bufs_destroy(struct bufs *b)
{
	struct front_buf *buf;

	while ((buf = spare(b)) != NULL)
		buf_free(buf);
	munmap(b->arena_map, ARENA_BYTES + HUGE_BYTES);
	pthread_mutex_destroy(&b->mtx);
}
