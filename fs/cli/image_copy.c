/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which blocks are metadata: the fixed places, the live part of journals, and in each initialised
 * group its own cells and the cells of its chunks. Where a header is damaged, whatever has a lock
 * record of its own place counts as a cell. Blocks of zeroes are left out, so the copy is sparse.
 *
 * The main superblock is written last: a copy that was cut off half-way is no volume.
 */
#include "base/bitmap.h"
#include "base/crc.h"
#include "cli/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BLK LUNFS_BLOCK_BYTES
#define PIECE_BYTES (1u << 20)

void image_add(struct image_list *l, uint64_t addr)
{
	if (l->n == l->room) {
		l->room = l->room ? l->room * 2 : 1024;
		l->v = realloc(l->v, l->room * sizeof(*l->v));
		if (!l->v)
			abort();
	}
	l->v[l->n++] = addr;
}

/* ---- blocks in and out ----------------------------------------------------------------------- */

/* Unreadable parts become zero, a block at a time. */
static void read_range(struct image *im, uint64_t off, size_t len, uint8_t *buf)
{
	if (insp_read(&im->from, off, len, buf) == 0)
		return;
	for (size_t at = 0; at < len; at += BLK)
		if (insp_read(&im->from, off + at, len - at < BLK ? len - at : BLK, buf + at)) {
			memset(buf + at, 0, len - at < BLK ? len - at : BLK);
			im->unreadable_blks++;
		}
}

/* Whole blocks; those of zeroes are holes already. */
static int write_range(struct image *im, uint64_t off, size_t len, const uint8_t *buf)
{
	size_t at = 0;
	int rc = 0;

	while (rc == 0 && at < len) {
		size_t end = at;

		while (end < len && !mem_is_zero(buf + end, BLK))
			end += BLK;
		if (end > at) {
			rc = dev_write(im->to.dev, off + at, end - at, buf + at);
			im->copied_blks += (end - at) / BLK;
		}
		at = end + BLK;
	}
	return rc;
}

static int copy_range(struct image *im, uint64_t off, uint64_t len)
{
	uint8_t *buf = dev_buf_alloc(PIECE_BYTES);
	int rc = 0;

	for (uint64_t at = 0; rc == 0 && at < len; at += PIECE_BYTES) {
		size_t n = len - at < PIECE_BYTES ? (size_t)(len - at) : PIECE_BYTES;

		read_range(im, off + at, n, buf);
		rc = write_range(im, off + at, n, buf);
	}
	free(buf);
	return rc;
}

/* ---- fixed places ---------------------------------------------------------------------------- */

static int copy_super(struct image *im, uint64_t off)
{
	uint8_t *buf = dev_buf_alloc(BLK);
	int rc;

	read_range(im, off, BLK, buf);
	image_clean_super(im, buf);
	rc = write_range(im, off, BLK, buf);
	free(buf);
	return rc;
}

static int copy_slots(struct image *im)
{
	uint8_t *buf = dev_buf_alloc(BLK);
	int rc = 0;

	for (unsigned s = 0; rc == 0 && s < geo_all_slots(&im->geo); s++) {
		read_range(im, geo_slot_off(s), BLK, buf);
		image_clean_slot(im, s, buf);
		rc = write_range(im, geo_slot_off(s), BLK, buf);
	}
	free(buf);
	return rc;
}

static int copy_fixed(struct image *im)
{
	const struct geo *g = &im->geo;
	int rc = copy_range(im, LUNFS_MAINT_OFF, BLK);

	for (unsigned a = 0; rc == 0 && a < LUNFS_ANCHORS; a++)
		rc = copy_range(im, LUNFS_ANCHOR_OFF + a * LUNFS_ANCHOR_STRIDE, geo_cell_bytes(g));
	if (rc == 0)
		rc = copy_slots(im);
	if (rc == 0)
		rc = copy_range(im, LUNFS_BOARD_OFF, geo_all_slots(g) * g->board_row_bytes);
	if (rc == 0)
		rc = copy_super(im, sb_tail_off(g->dev_blks * BLK));
	for (uint64_t n = 1; rc == 0 && n < g->groups; n++)
		if (sb_group_has_copy(n))
			rc = copy_super(im, geo_blk_off(geo_group_blk(g, n)));
	return rc;
}

/* ---- journals -------------------------------------------------------------------------------- */

/*
 * The images of a transaction are cleaned as the cells are, then its checksums made anew. What
 * they add to the lists of cells is taken back: they are no cells.
 */
