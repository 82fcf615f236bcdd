/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A superblock made anew: what journal headers, host table and request board say of the volume's
 * layout.
 */
#include "fsck/super_rebuild.h"

#define JOURNAL_SCAN_BYTES (1028ull * MIB) /* to the end of the largest journal */
#define MIN_JOURNAL_BLKS 256u
#define MAX_JOURNAL_BLKS (1u << 18)

/* ---- journals -------------------------------------------------------------------------------- */

/* The headers that stand where they should, if journal 0 is at @first and all have @blks blocks. */
static unsigned count_fitting(const struct rebuild *r, uint64_t first, uint64_t blks)
{
	bool have[LUNFS_MAX_SLOTS] = {false};
	unsigned n = 0;

	for (unsigned i = 0; i < r->journals; i++) {
		const struct seen *s = &r->journal[i];

		if (s->blk != first + s->index * blks || s->blk + blks > r->g->group0_blk)
			continue;
		n += !have[s->index];
		have[s->index] = true;
	}
	return n;
}

/* By two headers: first journal and size. More that agree are better; the earlier is, else. */
static bool journals_from_pairs(struct rebuild *r)
{
	unsigned best = 1;

	for (unsigned i = 0; i < r->journals; i++)
		for (unsigned k = 0; k < r->journals; k++) {
			const struct seen *a = &r->journal[i], *b = &r->journal[k];
			uint64_t slots = b->index - a->index, blks = 0;
			unsigned n;

			if (b->index <= a->index || b->blk <= a->blk)
				continue;
			blks = (b->blk - a->blk) / slots;
			if (blks * slots != b->blk - a->blk || blks < MIN_JOURNAL_BLKS ||
			    blks > MAX_JOURNAL_BLKS || a->index * blks > a->blk ||
			    (a->blk - a->index * blks) % (MIB / BLK) != 0)
				continue;
			n = count_fitting(r, a->blk - a->index * blks, blks);
			if (n <= best)
				continue;
			best = n;
			r->journal0_blk = a->blk - a->index * blks;
			r->g->journal_blks = (uint32_t)blks;
		}
	return best > 1;
}

/* Journals of any multiple of 4 KiB: block by block, behind the first header to the next. */
static void scan_for_journals(struct rebuild *r)
{
	uint64_t off = (r->journals ? geo_blk_off(r->journal[0].blk) : LUNFS_BOARD_OFF) + MIB;
	uint64_t end = geo_blk_off(r->g->group0_blk), before = r->journals;
	uint8_t *buf = dev_buf_alloc(MIB);

	if (end - LUNFS_BOARD_OFF > JOURNAL_SCAN_BYTES && end > off + JOURNAL_SCAN_BYTES)
		end = off + JOURNAL_SCAN_BYTES;
	for (; off + BLK <= end && r->journals < before + 2; off += MIB) {
		size_t len = end - off < MIB ? (size_t)(end - off) : MIB;

		read_what_can_be(r->dev, off, len, buf);
		for (size_t i = 0; i < len; i += BLK)
			if ((off + i) % STEP_BYTES)
				rebuild_note_journal(r, (off + i) / BLK, buf + i);
	}
	free(buf);
}

static uint64_t usual_journal_blks(const struct dev *dev, unsigned journals)
{
	uint64_t bytes = power_below(dev->id.size_bytes / 64 / journals);

	return (bytes < MIB ? MIB : bytes > 64 * MIB ? 64 * MIB : bytes) / BLK;
}

/* One header, or none: the size is what mkfs takes if nothing is said, if that fits, else all. */
static bool journals_by_rule(struct rebuild *r)
{
	unsigned n = r->orphans ? r->orphans : 1;
	uint64_t blks = usual_journal_blks(r->dev, n), room;
	struct geo *g = r->g;

	r->out->guessed_journals = true;
	if (r->journals) {
		r->journal0_blk = r->journal[0].blk - r->journal[0].index * blks;
		n = r->journal[0].index >= n ? (unsigned)r->journal[0].index + 1 : n;
	} else {
		r->journal0_blk = g->group0_blk - round_up(n * blks, MIB / BLK);
	}
	if (r->journal0_blk >= g->group0_blk || r->journal0_blk <= LUNFS_BOARD_OFF / BLK)
		return false;
	room = (g->group0_blk - r->journal0_blk) / n;
	if (room != blks && room * n < blks * n)
		blks = room;
	if (n == 1 && r->journals)
		blks = room > MAX_JOURNAL_BLKS ? MAX_JOURNAL_BLKS : room;
	g->journal_blks = (uint32_t)blks;
	return blks >= MIN_JOURNAL_BLKS;
}

/*
 * They fill the room before group 0, but for its alignment; each has an orphan directory. Of those
 * three numbers the one counts that another confirms.
 */
static unsigned count_journals(const struct rebuild *r)
{
	uint64_t room = (r->g->group0_blk - r->journal0_blk) / r->g->journal_blks;
	unsigned last = 0;

	for (unsigned i = 0; i < r->journals; i++) {
		const struct seen *s = &r->journal[i];

		if (s->blk == r->journal0_blk + s->index * r->g->journal_blks && s->index >= last)
			last = (unsigned)s->index + 1;
	}
	if (room > LUNFS_MAX_SLOTS)
		room = LUNFS_MAX_SLOTS;
	if (r->orphans == room || last == room || (!last && !r->orphans))
		return (unsigned)room;
	if (r->orphans >= last && r->orphans <= room)
		return r->orphans;
	return last;
}

