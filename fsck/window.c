/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cells are read by the window of their chunk (256 cells, 1 or 2 MiB), and the latest windows are
 * kept: passes go through cells in ascending order and look at most of them more than once. While
 * chunks are looked at one after the other, workers read the next ones and, for the pass that goes
 * through all cells, find out what each cell is by itself (cell_fact.c): nothing in there depends
 * on what a pass has found so far, so the outcome is the same whatever the number of workers.
 * Memory is bounded by WINDOWS.
 *
 * Which windows there are is the passes' own; a window that is queued or taken is a worker's until
 * it is ready. Without a worker all is done when it is wanted.
 */
#include "base/log.h"
#include "fsck/fsck.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WINDOWS 32u /* kept */
#define AHEAD 8u    /* wanted before they are looked at, each by one read */

enum state { EMPTY, QUEUED, TAKEN, READY };

struct window {
	uint64_t first; /* address of its first block, 0: empty */
	uint64_t used;	/* when it was last looked at */
	uint8_t *buf;
	struct cell_fact *fact; /* of each cell */
	int error;
	enum state state;
	bool known; /* fact[] holds */
	bool held;
};

struct chunk_no { /* a chunk: window @w of group @g; none behind the last group */
	uint64_t g;
	unsigned w;
};

struct windows {
	struct window w[WINDOWS];
	uint64_t now;
	size_t bytes;
	struct chunk_no at, next, after; /* looked at last; behind the sequence, and behind .at */

	struct dev *dev;
	const struct geo *geo;
	struct task *worker[FSCK_WORKERS_MAX];
	unsigned workers;
	struct mtx mtx; /* guards states, .queue, .examine, .stop */
	struct cond changed;
	struct window *queue[WINDOWS];
	unsigned queued;
	bool examine, stop;
};

/* ---- reading --------------------------------------------------------------------------------- */

static size_t len_of(const struct windows *ws, uint64_t first)
{
	uint64_t end = geo_blk_off(ws->geo->end_blk), off = geo_blk_off(first);

	return end - off < ws->bytes ? (size_t)(end - off) : ws->bytes;
}

static void examine(const struct windows *ws, struct window *w)
{
	uint32_t bytes = geo_cell_bytes(ws->geo);
	size_t n = len_of(ws, w->first) / bytes;

	for (size_t i = 0; i < n; i++)
		cell_fact(ws->geo, w->first + i * ws->geo->cell_blks, w->buf + i * bytes,
			  &w->fact[i]);
	w->known = true;
}

static void read_window(const struct windows *ws, struct window *w, bool facts)
{
	w->error = dev_read(ws->dev, geo_blk_off(w->first), len_of(ws, w->first), w->buf);
	w->known = false;
	if (facts && !w->error)
		examine(ws, w);
}

/* ---- workers --------------------------------------------------------------------------------- */

static void work(void *arg)
{
	struct windows *ws = arg;

	mtx_lock(&ws->mtx);
	while (!ws->stop) {
		struct window *w = ws->queue[0];
		bool facts = ws->examine;

		if (!ws->queued) {
			cond_wait(&ws->changed, &ws->mtx, CLOCK_FOREVER);
			continue;
		}
		memmove(ws->queue, ws->queue + 1, --ws->queued * sizeof(ws->queue[0]));
		w->state = TAKEN;
		mtx_unlock(&ws->mtx);
		read_window(ws, w, facts);
		mtx_lock(&ws->mtx);
		w->state = READY;
		cond_broadcast(&ws->changed);
	}
	mtx_unlock(&ws->mtx);
}

static void workers_start(struct fsck *f, struct windows *ws)
{
	unsigned n = f->threads ? f->threads : 1;

	if (!f->clk)
		return;
	mtx_init(&ws->mtx, f->clk);
	cond_init(&ws->changed, f->clk);
	while (ws->workers < n && ws->workers < FSCK_WORKERS_MAX &&
	       f->clk->ops->task_start(f->clk, "worker", work, ws, &ws->worker[ws->workers]) == 0)
		ws->workers++;
	if (ws->workers)
		return;
	cond_destroy(&ws->changed);
	mtx_destroy(&ws->mtx);
}

static void workers_stop(struct fsck *f, struct windows *ws)
{
	if (!ws->workers)
		return;
	mtx_lock(&ws->mtx);
	ws->stop = true;
	cond_broadcast(&ws->changed);
	mtx_unlock(&ws->mtx);
	for (unsigned i = 0; i < ws->workers; i++)
		f->clk->ops->task_join(f->clk, ws->worker[i]);
	cond_destroy(&ws->changed);
	mtx_destroy(&ws->mtx);
}

static void enqueue(struct windows *ws, struct window *w)
{
	mtx_lock(&ws->mtx);
	w->state = QUEUED;
	ws->queue[ws->queued++] = w;
	cond_broadcast(&ws->changed);
	mtx_unlock(&ws->mtx);
}

static void await(struct windows *ws, struct window *w)
{
	if (!ws->workers)
		return;
	mtx_lock(&ws->mtx);
	while (w->state != READY)
		cond_wait(&ws->changed, &ws->mtx, CLOCK_FOREVER);
	mtx_unlock(&ws->mtx);
}

/* ---- windows --------------------------------------------------------------------------------- */

/* Not cleared: nothing is looked at that was not read. */
static void *buf_new(size_t bytes)
{
	void *p = NULL;

	lunfs_assert(posix_memalign(&p, LUNFS_BLOCK_BYTES, bytes) == 0);
	return p;
}

static struct windows *windows_of(struct fsck *f)
{
	struct windows *ws = f->windows;

