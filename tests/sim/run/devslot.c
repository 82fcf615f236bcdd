/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Slots at the device: DESIGN section 5's transitions and nothing else, each by the hand that may
 * make it, and no recovery of a host inside its lease.
 */
#include "devcheck_impl.h"

#include "cluster/host.h"

#include <stdio.h>
#include <string.h>

static const char *const state_name[] = {"FREE", "LIVE", "RECOVERING"};

static unsigned state_of(const struct lunfs_slot_rec *r)
{
	return le16_get(r->state);
}

static uint64_t gen_of(const struct lunfs_slot_rec *r)
{
	return le64_get(r->generation);
}

static uint64_t seq_of(const struct lunfs_slot_rec *r)
{
	return le64_get(r->hdr.image_seq);
}

void slots_load(struct devcheck *dc)
{
	for (unsigned s = 0; s < dc->slots; s++)
		simdev_peek(dc->m, geo_slot_off(s), sizeof(dc->slot[s].rec), &dc->slot[s].rec);
}

static const struct slot_truth *truth_of(const struct devcheck *dc, uint64_t owner)
{
	unsigned s = LUNFS_OWNER_SLOT(owner);

	if (!owner || s >= dc->slots || gen_of(&dc->slot[s].rec) != LUNFS_OWNER_GEN(owner))
		return NULL;
	return &dc->slot[s];
}

bool owner_stands(const struct devcheck *dc, uint64_t owner)
{
	const struct slot_truth *t = truth_of(dc, owner);

	return t && state_of(&t->rec) != LUNFS_SLOT_FREE;
}

bool owner_lives(const struct devcheck *dc, uint64_t owner)
{
	const struct slot_truth *t = truth_of(dc, owner);

	return t && state_of(&t->rec) == LUNFS_SLOT_LIVE;
}

const struct slot_truth *slot_of(const struct devcheck *dc, const struct inc *inc)
{
	for (unsigned s = 0; s < dc->slots; s++)
		if (dc->slot[s].by == inc && state_of(&dc->slot[s].rec) == LUNFS_SLOT_LIVE)
			return &dc->slot[s];
	return NULL;
}

/*
 * Between RECOVERING and the fencing that follows, writes of the dead may still land where only
 * fencing keeps them out: replay begins after it.
 */
bool may_write(const struct devcheck *dc, const struct inc *inc)
{
	for (unsigned s = 0; s < dc->slots; s++) {
		const struct slot_truth *t = &dc->slot[s];

		if (t->by != inc || state_of(&t->rec) == LUNFS_SLOT_FREE)
			continue;
		if (state_of(&t->rec) == LUNFS_SLOT_LIVE ||
		    le16_get(t->rec.fence) == LUNFS_FENCE_PR)
			return true;
	}
	return false;
}

bool acts_for(const struct devcheck *dc, const struct inc *inc, uint64_t owner)
{
	const struct slot_truth *t = truth_of(dc, owner);

	if (!t)
		return false;
	if (t->by == inc)
		return may_write(dc, inc) && state_of(&t->rec) != LUNFS_SLOT_FREE;
	return state_of(&t->rec) == LUNFS_SLOT_RECOVERING && t->recoverer == inc;
}

bool devcheck_last_spare(const struct sim_run *r, unsigned hosts)
{
	const struct devcheck *dc = r->dc;
	unsigned left = 0, lost = 0;

	for (unsigned s = dc->geo->slots; s < dc->slots; s++) {
		const struct inc *by = dc->slot[s].by;

		if (state_of(&dc->slot[s].rec) == LUNFS_SLOT_FREE)
			left++;
		else if (by && by->end == INC_RUNS && !(hosts >> by->host & 1))
			left++;
		else if (by && by->end == INC_RUNS)
			lost++;
	}
	return lost && !left;
}

int devcheck_unrecovered(const struct sim_run *r)
{
	const struct devcheck *dc = r->dc;

	for (unsigned s = 0; s < dc->slots; s++)
		if (state_of(&dc->slot[s].rec) != LUNFS_SLOT_FREE &&
		    !(dc->slot[s].by && dc->slot[s].by->end == INC_RUNS))
			return (int)s;
	return -1;
}

/* ---- transitions ----------------------------------------------------------------------------- */

