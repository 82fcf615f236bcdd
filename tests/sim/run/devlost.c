/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which lost writes nobody can notice. A lock record says which version of its payload is the last,
 * but only since that lock was last given up: whoever holds it knows better, and keeps what it
 * wrote in memory. A payload that is lost in the latest possession of a host that then leaves, or
 * dies, without giving the lock up is as good as any to those who come after it. Nor do contents of
 * files say how old they are, where a roll-back takes nothing else back.
 */
#include "devcheck_impl.h"

#include <string.h>

static bool possession_goes_on(const struct lost_write *w, const struct lunfs_lock_rec *r)
{
	return le16_get(r->mode) == LUNFS_LOCK_EXCL && le64_get(r->owner) == w->owner &&
	       le64_get(r->possession_seq) == w->possession;
}

static void forget(struct devcheck *dc, unsigned k)
{
	dc->lost[k] = dc->lost[--dc->n_lost];
}

void devcheck_lose(struct sim_run *r, struct inc *i, uint64_t off_bytes)
{
	struct devcheck *dc = r->dc;
	uint64_t cell = off_bytes / LUNFS_BLOCK_BYTES;
	struct lunfs_lock_rec rec;

	if (dc->is_cell[cell] == 2)
		cell--;
	if (!i || !lock_rec_at(dc, cell, &rec) || le16_get(rec.mode) != LUNFS_LOCK_EXCL)
		return;
	for (unsigned k = 0; k < dc->n_lost; k++)
		if (dc->lost[k].cell == cell)
			forget(dc, k--);
	if (dc->n_lost == LOST_WRITES_MAX)
		return;
	dc->lost[dc->n_lost++] =
	    (struct lost_write){cell, le64_get(rec.owner), le64_get(rec.possession_seq), i};
}

static void lock_changes(struct devcheck *dc, unsigned k, const struct judged *j)
{
	const struct lost_write *w = &dc->lost[k];
	struct lunfs_lock_rec now;

	if (lock_rec_decode(dc->geo, j->l->data, w->cell, &now) || possession_goes_on(w, &now))
		return;
	dc->unseen |= j->inc != w->by; /* else its version is on record from now on */
	forget(dc, k);
}

/* ---- roll-backs ------------------------------------------------------------------------------ */

static bool holds_header(const struct geo *g, const uint8_t *pl, uint64_t addr)
{
	const struct lunfs_blk_hdr *h = (const void *)pl;

	return le32_get(h->magic) == LUNFS_BLK_MAGIC && le64_get(h->addr) == addr &&
	       memcmp(h->vol_id, g->vol_id, sizeof(h->vol_id)) == 0;
}

/* Is this block a part of metadata, by what is there or by what is written? */
static bool is_metadata(const struct judged *j, uint64_t blk)
{
	const struct geo *g = j->dc->geo;
	uint8_t pl[LUNFS_PAYLOAD_BYTES];

	for (uint64_t cell = blk + 1 - g->cell_blks; cell <= blk; cell++) {
		uint64_t off = geo_payload_off(g, cell), at = off - j->l->off_bytes;

		simdev_peek(j->dc->m, off, sizeof(pl), pl);
		if (holds_header(g, pl, cell))
			return true;
		if (off >= j->l->off_bytes && at + sizeof(pl) <= j->l->len_bytes && j->l->data &&
		    holds_header(g, j->l->data + at, cell))
			return true;
	}
	return false;
}

static bool is_file_data(const struct judged *j)
{
	const struct geo *g = j->dc->geo;
	uint64_t end = j->l->off_bytes + j->l->len_bytes;

	if (j->l->op != SIMDEV_WRITE || j->l->off_bytes < geo_blk_off(g->group0_blk))
		return false;
	for (uint64_t b = j->l->off_bytes / LUNFS_BLOCK_BYTES; b * LUNFS_BLOCK_BYTES < end; b++)
		if (is_metadata(j, b))
			return false;
	return true;
}

/* A wish on the board that goes away is shown again, and nobody is the wiser. */
static bool is_wish(const struct judged *j)
{
	const struct geo *g = j->dc->geo;
	uint64_t off = j->l->off_bytes;

	return off >= LUNFS_BOARD_OFF &&
	       off < LUNFS_BOARD_OFF + (uint64_t)j->dc->slots * g->board_row_bytes;
}

static void note_since_snapshot(const struct judged *j)
{
	if (is_file_data(j))
		j->dc->data_since = true;
	else if (!is_wish(j))
		j->dc->traces_since = true;
}

void devcheck_snapshot(struct sim_run *r)
{
	r->dc->data_since = r->dc->traces_since = false;
}

/* Records and versions go back with the rest, and tell. Contents of files alone do not. */
void devcheck_roll_back(struct sim_run *r)
{
	r->dc->unseen |= r->dc->data_since && !r->dc->traces_since;
}

/* ---- landings -------------------------------------------------------------------------------- */

void lost_landing(const struct judged *j)
{
	struct devcheck *dc = j->dc;

	note_since_snapshot(j);
	for (unsigned k = dc->n_lost; k-- > 0;) {
		uint64_t lock = geo_blk_off(dc->lost[k].cell);
		uint64_t payload = geo_payload_off(dc->geo, dc->lost[k].cell);

		if (j->l->op == SIMDEV_CAW && j->l->off_bytes == lock)
			lock_changes(dc, k, j);
		else if (j->l->op == SIMDEV_WRITE && j->l->off_bytes == payload)
			forget(dc, k); /* written once more */
	}
}

bool devcheck_unseen(const struct sim_run *r)
{
	const struct devcheck *dc = r->dc;
	bool unseen = dc->unseen;

	for (unsigned k = 0; k < dc->n_lost; k++)
		unseen |= dc->lost[k].by->end != INC_RUNS;
	return unseen;
}
