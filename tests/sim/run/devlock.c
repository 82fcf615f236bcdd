/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lock records at the device: one exclusive holder and then nobody beside it; nobody loses what it
 * holds but by its own hand, or because it is over.
 */
#include "devcheck_impl.h"

#include "cluster/lock.h"

bool lock_rec_at(const struct devcheck *dc, uint64_t addr, struct lunfs_lock_rec *out)
{
	uint8_t sector[4096];

	if (addr * LUNFS_BLOCK_BYTES >= dc->r->t->first->id.size_bytes)
		return false;
	simdev_peek(dc->m, geo_blk_off(addr), dc->geo->sector_bytes, sector);
	return lock_rec_decode(dc->geo, sector, addr, out) == 0;
}

bool holds_ex(const struct devcheck *dc, const struct inc *inc, uint64_t addr)
{
	struct lunfs_lock_rec rec;

	return lock_rec_at(dc, addr, &rec) && le16_get(rec.mode) == LUNFS_LOCK_EXCL &&
	       acts_for(dc, inc, le64_get(rec.owner));
}

static unsigned mode_of(const struct lunfs_lock_rec *r)
{
	return le16_get(r->mode);
}

static bool is_ex(const struct lunfs_lock_rec *r)
{
	return mode_of(r) == LUNFS_LOCK_EXCL;
}

/* The owner id behind the entry of @slot, 0: none that could still count. */
static uint64_t entry_owner(const struct devcheck *dc, const struct lunfs_lock_rec *r,
			    unsigned slot, unsigned flag)
{
	uint16_t e = le16_get(r->entry[slot]);
	const struct lunfs_slot_rec *s = &dc->slot[slot].rec;
	uint64_t gen = le64_get(s->generation);

	if (slot >= dc->geo->slots || !(e & flag) || le16_get(s->state) == LUNFS_SLOT_FREE ||
	    (gen & LUNFS_ENT_TAG_MASK) != (e & LUNFS_ENT_TAG_MASK))
		return 0;
	return LUNFS_OWNER(gen, slot);
}

static void nobody_beside(const struct judged *j, uint64_t addr, const struct lunfs_lock_rec *now)
{
	unsigned mine = LUNFS_OWNER_SLOT(le64_get(now->owner));

	for (unsigned s = 0; s < j->dc->geo->slots && is_ex(now); s++)
		if (s != mine && entry_owner(j->dc, now, s, LUNFS_ENT_SHARED))
			dev_wrong(
			    j, "lock %llu goes to %llx exclusively, while slot %u holds it shared",
			    (unsigned long long)addr, (unsigned long long)le64_get(now->owner), s);
}

/* Entries go by the hand of their host, or when it is over. */
static void entries_stay(const struct judged *j, uint64_t addr, const struct lunfs_lock_rec *was,
			 const struct lunfs_lock_rec *now, unsigned flag)
{
	for (unsigned s = 0; s < j->dc->geo->slots; s++) {
		uint64_t owner = entry_owner(j->dc, was, s, flag);

		/* a sharer that waits to hold it alone is given that instead */
		if (flag == LUNFS_ENT_SHARED && is_ex(now) && le64_get(now->owner) == owner)
			continue;
		if (owner && entry_owner(j->dc, now, s, flag) != owner &&
		    j->dc->slot[s].by != j->inc)
			dev_wrong(j, "lock %llu: the %s entry of %llx goes by another's hand",
				  (unsigned long long)addr,
				  flag == LUNFS_ENT_OPEN ? "OPEN" : "SHARED",
				  (unsigned long long)owner);
	}
}

/* A fresh image of the same, to settle a command whose fate was unknown. */
static bool says_the_same(const struct lunfs_lock_rec *was, const struct lunfs_lock_rec *now)
{
	return memcmp(&was->mode, &now->mode, sizeof(was->mode)) == 0 &&
	       le64_get(was->possession_seq) == le64_get(now->possession_seq) &&
	       le64_get(was->owner) == le64_get(now->owner) &&
	       le64_get(was->payload_version) == le64_get(now->payload_version) &&
	       memcmp(was->entry, now->entry, sizeof(was->entry)) == 0;
}

static void holder_leaves(const struct judged *j, uint64_t addr, const struct lunfs_lock_rec *was,
			  const struct lunfs_lock_rec *now)
{
	uint64_t owner = le64_get(was->owner);
	bool same = is_ex(now) && le64_get(now->owner) == owner;

	if (same && le64_get(now->possession_seq) == le64_get(was->possession_seq)) {
		if (!acts_for(j->dc, j->inc, owner) && !says_the_same(was, now))
			dev_wrong(j, "lock %llu is held by %llx exclusively",
				  (unsigned long long)addr, (unsigned long long)owner);
		if (acts_for(j->dc, j->inc, owner) &&
		    j->dc->slot[LUNFS_OWNER_SLOT(owner)].by != j->inc)
			cover_hit(j->dc->r, COVER_GUARD_RENEW);
		return;
	}
	if (!owner_stands(j->dc, owner)) {
		cover_hit(j->dc->r, COVER_LOCK_STALE);
		return;
	}
	if (j->dc->slot[LUNFS_OWNER_SLOT(owner)].by != j->inc)
		dev_wrong(j, "lock %llu is taken from %llx, who holds it exclusively",
			  (unsigned long long)addr, (unsigned long long)owner);
	cover_hit(j->dc->r, is_ex(now)				? COVER_LOCK_HANDOVER
			    : mode_of(now) == LUNFS_LOCK_SHARED ? COVER_LOCK_DOWNGRADE
								: COVER_LOCK_RELEASE);
}

