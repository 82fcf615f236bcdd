/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The redo log of a repair (FORMAT.md, lunfs_redo_desc). It stands in the log part of the journal
 * of the first slot that has one and is FREE: what an older incarnation left in a journal counts
 * for nothing.
 */
#include "base/crc.h"
#include "base/log.h"
#include "fsck/store.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BLK LUNFS_BLOCK_BYTES
#define CHUNK_BLKS 256u

/* 0: none. A journal that could not be replayed may still be wanted. */
static uint64_t log_start(const struct store *s)
{
	for (unsigned i = 0; i < s->geo->slots; i++)
		if (s->geo->journal_blk[i] && !maint_left_over(s->maint, i))
			return s->geo->journal_blk[i] + 1;
	return 0;
}

size_t redo_capacity(const struct store *s)
{
	size_t blks = s->geo->journal_blks - 1;

	return log_start(s) ? blks - (blks + LUNFS_REDO_ENTRIES) / (LUNFS_REDO_ENTRIES + 1) : 0;
}

static size_t log_blks(size_t n)
{
	return n + (n + LUNFS_REDO_ENTRIES - 1) / LUNFS_REDO_ENTRIES;
}

static void build_desc(const struct geo *g, uint8_t *out, unsigned index,
		       const struct redo_item *items, size_t n)
{
	struct lunfs_redo_desc *d = (void *)out;

	memset(out, 0, BLK);
	d->magic = le32_make(LUNFS_REDO_MAGIC);
	memcpy(d->vol_id, g->vol_id, sizeof(d->vol_id));
	d->index = le32_make(index);
	d->entries = le32_make((uint32_t)n);
	for (size_t i = 0; i < n; i++)
		d->entry[i] = le64_make(items[i].blk << 8 | items[i].sectors);
	crc_seal(out, BLK, offsetof(struct lunfs_redo_desc, crc));
}

static uint8_t *build_log(const struct geo *g, const struct redo_item *items, size_t n)
{
	uint8_t *log = dev_buf_alloc(log_blks(n) * BLK), *to = log;
	unsigned index = 0;

	for (size_t at = 0; at < n; index++) {
		size_t some = n - at < LUNFS_REDO_ENTRIES ? n - at : LUNFS_REDO_ENTRIES;

		build_desc(g, to, index, items + at, some);
		to += BLK;
		for (size_t i = 0; i < some; i++, to += BLK)
			memcpy(to, items[at + i].data, BLK);
		at += some;
	}
	return log;
}

int redo_save(struct store *s, size_t n)
{
	return undo_save(s->undo, log_start(s) * BLK, log_blks(n) * BLK);
}

int redo_write(struct store *s, const struct redo_item *items, size_t n, struct maint_info *st)
{
	size_t blks = log_blks(n);
	uint8_t *log = build_log(s->geo, items, n);
	uint64_t start = log_start(s);
	int rc = 0;

	lunfs_assert(n <= redo_capacity(s));
	for (size_t at = 0; at < blks && rc == 0; at += CHUNK_BLKS) {
		size_t len = blks - at < CHUNK_BLKS ? blks - at : CHUNK_BLKS;
		struct dev_io io = {.op = DEV_WRITE,
				    .off_bytes = (start + at) * BLK,
				    .len_bytes = len * BLK,
				    .buf = log + at * BLK};

		rc = maint_write(s->maint, &io, 1);
	}
	if (rc == 0)
		rc = maint_flush(s->maint);
	st->flags |= LUNFS_MAINT_REDO | LUNFS_MAINT_MUST_FSCK;
	st->redo_blk = start;
	st->redo_blks = (uint32_t)blks;
	st->redo_crc = crc32c(log, blks * BLK);
	free(log);
	return rc;
}

/* ---- finishing ------------------------------------------------------------------------------- */

static bool desc_ok(const struct geo *g, const uint8_t *blk, uint32_t index, size_t left)
{
	const struct lunfs_redo_desc *d = (const void *)blk;
	uint32_t n = le32_get(d->entries);

	return le32_get(d->magic) == LUNFS_REDO_MAGIC &&
	       crc_ok(blk, BLK, offsetof(struct lunfs_redo_desc, crc)) &&
	       !memcmp(d->vol_id, g->vol_id, sizeof(d->vol_id)) && le32_get(d->index) == index &&
	       n >= 1 && n <= LUNFS_REDO_ENTRIES && n < left;
}

