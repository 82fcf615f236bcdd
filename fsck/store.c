/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The changes of a repair, kept in memory by block until they are written out as one. A changed
 * block notes which of its 512-byte parts were changed; the others are what the device holds.
 */
#include "fsck/store.h"
#include "base/log.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define BLK LUNFS_BLOCK_BYTES
#define PART 512u
#define PARTS (BLK / PART)
#define BATCH 64u
#define READ_TRIES 3u
#define ITEM_BYTES ((PARTS / 2 + 1) * BLK) /* a block, and each run of changed parts */

struct store_blk {
	uint64_t blk;
	uint8_t sectors; /* bit i: part i was changed */
	uint8_t *data;	 /* a block; only changed parts count */
	UT_hash_handle hh;
};

static struct store_blk *find(const struct store *s, uint64_t blk)
{
	struct store_blk *b;

	HASH_FIND(hh, s->changed, &blk, sizeof(blk), b);
	return b;
}

static struct store_blk *make(struct store *s, uint64_t blk)
{
	struct store_blk *b = find(s, blk);

	if (b)
		return b;
	b = calloc(1, sizeof(*b));
	lunfs_assert(b);
	b->blk = blk;
	b->data = dev_buf_alloc(BLK);
	memset(b->data, 0, BLK);
	HASH_ADD(hh, s->changed, blk, sizeof(b->blk), b);
	s->n_changed++;
	return b;
}

static void drop(struct store *s, struct store_blk *b)
{
	HASH_DEL(s->changed, b);
	s->n_changed--;
	free(b->data);
	free(b);
}

/* ---- reading and changing -------------------------------------------------------------------- */

void store_patch(const struct store *s, uint64_t off_bytes, size_t len_bytes, void *buf)
{
	uint64_t end = off_bytes + len_bytes;

	for (uint64_t at = off_bytes; s->changed && at < end; at += PART) {
		const struct store_blk *b = find(s, at / BLK);
		unsigned part = (unsigned)(at % BLK / PART);

		if (b && b->sectors & 1u << part)
			memcpy((uint8_t *)buf + (at - off_bytes), b->data + part * PART, PART);
	}
}

bool store_changed(const struct store *s, uint64_t off_bytes, size_t len_bytes)
{
	uint64_t end = off_bytes + len_bytes;

	for (uint64_t blk = off_bytes / BLK; s->changed && blk * BLK < end; blk++)
		if (find(s, blk))
			return true;
	return false;
}

static bool covered(const struct store *s, uint64_t off, size_t len)
{
	for (uint64_t at = off; at < off + len; at += PART) {
		const struct store_blk *b = s->changed ? find(s, at / BLK) : NULL;

		if (!b || !(b->sectors & 1u << (at % BLK / PART)))
			return false;
	}
	return true;
}

static void halt(struct store *s, int rc)
{
	s->gone = rc;
	if (s->halt)
		*s->halt = true;
}

/* Does the device answer anywhere? Not all of these are lost together. */
static bool answers(struct store *s)
{
	static const uint64_t place[] = {LUNFS_MAINT_OFF, LUNFS_SB_OFF, LUNFS_HOST_TABLE_OFF};
	uint8_t *buf = dev_buf_alloc(BLK);
	int rc = -EIO;

	for (size_t i = 0; i < sizeof(place) / sizeof(place[0]) && rc == -EIO; i++)
		rc = dev_read(s->dev, place[i], BLK, buf);
	free(buf);
	return rc == 0;
}

/*
 * A path that goes or comes back says -EIO as well. What fails time and again while the device
 * answers elsewhere is a lost sector.
 */
int store_read_device(struct store *s, uint64_t off_bytes, size_t len_bytes, void *buf)
{
	int rc = -EIO;

	for (unsigned i = 0; i < READ_TRIES && rc == -EIO && !s->gone; i++) {
		rc = dev_read(s->dev, off_bytes, len_bytes, buf);
		if (rc == -EIO && !answers(s))
			halt(s, rc);
	}
	if (rc && rc != -EIO && rc != -EINVAL)
		halt(s, rc);
	return rc;
}

