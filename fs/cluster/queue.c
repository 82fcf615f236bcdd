/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The queue in a lock's record: hosts that all want it exclusively hand it round without asking.
 *
 * Whoever gives a lock up exclusively notes those who wait for it, in the record. Where all of them
 * want it exclusively it says so by one bit more, that of the new holder, who does not wait. Then
 * the new holder gives it to the next of them, by slot number in a circle, unasked; and whoever
 * finds its own bit there shows no wish, but reads the record about when its turn has come. A host
 * notes itself, too, if it wants the lock back: because somebody here waits, or did the last time
 * and used it a moment ago, or because it came back from there often.
 *
 * The queue is a hint. A host may be handed what it no longer wants, and one that waits may be
 * forgotten; a record that does not change for a while is answered by a wish on the board, as if
 * there were no queue.
 */
#include "cluster/lock_impl.h"

#include "base/bitmap.h"

#define TURNS_SURE 4	 /* it came back so often: it is noted unasked */
#define TURNS_PENALTY 16 /* it was not wanted: for so many more turns not again */
#define TURNS_PENALTY_MAX 4096

/* A queue is not relied on that stands still for all of this together. */
#define PATIENCE_NS 15000000ull
#define PATIENCE_STEPS 4
#define PATIENCE_PLACE_NS 1000000ull /* for each host that comes first */

bool rec_queue(const struct lunfs_lock_rec *r)
{
	unsigned slot = LUNFS_OWNER_SLOT(le64_get(r->owner));

	return le16_get(r->mode) == LUNFS_LOCK_EXCL && rec_waits(r, slot);
}

unsigned rec_place(const struct lunfs_lock_rec *r, unsigned slot)
{
	unsigned holder = LUNFS_OWNER_SLOT(le64_get(r->owner)), place = 0;

	if (!rec_queue(r) || slot == holder || !rec_waits(r, slot))
		return 0;
	for (unsigned i = holder; i != slot;) {
		i = (i + 1) % LUNFS_MAX_SLOTS;
		place += bit_get(r->waiters, i);
	}
	return place;
}

void rec_note_self(struct lunfs_lock_rec *r, unsigned slot)
{
	if (slot < LUNFS_MAX_SLOTS)
		bit_set(r->waiters, slot);
}

void rec_note_queue(struct lunfs_lock_rec *r)
{
	unsigned holder = LUNFS_OWNER_SLOT(le64_get(r->owner));
	bool any = false;

	for (unsigned i = 0; i < LUNFS_MAX_SLOTS; i++)
		any |= i != holder && bit_get(r->waiters, i);
	if (any && holder < LUNFS_MAX_SLOTS)
		bit_set(r->waiters, holder);
}

/* ---- what is remembered: the stripe's mutex held --------------------------------------------- */

bool past_expects(const struct past *p, uint64_t from)
{
	return p && p->to == from && p->turns >= TURNS_SURE;
}

void past_given(struct past *p, uint64_t to, const struct lock *l)
{
	if (p->to != to && p->turns > 0)
		p->turns = 0;
	p->to = to;
	p->again = l->nwaiters != 0;
	p->rests = l->rests;
}

void past_came_back(struct past *p)
{
	if (p->back && p->turns < 2 * TURNS_SURE)
		p->turns++;
	if (p->turns == 2 * TURNS_SURE)
		p->penalty = 0;
	if (!p->back && p->turns > 0)
		p->turns = 0;
}

void past_not_wanted(struct past *p)
{
	if (p->turns < TURNS_SURE)
		return;
	p->penalty = p->penalty ? 2 * p->penalty : TURNS_PENALTY;
	if (p->penalty > TURNS_PENALTY_MAX)
		p->penalty = TURNS_PENALTY_MAX;
	p->turns = -p->penalty;
}

/* @steps hand-overs took @ns. */
void past_learn_step(struct past *p, uint64_t ns, uint64_t steps)
{
	uint64_t one = ns / (steps ? steps : 1);

	if (one > LOCK_STEP_MAX_NS)
		one = LOCK_STEP_MAX_NS;
	p->step_ns = p->step_ns ? (7 * p->step_ns + one) / 8 : one;
}

uint64_t queue_patience_ns(const struct past *p, unsigned place)
{
	uint64_t step = p && p->step_ns ? p->step_ns : LOCK_POLL_MIN_NS;

	return PATIENCE_NS + PATIENCE_STEPS * step + place * PATIENCE_PLACE_NS;
}

/* ---- tenure ---------------------------------------------------------------------------------- */

/*
 * Where a lock is wanted again at once, each hand-over is worth several operations: as long as what
 * giving it away takes, a few times over.
 */
uint64_t queue_tenure_ns(struct locks *ls)
{
	uint64_t ns = TENURE_GIVES * atomic_load(&ls->give_ns);

	ns = ns < TENURE_MIN_NS ? TENURE_MIN_NS : ns;
	return ns < TENURE_MAX_NS ? ns : TENURE_MAX_NS;
}

/* How long a lock that others wait for is kept for this host. The stripe's mutex held. */
uint64_t queue_until_ns(const struct lock *l)
{
	uint64_t ns = l->retry_ns;

	if (!l->received_ns)
		return ns;
	if ((l->again || l->nwaiters || l->rests < l->usual) && ns < l->until_ns)
		ns = l->until_ns;
	if ((lock_pins(l) || !l->served) && ns < l->received_ns + LOCK_SERVE_NS)
		ns = l->received_ns + LOCK_SERVE_NS;
	return ns;
}

bool queue_keeps(struct locks *ls, const struct lock *l)
{
	return lock_now(ls) < queue_until_ns(l);
}

/* Without a place in the table it is not kept, and given on when it is next unpinned. */
bool queue_arm(struct locks *ls, struct lock *l, uint64_t ns)
{
	if (board_due(ls, l->addr, ns))
		return true;
	l->again = false;
	l->usual = 0;
	l->until_ns = 0;
	return false;
}

bool queue_others(struct locks *ls, const struct lock *l)
{
	if (l->held != LOCK_EX || !l->known_valid || !rec_queue(&l->known))
		return false;
	for (unsigned i = 0; i < LUNFS_MAX_SLOTS; i++) {
		if (i != ls->slot && rec_waits(&l->known, i) && host_live_owner(ls->host, i))
			return true;
	}
	return false;
}

void queue_retry(struct locks *ls, struct lock *l)
{
	if (!l->asked_for && queue_others(ls, l))
		l->asked_for = queue_arm(ls, l, lock_now(ls) + LOCK_RETRY_NS);
}

/* One revoke took so long, from its beginning to the record. */
void queue_learn_give(struct locks *ls, uint64_t ns)
{
	uint64_t was = atomic_load(&ls->give_ns);

	atomic_store(&ls->give_ns, was ? (7 * was + ns) / 8 : ns);
}
