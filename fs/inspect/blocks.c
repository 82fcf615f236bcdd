/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a block serves as: by the layout, then by the group's bitmap and its chunks. */
#include "inspect/inspect.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct role {
	const struct insp *in;
	uint64_t blk;
	char *text, *name;
};

__attribute__((format(printf, 2, 3))) static void role_text(struct role *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->text, INSP_ROLE_BYTES, fmt, ap);
	va_end(ap);
}

__attribute__((format(printf, 2, 3))) static void role_name(struct role *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->name, INSP_NAME_BYTES, fmt, ap);
	va_end(ap);
}

/* ---- before the groups ----------------------------------------------------------------------- */

static bool in_range(uint64_t blk, uint64_t off_bytes, uint64_t len_bytes)
{
	uint64_t first = off_bytes / LUNFS_BLOCK_BYTES;
	uint64_t end = (off_bytes + len_bytes + LUNFS_BLOCK_BYTES - 1) / LUNFS_BLOCK_BYTES;

	return blk >= first && blk < end;
}

static bool fixed_role(struct role *r)
{
	static const char *const anchors[] = {"volume", "rename", "watermark"};
	const struct geo *g = r->in->geo;

	if (in_range(r->blk, LUNFS_SB_OFF, sizeof(struct lunfs_sb))) {
		role_text(r, "the main superblock");
		role_name(r, "superblock");
		return true;
	}
	if (in_range(r->blk, LUNFS_MAINT_OFF, sizeof(struct lunfs_maint_rec))) {
		role_text(r, "the maintenance sector");
		role_name(r, "maint");
		return true;
	}
	for (unsigned a = 0; a < LUNFS_ANCHORS; a++) {
		if (!in_range(r->blk, LUNFS_ANCHOR_OFF + a * LUNFS_ANCHOR_STRIDE,
			      geo_cell_bytes(g)))
			continue;
		role_text(r, "the %s anchor", anchors[a]);
		role_name(r, "anchor:%s", anchors[a]);
		return true;
	}
	if (in_range(r->blk, LUNFS_SCRATCH_OFF, LUNFS_SCRATCH_BYTES)) {
		role_text(r, "the scratch area, in which devices are tried");
		return true;
	}
	return false;
}

static bool table_role(struct role *r)
{
	const struct geo *g = r->in->geo;
	uint64_t off = geo_blk_off(r->blk), n = geo_all_slots(g);

	if (in_range(r->blk, LUNFS_HOST_TABLE_OFF, n * LUNFS_SLOT_STRIDE)) {
		n = (off - LUNFS_HOST_TABLE_OFF) / LUNFS_SLOT_STRIDE;
		role_text(r, "slot %llu of the host table", (unsigned long long)n);
		role_name(r, "slot:%llu", (unsigned long long)n);
		return true;
	}
	if (g->board_row_bytes && in_range(r->blk, LUNFS_BOARD_OFF, n * g->board_row_bytes)) {
		uint64_t row = (off - LUNFS_BOARD_OFF) / g->board_row_bytes;
		uint64_t col = (off - LUNFS_BOARD_OFF) % g->board_row_bytes / g->sector_bytes;

		role_text(r, "row %llu of the request board, from column %llu on",
			  (unsigned long long)row, (unsigned long long)col);
		if (col < n)
			role_name(r, "board:%llu,%llu", (unsigned long long)row,
				  (unsigned long long)col);
		return true;
	}
	return false;
}

static bool journal_role(struct role *r)
{
	const struct geo *g = r->in->geo;
	struct insp_txn t;

	for (unsigned s = 0; s < LUNFS_MAX_SLOTS; s++) {
		uint64_t first = g->journal_blk[s];

		if (!first || r->blk < first || r->blk - first >= g->journal_blks)
			continue;
		role_text(r, "block %llu of the journal of slot %u",
			  (unsigned long long)(r->blk - first), s);
		if (r->blk == first)
			role_name(r, "journal:%u", s);
		else if (insp_journal_at(r->in, s, (uint32_t)(r->blk - first - 1), &t) == 0)
			role_name(r, "journal:%u:@%llu", s, (unsigned long long)(r->blk - first));
		return true;
	}
	return false;
}

