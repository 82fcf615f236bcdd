/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Host table, maintenance sector, journals' headers, request board, anchors. Damaged slots are made
 * free at the end of a round (finish_hosts), when all incarnations that the volume mentions are
 * known.
 */
#include "base/crc.h"
#include "fsck/fsck.h"
#include "txn/txn.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- slots ----------------------------------------------------------------------------------- */

static void not_free(struct fsck *f, unsigned slot)
{
	const struct host_info *hi = &f->slot[slot];
	bool fix;

	f->hosts_not_free++;
	if (!f->store.maint) {
		problem(&f->problems, PROBLEM_HOST_NOT_FREE, slot,
			"slot %u (host %s) is %s: if that host is gone, mount the volume once to "
			"recover it, or run fsck.lunfs without -n; if it is mounted, unmount it "
			"before the check",
			slot, hi->hostname,
			hi->state == LUNFS_SLOT_LIVE ? "live" : "being recovered");
		return;
	}
	fix = problem(&f->problems, PROBLEM_HOST_NOT_FREE, slot,
		      "slot %u (host %s) is dead and its journal cannot be replayed; what that "
		      "host committed last may be lost",
		      slot, hi->hostname);
	f->slot_reset[slot] = fix;
	/* A journal that is kept is replayed one day, over whatever was repaired before that. */
	f->problems.stopped |= !fix;
}

static void check_slot(struct fsck *f, unsigned slot, void *buf)
{
	int rc = store_read(&f->store, geo_slot_off(slot), f->geo.sector_bytes, buf);

	if (rc == 0)
		rc = slot_decode(&f->geo, buf, slot, &f->slot[slot]);
	if (rc) {
		f->slot_reset[slot] =
		    problem(&f->problems, PROBLEM_HOST_SLOT, slot, "slot %u: %s", slot,
			    rc == -EUCLEAN ? "the record fails its checks" : strerror(-rc));
		return;
	}
	f->slot_ok[slot] = true;
	note_generation(f, f->slot[slot].generation);
	if (f->slot[slot].state != LUNFS_SLOT_FREE &&
	    !(f->store.maint && slot == maint_slot(f->store.maint)))
		not_free(f, slot);
}

void note_generation(struct fsck *f, uint64_t generation)
{
	if (generation > f->max_generation)
		f->max_generation = generation;
}

static int reset_slot(struct fsck *f, unsigned slot)
{
	uint8_t *sector = dev_buf_alloc(f->geo.sector_bytes);
	struct lunfs_slot_rec *rec = (void *)sector;
	int rc;

	slot_format(&f->geo, sector, slot, f->nonce);
	rec->generation = le64_make(f->max_generation + (f->max_generation < LUNFS_GEN_LIMIT - 1));
	crc_seal(rec, sizeof(*rec), offsetof(struct lunfs_ats_hdr, crc));
	rc = store_write(&f->store, geo_slot_off(slot), f->geo.sector_bytes, sector);
	free(sector);
	return rc;
}

int finish_hosts(struct fsck *f)
{
	int rc = 0;

	for (unsigned s = 0; s < geo_all_slots(&f->geo) && rc == 0; s++)
		if (f->slot_reset[s])
			rc = reset_slot(f, s);
	return rc;
}

/* ---- maintenance sector ---------------------------------------------------------------------- */

static bool holder_possible(const struct fsck *f, uint64_t holder)
{
	unsigned slot = LUNFS_OWNER_SLOT(holder);

	return holder == 0 ||
	       (slot < geo_all_slots(&f->geo) &&
		(!f->slot_ok[slot] || LUNFS_OWNER_GEN(holder) <= f->slot[slot].generation));
}

/* With the claim it holds what we set; it is set anew when the claim ends. */
static void check_maint(struct fsck *f, void *buf)
{
	struct maint_info mi;
	int rc = store_read(&f->store, LUNFS_MAINT_OFF, f->geo.sector_bytes, buf);

	if (f->round > 1)
		return;
	if (rc == 0)
		rc = maint_decode(&f->geo, buf, &mi);
	if (rc == 0 && !holder_possible(f, mi.holder))
		rc = -EUCLEAN;
	if (f->store.maint && maint_was_damaged(f->store.maint))
		rc = -EUCLEAN;
	if (rc)
		problem(&f->problems, PROBLEM_MAINT, LUNFS_MAINT_OFF / LUNFS_BLOCK_BYTES, "%s",
			rc == -EUCLEAN ? "it fails its checks" : strerror(-rc));
	else if (mi.flags & LUNFS_MAINT_MUST_FSCK)
		problem(&f->problems, PROBLEM_MUST_CHECK, LUNFS_MAINT_OFF / LUNFS_BLOCK_BYTES,
			"the volume cannot be mounted before it was checked");
}

/* ---- journals -------------------------------------------------------------------------------- */

