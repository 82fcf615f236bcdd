/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lock records: checking what was read, first images, and the steps from one image to the next.
 * Pure: no I/O, no locks. Every step sets this host's own entry afresh, clears its waiter bit, and
 * leaves the entries of others as they are, except SHARED bits that the new mode makes meaningless
 * (the caller knows that their generations are over).
 */
#include "cluster/lock_impl.h"

#include "base/bitmap.h"
#include "base/crc.h"

#include <errno.h>
#include <string.h>

uint16_t rec_tag(uint64_t owner)
{
	return (uint16_t)(LUNFS_OWNER_GEN(owner) & LUNFS_ENT_TAG_MASK);
}

static bool owner_ok(const struct geo *g, uint64_t owner)
{
	return LUNFS_OWNER_GEN(owner) && LUNFS_OWNER_SLOT(owner) < geo_all_slots(g);
}

static bool rec_ok(const struct geo *g, const struct lunfs_lock_rec *r)
{
	unsigned mode = le16_get(r->mode);
	uint64_t owner = le64_get(r->owner), pending = le64_get(r->ex_pending);

	if (mode > LUNFS_LOCK_MULTI || !mem_is_zero(r->reserved0, sizeof(r->reserved0)) ||
	    !mem_is_zero(r->reserved1, sizeof(r->reserved1)))
		return false;
	if (mode == LUNFS_LOCK_EXCL ? !owner_ok(g, owner) : owner != 0)
		return false;
	if (pending && !owner_ok(g, pending))
		return false;
	if (le64_get(r->possession_seq) > LUNFS_COUNT_MAX ||
	    le64_get(r->payload_version) > LUNFS_COUNT_MAX)
		return false;
	for (unsigned i = geo_all_slots(g); i < LUNFS_MAX_SLOTS; i++) {
		if (le16_get(r->entry[i]))
			return false;
	}
	return true;
}

int lock_rec_decode(const struct geo *g, const void *sector, uint64_t addr,
		    struct lunfs_lock_rec *out)
{
	const struct lunfs_lock_rec *r = sector;

	if (ats_hdr_check(g, sector, LUNFS_ATS_LOCK, lock_off(addr)) || !rec_ok(g, r))
		return -EUCLEAN;
	*out = *r;
	return 0;
}

void lock_format(const struct geo *g, uint64_t addr, uint64_t nonce, void *sector)
{
	memset(sector, 0, g->sector_bytes);
	ats_hdr_format(g, sector, LUNFS_ATS_LOCK, lock_off(addr), nonce);
}

void rec_born(const struct geo *g, uint64_t addr, uint64_t owner, uint64_t nonce, void *sector)
{
	struct lunfs_lock_rec *r = sector;

	memset(sector, 0, g->sector_bytes);
	r->mode = le16_make(LUNFS_LOCK_EXCL);
	r->possession_seq = le64_make(1);
	r->owner = le64_make(owner);
	ats_hdr_format(g, sector, LUNFS_ATS_LOCK, lock_off(addr), nonce);
	r->hdr.setter_owner = le64_make(owner);
	crc_seal(sector, REC_BYTES, offsetof(struct lunfs_ats_hdr, crc));
}

/* ---- reading a record ----------------------------------------------------------------------- */

enum lock_mode rec_holds(const struct lunfs_lock_rec *r, uint64_t owner)
{
	unsigned mode = le16_get(r->mode), slot = LUNFS_OWNER_SLOT(owner);
	uint16_t ent;

	if (mode == LUNFS_LOCK_EXCL)
		return le64_get(r->owner) == owner ? LOCK_EX : LOCK_NONE;
	if (mode != LUNFS_LOCK_SHARED || slot >= LUNFS_MAX_SLOTS)
		return LOCK_NONE;
	ent = le16_get(r->entry[slot]);
	if ((ent & LUNFS_ENT_SHARED) && (ent & LUNFS_ENT_TAG_MASK) == rec_tag(owner))
		return LOCK_SH;
	return LOCK_NONE;
}

bool rec_waits(const struct lunfs_lock_rec *r, unsigned slot)
{
	return slot < LUNFS_MAX_SLOTS && bit_get(r->waiters, slot);
}

/* ---- steps ---------------------------------------------------------------------------------- */