static void same_incarnation(const struct judged *j, unsigned slot,
			     const struct lunfs_slot_rec *was, const struct lunfs_slot_rec *now)
{
	if (gen_of(was) != gen_of(now) || le64_get(was->nonce) != le64_get(now->nonce))
		dev_wrong(j, "slot %u goes from generation %llu to %llu without having been free",
			  slot, (unsigned long long)gen_of(was), (unsigned long long)gen_of(now));
}

static void own_hand(const struct judged *j, unsigned slot, const struct slot_truth *t)
{
	if (t->by != j->inc)
		dev_wrong(j, "slot %u belongs to host %d", slot, t->by ? (int)t->by->host : -1);
}

/* The owner counts its lease from when it sent the beat that stands there, by its own clock. */
static void lease_is_over(const struct judged *j, unsigned slot, const struct slot_truth *t)
{
	uint64_t lease_ns = le32_get(t->rec.lease_ms) * 1000000ull, since, own;

	if (!t->by || t->by->clock_stood)
		return;
	/* its machine has started anew, so it is gone; what it sent was drained */
	if (t->by->host == j->inc->host && t->by->end == INC_KILLED)
		return;
	since = j->l->at_ns - t->beat_sent_ns;
	own = (uint64_t)((double)since * (1.0 + t->by->drift_ppm / 1e6));
	if (own < lease_ns && t->by->end != INC_KILLED)
		dev_wrong(j,
			  "slot %u of host %u is taken over %llu ms after its last beat was sent; "
			  "its lease is %llu ms",
			  slot, t->by->host, (unsigned long long)(own / 1000000),
			  (unsigned long long)(lease_ns / 1000000));
	if (since < lease_ns - lease_ns / 32)
		dev_wrong(j, "slot %u is taken over %llu ms after its last beat, lease %llu ms",
			  slot, (unsigned long long)(since / 1000000),
			  (unsigned long long)(lease_ns / 1000000));
}

static void claim(const struct judged *j, unsigned slot, struct slot_truth *t,
		  const struct lunfs_slot_rec *now)
{
	if (gen_of(now) != gen_of(&t->rec) + 1)
		dev_wrong(j, "slot %u is claimed as generation %llu after %llu", slot,
			  (unsigned long long)gen_of(now), (unsigned long long)gen_of(&t->rec));
	t->by = j->inc;
	t->recoverer = NULL;
	if (slot < j->dc->geo->slots) {
		j->inc->owner = LUNFS_OWNER(gen_of(now), slot);
		j->inc->nonce = le64_get(now->nonce);
		if (!j->inc->v) /* its first claim was taken over before the mount ended */
			j->inc->end = INC_RUNS;
	}
	cover_hit(j->dc->r, COVER_SLOT_CLAIM);
}

static void take(const struct judged *j, unsigned slot, struct slot_truth *t,
		 const struct lunfs_slot_rec *now)
{
	same_incarnation(j, slot, &t->rec, now);
	lease_is_over(j, slot, t);
	if (!acts_for(j->dc, j->inc, le64_get(now->recoverer)))
		dev_wrong(j, "slot %u names %llx as its recoverer, who is not alive here", slot,
			  (unsigned long long)le64_get(now->recoverer));
	t->recoverer = j->inc;
	t->taken_ns = j->l->at_ns;
	replay_forget(t);
	j->dc->r->takes++;
	j->dc->r->taker = j->inc->host;
	if (t->by)
		run_inc_taken(j->dc->r, t->by, slot);
	cover_hit(j->dc->r, COVER_SLOT_TAKE);
}

static void take_again(const struct judged *j, unsigned slot, struct slot_truth *t,
		       const struct lunfs_slot_rec *now)
{
	uint64_t was = le64_get(t->rec.recoverer), is = le64_get(now->recoverer);

	same_incarnation(j, slot, &t->rec, now);
	if (was == is) {
		if (t->recoverer != j->inc)
			dev_wrong(j, "slot %u is recovered by another host", slot);
		cover_hit(j->dc->r, COVER_SLOT_RENEW);
		return;
	}
	if (owner_lives(j->dc, was))
		dev_wrong(j, "slot %u is taken from its recoverer %llx, who lives", slot,
			  (unsigned long long)was);
	if (!acts_for(j->dc, j->inc, is))
		dev_wrong(j, "slot %u names %llx as its recoverer, who is not alive here", slot,
			  (unsigned long long)is);
	t->recoverer = j->inc;
	replay_forget(t);
	cover_hit(j->dc->r, COVER_SLOT_TAKEOVER);
}