/* ---- in a group ------------------------------------------------------------------------------ */

static int read_at(const struct role *r, uint64_t cell, size_t off, size_t len, void *buf)
{
	return insp_read(r->in, geo_payload_off(r->in->geo, cell) + off, len, buf);
}

static bool in_use(const struct role *r, uint64_t group, uint64_t rel)
{
	uint64_t cell = geo_group_bitmap(r->in->geo, group, (unsigned)(rel / LUNFS_BITMAP_BITS));
	uint64_t bit = rel % LUNFS_BITMAP_BITS;
	uint8_t byte;

	return read_at(r, cell, offsetof(struct lunfs_bitmap_pl, bits) + bit / 8, 1, &byte) == 0 &&
	       (byte >> bit % 8 & 1);
}

/* True: it is a cell of the chunk in its window. */
static bool chunk_role(struct role *r, uint64_t group, uint64_t rel)
{
	const struct geo *g = r->in->geo;
	uint64_t per = (uint64_t)LUNFS_CHUNK_CELLS * g->cell_blks, w = rel / per;
	unsigned idx = (unsigned)(rel % per / g->cell_blks);
	uint64_t window = geo_group_blk(g, group) + w * per;
	struct lunfs_chunk_pl c;
	le16 at;

	if (read_at(r, geo_group_header(g, group),
		    offsetof(struct lunfs_group_pl, chunk) + w * sizeof(at), sizeof(at), &at) ||
	    le16_get(at) == 0 || le16_get(at) > LUNFS_CHUNK_CELLS)
		return false;
	if (le16_get(at) - 1u == idx) {
		role_text(r, "header of the metadata chunk in window %llu of group %llu",
			  (unsigned long long)w, (unsigned long long)group);
		role_name(r, "chunk:%llu,%llu", (unsigned long long)group, (unsigned long long)w);
		return true;
	}
	if (read_at(r, window + (le16_get(at) - 1u) * g->cell_blks, 0, sizeof(c), &c) ||
	    !(c.valid[idx / 8] >> idx % 8 & 1))
		return false;
	role_text(r, "%s cell %u of the metadata chunk in window %llu of group %llu",
		  c.used[idx / 8] >> idx % 8 & 1 ? "used" : "unused", idx, (unsigned long long)w,
		  (unsigned long long)group);
	role_name(r, "cell:%llu", (unsigned long long)(window + idx * g->cell_blks));
	return true;
}

static void group_role(struct role *r)
{
	const struct geo *g = r->in->geo;
	uint64_t group = geo_group_of(g, r->blk), rel = r->blk - geo_group_blk(g, group);
	unsigned long long n = group, cell = rel / g->cell_blks;

	if (cell == 0) {
		role_text(r, "group %llu, kept for a copy of the superblock%s", n,
			  sb_group_has_copy(group) ? "" : " (this group has none)");
		return;
	}
	if (cell == 1) {
		role_text(r, "header of group %llu", n);
		role_name(r, "group:%llu", n);
		return;
	}
	if (rel < geo_group_meta_blks(g)) {
		role_text(r, "bitmap cell %llu of group %llu", cell - 2, n);
		role_name(r, "bitmap:%llu,%llu", n, cell - 2);
		return;
	}
	if (!chunk_role(r, group, rel))
		role_text(r, "%s block of group %llu",
			  in_use(r, group, rel) ? "data, or an unknown used" : "free", n);
}

void insp_block_role(const struct insp *in, uint64_t blk, char role[INSP_ROLE_BYTES],
		     char name[INSP_NAME_BYTES])
{
	struct role r = {.in = in, .blk = blk, .text = role, .name = name};
	const struct geo *g = in->geo;

	role[0] = name[0] = '\0';
	if (fixed_role(&r) || table_role(&r) || journal_role(&r))
		return;
	if (blk >= g->group0_blk && blk < g->end_blk) {
		group_role(&r);
	} else if (g->dev_blks &&
		   geo_blk_off(blk) == sb_tail_off(g->dev_blks * LUNFS_BLOCK_BYTES)) {
		role_text(&r, "the copy of the superblock at the end");
		role_name(&r, "superblock:1");
	} else {
		role_text(&r, "a block that nothing uses");
	}
}