static int check_journal(struct fsck *f, unsigned slot, uint8_t *buf)
{
	const struct lunfs_jhdr *h = (const void *)buf;
	uint64_t blk = f->geo.journal_blk[slot];
	int rc;

	if (blk == 0)
		return 0;
	if (blk >= f->geo.group0_blk)
		f->journals_in_groups = true;
	rc = store_read(&f->store, geo_blk_off(blk), LUNFS_BLOCK_BYTES, buf);
	if (rc == 0 &&
	    (le32_get(h->magic) != LUNFS_JHDR_MAGIC ||
	     !crc_ok(buf, sizeof(*h), offsetof(struct lunfs_jhdr, crc)) ||
	     memcmp(h->vol_id, f->geo.vol_id, 16) != 0 || le16_get(h->slot) != slot ||
	     le16_get(h->reserved0) || !mem_is_zero(h->reserved1, sizeof(h->reserved1)) ||
	     le32_get(h->tail_blk) < 1 || le32_get(h->tail_blk) >= f->geo.journal_blks ||
	     le64_get(h->tail_seq) < 1))
		rc = -EUCLEAN;
	if (rc == 0 || !problem(&f->problems, PROBLEM_JOURNAL, blk, "journal of slot %u: %s", slot,
				rc == -EUCLEAN ? "it fails its checks" : strerror(-rc)))
		return 0;
	journal_format(&f->geo, slot, buf);
	return store_write(&f->store, geo_blk_off(blk), LUNFS_BLOCK_BYTES, buf);
}

/* ---- request board --------------------------------------------------------------------------- */

static bool wishes_ok(const struct lunfs_board_sec *b)
{
	return le16_get(b->wishes) <= LUNFS_WISHES && le16_get(b->reserved0) == 0 &&
	       mem_is_zero(b->reserved1, sizeof(b->reserved1));
}

static int check_board_sector(struct fsck *f, unsigned row, unsigned col, uint8_t *sec)
{
	const struct lunfs_board_sec *b = (const void *)sec;
	uint64_t off = geo_board_off(&f->geo, row, col);

	if (mem_is_zero(sec, sizeof(*b)))
		return 0;
	if (le32_get(b->magic) == LUNFS_BOARD_MAGIC &&
	    crc_ok(b, sizeof(*b), offsetof(struct lunfs_board_sec, crc)) &&
	    memcmp(b->vol_id, f->geo.vol_id, 16) == 0 && le16_get(b->row) == row &&
	    le16_get(b->column) == col && wishes_ok(b))
		return 0;
	if (!problem(&f->problems, PROBLEM_BOARD, off / 512, "row %u, column %u", row, col))
		return 0;
	memset(sec, 0, f->geo.sector_bytes);
	return store_write(&f->store, off, f->geo.sector_bytes, sec);
}

static int check_board_row(struct fsck *f, unsigned r, uint8_t *row)
{
	uint64_t off = geo_board_off(&f->geo, r, 0);
	int rc = store_read(&f->store, off, f->geo.board_row_bytes, row);

	if (rc && problem(&f->problems, PROBLEM_READ, off / LUNFS_BLOCK_BYTES,
			  "request board, row %u: %s", r, strerror(-rc))) {
		memset(row, 0, f->geo.board_row_bytes);
		return store_write(&f->store, off, f->geo.board_row_bytes, row);
	}
	if (rc)
		return 0;
	for (unsigned c = 0; c < geo_all_slots(&f->geo) && rc == 0; c++)
		rc = check_board_sector(f, r, c, row + (size_t)c * f->geo.sector_bytes);
	return rc;
}

static int check_board(struct fsck *f)
{
	uint8_t *row = dev_buf_alloc(f->geo.board_row_bytes);
	int rc = 0;

	for (unsigned r = 0; r < geo_all_slots(&f->geo) && rc == 0; r++)
		rc = check_board_row(f, r, row);
	free(row);
	return rc;
}

/* ---- anchors --------------------------------------------------------------------------------- */

static bool header_ok(struct fsck *f, uint64_t g)
{
	uint8_t sector[LUNFS_BLOCK_BYTES], payload[LUNFS_PAYLOAD_BYTES];
	struct group_info gi;

	return peek_cell(f, geo_group_header(&f->geo, g), sector, payload) == 0 &&
	       group_decode(&f->geo, payload, g, &gi) == 0;
}

/* Groups are initialised in order; what an older volume left has another volume id. */
static uint64_t count_groups(struct fsck *f)
{
	uint64_t last = 0;

	for (uint64_t g = 0; g < f->geo.groups; g++) {
		progress(f, "watermark", g, f->geo.groups);
		if (header_ok(f, g))
			last = g;
	}
	progress(f, "watermark", 1, 1);
	return last + 1;
}