/* O_DIRECT wants whole sectors and aligned memory, which callers need not have. */
int store_read(struct store *s, uint64_t off_bytes, size_t len_bytes, void *buf)
{
	uint32_t sector = s->dev->id.sector_bytes;
	uint64_t from = off_bytes / sector * sector;
	size_t len = (size_t)((off_bytes + len_bytes + sector - 1) / sector * sector - from);
	uint8_t *tmp;
	int rc;

	lunfs_assert(off_bytes % PART == 0 && len_bytes % PART == 0);
	if (covered(s, off_bytes, len_bytes)) {
		rc = 0;
	} else if (from == off_bytes && len == len_bytes && (uintptr_t)buf % BLK == 0) {
		rc = store_read_device(s, off_bytes, len_bytes, buf);
	} else {
		tmp = dev_buf_alloc(len);
		rc = store_read_device(s, from, len, tmp);
		if (rc == 0)
			memcpy(buf, tmp + (off_bytes - from), len_bytes);
		free(tmp);
	}
	if (rc == 0)
		store_patch(s, off_bytes, len_bytes, buf);
	return rc;
}

int store_write(struct store *s, uint64_t off_bytes, size_t len_bytes, const void *buf)
{
	const uint8_t *from = buf;

	lunfs_assert(off_bytes % PART == 0 && len_bytes % PART == 0);
	if (!s->maint)
		return -EROFS;
	for (size_t at = 0; at < len_bytes; at += PART) {
		struct store_blk *b = make(s, (off_bytes + at) / BLK);
		unsigned part = (unsigned)((off_bytes + at) % BLK / PART);

		memcpy(b->data + part * PART, from + at, PART);
		b->sectors = (uint8_t)(b->sectors | 1u << part);
	}
	return 0;
}

void store_forget(struct store *s, uint64_t off_bytes, size_t len_bytes)
{
	for (uint64_t at = off_bytes; at < off_bytes + len_bytes; at += PART) {
		struct store_blk *b = find(s, at / BLK);

		if (!b)
			continue;
		b->sectors = (uint8_t)(b->sectors & ~(1u << (at % BLK / PART)));
		if (!b->sectors)
			drop(s, b);
	}
}

bool store_is_slot(const struct store *s, uint64_t blk)
{
	static_assert(LUNFS_SLOT_STRIDE == BLK, "a block holds one slot and nothing else");
	return blk >= geo_slot_off(0) / BLK && blk < geo_slot_off(geo_all_slots(s->geo)) / BLK;
}

bool store_is_claim(const struct store *s, uint64_t blk)
{
	unsigned slot = maint_slot(s->maint);

	return slot != LUNFS_NO_SLOT && blk == geo_slot_off(slot) / BLK;
}

void store_free(struct store *s)
{
	struct store_blk *b, *next;

	HASH_ITER (hh, s->changed, b, next)
		drop(s, b);
	if (s->undo)
		undo_close(s->undo);
	s->undo = NULL;
}

/* ---- writing out ----------------------------------------------------------------------------- */

int store_write_now(struct store *s, uint64_t off_bytes, size_t len_bytes, const void *buf)
{
	struct dev_io io = {.op = DEV_WRITE, .off_bytes = off_bytes, .len_bytes = len_bytes};
	int rc;

	if (!s->maint)
		return -EROFS;
	rc = s->undo ? undo_save(s->undo, off_bytes, len_bytes) : 0;
	if (rc == 0 && s->undo)
		rc = undo_sync(s->undo);
	io.buf = dev_buf_alloc(len_bytes);
	memcpy(io.buf, buf, len_bytes);
	if (rc == 0)
		rc = maint_write(s->maint, &io, 1);
	free(io.buf);
	s->written += rc ? 0 : len_bytes / BLK;
	if (rc)
		halt(s, rc);
	return rc;
}