static void set_own_entry(struct lunfs_lock_rec *r, const struct rec_me *me, bool shared)
{
	unsigned slot = LUNFS_OWNER_SLOT(me->owner);
	unsigned ent = rec_tag(me->owner);

	if (slot >= LUNFS_MAX_SLOTS)
		return;
	ent |= (shared ? LUNFS_ENT_SHARED : 0) | (me->open ? LUNFS_ENT_OPEN : 0);
	r->entry[slot] = le16_make(shared || me->open ? (uint16_t)ent : 0);
	bit_clear(r->waiters, slot);
	if (le64_get(r->ex_pending) == me->owner)
		r->ex_pending = le64_make(0);
}

static void clear_sharers(struct lunfs_lock_rec *r)
{
	for (unsigned i = 0; i < LUNFS_MAX_SLOTS; i++) {
		unsigned ent = le16_get(r->entry[i]);

		if (!(ent & LUNFS_ENT_SHARED))
			continue;
		ent = ent & LUNFS_ENT_OPEN ? ent & ~LUNFS_ENT_SHARED : 0;
		r->entry[i] = le16_make((uint16_t)ent);
	}
}

static void set_version(struct lunfs_lock_rec *r, const struct rec_me *me)
{
	if (me->version > le64_get(r->payload_version) && le16_get(r->mode) == LUNFS_LOCK_EXCL)
		r->payload_version = le64_make(me->version);
}

static void make_ex(struct lunfs_lock_rec *r, uint64_t owner)
{
	clear_sharers(r);
	r->mode = le16_make(LUNFS_LOCK_EXCL);
	r->owner = le64_make(owner);
	r->possession_seq = le64_make(le64_get(r->possession_seq) + 1);
	r->ex_pending = le64_make(0);
	if (LUNFS_OWNER_SLOT(owner) < LUNFS_MAX_SLOTS)
		bit_clear(r->waiters, LUNFS_OWNER_SLOT(owner));
}

void rec_take_ex(struct lunfs_lock_rec *r, const struct rec_me *me)
{
	make_ex(r, me->owner);
	set_own_entry(r, me, false);
}

void rec_join_sh(struct lunfs_lock_rec *r, const struct rec_me *me)
{
	if (le16_get(r->mode) != LUNFS_LOCK_SHARED)
		clear_sharers(r);
	r->mode = le16_make(LUNFS_LOCK_SHARED);
	r->owner = le64_make(0);
	r->ex_pending = le64_make(0); /* its owner is over, or it is ours */
	set_own_entry(r, me, true);
}

void rec_leave(struct lunfs_lock_rec *r, const struct rec_me *me)
{
	bool shared = false;

	set_version(r, me);
	set_own_entry(r, me, false);
	for (unsigned i = 0; i < LUNFS_MAX_SLOTS; i++)
		shared |= (le16_get(r->entry[i]) & LUNFS_ENT_SHARED) != 0;
	if (le16_get(r->mode) == LUNFS_LOCK_SHARED && shared)
		return;
	clear_sharers(r);
	r->mode = le16_make(LUNFS_LOCK_FREE);
	r->owner = le64_make(0);
}

void rec_grant_ex(struct lunfs_lock_rec *r, const struct rec_me *me, uint64_t to)
{
	set_version(r, me);
	make_ex(r, to);
	set_own_entry(r, me, false);
}

void rec_downgrade(struct lunfs_lock_rec *r, const struct rec_me *me, bool keep)
{
	set_version(r, me);
	clear_sharers(r);
	r->mode = le16_make(LUNFS_LOCK_SHARED);
	r->owner = le64_make(0);
	r->ex_pending = le64_make(0);
	set_own_entry(r, me, keep);
}

void rec_add_sharer(struct lunfs_lock_rec *r, uint64_t owner)
{
	unsigned slot = LUNFS_OWNER_SLOT(owner);
	unsigned ent = le16_get(r->entry[slot]);

	if ((ent & LUNFS_ENT_TAG_MASK) != rec_tag(owner))
		ent = 0;
	ent = (ent & LUNFS_ENT_OPEN) | LUNFS_ENT_SHARED | rec_tag(owner);
	r->entry[slot] = le16_make((uint16_t)ent);
	bit_clear(r->waiters, slot);
}
