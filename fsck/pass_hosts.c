/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Host table, maintenance sector, journals' headers, request board, anchors. */
#include "base/crc.h"
#include "fsck/fsck.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void check_slot(struct fsck *f, unsigned slot, void *buf)
{
	int rc = store_read(&f->store, geo_slot_off(slot), f->geo.sector_bytes, buf);

	if (rc == 0)
		rc = slot_decode(&f->geo, buf, slot, &f->slot[slot]);
	if (rc) {
		problem(&f->problems, PROBLEM_HOST_SLOT, geo_slot_off(slot) / LUNFS_BLOCK_BYTES,
			"slot %u: %s", slot, strerror(-rc));
		return;
	}
	f->slot_ok[slot] = true;
	if (f->slot[slot].state == LUNFS_SLOT_FREE)
		return;
	f->hosts_not_free++;
	problem(
	    &f->problems, PROBLEM_HOST_NOT_FREE, 0,
	    "slot %u (host %s) is %s: if that host is gone, mount the volume once to recover it; "
	    "if it is mounted, unmount it before the check",
	    slot, f->slot[slot].hostname,
	    f->slot[slot].state == LUNFS_SLOT_LIVE ? "live" : "being recovered");
}

static void check_maint(struct fsck *f, void *buf)
{
	const struct lunfs_maint_rec *m = buf;
	struct ats a = {.env = {.dev = f->dev, .geo = &f->geo}};
	int rc = store_read(&f->store, LUNFS_MAINT_OFF, f->geo.sector_bytes, buf);

	if (rc == 0)
		rc = ats_check(&a, buf, LUNFS_ATS_MAINT, LUNFS_MAINT_OFF);
	if (rc)
		problem(&f->problems, PROBLEM_MAINT, LUNFS_MAINT_OFF / LUNFS_BLOCK_BYTES, "%s",
			strerror(-rc));
	else if (le32_get(m->flags) & LUNFS_MAINT_MUST_FSCK)
		problem(&f->problems, PROBLEM_MAINT, LUNFS_MAINT_OFF / LUNFS_BLOCK_BYTES,
			"an unfinished repair left its mark");
}

static void check_journal(struct fsck *f, unsigned slot, void *buf)
{
	const struct lunfs_jhdr *h = buf;
	uint64_t blk = f->geo.journal_blk[slot];
	int rc;

	if (blk == 0)
		return;
	rc = store_read(&f->store, geo_blk_off(blk), LUNFS_BLOCK_BYTES, buf);
	if (rc == 0 && (le32_get(h->magic) != LUNFS_JHDR_MAGIC ||
			!crc_ok(buf, sizeof(*h), offsetof(struct lunfs_jhdr, crc)) ||
			memcmp(h->vol_id, f->geo.vol_id, 16) != 0 || le16_get(h->slot) != slot ||
			le32_get(h->tail_blk) < 1 || le32_get(h->tail_blk) >= f->geo.journal_blks))
		rc = -EUCLEAN;
	if (rc)
		problem(&f->problems, PROBLEM_JOURNAL, blk, "journal of slot %u: %s", slot,
			strerror(-rc));
}

static void check_board_sector(struct fsck *f, unsigned row, unsigned col, const void *sec)
{
	const struct lunfs_board_sec *b = sec;

	if (mem_is_zero(sec, sizeof(*b)))
		return;
	if (le32_get(b->magic) != LUNFS_BOARD_MAGIC ||
	    !crc_ok(b, sizeof(*b), offsetof(struct lunfs_board_sec, crc)) ||
	    memcmp(b->vol_id, f->geo.vol_id, 16) != 0 || le16_get(b->row) != row ||
	    le16_get(b->column) != col || le16_get(b->wishes) > LUNFS_WISHES)
		problem(&f->problems, PROBLEM_BOARD,
			geo_board_off(&f->geo, row, col) / LUNFS_BLOCK_BYTES, "row %u, column %u",
			row, col);
}

static void check_board(struct fsck *f)
{
	uint8_t *row = dev_buf_alloc(f->geo.board_row_bytes);
	unsigned n = geo_all_slots(&f->geo);

	for (unsigned r = 0; r < n; r++) {
		if (store_read(&f->store, geo_board_off(&f->geo, r, 0), f->geo.board_row_bytes,
			       row)) {
			problem(&f->problems, PROBLEM_READ, 0, "request board, row %u", r);
			continue;
		}
		for (unsigned c = 0; c < n; c++)
			check_board_sector(f, r, c, row + (size_t)c * f->geo.sector_bytes);
	}
	free(row);
}

static int check_anchor(struct fsck *f, enum lunfs_anchor a)
{
	uint8_t sector[512], payload[LUNFS_PAYLOAD_BYTES];
	const struct lunfs_anchor_pl *pl = (const void *)payload;
	uint64_t addr = geo_anchor_cell(a);

	if (read_cell(f, addr, sector, payload))
		return -EIO;
	if (blk_check(&f->geo, payload, LUNFS_BLK_ANCHOR, addr)) {
		problem(&f->problems, PROBLEM_ANCHOR, addr, "anchor %d", (int)a);
		return -EUCLEAN;
	}
	check_lock(f, addr, sector, le64_get(pl->hdr.version));
	if (a != LUNFS_ANCHOR_WATERMARK)
		return 0;
	f->watermark = le64_get(pl->value);
	if (f->watermark == 0 || f->watermark > f->geo.groups) {
		problem(&f->problems, PROBLEM_WATERMARK, addr, "%llu of %llu groups",
			(unsigned long long)f->watermark, (unsigned long long)f->geo.groups);
		return -EUCLEAN;
	}
	return 0;
}

int pass_hosts(struct fsck *f)
{
	void *buf = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	int rc = 0;

	for (unsigned s = 0; s < geo_all_slots(&f->geo); s++)
		check_slot(f, s, buf);
	check_maint(f, buf);
	for (unsigned s = 0; s < f->geo.slots; s++)
		check_journal(f, s, buf);
	free(buf);
	check_board(f);
	for (int a = 0; a < LUNFS_ANCHORS; a++) {
		int rc2 = check_anchor(f, (enum lunfs_anchor)a);

		if (a == LUNFS_ANCHOR_WATERMARK)
			rc = rc2;
	}
	return rc ? rc : maps_init(f);
}