/*
 * Items of a tree that is built anew move between its cells: the inode and all of them go together,
 * or those that are overwritten in one step and written in the next would be lost in between.
 */
static uint64_t owner_of(const struct store *s, uint64_t blk, unsigned sectors, const uint8_t *data)
{
	const struct geo *g = s->geo;
	size_t off = g->cell_blks == 1 ? g->payload_off : 0;
	const struct lunfs_blk_hdr *h = (const void *)(data + off);
	uint16_t type = le16_get(h->type);

	if (!(sectors & 1u << off / PART) || le32_get(h->magic) != LUNFS_BLK_MAGIC ||
	    le64_get(h->addr) != blk + 1 - g->cell_blks ||
	    (type != LUNFS_BLK_INODE && type != LUNFS_BLK_BTREE))
		return blk;
	return le64_get(h->guard);
}

static int by_owner(const void *a, const void *b)
{
	const struct redo_item *x = a, *y = b;

	if (x->owner != y->owner)
		return x->owner < y->owner ? -1 : 1;
	return x->blk < y->blk ? -1 : x->blk > y->blk;
}

static struct redo_item *list_changes(struct store *s)
{
	struct redo_item *list = calloc(s->n_changed, sizeof(*list));
	struct store_blk *b, *next;
	size_t n = 0;

	lunfs_assert(list);
	HASH_ITER (hh, s->changed, b, next)
		list[n++] = (struct redo_item){b->blk, b->sectors,
					       owner_of(s, b->blk, b->sectors, b->data), b->data};
	qsort(list, n, sizeof(*list), by_owner);
	return list;
}

/*
 * Parts of one block that are written with one command each; sectors may be larger than parts. Only
 * a payload is shorter than its sector, and zeroes follow it: they are known where the sector
 * cannot be read, as after a power cut in the middle of this very write.
 */
static int whole_sectors(struct store *s, struct redo_item *it, uint8_t *buf)
{
	uint32_t per = s->dev->id.sector_bytes / PART;
	uint8_t mask = it->sectors;
	int rc;

	for (unsigned i = 0; i < PARTS; i += per)
		if (mask >> i & ((1u << per) - 1))
			mask = (uint8_t)(mask | ((1u << per) - 1) << i);
	memcpy(buf, it->data, BLK);
	if (mask == it->sectors)
		return 0;
	rc = dev_read(s->dev, it->blk * BLK, BLK, buf);
	if (rc == -EIO) {
		memset(buf, 0, BLK);
		rc = 0;
	}
	for (unsigned i = 0; i < PARTS; i++)
		if (it->sectors & 1u << i)
			memcpy(buf + i * PART, it->data + i * PART, PART);
	it->sectors = mask;
	return rc;
}

/* Each run from a block of its own behind @buf: the device wants aligned memory. */
static size_t add_runs(struct dev_io *io, const struct redo_item *it, uint8_t *buf)
{
	uint8_t *to = buf + BLK;
	size_t n = 0;

	for (unsigned i = 0; i < PARTS;) {
		unsigned from = i;

		while (i < PARTS && it->sectors & 1u << i)
			i++;
		if (i == from) {
			i++;
			continue;
		}
		memcpy(to, buf + from * PART, (i - from) * PART);
		io[n++] = (struct dev_io){.op = DEV_WRITE,
					  .off_bytes = it->blk * BLK + from * PART,
					  .len_bytes = (i - from) * PART,
					  .buf = to};
		to += BLK;
	}
	return n;
}

static int write_batch(struct store *s, const struct redo_item *items, size_t n, uint8_t *buf)
{
	struct dev_io io[BATCH * PARTS / 2];
	size_t ios = 0;
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++) {
		struct redo_item it = items[i];

		rc = whole_sectors(s, &it, buf + i * ITEM_BYTES);
		if (rc == 0)
			ios += add_runs(io + ios, &it, buf + i * ITEM_BYTES);
	}
	rc = rc ? rc : maint_write(s->maint, io, ios);
	s->written += rc ? 0 : n;
	return rc;
}

