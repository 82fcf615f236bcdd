/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Slots of the host table and the maintenance sector: from disk to core, from core to disk. What
 * passes the decoders is in range; no decision is made in here.
 */
#include "cluster/host_impl.h"

#include <errno.h>
#include <string.h>

#define LEASE_LIMIT_MS 86400000u /* a day: nobody means more */

static bool timing_ok(const struct host_info *hi)
{
	if (hi->state == LUNFS_SLOT_FREE)
		return hi->lease_ms <= LEASE_LIMIT_MS;
	return hi->beat_ms && hi->beat_ms < hi->lease_ms && hi->deadline_ms < hi->lease_ms &&
	       hi->lease_ms <= LEASE_LIMIT_MS;
}

static bool recoverer_ok(const struct geo *g, const struct host_info *hi)
{
	if (hi->state != LUNFS_SLOT_RECOVERING)
		return hi->recoverer == 0;
	return LUNFS_OWNER_GEN(hi->recoverer) &&
	       LUNFS_OWNER_SLOT(hi->recoverer) < geo_all_slots(g) &&
	       LUNFS_OWNER_SLOT(hi->recoverer) != hi->slot;
}

static bool ranges_ok(const struct geo *g, const struct lunfs_slot_rec *rec,
		      const struct host_info *hi)
{
	if (hi->state > LUNFS_SLOT_RECOVERING || hi->fence > LUNFS_FENCE_WATCHDOG)
		return false;
	if (hi->flags & ~HOST_FLAG_READ_ONLY || !mem_is_zero(rec->reserved, sizeof(rec->reserved)))
		return false;
	if (hi->generation >= LUNFS_GEN_LIMIT || LUNFS_OWNER_GEN(hi->recoverer) >= LUNFS_GEN_LIMIT)
		return false;
	if (hi->state != LUNFS_SLOT_FREE && (!hi->generation || !hi->nonce))
		return false;
	return timing_ok(hi) && recoverer_ok(g, hi);
}

/* What people read must not upset their terminal. */
static void name_copy(char *out, const uint8_t *in)
{
	size_t n = 0;

	for (; n < LUNFS_HOSTNAME_BYTES && in[n]; n++)
		out[n] = (char)(in[n] < 0x20 || in[n] == 0x7f ? '?' : in[n]);
	out[n] = '\0';
}

int slot_rec_decode(const struct geo *g, const struct lunfs_slot_rec *rec, unsigned slot,
		    struct host_info *out)
{
	struct host_info hi = {
	    .slot = slot,
	    .state = le16_get(rec->state),
	    .generation = le64_get(rec->generation),
	    .nonce = le64_get(rec->nonce),
	    .beat_seq = le64_get(rec->beat_seq),
	    .recoverer = le64_get(rec->recoverer),
	    .claim_time_s = le64_get(rec->claim_time_s),
	    .beat_ms = le32_get(rec->beat_ms),
	    .deadline_ms = le32_get(rec->deadline_ms),
	    .lease_ms = le32_get(rec->lease_ms),
	    .pid = le32_get(rec->pid),
	    .fence = le16_get(rec->fence),
	    .flags = le16_get(rec->flags),
	    .pid_start = le64_get(rec->pid_start),
	    .pid_ns = le64_get(rec->pid_ns),
	};

	if (le16_get(rec->slot) != slot || !ranges_ok(g, rec, &hi))
		return -EUCLEAN;
	memcpy(hi.machine_id, rec->machine_id, sizeof(hi.machine_id));
	memcpy(hi.boot_id, rec->boot_id, sizeof(hi.boot_id));
	name_copy(hi.hostname, rec->hostname);
	*out = hi;
	return 0;
}

int slot_decode(const struct geo *g, const void *sector, unsigned slot, struct host_info *out)
{
	if (slot >= geo_all_slots(g) ||
	    ats_hdr_check(g, sector, LUNFS_ATS_SLOT, geo_slot_off(slot)))
		return -EUCLEAN;
	return slot_rec_decode(g, sector, slot, out);
}

void slot_format(const struct geo *g, void *sector, unsigned slot, uint64_t nonce)
{
	struct lunfs_slot_rec *rec = sector;

	memset(sector, 0, g->sector_bytes);
	rec->state = le16_make(LUNFS_SLOT_FREE);
	rec->slot = le16_make((uint16_t)slot);
	ats_hdr_format(g, sector, LUNFS_ATS_SLOT, geo_slot_off(slot), nonce);
}

/* Inside the log part of the journal of one slot. */
static bool redo_place_ok(const struct geo *g, const struct maint_info *mi)
{
	for (unsigned i = 0; i < g->slots; i++) {
		uint64_t first = g->journal_blk[i] + 1, end = g->journal_blk[i] + g->journal_blks;

		if (g->journal_blk[i] && mi->redo_blk >= first && mi->redo_blk < end &&
		    mi->redo_blks >= 1 && mi->redo_blks <= end - mi->redo_blk)
			return true;
	}
	return false;
}

int maint_decode(const struct geo *g, const void *sector, struct maint_info *out)
{
	const struct lunfs_maint_rec *rec = sector;
	struct maint_info mi = {.holder = le64_get(rec->holder),
				.flags = le32_get(rec->flags),
				.redo_blk = le64_get(rec->redo_blk),
				.redo_blks = le32_get(rec->redo_blks),
				.redo_crc = le32_get(rec->redo_crc)};

	if (ats_hdr_check(g, sector, LUNFS_ATS_MAINT, LUNFS_MAINT_OFF) ||
	    !mem_is_zero(rec->reserved, sizeof(rec->reserved)))
		return -EUCLEAN;
	if (mi.flags & LUNFS_MAINT_REDO ? !redo_place_ok(g, &mi)
					: mi.redo_blk || mi.redo_blks || mi.redo_crc)
		return -EUCLEAN;
	*out = mi;
	return 0;
}

void maint_encode(const struct maint_info *mi, struct lunfs_maint_rec *rec)
{
	memset(rec, 0, sizeof(*rec));
	rec->holder = le64_make(mi->holder);
	rec->flags = le32_make(mi->flags);
	rec->redo_blk = le64_make(mi->redo_blk);
	rec->redo_blks = le32_make(mi->redo_blks);
	rec->redo_crc = le32_make(mi->redo_crc);
}

void maint_format(const struct geo *g, void *sector, uint64_t nonce)
{
	memset(sector, 0, g->sector_bytes);
	ats_hdr_format(g, sector, LUNFS_ATS_MAINT, LUNFS_MAINT_OFF, nonce);
}
