/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The judge at the medium: it is told of every write at the very moment it takes effect, and knows
 * from the medium itself who may do what there. It believes no host's memory.
 *
 * - A slot, a lock and the maintenance sector are changed by ATS alone, all else by plain writes.
 * - Nothing of an incarnation lands that has no slot any more; by the timer alone already from the
 *   moment on that its slot is being recovered.
 * - A payload is written by the exclusive holder of its guard, or by whoever recovers that holder,
 *   and its version does not go back; a cell is made where its group's lock (for a fresh group: the
 *   watermark's) is held exclusively and no cell is.
 * - A replay writes what the journal says last of a block, and all of it that still counts.
 * - A journal is written by the host in whose slot it lies, a board sector by its column's host;
 *   a request that lands late is harmless there: it names who asks and who is asked, and whoever
 *   stands there now writes it again with each beat.
 * - File data never touches a cell.
 */
#include "devcheck_impl.h"

#include "alloc/alloc.h"
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void dev_wrong(const struct judged *j, const char *fmt, ...)
{
	const struct simdev_landing *l = j->l;
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	sc_fail(
	    j->dc->r->t, __FILE__, __LINE__,
	    "at the device, %s (%s, command %llu: %s of %llu bytes at block %llu + %llu%s, sent "
	    "at %.6f s): %s",
	    l->label, l->dead ? "dead" : "alive", (unsigned long long)l->number,
	    simdev_op_name(l->op), (unsigned long long)l->len_bytes,
	    (unsigned long long)(l->off_bytes / 4096), (unsigned long long)(l->off_bytes % 4096),
	    l->late ? ", after its answer" : "", (double)l->submitted_ns / 1e9, text);
}

/* ---- which blocks are cells ------------------------------------------------------------------ */

static bool read_payload(const struct devcheck *dc, uint64_t addr, uint16_t type, uint8_t *pl)
{
	simdev_peek(dc->m, geo_payload_off(dc->geo, addr), LUNFS_PAYLOAD_BYTES, pl);
	return blk_check(dc->geo, pl, type, addr) == 0;
}

static void mark_cell(struct devcheck *dc, uint64_t addr)
{
	for (unsigned k = 0; k < dc->geo->cell_blks && addr + k < dc->blks; k++)
		dc->is_cell[addr + k] = (uint8_t)(1 + k);
}

static void mark_chunk(struct devcheck *dc, uint64_t header)
{
	uint8_t pl[LUNFS_PAYLOAD_BYTES];
	struct chunk_info ci;

	if (!read_payload(dc, header, LUNFS_BLK_CHUNK, pl) ||
	    chunk_decode(dc->geo, pl, header, &ci) != 0)
		return;
	for (unsigned k = 0; k < LUNFS_CHUNK_CELLS; k++)
		if (ci.valid[k / 8] >> k % 8 & 1)
			mark_cell(dc, ci.first_blk + (uint64_t)k * dc->geo->cell_blks);
}

/* A group header as it stands (or will stand) on the medium: all its chunks are cells. */
static void mark_group(struct devcheck *dc, uint64_t group, const void *payload)
{
	const struct geo *g = dc->geo;
	struct group_info gi;

	if (group_decode(g, payload, group, &gi) != 0)
		return;
	mark_cell(dc, geo_group_header(g, group));
	for (unsigned k = 0; k < g->bitmap_cells; k++)
		mark_cell(dc, geo_group_bitmap(g, group, k));
	for (unsigned w = 0; w < LUNFS_GROUP_WINDOWS; w++) {
		uint64_t first = gi.first_blk + (uint64_t)w * LUNFS_CHUNK_CELLS * g->cell_blks;

		if (gi.chunk[w])
			mark_chunk(dc, first + (uint64_t)(gi.chunk[w] - 1) * g->cell_blks);
	}
}

