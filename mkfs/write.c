/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing a volume. O(hosts) writes whatever the size: fixed places, journal headers, group 0 with
 * one metadata chunk, superblock copies. Groups above the watermark (1) are left as they are.
 *
 * The order is what makes it safe to be killed at any moment: what stood there is retired first,
 * and that is flushed (retire.c); then the new volume without a superblock, flushed; then the copy
 * at the end of the device, by which a mount would find a volume too; then the other copies; the
 * main superblock last. So what is found at all is whole. A host that mounts the old volume
 * meanwhile stores its slot first and reads the superblock again afterwards, so one of the two sees
 * the other.
 */
#include "job.h"

#include "alloc/alloc.h"
#include "base/bitmap.h"
#include "base/log.h"
#include "cluster/host.h"
#include "cluster/lock.h"
#include "node/node.h"
#include "txn/txn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MKFS_GENERATION 1u /* of the inodes that mkfs makes */
#define FIXED_WRITES 8u	   /* all but journals and superblock copies in groups */

/* ---- jobs ------------------------------------------------------------------------------------ */

void job_step(struct job *j, const char *what, uint64_t done, uint64_t total)
{
	struct mkfs_work *w = j->w;

	if (!j->err && w->step && !w->step(w->step_ctx, what, done, total) && !j->final)
		j->err = -EINTR;
}

static bool begin(struct job *j, const char *what)
{
	if (j->total)
		job_step(j, "Writing the volume", j->done++, j->total);
	if (!j->err)
		j->what = what;
	return !j->err;
}

void job_put(struct job *j, const char *what, uint64_t off_bytes, size_t len_bytes, const void *buf)
{
	if (begin(j, what))
		j->err = dev_write(j->w->d, off_bytes, len_bytes, buf);
}

void job_zero(struct job *j, const char *what, uint64_t off_bytes, uint64_t len_bytes)
{
	if (begin(j, what))
		j->err = dev_zero(j->w->d, off_bytes, len_bytes);
}

void job_flush(struct job *j)
{
	if (j->err)
		return;
	j->what = "the device's cache";
	j->err = dev_flush(j->w->d);
}

int job_settle(struct job *j)
{
	struct dev *d = j->w->d;
	int err = d->ops->drain ? d->ops->drain(d) : -EOPNOTSUPP;

	if (!err)
		atomic_store(&d->unanswered, false);
	return err;
}

/* ---- cells ----------------------------------------------------------------------------------- */

/* A cell in a zeroed buffer: its lock record, FREE; returns where its payload goes. */
static void *cell_at(const struct job *j, uint64_t addr, uint8_t *buf)
{
	lock_format(j->w->g, addr, j->nonce, buf);
	return buf + j->w->g->payload_off;
}

static void put_maintenance_and_anchors(struct job *j)
{
	size_t len = LUNFS_ANCHOR_OFF + LUNFS_ANCHORS * LUNFS_ANCHOR_STRIDE - LUNFS_MAINT_OFF;
	uint8_t *buf = dev_buf_alloc(len);

	maint_format(j->w->g, buf, j->nonce);
	for (int a = 0; a < LUNFS_ANCHORS; a++) {
		uint64_t addr = geo_anchor_cell((enum lunfs_anchor)a);
		struct lunfs_anchor_pl *p =
		    cell_at(j, addr, buf + geo_blk_off(addr) - LUNFS_MAINT_OFF);

		blk_init(j->w->g, p, LUNFS_BLK_ANCHOR, addr, 1, addr, 0);
		p->value = le64_make(a == LUNFS_ANCHOR_WATERMARK ? 1 : 0);
		blk_seal(p);
	}
	job_put(j, "the anchors", LUNFS_MAINT_OFF, len, buf);
	free(buf);
}

static void put_host_table(struct job *j)
{
	unsigned n =
	    LUNFS_MAX_SLOTS + LUNFS_SPARE_SLOTS; /* leaves nothing of an older, longer one */
	uint8_t *buf = dev_buf_alloc(n * LUNFS_SLOT_STRIDE);

	for (unsigned i = 0; i < geo_all_slots(j->w->g); i++)
		slot_format(j->w->g, buf + i * LUNFS_SLOT_STRIDE, i, j->nonce);
	job_put(j, "the host table", LUNFS_HOST_TABLE_OFF, n * LUNFS_SLOT_STRIDE, buf);
	free(buf);
}

static void put_journals(struct job *j)
{
	uint8_t *blk = dev_buf_alloc(LUNFS_BLOCK_BYTES);

	for (unsigned i = 0; i < LUNFS_MAX_SLOTS; i++) {
		if (!j->w->g->journal_blk[i])
			continue;
		journal_format(j->w->g, i, blk);
		job_put(j, "a journal", geo_blk_off(j->w->g->journal_blk[i]), LUNFS_BLOCK_BYTES,
			blk);
	}
	free(blk);
}

