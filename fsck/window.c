/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cells are read by the window of their chunk (256 cells, 1 or 2 MiB), several windows with one
 * batch of reads, and the latest windows are kept: passes go through cells in ascending order and
 * look at most of them more than once. While chunks are looked at one after the other, a thread
 * reads the next ones. Memory is bounded by WINDOWS.
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
	bool on_its_way; /* the reader writes to it */
};

struct reading { /* one batch */
	struct dev_io io[AHEAD];
	struct window *w[AHEAD];
	size_t n;
};

struct windows {
	struct window w[WINDOWS];
	uint64_t now;
	size_t bytes;
	uint64_t next_g; /* the chunk behind the latest batch, if there is one */
	unsigned next_w;
	bool more;

	struct task *reader; /* NULL: there is none */
	struct dev *dev;
	struct reading ahead; /* the reader's while .asked */
	struct mtx mtx;	      /* guards .asked, .stop */
	struct cond changed;
	bool asked, stop;
};

/* ---- the reader ------------------------------------------------------------------------------ */

static void read_when_asked(void *arg)
{
	struct windows *ws = arg;

	mtx_lock(&ws->mtx);
	while (!ws->stop) {
		if (!ws->asked) {
			cond_wait(&ws->changed, &ws->mtx, CLOCK_FOREVER);
			continue;
		}
		mtx_unlock(&ws->mtx);
		dev_batch(ws->dev, ws->ahead.io, ws->ahead.n);
		mtx_lock(&ws->mtx);
		ws->asked = false;
		cond_broadcast(&ws->changed);
	}
	mtx_unlock(&ws->mtx);
}

static void reader_set(struct windows *ws, bool *flag)
{
	mtx_lock(&ws->mtx);
	*flag = true;
	cond_broadcast(&ws->changed);
	mtx_unlock(&ws->mtx);
}

/* Without a thread all is read when it is wanted. */
static void reader_start(struct fsck *f, struct windows *ws)
{
	ws->dev = f->dev;
	if (!f->clk)
		return;
	mtx_init(&ws->mtx, f->clk);
	cond_init(&ws->changed, f->clk);
	if (f->clk->ops->task_start(f->clk, "reader", read_when_asked, ws, &ws->reader) == 0)
		return;
	ws->reader = NULL;
	cond_destroy(&ws->changed);
	mtx_destroy(&ws->mtx);
}

static void reader_stop(struct fsck *f, struct windows *ws)
{
	if (!ws->reader)
		return;
	reader_set(ws, &ws->stop);
	f->clk->ops->task_join(f->clk, ws->reader);
	cond_destroy(&ws->changed);
	mtx_destroy(&ws->mtx);
}

static void has_been_read(struct reading *r)
{
	for (size_t i = 0; i < r->n; i++) {
		r->w[i]->error = r->io[i].result;
		r->w[i]->on_its_way = false;
	}
	r->n = 0;
}

static void wait_for_reader(struct windows *ws)
{
	if (!ws->ahead.n)
		return;
	mtx_lock(&ws->mtx);
	while (ws->asked)
		cond_wait(&ws->changed, &ws->mtx, CLOCK_FOREVER);
	mtx_unlock(&ws->mtx);
	has_been_read(&ws->ahead);
}

/* ---- windows --------------------------------------------------------------------------------- */

static struct windows *windows_of(struct fsck *f)
{
	struct windows *ws = f->windows;

	if (ws)
		return ws;
	ws = calloc(1, sizeof(*ws));
	lunfs_assert(ws);
	ws->bytes = (size_t)LUNFS_CHUNK_CELLS * geo_cell_bytes(&f->geo);
	reader_start(f, ws);
	return f->windows = ws;
}

static struct window *find(struct windows *ws, uint64_t first)
{
	for (unsigned i = 0; i < WINDOWS; i++)
		if (ws->w[i].first == first)
			return &ws->w[i];
	return NULL;
}

/* Not cleared: nothing is looked at that was not read. */
static void *buf_new(size_t bytes)
{
	void *p = NULL;

	lunfs_assert(posix_memalign(&p, LUNFS_BLOCK_BYTES, bytes) == 0);
	return p;
}

static struct window *oldest(struct windows *ws)
{
	struct window *best = NULL;

	for (unsigned i = 0; i < WINDOWS; i++)
		if (!ws->w[i].on_its_way && (!best || ws->w[i].used < best->used))
			best = &ws->w[i];
	lunfs_assert(best);
	if (!best->buf)
		best->buf = buf_new(ws->bytes);
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

/* Chunks from (@g, @w) on that are not held: room is made for them. */
static void collect(struct fsck *f, struct windows *ws, uint64_t g, unsigned w, struct reading *r)
{
	r->n = 0;
	do {
		uint64_t first = window_blk(f, g, w);
		struct window *got;

		ws->more = find(ws, first) == NULL;
		if (!ws->more)
			break;
		got = oldest(ws);
		*got = (struct window){
		    .first = first, .used = got->used, .buf = got->buf, .on_its_way = true};
		r->w[r->n] = got;
		r->io[r->n++] = (struct dev_io){.op = DEV_READ,
						.off_bytes = geo_blk_off(first),
						.len_bytes = len_of(f, first, ws->bytes),
						.buf = got->buf};
		ws->more = next_chunk(f, &g, &w);
	} while (r->n < AHEAD && ws->more);
	ws->next_g = g;
	ws->next_w = w;
}

static void read_on(struct fsck *f, struct windows *ws)
{
	if (!ws->reader || !ws->more)
		return;
	collect(f, ws, ws->next_g, ws->next_w, &ws->ahead);
	if (ws->ahead.n)
		reader_set(ws, &ws->asked);
}

/* In sequence: the next ones will be wanted, too. */
static void read_now(struct fsck *f, struct windows *ws, uint64_t g, unsigned w)
{
	bool first = ws->now == 0, on = ws->more && g == ws->next_g && w == ws->next_w;
	struct reading r;

	wait_for_reader(ws);
	collect(f, ws, g, w, &r);
	dev_batch(f->dev, r.io, r.n);
	has_been_read(&r);
	if (first || on)
		read_on(f, ws);
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
		read_now(f, ws, g, no);
		w = find(ws, window_blk(f, g, no));
	} else if (w->on_its_way) {
		wait_for_reader(ws);
		w->used = ++ws->now;
		read_on(f, ws);
	}
	w->used = ++ws->now;
	return w->error ? NULL : w->buf + geo_blk_off(addr - w->first);
}

void windows_free(struct fsck *f)
{
	if (f->windows)
		reader_stop(f, f->windows);
	for (unsigned i = 0; f->windows && i < WINDOWS; i++)
		free(f->windows->w[i].buf);
	free(f->windows);
	f->windows = NULL;
}
