/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which lost writes nobody can notice. A lock record says which version of its payload is the last,
 * but only since that lock was last given up: whoever holds it knows better, and keeps what it
 * wrote in memory. A payload that is lost in the latest possession of a host that then leaves, or
 * dies, without giving the lock up is as good as any to those who come after it.
 */
#include "devcheck_impl.h"

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

void lost_landing(const struct judged *j)
{
	struct devcheck *dc = j->dc;

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