int rebuild_journals(struct rebuild *r)
{
	struct geo *g = r->g;

	if (!journals_from_pairs(r)) {
		scan_for_journals(r);
		if (!journals_from_pairs(r) && !journals_by_rule(r))
			return rebuild_fail(r, "no journal header is left where one should be");
	}
	g->journals = count_journals(r);
	if (!g->journals)
		return rebuild_fail(r, "there is no room for a journal");
	for (unsigned i = 0; i < g->journals; i++)
		g->journal_blk[i] = r->journal0_blk + (uint64_t)i * g->journal_blks;
	r->out->journals_seen = count_fitting(r, r->journal0_blk, g->journal_blks);
	return 0;
}

/* ---- host table and request board ------------------------------------------------------------ */

static uint64_t row_bytes(unsigned slots, uint32_t sector)
{
	return round_up((uint64_t)(slots + LUNFS_SPARE_SLOTS) * sector, BLK);
}

static uint64_t board_end(unsigned slots, uint32_t sector)
{
	return LUNFS_BOARD_OFF + (slots + LUNFS_SPARE_SLOTS) * row_bytes(slots, sector);
}

/* 2: the journals begin just behind such a board; 1: it fits; 0: it does not. */
static int board_fits(const struct rebuild *r, unsigned slots, uint32_t sector)
{
	uint64_t j0 = geo_blk_off(r->journal0_blk);

	if (slots < r->g->journals || slots < 1 || slots > LUNFS_MAX_SLOTS ||
	    board_end(slots, sector) > j0)
		return 0;
	return round_up(board_end(slots, sector), MIB) == j0 ? 2 : 1;
}

/* Sectors of the request board that stand where they would with that sector size. */
static unsigned count_board(struct rebuild *r, unsigned slots, uint32_t sector)
{
	uint64_t row = row_bytes(slots, sector);
	uint8_t *buf = dev_buf_alloc(row);
	unsigned n = 0;

	for (unsigned i = 0; i < slots + LUNFS_SPARE_SLOTS; i++) {
		read_what_can_be(r->dev, LUNFS_BOARD_OFF + i * row, row, buf);
		for (unsigned k = 0; k < slots + LUNFS_SPARE_SLOTS; k++) {
			const struct lunfs_board_sec *b = (const void *)(buf + (size_t)k * sector);

			n += le32_get(b->magic) == LUNFS_BOARD_MAGIC && ours(r, b->vol_id) &&
			     crc_ok(b, sizeof(*b), offsetof(struct lunfs_board_sec, crc)) &&
			     le16_get(b->row) == i && le16_get(b->column) == k;
		}
	}
	free(buf);
	return n;
}

/* Cells of two blocks on what can be had with either sector size. */
static uint32_t choose_sector(struct rebuild *r, unsigned slots)
{
	int small = board_fits(r, slots, 512), big = board_fits(r, slots, BLK);
	unsigned n_small, n_big;

	if (small != big)
		return small > big ? 512 : BLK;
	n_small = small ? count_board(r, slots, 512) : 0;
	n_big = big ? count_board(r, slots, BLK) : 0;
	r->out->guessed_sector = n_small == n_big;
	return n_small > n_big ? 512 : BLK;
}

static uint32_t sector_for(struct rebuild *r, unsigned slots)
{
	if (r->dev->id.sector_bytes == BLK && !r->any_sector)
		return BLK;
	if (r->g->cell_blks == 1 || !r->any_sector)
		return 512;
	return choose_sector(r, slots);
}

/*
 * As many slots as the table has; the last ones may be damaged, then it is mkfs's number, if what
 * is behind the table stands there.
 */
int rebuild_slots(struct rebuild *r)
{
	unsigned usual = r->dev->id.size_bytes >= GIB ? 64 : 8, have = 0, slots;
	struct geo *g = r->g;
	uint32_t sector;

	if (g->cell_blks == 1 && r->dev->id.sector_bytes == BLK && !r->any_sector)
		return rebuild_fail(r, "it was made for sectors of 512 bytes, the device has 4096");
	if (r->table_slots > LUNFS_SPARE_SLOTS)
		have = r->table_slots - LUNFS_SPARE_SLOTS;
	if (usual < g->journals)
		usual = g->journals;
	slots = usual > have ? usual : have;
	sector = sector_for(r, slots);
	if (board_fits(r, slots, sector) < 2 && have) {
		uint32_t other = sector_for(r, have);

		if (board_fits(r, have, other) > board_fits(r, slots, sector)) {
			slots = have;
			sector = other;
		}
	}
	if (!board_fits(r, slots, sector))
		return rebuild_fail(r,
				    "host table, request board and journals do not fit together");
	g->slots = slots;
	g->sector_bytes = sector;
	g->payload_io_bytes = sector == BLK ? BLK : LUNFS_PAYLOAD_BYTES;
	g->board_row_bytes = row_bytes(slots, sector);
	return 0;
}
