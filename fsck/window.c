/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cells are read by the window of their chunk (256 cells, 1 or 2 MiB), several windows with one
 * batch of reads, and the latest windows are kept: passes go through cells in ascending order and
 * look at most of them more than once. Memory is bounded by WINDOWS.
 */
#include "base/log.h"
#include "fsck/fsck.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WINDOWS 32u /* kept */
#define AHEAD 4u    /* chunks read with one batch */

struct window {
	uint64_t first; /* address of its first block, 0: empty */
	uint64_t used;	/* when it was last looked at */
	uint8_t *buf;
	int error;
};

struct windows {
	struct window w[WINDOWS];
	uint64_t now;
	size_t bytes;
};

static struct windows *windows_of(struct fsck *f)
{
	struct windows *ws = f->windows;

	if (ws)
		return ws;
	ws = calloc(1, sizeof(*ws));
	lunfs_assert(ws);
	ws->bytes = (size_t)LUNFS_CHUNK_CELLS * geo_cell_bytes(&f->geo);
	return f->windows = ws;
}

static struct window *find(struct windows *ws, uint64_t first)
{
	for (unsigned i = 0; i < WINDOWS; i++)
		if (ws->w[i].first == first)
			return &ws->w[i];
	return NULL;
}

static struct window *oldest(struct windows *ws)
{
	struct window *best = &ws->w[0];

	for (unsigned i = 1; i < WINDOWS; i++)
		if (ws->w[i].used < best->used)
			best = &ws->w[i];
	if (!best->buf)
		best->buf = dev_buf_alloc(ws->bytes);
	best->used = ++ws->now;
	best->first = 0;
	return best;
}

/* The chunk after the one at (@g, @w). */
static bool next_chunk(const struct fsck *f, uint64_t *g, unsigned *w)
{
	for (;;) {
		if (++*w == LUNFS_GROUP_WINDOWS) {
			*w = 0;
			if (++*g >= f->watermark)
				return false;
		}
		if (f->group[*g].chunk[*w])
			return true;
	}
}

static uint64_t window_blk(const struct fsck *f, uint64_t g, unsigned w)
{
	return geo_group_blk(&f->geo, g) + (uint64_t)w * LUNFS_CHUNK_CELLS * f->geo.cell_blks;
}

static size_t len_of(const struct fsck *f, uint64_t first, size_t bytes)
{
	uint64_t end = geo_blk_off(f->geo.end_blk), off = geo_blk_off(first);

	return end - off < bytes ? (size_t)(end - off) : bytes;
}

static void read_ahead(struct fsck *f, struct windows *ws, uint64_t g, unsigned w)
{
	struct window *got[AHEAD];
	struct dev_io io[AHEAD];
	size_t n = 0;

	do {
		uint64_t first = window_blk(f, g, w);

		if (find(ws, first))
			break;
		got[n] = oldest(ws);
		io[n] = (struct dev_io){.op = DEV_READ,
					.off_bytes = geo_blk_off(first),
					.len_bytes = len_of(f, first, ws->bytes),
					.buf = got[n]->buf};
		got[n++]->first = first;
	} while (n < AHEAD && next_chunk(f, &g, &w));
	dev_batch(f->dev, io, n);
	for (size_t i = 0; i < n; i++)
		got[i]->error = io[i].result;
}

const uint8_t *window_cell(struct fsck *f, uint64_t addr)
{
	struct windows *ws;
	struct window *w;
	uint64_t g;
	uint32_t bit;
	unsigned no;

	if (!f->group || !map_find(f, addr, &bit))
		return NULL;
	g = geo_group_of(&f->geo, addr);
	no = bit / (LUNFS_CHUNK_CELLS * f->geo.cell_blks);
	if (!f->group[g].chunk[no])
		return NULL;
	ws = windows_of(f);
	w = find(ws, window_blk(f, g, no));
	if (!w) {
		read_ahead(f, ws, g, no);
		w = find(ws, window_blk(f, g, no));
	}
	w->used = ++ws->now;
	return w->error ? NULL : w->buf + geo_blk_off(addr - w->first);
}

void windows_free(struct fsck *f)
{
	for (unsigned i = 0; f->windows && i < WINDOWS; i++)
		free(f->windows->w[i].buf);
	free(f->windows);
	f->windows = NULL;
}
