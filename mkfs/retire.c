/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking away what stood on the device, before the first byte of the new volume is written: who
 * looks later finds the old volume as a whole, nothing, or the new one, however mkfs ended.
 *
 * Copies go before the main superblock, with a flush between them: while there is a main one, the
 * next mkfs knows from it where the copies are. None may be left: one that outlives its volume
 * would be found when the superblocks of the next one are damaged.
 */
#include "job.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_OLD 128u
#define SEARCH_STEP_BYTES (1ull << 20) /* groups begin at multiples of it */
#define SEARCH_END_BYTES (16ull << 30) /* as far as a mount looks for a copy */
#define SEARCH_BATCH 64u

struct old_sbs { /* to be put back if the volume turns out to be in use; the main one is the first
		  */
	struct old_sb {
		uint64_t off_bytes;
		uint8_t *buf; /* NULL: could not be read */
	} sb[MAX_OLD];
	unsigned n;
};

static bool has_magic(const void *sb)
{
	return memcmp(sb, LUNFS_SB_MAGIC, 8) == 0;
}

static bool known(const struct old_sbs *o, uint64_t off)
{
	for (unsigned i = 0; i < o->n; i++)
		if (o->sb[i].off_bytes == off)
			return true;
	return false;
}

static void keep(struct old_sbs *o, uint64_t off, const uint8_t *buf)
{
	if (o->n == MAX_OLD || known(o, off))
		return;
	o->sb[o->n].off_bytes = off;
	o->sb[o->n].buf = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	memcpy(o->sb[o->n++].buf, buf, LUNFS_BLOCK_BYTES);
}

/* What stands at @off, if it is a superblock, however damaged; a bad sector is none. */
static const uint8_t *look(struct job *j, struct old_sbs *o, uint64_t off)
{
	uint8_t *buf;
	uint64_t size = j->w->d->id.size_bytes;

	if (off % LUNFS_BLOCK_BYTES || off > size || size - off < LUNFS_BLOCK_BYTES)
		return NULL;
	buf = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	if (dev_read(j->w->d, off, LUNFS_BLOCK_BYTES, buf) == 0 && has_magic(buf))
		keep(o, off, buf);
	free(buf);
	return o->n && o->sb[o->n - 1].off_bytes == off ? o->sb[o->n - 1].buf : NULL;
}

static void look_at_copies(struct job *j, struct old_sbs *o, const struct geo *g)
{
	look(j, o, sb_tail_off(g->dev_blks * LUNFS_BLOCK_BYTES));
	for (uint64_t i = copy_group_after(0); i < g->groups; i = copy_group_after(i))
		look(j, o, geo_blk_off(geo_group_blk(g, i)));
}

/* The geometry is lost, the copies need not be. */
static void search(struct job *j, struct old_sbs *o)
{
	uint64_t size = j->w->d->id.size_bytes, off = LUNFS_BOARD_OFF;
	uint64_t end = size < SEARCH_END_BYTES ? size : SEARCH_END_BYTES;
	uint8_t *buf = dev_buf_alloc(SEARCH_BATCH * LUNFS_BLOCK_BYTES);

	while (off + LUNFS_BLOCK_BYTES <= end) {
		struct dev_io io[SEARCH_BATCH];
		size_t n = 0;

		job_step(j, "Looking for old superblocks", off, end);
		for (; n < SEARCH_BATCH && off + LUNFS_BLOCK_BYTES <= end; off += SEARCH_STEP_BYTES)
			io[n] = (struct dev_io){.op = DEV_READ,
						.off_bytes = off,
						.len_bytes = LUNFS_BLOCK_BYTES,
						.buf = buf + n * LUNFS_BLOCK_BYTES},
			n++;
		dev_batch(j->w->d, io, n);
		for (size_t i = 0; i < n; i++)
			if (io[i].result == 0 && has_magic(io[i].buf))
				keep(o, io[i].off_bytes, io[i].buf);
	}
	free(buf);
}

static void old_find(struct job *j, struct old_sbs *o)
{
	const uint64_t place[2] = {LUNFS_SB_OFF, sb_tail_off(j->w->d->id.size_bytes)};
	bool lost = false;

	for (int i = 0; i < 2; i++) {
		const uint8_t *sb = look(j, o, place[i]);
		struct geo g;

		if (sb && sb_decode(sb, &g, NULL) == 0)
			look_at_copies(j, o, &g);
		else
			lost = lost || sb;
	}
	if (lost)
		search(j, o);
}

/* From the last to the first: the main one at the end, when the copies are gone for good. */
static void wipe(struct job *j, const struct old_sbs *o)
{
	for (unsigned i = o->n; i-- > 0;) {
		if (o->sb[i].off_bytes == LUNFS_SB_OFF)
			job_flush(j);
		job_zero(j, "the old superblocks", o->sb[i].off_bytes, LUNFS_BLOCK_BYTES);
	}
	job_flush(j);
}

static void put_back(struct job *j, const struct old_sbs *o)
{
	struct job back = {.w = j->w};

	for (unsigned i = 0; i < o->n; i++)
		job_put(&back, "the old superblocks", o->sb[i].off_bytes, LUNFS_BLOCK_BYTES,
			o->sb[i].buf);
	job_flush(&back);
	if (!j->err)
		j->err = back.err;
}

static void wipe_others(struct job *j)
{
	const struct mkfs_found *f = j->w->found;
	struct dev *d = j->w->d;

	for (size_t i = 0; i < f->patches; i++)
		job_put(j, "the old signatures", f->patch[i].off_bytes, d->id.sector_bytes,
			f->patch[i].buf);
	/* As a whole: backups and labels of others that no probe knows may stand in there. */
	job_zero(j, "the first MiB", 0, LUNFS_MAINT_OFF);
	job_zero(j, "the last 64 KiB", sb_tail_off(d->id.size_bytes), LUNFS_TAIL_BYTES);
	job_flush(j);
}

int retire_all(struct job *j, bool *retired, char *why, size_t why_len)
{
	struct old_sbs o = {.n = 0};
	int err = 0;

	old_find(j, &o);
	wipe(j, &o);
	if (!j->err)
		err = live_recheck(j->w->d, j->w->old, why, why_len);
	*retired = !j->err && !err;
	if (*retired)
		wipe_others(j);
	else
		put_back(j, &o);
	for (unsigned i = 0; i < o.n; i++)
		free(o.sb[i].buf);
	return err;
}