	if (ws)
		return ws;
	ws = calloc(1, sizeof(*ws));
	lunfs_assert(ws);
	ws->bytes = (size_t)LUNFS_CHUNK_CELLS * geo_cell_bytes(&f->geo);
	ws->dev = f->dev;
	ws->geo = &f->geo;
	workers_start(f, ws);
	return f->windows = ws;
}

static struct window *find(struct windows *ws, uint64_t first)
{
	for (unsigned i = 0; i < WINDOWS; i++)
		if (ws->w[i].first == first)
			return &ws->w[i];
	return NULL;
}

/* AHEAD of them are a worker's at most, and one is held. */
static struct window *oldest(struct windows *ws)
{
	struct window *best = NULL;

	if (ws->workers)
		mtx_lock(&ws->mtx);
	for (unsigned i = 0; i < WINDOWS; i++) {
		struct window *w = &ws->w[i];

		if (!w->held && w->state != QUEUED && w->state != TAKEN &&
		    (!best || w->used < best->used))
			best = w;
	}
	if (ws->workers)
		mtx_unlock(&ws->mtx);
	lunfs_assert(best);
	if (!best->buf) {
		best->buf = buf_new(ws->bytes);
		best->fact = calloc(LUNFS_CHUNK_CELLS, sizeof(*best->fact));
		lunfs_assert(best->fact);
	}
	best->used = ++ws->now;
	return best;
}

/* Have the window at @first read, by a worker if there is one. */
static struct window *want(struct windows *ws, uint64_t first)
{
	struct window *w = oldest(ws);

	w->first = first;
	if (ws->workers)
		enqueue(ws, w);
	else
		read_window(ws, w, false);
	return w;
}

static struct chunk_no next_chunk(const struct fsck *f, struct chunk_no c)
{
	while (c.g < f->watermark) {
		if (++c.w == LUNFS_GROUP_WINDOWS) {
			c.w = 0;
			c.g++;
		}
		if (c.g < f->watermark && f->group[c.g].chunk[c.w])
			break;
	}
	return c;
}

static bool same_chunk(struct chunk_no a, struct chunk_no b)
{
	return a.g == b.g && a.w == b.w;
}

static uint64_t window_blk(const struct fsck *f, struct chunk_no c)
{
	return geo_group_blk(&f->geo, c.g) + (uint64_t)c.w * LUNFS_CHUNK_CELLS * f->geo.cell_blks;
}

/* Chunks are looked at in sequence: the next ones will be wanted, too. */
static void read_on(struct fsck *f, struct windows *ws, struct chunk_no c)
{
	ws->next = next_chunk(f, c);
	for (unsigned i = 0; i < AHEAD && ws->workers; i++) {
		c = next_chunk(f, c);
		if (c.g >= f->watermark)
			return;
		if (!find(ws, window_blk(f, c)))
			want(ws, window_blk(f, c));
	}
}

/* The chunk behind the one before, or behind the last of a sequence that was left for a moment. */
static bool in_sequence(const struct fsck *f, struct windows *ws, struct chunk_no c)
{
	bool on;

	if (ws->now && same_chunk(c, ws->at))
		return false;
	on = ws->now == 0 || same_chunk(c, ws->next) || same_chunk(c, ws->after);
	ws->at = c;
	ws->after = next_chunk(f, c);
	return on;
}

static struct window *window_at(struct fsck *f, struct chunk_no c)
{
	struct windows *ws = windows_of(f);
	struct window *w = find(ws, window_blk(f, c));
	bool on = in_sequence(f, ws, c), held;

	if (!w)
		w = want(ws, window_blk(f, c));
	w->used = ++ws->now;
	held = w->held;
	w->held = true; /* the next ones do not take its place */
	if (on)
		read_on(f, ws, c);
	w->held = held;
	await(ws, w);
	return w;
}

/* False: it is in none. */
static bool chunk_of(struct fsck *f, uint64_t addr, struct chunk_no *c)
{
	uint32_t bit;

	if (!f->group || !map_find(f, addr, &bit))
		return false;
	c->g = geo_group_of(&f->geo, addr);
	c->w = bit / (LUNFS_CHUNK_CELLS * f->geo.cell_blks);
	return f->group[c->g].chunk[c->w] != 0;
}

const uint8_t *window_cell(struct fsck *f, uint64_t addr)
{
	struct chunk_no c;
	struct window *w;

	if (!chunk_of(f, addr, &c))
		return NULL;
	w = window_at(f, c);
	return w->error ? NULL : w->buf + geo_blk_off(addr - w->first);
}

const struct cell_fact *window_hold(struct fsck *f, uint64_t first)
{
	struct chunk_no c;
	struct window *w;

	if (!chunk_of(f, first, &c))
		return NULL;
	w = window_at(f, c);
	if (w->error)
		return NULL;
	if (!w->known)
		examine(f->windows, w);
	w->held = true;
	return w->fact;
}

void window_let_go(struct fsck *f)
{
	for (unsigned i = 0; f->windows && i < WINDOWS; i++)
		f->windows->w[i].held = false;
}

void windows_examine(struct fsck *f, bool on)
{
	struct windows *ws = windows_of(f);

	if (!ws->workers)
		return;
	mtx_lock(&ws->mtx);
	ws->examine = on;
	mtx_unlock(&ws->mtx);
}

void windows_free(struct fsck *f)
{
	if (f->windows)
		workers_stop(f, f->windows);
	for (unsigned i = 0; f->windows && i < WINDOWS; i++) {
		free(f->windows->w[i].buf);
		free(f->windows->w[i].fact);
	}
	free(f->windows);
	f->windows = NULL;
}