/* In place. Whoever is killed in here is finished by the log. */
int redo_apply(struct store *s, const struct redo_item *items, size_t n)
{
	uint8_t *buf = dev_buf_alloc((size_t)BATCH * ITEM_BYTES);
	int rc = 0;

	for (size_t at = 0; at < n && rc == 0; at += BATCH)
		rc = write_batch(s, items + at, n - at < BATCH ? n - at : BATCH, buf);
	free(buf);
	return rc ? rc : maint_flush(s->maint);
}

/* Before the volume is marked: where there is no room for it nothing has been begun. */
static int save_all(struct store *s, const struct redo_item *items, size_t n, size_t room)
{
	int rc = 0;

	if (!s->undo)
		return 0;
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = undo_save(s->undo, items[i].blk * BLK, BLK);
	if (rc == 0 && room)
		rc = redo_save(s, n < room ? n : room);
	return rc ? rc : undo_sync(s->undo);
}

static int mark(struct store *s, bool on)
{
	struct maint_info mi = maint_get(s->maint);

	mi.flags = on ? mi.flags | LUNFS_MAINT_MUST_FSCK : 0;
	if (!on)
		mi.redo_blk = mi.redo_blks = mi.redo_crc = 0;
	return maint_set(s->maint, &mi);
}

/*
 * A journal that was given up is never replayed once anything else of the repair is under way: the
 * next run replays what a slot calls for before it finishes a log.
 */
static int commit_slots(struct store *s, const struct redo_item *items, size_t n)
{
	struct redo_item slot[LUNFS_MAX_SLOTS + LUNFS_SPARE_SLOTS];
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
		if (store_is_slot(s, items[i].blk))
			slot[k++] = items[i];
	return k ? redo_apply(s, slot, k) : 0;
}

/* One log and what it says. */
static int commit_some(struct store *s, const struct redo_item *items, size_t n)
{
	struct maint_info mi;
	int rc;

	if (redo_capacity(s) == 0) {
		s->unlogged = true;
		return redo_apply(s, items, n);
	}
	mi = maint_get(s->maint);
	rc = redo_write(s, items, n, &mi);
	if (rc == 0)
		rc = maint_set(s->maint, &mi);
	if (rc == 0)
		rc = redo_apply(s, items, n);
	if (rc)
		return rc;
	mi.flags &= ~LUNFS_MAINT_REDO;
	mi.redo_blk = mi.redo_blks = mi.redo_crc = 0;
	return maint_set(s->maint, &mi);
}

/* How many of @n go into the next log. */
static size_t next_step(const struct redo_item *items, size_t n, size_t room)
{
	size_t k = room;

	if (n <= room)
		return n;
	while (k && items[k].owner == items[k - 1].owner)
		k--;
	return k ? k : room;
}

int store_commit(struct store *s, void (*tell)(void *ctx, uint64_t done, uint64_t total), void *ctx)
{
	size_t room = redo_capacity(s), n = s->n_changed;
	struct redo_item *items;
	int rc;

	if (n == 0)
		return 0;
	if (!s->maint)
		return -EROFS;
	items = list_changes(s);
	rc = save_all(s, items, n, room);
	if (room == 0)
		room = n;
	s->unlogged |= room < n;
	if (rc == 0)
		rc = maint_flush(s->maint);
	if (rc == 0)
		rc = mark(s, true);
	if (rc == 0)
		rc = commit_slots(s, items, n);
	for (size_t at = 0, some; at < n && rc == 0; at += some) {
		some = next_step(items + at, n - at, room);
		rc = commit_some(s, items + at, some);
		if (tell)
			tell(ctx, at + some, n);
	}
	free(items);
	return rc;
}