/* @value: of the watermark, 0 in the others. */
static int write_anchor(struct fsck *f, enum lunfs_anchor a, uint64_t value)
{
	uint8_t payload[LUNFS_PAYLOAD_BYTES] = {0};
	struct lunfs_anchor_pl *pl = (void *)payload;
	uint64_t addr = geo_anchor_cell(a);

	blk_init(&f->geo, payload, LUNFS_BLK_ANCHOR, addr, 0, addr, 0);
	pl->value = le64_make(value);
	return write_cell(f, addr, payload, true);
}

/* The last group that is in use may have lost its header, too (low_watermark()). */
static void guess_watermark(struct fsck *f)
{
	f->watermark = count_groups(f);
	f->watermark_guessed = true;
}

static int check_watermark(struct fsck *f, const struct lunfs_anchor_pl *pl)
{
	uint64_t addr = geo_anchor_cell(LUNFS_ANCHOR_WATERMARK);
	bool fix;

	f->watermark = le64_get(pl->value);
	if (f->watermark >= 1 && f->watermark <= f->geo.groups)
		return 0;
	fix = problem(&f->problems, PROBLEM_WATERMARK, addr, "%llu of %llu groups",
		      (unsigned long long)f->watermark, (unsigned long long)f->geo.groups);
	guess_watermark(f);
	return fix ? write_anchor(f, LUNFS_ANCHOR_WATERMARK, f->watermark) : 0;
}

/*
 * A group's header alone tells nothing: that of a host that died before it had raised the watermark
 * stands there as well, and the next one writes the group again. So only what is wanted of it does.
 * Where the watermark was lost and had to be taken from the headers, the one behind the last of
 * them is believed without.
 */
bool low_watermark(struct fsck *f, uint64_t blk)
{
	uint64_t g, n;

	if (f->restart)
		return true;
	if (f->watermark_told || !blk_range_ok(&f->geo, blk, 1))
		return false;
	g = geo_group_of(&f->geo, blk);
	if (g < f->watermark || !(header_ok(f, g) || (f->watermark_guessed && g == f->watermark)))
		return false;
	f->watermark_told = true;
	if (!problem(&f->problems, PROBLEM_WATERMARK, geo_anchor_cell(LUNFS_ANCHOR_WATERMARK),
		     "%llu groups, but block %llu of group %llu is in use",
		     (unsigned long long)f->watermark, (unsigned long long)blk,
		     (unsigned long long)g))
		return false;
	n = count_groups(f);
	if (write_anchor(f, LUNFS_ANCHOR_WATERMARK, n > g ? n : g + 1))
		return false;
	f->restart = true;
	return true;
}

static int check_anchor(struct fsck *f, enum lunfs_anchor a)
{
	static const char *const names[] = {"volume lock", "rename lock", "group watermark"};
	uint8_t sector[LUNFS_BLOCK_BYTES], payload[LUNFS_PAYLOAD_BYTES];
	const struct lunfs_anchor_pl *pl = (const void *)payload;
	uint64_t addr = geo_anchor_cell(a);
	int rc = peek_cell(f, addr, sector, payload);

	if (rc == 0 &&
	    (blk_check(&f->geo, payload, LUNFS_BLK_ANCHOR, addr) ||
	     le64_get(pl->hdr.guard) != addr || !mem_is_zero(pl->reserved, sizeof(pl->reserved)) ||
	     (a != LUNFS_ANCHOR_WATERMARK && le64_get(pl->value))))
		rc = -EUCLEAN;
	if (rc) {
		bool mark = a == LUNFS_ANCHOR_WATERMARK;
		bool fix =
		    problem(&f->problems, PROBLEM_ANCHOR, addr, "anchor of the %s: %s", names[a],
			    rc == -EUCLEAN ? "it fails its checks" : strerror(-rc));

		if (mark)
			guess_watermark(f);
		if (fix)
			fix = lose_cell(f, addr) == 0; /* parts of it may be unreadable */
		return fix ? write_anchor(f, a, mark ? f->watermark : 0) : 0;
	}
	rc = check_lock(f, addr, sector, payload);
	return rc || a != LUNFS_ANCHOR_WATERMARK ? rc : check_watermark(f, pl);
}

static int check_anchors(struct fsck *f)
{
	int rc = 0;

	f->watermark_guessed = false;
	for (int a = 0; a < LUNFS_ANCHORS; a++) {
		int rc2 = check_anchor(f, (enum lunfs_anchor)a);

		if (a == LUNFS_ANCHOR_WATERMARK)
			rc = rc2;
	}
	return rc;
}

int pass_hosts(struct fsck *f)
{
	uint8_t *buf = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	int rc = 0;

	memset(f->slot_reset, 0, sizeof(f->slot_reset));
	for (unsigned s = 0; s < geo_all_slots(&f->geo); s++)
		check_slot(f, s, buf);
	check_maint(f, buf);
	for (unsigned s = 0; s < f->geo.slots && rc == 0; s++)
		rc = check_journal(f, s, buf);
	free(buf);
	if (rc == 0)
		rc = check_board(f);
	if (rc == 0)
		rc = check_anchors(f);
	return rc ? rc : maps_init(f);
}