static uint64_t watermark(const struct devcheck *dc)
{
	uint64_t addr = geo_anchor_cell(LUNFS_ANCHOR_WATERMARK);
	uint8_t pl[LUNFS_PAYLOAD_BYTES];

	if (!read_payload(dc, addr, LUNFS_BLK_ANCHOR, pl))
		return 0;
	return le64_get(((const struct lunfs_anchor_pl *)pl)->value);
}

static void cells_load(struct devcheck *dc)
{
	uint8_t pl[LUNFS_PAYLOAD_BYTES];

	for (int a = 0; a < LUNFS_ANCHORS; a++)
		mark_cell(dc, geo_anchor_cell((enum lunfs_anchor)a));
	for (uint64_t g = 0; g < watermark(dc); g++)
		if (read_payload(dc, geo_group_header(dc->geo, g), LUNFS_BLK_GROUP, pl))
			mark_group(dc, g, pl);
}

/* ---- plain writes in the groups -------------------------------------------------------------- */

/* May @inc make cells out of what is none: in this group, or of a group that nobody knows yet? */
static bool may_make_cells(const struct judged *j, uint64_t blk)
{
	struct devcheck *dc = j->dc;
	uint64_t group = geo_group_of(dc->geo, blk);

	if (group >= watermark(dc) && holds_ex(dc, j->inc, geo_anchor_cell(LUNFS_ANCHOR_WATERMARK)))
		return true;
	return holds_ex(dc, j->inc, geo_group_header(dc->geo, group));
}

static const struct lunfs_blk_hdr *header_in(const struct devcheck *dc,
					     const struct simdev_landing *l, uint64_t addr)
{
	uint64_t off = geo_payload_off(dc->geo, addr);
	const struct lunfs_blk_hdr *h;

	if (off < l->off_bytes || off + dc->geo->sector_bytes > l->off_bytes + l->len_bytes)
		return NULL;
	h = (const struct lunfs_blk_hdr *)(l->data + (off - l->off_bytes));
	if (le32_get(h->magic) != LUNFS_BLK_MAGIC || le64_get(h->addr) != addr ||
	    memcmp(h->vol_id, dc->geo->vol_id, sizeof(h->vol_id)) != 0)
		return NULL;
	return h;
}

/* The first sector of a payload lands: who, for which guard, and is it newer than what is there? */
static void judge_header(const struct judged *j, uint64_t addr, const struct lunfs_blk_hdr *h)
{
	struct devcheck *dc = j->dc;
	uint8_t pl[LUNFS_PAYLOAD_BYTES];
	const struct lunfs_blk_hdr *was = (const struct lunfs_blk_hdr *)pl;
	struct lunfs_lock_rec rec;
	uint64_t guard = le64_get(h->guard);

	if (!holds_ex(dc, j->inc, guard)) {
		if (!dc->is_cell[addr] && may_make_cells(j, addr))
			return;
		dev_wrong(j, "writes block %llu (type %u), but does not hold its guard %llu",
			  (unsigned long long)addr, le16_get(h->type), (unsigned long long)guard);
	}
	if (lock_rec_at(dc, guard, &rec) &&
	    dc->slot[LUNFS_OWNER_SLOT(le64_get(rec.owner))].by != j->inc)
		judge_replay_write(j, LUNFS_OWNER_SLOT(le64_get(rec.owner)), h);
	if (!dc->is_cell[addr])
		return;
	simdev_peek(dc->m, geo_payload_off(dc->geo, addr), sizeof(pl), pl);
	if (le32_get(was->magic) == LUNFS_BLK_MAGIC && le64_get(was->addr) == addr &&
	    le64_get(was->version) > le64_get(h->version))
		dev_wrong(j, "block %llu goes back from version %llu to %llu",
			  (unsigned long long)addr, (unsigned long long)le64_get(was->version),
			  (unsigned long long)le64_get(h->version));
	if (le16_get(h->type) == LUNFS_BLK_GROUP &&
	    j->l->off_bytes + j->l->len_bytes >=
		geo_payload_off(dc->geo, addr) + LUNFS_PAYLOAD_BYTES)
		mark_group(dc, geo_group_of(dc->geo, addr), h);
}