static void clean_images(struct image *im, const struct insp_txn *t, uint8_t *log)
{
	size_t body = (size_t)(t->blks - 1) * BLK, dirs = im->dirs.n, leaves = im->leaves.n;
	uint8_t *at = log + (size_t)t->n_desc * BLK;
	struct lunfs_jcommit *c = (void *)(log + body);
	struct image before = *im;

	for (uint32_t i = 0; i < t->n_entries; i++) {
		const struct lunfs_jdesc *d =
		    (const void *)(log + (size_t)(i / LUNFS_JDESC_ENTRIES) * BLK);
		const struct lunfs_jentry *e = &d->entry[i % LUNFS_JDESC_ENTRIES];

		if (le16_get(e->kind) != LUNFS_JENT_IMAGE)
			continue;
		if (at + LUNFS_PAYLOAD_BYTES > log + body)
			break;
		image_clean(im, le64_get(e->addr), true, at);
		at += LUNFS_PAYLOAD_BYTES;
	}
	im->cells_used = before.cells_used;
	im->inodes = before.inodes;
	im->nodes = before.nodes;
	im->damaged = before.damaged;
	im->dirs.n = dirs;
	im->leaves.n = leaves;
	c->body_crc = le32_make(crc32c(log, body));
	crc_seal(c, sizeof(*c), offsetof(struct lunfs_jcommit, crc));
}

/* A transaction, which may run round the end of the ring. */
static int copy_txn(struct image *im, unsigned slot, const struct insp_txn *t)
{
	uint64_t first = im->geo.journal_blk[slot] + 1;
	uint32_t ring = im->geo.journal_blks - 1;
	uint32_t head = t->blks < ring - t->pos ? t->blks : ring - t->pos;
	size_t head_len = (size_t)head * BLK, len = (size_t)t->blks * BLK;
	uint8_t *log = dev_buf_alloc(len);
	int rc;

	read_range(im, geo_blk_off(first + t->pos), head_len, log);
	if (len > head_len)
		read_range(im, geo_blk_off(first), len - head_len, log + head_len);
	clean_images(im, t, log);
	rc = write_range(im, geo_blk_off(first + t->pos), head_len, log);
	if (rc == 0 && len > head_len)
		rc = write_range(im, geo_blk_off(first), len - head_len, log + head_len);
	free(log);
	im->transactions++;
	return rc;
}

/*
 * The header and the valid transactions from the tail on. With scramble the header alone: names in
 * the log would have to fit those in place.
 */
static int copy_journals(struct image *im)
{
	int rc = 0;

	for (unsigned s = 0; rc == 0 && s < im->geo.slots; s++) {
		struct insp_txn t;

		if (!im->geo.journal_blk[s])
			continue;
		rc = copy_range(im, geo_blk_off(im->geo.journal_blk[s]), BLK);
		if (im->scramble || insp_journal_first(&im->from, s, &t))
			continue;
		while (rc == 0 && t.valid) {
			rc = copy_txn(im, s, &t);
			if (insp_journal_next(&im->from, s, &t))
				break;
		}
	}
	return rc;
}

/* What an unfinished repair is about to write. */
static int copy_redo(struct image *im)
{
	const struct geo *g = &im->geo;
	struct lunfs_maint_rec m;
	uint64_t blk, n;

	if (insp_read(&im->from, LUNFS_MAINT_OFF, sizeof(m), &m) ||
	    !(le32_get(m.flags) & LUNFS_MAINT_REDO))
		return 0;
	blk = le64_get(m.redo_blk);
	n = le32_get(m.redo_blks);
	for (unsigned s = 0; s < g->slots; s++)
		if (g->journal_blk[s] && blk > g->journal_blk[s] &&
		    blk - g->journal_blk[s] < g->journal_blks &&
		    n <= g->journal_blk[s] + g->journal_blks - blk)
			return copy_range(im, geo_blk_off(blk), n * BLK);
	return 0;
}

/* ---- groups ---------------------------------------------------------------------------------- */

struct window {
	uint64_t blk;	/* address of its first block */
	uint32_t cells; /* that lie wholly in the group */
	uint8_t *buf;
	uint8_t valid[LUNFS_CHUNK_CELLS / 8], used[LUNFS_CHUNK_CELLS / 8];
};

static bool looks_like_cell(const struct image *im, uint64_t cell, const uint8_t *sector)
{
	const struct lunfs_ats_hdr *h = (const void *)sector;

	return le32_get(h->magic) == LUNFS_ATS_MAGIC && le16_get(h->type) == LUNFS_ATS_LOCK &&
	       le64_get(h->sector_off) == geo_blk_off(cell) &&
	       memcmp(h->vol_id, im->geo.vol_id, sizeof(h->vol_id)) == 0;
}

/* The chunk header says which cells there are; if it cannot be believed, their locks do. */
static void window_cells(struct image *im, struct window *w, unsigned header)
{
	uint32_t cell_bytes = geo_cell_bytes(&im->geo);
	const struct lunfs_chunk_pl *c =
	    (const void *)(w->buf + (size_t)(header ? header - 1 : 0) * cell_bytes +
			   im->geo.payload_off);
	uint64_t addr = w->blk + (header ? header - 1 : 0) * im->geo.cell_blks;

	if (header && header <= w->cells && blk_check(&im->geo, c, LUNFS_BLK_CHUNK, addr) == 0) {
		memcpy(w->valid, c->valid, sizeof(w->valid));
		memcpy(w->used, c->used, sizeof(w->used));
		return;
	}
	memset(w->valid, 0, sizeof(w->valid));
	for (unsigned i = 0; i < w->cells; i++)
		if (looks_like_cell(im, w->blk + (uint64_t)i * im->geo.cell_blks,
				    w->buf + (size_t)i * cell_bytes))
			bit_set(w->valid, i);
	memcpy(w->used, w->valid, sizeof(w->used));
}