/* Number of items, 0 if the log is not whole. @items has room for @blks. */
static size_t parse(const struct geo *g, const uint8_t *log, size_t blks, struct redo_item *items)
{
	size_t n = 0, at = 0;

	for (uint32_t index = 0; at < blks; index++) {
		const struct lunfs_redo_desc *d = (const void *)(log + at * BLK);

		if (!desc_ok(g, log + at * BLK, index, blks - at))
			return 0;
		for (uint32_t i = 0; i < le32_get(d->entries); i++, n++) {
			uint64_t e = le64_get(d->entry[i]);

			items[n] = (struct redo_item){
			    .blk = e >> 8, .sectors = (uint8_t)e, .data = log + (at + 1 + i) * BLK};
			if (items[n].blk < LUNFS_SB_OFF / BLK || items[n].blk >= g->dev_blks)
				return 0; /* what stands before the superblock is not ours */
		}
		at += 1 + le32_get(d->entries);
	}
	return n;
}

/* The items that are not of our claim, moved to the front: how many. */
static size_t but_claim(const struct store *s, struct redo_item *items, size_t n)
{
	size_t left = 0;

	for (size_t i = 0; i < n; i++)
		if (!store_is_claim(s, items[i].blk))
			items[left++] = items[i];
	return left;
}

/* The nonce of who logged them, where slots are made anew; else 0. */
static uint64_t setter_of_slots(const struct store *s, const struct redo_item *items, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct lunfs_slot_rec *rec = (const void *)items[i].data;

		if (store_is_slot(s, items[i].blk))
			return le64_get(rec->hdr.setter_nonce);
	}
	return 0;
}

static int save_and_apply(struct store *s, const struct redo_item *items, size_t n)
{
	int rc = 0;

	if (s->undo)
		undo_finishes(s->undo, setter_of_slots(s, items, n));
	for (size_t i = 0; s->undo && i < n && rc == 0; i++)
		rc = undo_save(s->undo, items[i].blk * BLK, BLK);
	if (rc == 0 && s->undo)
		rc = undo_sync(s->undo);
	return rc ? rc : redo_apply(s, items, n);
}

static int clear_flag(struct store *s, struct maint_info mi)
{
	mi.flags &= ~LUNFS_MAINT_REDO;
	mi.redo_blk = mi.redo_blks = mi.redo_crc = 0;
	return maint_set(s->maint, &mi);
}

/*
 * -EUCLEAN: the medium has lost some of it. That is believed only of a block that fails once more
 * while the device answers elsewhere: a path that goes or comes back says -EIO as well, and then
 * the log is not to be given up.
 */
static int read_log(struct store *s, const struct maint_info *mi, uint8_t *log)
{
	uint64_t off = mi->redo_blk * BLK;
	uint8_t *sector;
	int rc = dev_read(s->dev, off, (size_t)mi->redo_blks * BLK, log);

	if (rc != -EIO)
		return rc;
	rc = 0;
	for (uint32_t i = 0; i < mi->redo_blks && rc == 0; i++)
		rc = dev_read(s->dev, off + (uint64_t)i * BLK, BLK, log + (size_t)i * BLK);
	if (rc != -EIO)
		return rc;
	sector = dev_buf_alloc(s->geo->sector_bytes);
	if (dev_read(s->dev, LUNFS_MAINT_OFF, s->geo->sector_bytes, sector) == 0)
		rc = -EUCLEAN;
	free(sector);
	return rc;
}

int redo_finish(struct store *s)
{
	struct maint_info mi = maint_get(s->maint);
	size_t bytes = (size_t)mi.redo_blks * BLK, n;
	struct redo_item *items;
	uint8_t *log;
	int rc;

	if (!(mi.flags & LUNFS_MAINT_REDO))
		return 0;
	log = dev_buf_alloc(bytes);
	items = calloc(mi.redo_blks, sizeof(*items));
	lunfs_assert(items);
	rc = read_log(s, &mi, log);
	if (rc == 0 && crc32c(log, bytes) != mi.redo_crc)
		rc = -EUCLEAN;
	n = rc ? 0 : parse(s->geo, log, mi.redo_blks, items);
	if (rc == 0)
		rc = n ? save_and_apply(s, items, but_claim(s, items, n)) : -EUCLEAN;
	free(items);
	free(log);
	if (rc == 0)
		rc = clear_flag(s, mi);
	return rc ? rc : 1;
}