/* ---- group 0 --------------------------------------------------------------------------------- */

/* The chunk takes what is left of window 0. */
static unsigned chunk_cells(const struct geo *g)
{
	return LUNFS_CHUNK_CELLS - layout_chunk_first_cell(g);
}

static void enter_chunk(const struct geo *g, struct lunfs_group_pl *header,
			struct lunfs_bitmap_pl *bitmap)
{
	uint32_t from = geo_group_meta_blks(g), n = chunk_cells(g) * g->cell_blks;

	for (uint32_t b = from; b < from + n; b++)
		bit_set(bitmap->bits, b);
	header->free_blks = le32_make(le32_get(header->free_blks) - n);
	header->chunks = le32_make(1);
	header->chunk[0] = le16_make((uint16_t)(layout_chunk_first_cell(g) + 1));
	blk_seal(header);
	blk_seal(bitmap);
}

static void put_group_header(struct job *j)
{
	const struct geo *g = j->w->g;
	size_t cell = geo_cell_bytes(g), n = 1 + g->bitmap_cells;
	uint8_t *buf = dev_buf_alloc(n * cell);
	uint8_t *pl = dev_buf_alloc(n * LUNFS_PAYLOAD_BYTES);

	group_format(g, 0, pl, pl + LUNFS_PAYLOAD_BYTES);
	enter_chunk(g, (void *)pl, (void *)(pl + LUNFS_PAYLOAD_BYTES));
	for (size_t i = 0; i < n; i++)
		memcpy(cell_at(j, geo_group_header(g, 0) + i * g->cell_blks, buf + i * cell),
		       pl + i * LUNFS_PAYLOAD_BYTES, LUNFS_PAYLOAD_BYTES);
	job_put(j, "group 0", geo_blk_off(geo_group_header(g, 0)), n * cell, buf);
	free(pl);
	free(buf);
}

static void fill_chunk_header(const struct geo *g, void *payload)
{
	struct lunfs_chunk_pl *p = payload;
	uint64_t addr = layout_chunk_header(g);
	unsigned first = layout_chunk_first_cell(g), used = 2 + g->journals;

	blk_init(g, p, LUNFS_BLK_CHUNK, addr, 1, addr, 0);
	p->first_blk = le64_make(geo_group_blk(g, 0));
	p->cells = le32_make(chunk_cells(g));
	p->free_cells = le32_make(chunk_cells(g) - used);
	for (unsigned i = first; i < LUNFS_CHUNK_CELLS; i++) {
		bit_set(p->valid, i);
		if (i < first + used)
			bit_set(p->used, i);
	}
	blk_seal(p);
}

static void fill_directory(const struct job *j, uint64_t ino, bool root, void *payload)
{
	struct inode i = {.ino = ino,
			  .generation = MKFS_GENERATION,
			  .mode = root ? S_IFDIR | 0755 : S_IFDIR | 0700,
			  .nlink = 2,
			  .atime = j->now,
			  .mtime = j->now,
			  .ctime = j->now,
			  .btime = j->now,
			  .parent = root ? ino : 0,
			  .flags = root ? 0 : LUNFS_INODE_ORPHAN_DIR};

	inode_format(j->w->g, &i, payload);
}

static void put_chunk(struct job *j)
{
	const struct geo *g = j->w->g;
	size_t cell = geo_cell_bytes(g);
	unsigned n = chunk_cells(g);
	uint8_t *buf = dev_buf_alloc(n * cell);

	for (unsigned i = 0; i < n; i++) {
		uint64_t addr = layout_chunk_header(g) + (uint64_t)i * g->cell_blks;
		void *payload = cell_at(j, addr, buf + i * cell);

		if (i == 0) {
			fill_chunk_header(g, payload);
		} else if (i < 2 + g->journals) {
			fill_directory(j, addr, addr == g->root_ino, payload);
		} else {
			blk_init(g, payload, LUNFS_BLK_FREE, addr, 0, addr, 0);
			blk_seal(payload);
		}
	}
	job_put(j, "the first metadata chunk", geo_blk_off(layout_chunk_header(g)), n * cell, buf);
	free(buf);
}

/* ---- superblocks ----------------------------------------------------------------------------- */

uint64_t copy_group_after(uint64_t group)
{
	static const unsigned base[] = {3, 5, 7};
	uint64_t best = UINT64_MAX;

	if (group < 1)
		return 1;
	for (unsigned i = 0; i < 3; i++) {
		uint64_t p = base[i];

		while (p <= group && p <= UINT64_MAX / base[i])
			p *= base[i];
		if (p > group && p < best)
			best = p;
	}
	return best;
}