static int copy_window(struct image *im, struct window *w, unsigned header)
{
	uint32_t cell_bytes = geo_cell_bytes(&im->geo);

	read_range(im, geo_blk_off(w->blk), (size_t)w->cells * cell_bytes, w->buf);
	window_cells(im, w, header);
	for (unsigned i = 0; i < w->cells; i++) {
		uint8_t *cell = w->buf + (size_t)i * cell_bytes;

		if (!bit_get(w->valid, i)) {
			memset(cell, 0, cell_bytes);
			continue;
		}
		if (im->geo.cell_blks > 1) { /* what lies between has no meaning */
			memset(cell + im->geo.sector_bytes, 0,
			       im->geo.payload_off - im->geo.sector_bytes);
			memset(cell + im->geo.payload_off + LUNFS_PAYLOAD_BYTES, 0,
			       cell_bytes - im->geo.payload_off - LUNFS_PAYLOAD_BYTES);
		}
		image_clean(im, w->blk + (uint64_t)i * im->geo.cell_blks, bit_get(w->used, i),
			    cell + im->geo.payload_off);
	}
	return write_range(im, geo_blk_off(w->blk), (size_t)w->cells * cell_bytes, w->buf);
}

static int copy_windows(struct image *im, uint64_t group, const struct lunfs_group_pl *head,
			bool believed, uint8_t *buf)
{
	uint32_t per = LUNFS_CHUNK_CELLS * im->geo.cell_blks;
	uint32_t len = geo_group_len(&im->geo, group);
	int rc = 0;

	for (uint32_t w = 0; rc == 0 && w < LUNFS_GROUP_WINDOWS && w * per < len; w++) {
		uint32_t left = len - w * per < per ? len - w * per : per;
		unsigned header = believed ? le16_get(head->chunk[w]) : 0;
		struct window win = {.blk = geo_group_blk(&im->geo, group) + w * per,
				     .cells = left / im->geo.cell_blks,
				     .buf = buf};

		if (!believed || header)
			rc = copy_window(im, &win, header);
	}
	return rc;
}

/* Is there anything at all of the header of a group? */
static bool header_begun(struct image *im, uint64_t header)
{
	struct lunfs_ats_hdr h;

	return insp_read(&im->from, geo_blk_off(header), sizeof(h), &h) ||
	       le32_get(h.magic) == LUNFS_ATS_MAGIC;
}

/* @sure: the watermark says that it is initialised. */
static int copy_group(struct image *im, uint64_t group, bool sure, uint8_t *buf)
{
	const struct geo *g = &im->geo;
	uint64_t header = geo_group_header(g, group);
	struct lunfs_group_pl *head = malloc(sizeof(*head));
	bool believed;
	int rc;

	if (!head)
		return -ENOMEM;
	believed = insp_read(&im->from, geo_payload_off(g, header), sizeof(*head), head) == 0 &&
		   blk_check(g, head, LUNFS_BLK_GROUP, header) == 0;
	if (!believed && !sure && !header_begun(im, header)) {
		free(head);
		return 0;
	}
	rc = copy_windows(im, group, head, believed, buf);
	/* Behind the windows, which leave holes where no cell of a chunk is. */
	if (rc == 0)
		rc = copy_range(im, geo_blk_off(header),
				(uint64_t)(1 + g->bitmap_cells) * geo_cell_bytes(g));
	free(head);
	return rc;
}

static uint64_t watermark(const struct image *im, bool *sure)
{
	uint64_t cell = geo_anchor_cell(LUNFS_ANCHOR_WATERMARK);
	struct lunfs_anchor_pl *pl = malloc(sizeof(*pl));
	uint64_t n = im->geo.groups;

	if (pl && insp_read(&im->from, geo_payload_off(&im->geo, cell), sizeof(*pl), pl) == 0 &&
	    blk_check(&im->geo, pl, LUNFS_BLK_ANCHOR, cell) == 0 && le64_get(pl->value) <= n) {
		n = le64_get(pl->value);
		*sure = true;
	}
	free(pl);
	return n;
}

int image_copy(struct image *im)
{
	uint8_t *buf = dev_buf_alloc((size_t)LUNFS_CHUNK_CELLS * geo_cell_bytes(&im->geo));
	bool sure = false;
	uint64_t n = watermark(im, &sure);
	int rc = copy_fixed(im);

	if (rc == 0)
		rc = copy_journals(im);
	if (rc == 0)
		rc = copy_redo(im);
	for (uint64_t group = 0; rc == 0 && group < n; group++) {
		image_say(im, "groups", group, n);
		rc = copy_group(im, group, sure, buf);
		im->groups_done++;
	}
	free(buf);
	return rc;
}