static void recovered(const struct judged *j, unsigned slot, struct slot_truth *t,
		      const struct lunfs_slot_rec *now)
{
	same_incarnation(j, slot, &t->rec, now);
	if (t->recoverer != j->inc)
		dev_wrong(j, "slot %u is freed by a host that does not recover it", slot);
	if (le16_get(t->rec.fence) == LUNFS_FENCE_PR && t->by && t->by->nexus &&
	    simdev_pr_key(j->dc->m, t->by->nexus) == le64_get(t->rec.nonce))
		dev_wrong(j, "slot %u is freed although its key is still registered", slot);
	judge_replay_end(j, slot);
	replay_forget(t);
	cover_hit(j->dc->r, COVER_SLOT_FREED);
}

static void remember(struct devcheck *dc, unsigned slot)
{
	struct slot_truth *p = &dc->past[slot][dc->n_past[slot]++ % SLOT_PASTS];

	*p = dc->slot[slot];
	p->log = NULL;
}

static const struct slot_truth *past_of(const struct devcheck *dc, unsigned slot,
					const struct lunfs_slot_rec *rec)
{
	unsigned n = dc->n_past[slot] < SLOT_PASTS ? dc->n_past[slot] : SLOT_PASTS;

	for (unsigned k = 0; k < n; k++)
		if (memcmp(&dc->past[slot][k].rec, rec, sizeof(*rec)) == 0)
			return &dc->past[slot][k];
	return NULL;
}

void devcheck_power(struct sim_run *r)
{
	struct devcheck *dc = r->dc;

	for (unsigned s = 0; s < dc->slots; s++) {
		const struct slot_truth *was;
		struct lunfs_slot_rec rec;

		simdev_peek(dc->m, geo_slot_off(s), sizeof(rec), &rec);
		if (memcmp(&rec, &dc->slot[s].rec, sizeof(rec)) == 0)
			continue;
		was = past_of(dc, s, &rec);
		lunfs_assert(was);
		replay_forget(&dc->slot[s]);
		dc->slot[s] = *was;
	}
	locks_power(dc);
}

void judge_slot(const struct judged *j, unsigned slot)
{
	const struct lunfs_slot_rec *now = (const struct lunfs_slot_rec *)j->l->data;
	struct slot_truth *t = &j->dc->slot[slot];
	unsigned from = state_of(&t->rec), to = state_of(now);
	struct host_info hi;

	remember(j->dc, slot);
	if (slot_decode(j->dc->geo, j->l->data, slot, &hi) != 0)
		dev_wrong(j, "slot %u gets a record that does not make sense", slot);
	if (seq_of(now) <= seq_of(&t->rec))
		dev_wrong(j, "slot %u: image %llu after %llu", slot,
			  (unsigned long long)seq_of(now), (unsigned long long)seq_of(&t->rec));
	if (from == LUNFS_SLOT_FREE && to == LUNFS_SLOT_LIVE) {
		claim(j, slot, t, now);
	} else if (from == LUNFS_SLOT_LIVE && to != LUNFS_SLOT_RECOVERING) {
		same_incarnation(j, slot, &t->rec, now);
		own_hand(j, slot, t);
		cover_hit(j->dc->r, to == LUNFS_SLOT_LIVE ? COVER_SLOT_BEAT : COVER_SLOT_RELEASE);
	} else if (from == LUNFS_SLOT_LIVE) {
		take(j, slot, t, now);
	} else if (from == LUNFS_SLOT_RECOVERING && to == LUNFS_SLOT_RECOVERING) {
		take_again(j, slot, t, now);
	} else if (from == LUNFS_SLOT_FREE && to == LUNFS_SLOT_FREE) {
		/* a fresh image settles a command whose fate was unknown */
		same_incarnation(j, slot, &t->rec, now);
		if (t->by != j->inc && t->recoverer != j->inc)
			dev_wrong(j, "slot %u is free, and set by a host that did not free it",
				  slot);
	} else if (from == LUNFS_SLOT_RECOVERING && to == LUNFS_SLOT_FREE) {
		recovered(j, slot, t, now);
	} else {
		dev_wrong(j, "slot %u goes from %s to %s", slot, state_name[from], state_name[to]);
	}
	if (to == LUNFS_SLOT_LIVE)
		t->beat_sent_ns = j->l->submitted_ns;
	t->rec = *now;
}