/* Who gives an exclusive lock up has written in place what it covers. */
static void payload_in_place(const struct judged *j, uint64_t addr,
			     const struct lunfs_lock_rec *was, const struct lunfs_lock_rec *now)
{
	uint64_t recorded = le64_get(now->payload_version);
	uint8_t pl[LUNFS_PAYLOAD_BYTES];
	const struct lunfs_blk_hdr *h = (const struct lunfs_blk_hdr *)pl;

	if (!is_ex(was) || !owner_stands(j->dc, le64_get(was->owner)) ||
	    (is_ex(now) && le64_get(now->owner) == le64_get(was->owner)))
		return;
	simdev_peek(j->dc->m, geo_payload_off(j->dc->geo, addr), sizeof(pl), pl);
	if (blk_check(j->dc->geo, pl, le16_get(h->type), addr) != 0)
		dev_wrong(j, "lock %llu is given up while its payload is torn or missing",
			  (unsigned long long)addr);
	if (le64_get(h->version) < recorded)
		dev_wrong(j,
			  "lock %llu is given up with version %llu, but version %llu is in place",
			  (unsigned long long)addr, (unsigned long long)recorded,
			  (unsigned long long)le64_get(h->version));
}

static void setter_stands(const struct judged *j, uint64_t addr, const struct lunfs_lock_rec *now)
{
	uint64_t setter = le64_get(now->hdr.setter_owner);

	if (!acts_for(j->dc, j->inc, setter) || j->dc->slot[LUNFS_OWNER_SLOT(setter)].by != j->inc)
		dev_wrong(j, "lock %llu is set in the name of %llx, who is not alive here",
			  (unsigned long long)addr, (unsigned long long)setter);
}

void judge_lock(const struct judged *j, uint64_t addr)
{
	struct lunfs_lock_rec was, now;
	uint64_t was_p, now_p;

	if (!lock_rec_at(j->dc, addr, &was))
		dev_wrong(j, "an ATS where no lock is (block %llu)", (unsigned long long)addr);
	if (lock_rec_decode(j->dc->geo, j->l->data, addr, &now) != 0)
		dev_wrong(j, "lock %llu gets a record that does not make sense",
			  (unsigned long long)addr);
	was_p = le64_get(was.possession_seq);
	now_p = le64_get(now.possession_seq);
	if (le64_get(now.hdr.image_seq) <= le64_get(was.hdr.image_seq))
		dev_wrong(j, "lock %llu: its image number does not grow", (unsigned long long)addr);
	if (now_p != was_p && now_p != was_p + 1)
		dev_wrong(j, "lock %llu: possession %llu after %llu", (unsigned long long)addr,
			  (unsigned long long)now_p, (unsigned long long)was_p);
	setter_stands(j, addr, &now);
	if (is_ex(&was))
		holder_leaves(j, addr, &was, &now);
	else
		cover_hit(j->dc->r, COVER_LOCK_ACQUIRE);
	if (is_ex(&now) && now_p == was_p &&
	    !(is_ex(&was) && le64_get(was.owner) == le64_get(now.owner)))
		dev_wrong(j, "lock %llu goes to %llx without a new possession",
			  (unsigned long long)addr, (unsigned long long)le64_get(now.owner));
	nobody_beside(j, addr, &now);
	entries_stay(j, addr, &was, &now, LUNFS_ENT_SHARED);
	entries_stay(j, addr, &was, &now, LUNFS_ENT_OPEN);
	payload_in_place(j, addr, &was, &now);
	j->dc->lock_set[j->dc->n_lock_set++ % LOCKS_SET] =
	    (struct lock_set){addr, le64_get(now.hdr.image_seq)};
}

bool devcheck_given_in_cache(const struct sim_run *r, unsigned n)
{
	const struct devcheck *dc = r->dc;
	const struct dev *sender;
	struct lunfs_lock_rec rec;
	uint64_t off;

	for (unsigned k = 0; off = simdev_cached_caw(dc->m, k, &sender), sender; k++)
		if (sender != r->t->dev[n] && off % LUNFS_BLOCK_BYTES == 0 &&
		    lock_rec_at(dc, off / LUNFS_BLOCK_BYTES, &rec) && is_ex(&rec) &&
		    acts_for(dc, r->host[n].inc, le64_get(rec.owner)))
			return true;
	return false;
}

void locks_power(struct devcheck *dc)
{
	for (unsigned k = 0; k < LOCKS_SET && k < dc->n_lock_set; k++) {
		const struct lock_set *set = &dc->lock_set[k];
		struct lunfs_lock_rec rec;

		if (!lock_rec_at(dc, set->addr, &rec) ||
		    le64_get(rec.hdr.image_seq) < set->image_seq)
			cover_hit(dc->r, COVER_LOCK_BACK);
	}
	dc->n_lock_set = 0;
}