/* The one at the end comes first: it tells the next mkfs where the others are. */
static void put_copies(struct job *j, const void *sb)
{
	const struct geo *g = j->w->g;

	job_put(j, "the superblock's copy", sb_tail_off(g->dev_blks * LUNFS_BLOCK_BYTES),
		LUNFS_BLOCK_BYTES, sb);
	job_flush(j);
	for (uint64_t i = copy_group_after(0); i < g->groups; i = copy_group_after(i))
		job_put(j, "a superblock copy", geo_blk_off(geo_group_blk(g, i)), LUNFS_BLOCK_BYTES,
			sb);
	job_flush(j);
}

/* Two mkfs at once, on two hosts say, would else leave a part of each. */
static void still_ours(struct job *j)
{
	struct lunfs_maint_rec *is = dev_buf_alloc(j->w->g->sector_bytes);

	if (!j->err) {
		j->what = "the maintenance sector";
		j->err = dev_read(j->w->d, LUNFS_MAINT_OFF, j->w->g->sector_bytes, is);
	}
	if (!j->err && memcmp(is->hdr.vol_id, j->w->g->vol_id, sizeof(is->hdr.vol_id)) != 0)
		j->err = -EBUSY;
	free(is);
}

static void put_body(struct job *j)
{
	const struct geo *g = j->w->g;

	put_maintenance_and_anchors(j);
	job_zero(j, "the scratch area", LUNFS_SCRATCH_OFF, LUNFS_SCRATCH_BYTES);
	put_host_table(j);
	job_zero(j, "the request board", LUNFS_BOARD_OFF, geo_all_slots(g) * g->board_row_bytes);
	put_journals(j);
	put_group_header(j);
	put_chunk(j);
	job_flush(j);
}

static void put_superblocks(struct job *j)
{
	void *sb = dev_buf_alloc(LUNFS_BLOCK_BYTES);

	sb_encode(j->w->g, sb);
	still_ours(j);
	j->final = !j->err;
	put_copies(j, sb);
	still_ours(j);
	job_put(j, "the superblock", LUNFS_SB_OFF, LUNFS_BLOCK_BYTES, sb);
	job_flush(j);
	still_ours(j);
	free(sb);
}

static uint64_t count_writes(const struct geo *g)
{
	uint64_t n = FIXED_WRITES + g->journals;

	for (uint64_t i = copy_group_after(0); i < g->groups; i = copy_group_after(i))
		n++;
	return n;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static const char *reason(int err)
{
	switch (err) {
	case -ENOSPC:
		return "there is no room left beneath it (a thin LUN, or a sparse image on a full "
		       "file system)";
	case -ETIMEDOUT:
		return "it did not answer in time";
	case -EBADE:
		return "it is reserved by another host";
	case -ENODEV:
		return "the device is gone";
	default:
		return strerror(-err);
	}
}

static void say(struct job *j, bool retired, char *why, size_t why_len)
{
	bool late = atomic_load(&j->w->d->unanswered) && job_settle(j) != 0;
	const char *now = !retired   ? "What stood there was left as it was"
			  : j->final ? "Whether it is a lunfs volume now is not known"
				     : "This is no lunfs volume now";
	const char *then =
	    late ? " A command without an answer may still land: wait some minutes, then"
		 : " To get one,";

	if (j->err == -EINTR)
		snprintf(why, why_len, "Interrupted. %s.", now);
	else if (j->err == -EBUSY)
		snprintf(why, why_len,
			 "Somebody else wrote to it at the same time, another mkfs.lunfs perhaps. "
			 "%s; run mkfs.lunfs again, once.",
			 now);
	else
		snprintf(why, why_len, "Writing %s failed: %s. %s.%s run mkfs.lunfs again.",
			 j->what, reason(j->err), now, retired || late ? then : " Then");
}

int volume_make(struct mkfs_work *w, char *why, size_t why_len)
{
	struct job j = {.w = w};
	bool retired;
	int err;

	w->clk->ops->random(w->clk, &j.nonce, sizeof(j.nonce));
	w->clk->ops->realtime(w->clk, &j.now);
	err = retire_all(&j, &retired, why, why_len);
	if (err)
		return err;
	if (!j.err && w->discard)
		discard_all(&j);
	j.total = count_writes(w->g);
	put_body(&j);
	put_superblocks(&j);
	if (j.err)
		say(&j, retired, why, why_len);
	else
		job_step(&j, "Writing the volume", j.total, j.total);
	return j.err;
}

int volume_write(struct dev *d, struct clock *clk, const struct geo *g, const struct mkfs_found *f,
		 struct live_table *old, char *why, size_t why_len)
{
	struct mkfs_work w = {.d = d, .clk = clk, .g = g, .found = f, .old = old};

	return volume_make(&w, why, why_len);
}