/* A cell as a whole is written: only where none is. */
static void judge_new_cell(const struct judged *j, uint64_t addr)
{
	if (j->dc->is_cell[addr])
		dev_wrong(j, "a plain write on the lock sector of cell %llu",
			  (unsigned long long)addr);
	if (!may_make_cells(j, addr))
		dev_wrong(j, "a cell is made at %llu by a host that does not hold its group",
			  (unsigned long long)addr);
}

static bool is_lock_sector(const struct devcheck *dc, const uint8_t *data, uint64_t addr)
{
	struct lunfs_lock_rec rec;

	return lock_rec_decode(dc->geo, data, addr, &rec) == 0;
}

/* One block of a plain write. */
static void judge_block(const struct judged *j, uint64_t blk)
{
	struct devcheck *dc = j->dc;
	const struct simdev_landing *l = j->l;
	uint64_t from = blk * LUNFS_BLOCK_BYTES, cell = blk;
	const uint8_t *at;
	const struct lunfs_blk_hdr *h;

	if (dc->is_cell[blk] == 2)
		cell = blk - 1;
	if (!l->data) { /* zeroes, a discard */
		if (dc->is_cell[blk])
			dev_wrong(j, "a discard of cell %llu", (unsigned long long)cell);
		return;
	}
	at = from >= l->off_bytes ? l->data + (from - l->off_bytes) : NULL;
	if (at && from + dc->geo->sector_bytes <= l->off_bytes + l->len_bytes &&
	    (dc->is_cell[blk] == 1 || is_lock_sector(dc, at, blk)))
		judge_new_cell(j, blk);
	h = header_in(dc, l, cell);
	if (!h && dc->geo->cell_blks == 2 && !dc->is_cell[blk] && blk > 0)
		h = header_in(dc, l, cell = blk - 1);
	if (h)
		judge_header(j, cell, h);
	else if (dc->is_cell[blk] && l->off_bytes <= geo_payload_off(dc->geo, cell) &&
		 geo_payload_off(dc->geo, cell) + dc->geo->sector_bytes <=
		     l->off_bytes + l->len_bytes)
		dev_wrong(j, "writes something else over the payload of cell %llu",
			  (unsigned long long)cell);
}

static void judge_blocks(const struct judged *j)
{
	uint64_t end = j->l->off_bytes + j->l->len_bytes;

	for (uint64_t b = j->l->off_bytes / LUNFS_BLOCK_BYTES; b * LUNFS_BLOCK_BYTES < end; b++)
		if (b < j->dc->blks)
			judge_block(j, b);
}

/* ---- where it lands -------------------------------------------------------------------------- */

static bool on_board(const struct devcheck *dc, uint64_t off)
{
	return off >= LUNFS_BOARD_OFF &&
	       off < LUNFS_BOARD_OFF + (uint64_t)dc->slots * dc->geo->board_row_bytes;
}

static void judge_board(const struct judged *j)
{
	const struct geo *g = j->dc->geo;
	uint64_t in = (j->l->off_bytes - LUNFS_BOARD_OFF) % g->board_row_bytes;
	unsigned column = (unsigned)(in / g->sector_bytes);

	if (j->l->late)
		return;
	if (!may_write(j->dc, j->inc) || column >= j->dc->slots || j->dc->slot[column].by != j->inc)
		dev_wrong(j, "writes a sector of the board's column %u", column);
}

static int journal_at(const struct geo *g, uint64_t off)
{
	for (unsigned s = 0; s < g->slots; s++) {
		uint64_t from = geo_blk_off(g->journal_blk[s]);

		if (from && off >= from && off < from + geo_blk_off(g->journal_blks))
			return (int)s;
	}
	return -1;
}

