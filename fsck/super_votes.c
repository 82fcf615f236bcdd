/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The volume's id as the sectors at fixed places name it: maintenance sector, anchors with their
 * locks, host table. Each counts that has a valid checksum and names its own place. mkfs writes all
 * of these, so that nothing of an older volume is among them.
 */
#include "fsck/super_rebuild.h"

void read_what_can_be(struct dev *dev, uint64_t off, size_t len, uint8_t *buf)
{
	if (dev_read(dev, off, len, buf) == 0)
		return;
	for (size_t i = 0; i < len; i += BLK)
		if (dev_read(dev, off + i, BLK, buf + i))
			memset(buf + i, 0, BLK);
}

void read_fixed(struct dev *dev, uint8_t *fixed, uint8_t *table)
{
	read_what_can_be(dev, LUNFS_MAINT_OFF, FIXED_BYTES, fixed);
	read_what_can_be(dev, LUNFS_HOST_TABLE_OFF, TABLE_BYTES, table);
}

/* ---- what names an id ------------------------------------------------------------------------ */

static bool ats_ok_at(const void *rec, enum lunfs_ats_type type, uint64_t off)
{
	const struct lunfs_ats_hdr *h = rec;

	return le32_get(h->magic) == LUNFS_ATS_MAGIC && le16_get(h->type) == type &&
	       le64_get(h->sector_off) == off &&
	       crc_ok(rec, sizeof(struct lunfs_lock_rec), offsetof(struct lunfs_ats_hdr, crc));
}

/* A payload that is what it says, of whichever volume. */
static bool payload_ok(const void *pl, enum lunfs_blk_type type, uint64_t addr)
{
	struct geo any;

	memcpy(any.vol_id, ((const struct lunfs_blk_hdr *)pl)->vol_id, sizeof(any.vol_id));
	return blk_check(&any, pl, (uint16_t)type, addr) == 0;
}

const uint8_t *anchor_at(const uint8_t *fixed, int a, uint32_t payload_off)
{
	uint64_t cell = geo_anchor_cell((enum lunfs_anchor)a);
	const uint8_t *pl = fixed + geo_blk_off(cell) - LUNFS_MAINT_OFF + payload_off;

	return payload_ok(pl, LUNFS_BLK_ANCHOR, cell) ? pl : NULL;
}

const struct lunfs_slot_rec *slot_at(const uint8_t *table, unsigned slot)
{
	const struct lunfs_slot_rec *rec = (const void *)(table + slot * LUNFS_SLOT_STRIDE);

	return ats_ok_at(rec, LUNFS_ATS_SLOT, geo_slot_off(slot)) && le16_get(rec->slot) == slot
		   ? rec
		   : NULL;
}

/* ---- the votes ------------------------------------------------------------------------------- */

void vote(struct votes *v, const uint8_t id[16])
{
	if (v->n < MAX_VOTES && !mem_is_zero(id, 16))
		memcpy(v->id[v->n++], id, 16);
}

void vote_fixed(struct votes *v, const uint8_t *fixed, const uint8_t *table)
{
	if (ats_ok_at(fixed, LUNFS_ATS_MAINT, LUNFS_MAINT_OFF))
		vote(v, ((const struct lunfs_ats_hdr *)fixed)->vol_id);
	for (int a = 0; a < LUNFS_ANCHORS; a++) {
		uint64_t off = geo_blk_off(geo_anchor_cell((enum lunfs_anchor)a));
		const uint8_t *lock = fixed + off - LUNFS_MAINT_OFF, *pl = anchor_at(fixed, a, 512);

		if (ats_ok_at(lock, LUNFS_ATS_LOCK, off))
			vote(v, ((const struct lunfs_ats_hdr *)lock)->vol_id);
		pl = pl ? pl : anchor_at(fixed, a, BLK);
		if (pl)
			vote(v, ((const struct lunfs_blk_hdr *)pl)->vol_id);
	}
	for (unsigned i = 0; i < TABLE_SLOTS; i++)
		if (slot_at(table, i))
			vote(v, slot_at(table, i)->hdr.vol_id);
}

unsigned votes_for(const struct votes *v, const uint8_t id[16])
{
	unsigned n = 0;

	for (unsigned i = 0; i < v->n; i++)
		n += !memcmp(v->id[i], id, 16);
	return n;
}

unsigned count_votes(const struct votes *v, uint8_t winner[16])
{
	unsigned best = 0;

	for (unsigned i = 0; i < v->n; i++) {
		unsigned n = votes_for(v, v->id[i]);

		if (n > best) {
			best = n;
			memcpy(winner, v->id[i], 16);
		}
	}
	return best;
}

int super_elect(const uint8_t *fixed, const uint8_t *table, uint8_t winner[16], unsigned *votes,
		unsigned *all)
{
	struct votes *v = calloc(1, sizeof(*v));

	lunfs_assert(v);
	vote_fixed(v, fixed, table);
	*votes = count_votes(v, winner);
	*all = v->n;
	free(v);
	return *votes ? 0 : -ENOENT;
}

int super_vol_id(struct dev *dev, uint8_t vol_id[16])
{
	uint8_t *fixed = dev_buf_alloc(FIXED_BYTES), *table = dev_buf_alloc(TABLE_BYTES);
	unsigned votes, all;
	int rc = -ENOENT;

	if (dev->id.size_bytes >= LUNFS_MIN_BYTES) {
		read_fixed(dev, fixed, table);
		rc = super_elect(fixed, table, vol_id, &votes, &all);
	}
	free(fixed);
	free(table);
	return rc;
}