static void judge_plain(const struct judged *j)
{
	const struct geo *g = j->dc->geo;
	uint64_t off = j->l->off_bytes;
	int journal = journal_at(g, off);

	if (!may_write(j->dc, j->inc) && !on_board(j->dc, off))
		dev_wrong(j, "a write of an incarnation that has no slot any more");
	if (journal >= 0) {
		if (j->dc->slot[journal].by != j->inc)
			dev_wrong(j, "writes in the journal of slot %d", journal);
	} else if (on_board(j->dc, off)) {
		judge_board(j);
	} else if (off >= LUNFS_SCRATCH_OFF && off < LUNFS_SCRATCH_OFF + LUNFS_SCRATCH_BYTES) {
		return;
	} else if (off >= LUNFS_ANCHOR_OFF && off < LUNFS_SCRATCH_OFF) {
		judge_blocks(j);
	} else if (off >= geo_blk_off(g->group0_blk) && off < geo_blk_off(g->end_blk)) {
		judge_blocks(j);
	} else {
		dev_wrong(j, "a plain write where none belongs");
	}
}

static void judge_ats(const struct judged *j)
{
	uint64_t off = j->l->off_bytes;

	if (off >= LUNFS_SCRATCH_OFF && off < LUNFS_SCRATCH_OFF + LUNFS_SCRATCH_BYTES)
		return;
	if (off >= LUNFS_HOST_TABLE_OFF && off < geo_slot_off(j->dc->slots)) {
		judge_slot(j, (unsigned)((off - LUNFS_HOST_TABLE_OFF) / LUNFS_SLOT_STRIDE));
		return;
	}
	if (off % LUNFS_BLOCK_BYTES)
		dev_wrong(j, "an ATS where no lock can be");
	judge_lock(j, off / LUNFS_BLOCK_BYTES);
}

bool devcheck_is_slot(const struct sim_run *r, uint64_t off_bytes)
{
	return off_bytes >= LUNFS_HOST_TABLE_OFF && off_bytes < geo_slot_off(r->dc->slots);
}

bool devcheck_is_meta(const struct sim_run *r, uint64_t off_bytes)
{
	const struct devcheck *dc = r->dc;

	uint64_t cell = off_bytes / LUNFS_BLOCK_BYTES;
	uint8_t pl[LUNFS_PAYLOAD_BYTES];
	const struct lunfs_blk_hdr *h = (const struct lunfs_blk_hdr *)pl;

	if (devcheck_is_slot(r, off_bytes))
		return true;
	if (cell >= dc->blks || !dc->is_cell[cell])
		return false;
	if (dc->is_cell[cell] == 2)
		cell--;
	simdev_peek(dc->m, geo_payload_off(dc->geo, cell), sizeof(pl), pl);
	return le64_get(h->guard) == cell;
}

static void on_landing(void *ctx, const struct simdev_landing *l)
{
	struct devcheck *dc = ctx;
	struct judged j = {.dc = dc, .l = l, .inc = run_inc_of_label(dc->r, l->label)};

	if (!j.inc)
		return;
	if (dc->lies) {
		lost_landing(&j);
		return;
	}
	if (l->op == SIMDEV_CAW)
		judge_ats(&j);
	else
		judge_plain(&j);
}

void devcheck_start(struct sim_run *r)
{
	struct devcheck *dc = calloc(1, sizeof(*dc));

	lunfs_assert(dc);
	dc->r = r;
	dc->geo = &r->t->geo;
	dc->m = r->t->medium;
	dc->slots = geo_all_slots(dc->geo);
	dc->blks = dc->geo->dev_blks;
	dc->is_cell = calloc(dc->blks, 1);
	lunfs_assert(dc->is_cell && dc->slots <= SLOTS_MAX);
	slots_load(dc);
	cells_load(dc);
	dc->lies = r->plan.profile == PROF_LIAR;
	r->dc = dc;
	simdev_set_monitor(dc->m, on_landing, dc);
}

void devcheck_stop(struct sim_run *r)
{
	simdev_set_monitor(r->dc->m, NULL, NULL);
	for (unsigned s = 0; s < SLOTS_MAX; s++)
		replay_forget(&r->dc->slot[s]);
	free(r->dc->is_cell);
	free(r->dc);
	r->dc = NULL;
}
