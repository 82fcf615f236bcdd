/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From "not held" to "held", by the thread of the pin that is first in the lock's queue.
 *
 * The record is judged, and the judgement acted upon, until this host holds the lock:
 *   take   nobody who may still hold it is in the way: one ATS
 *   ask    somebody alive is: a wish on the board, then read the lock sector until it changes. The
 *          owner hands over in one ATS of its own; seeing the lock in our name is enough
 *   pend   shared by others and wanted exclusively: one ATS keeps newcomers out, then ask
 *   wait   its holder is dead and being recovered
 * A lock that two hosts hand to and fro is asked for where it went the last time, before its record
 * is read. Who stands in the record's queue (queue.c) does not ask, but looks when its turn comes.
 * A record that did not change for a beat is judged again with the hosts' slots read afresh.
 */
#include "cluster/lock_impl.h"

#include <errno.h>
#include <string.h>

#define LOOK_AFTER_NS 50000000ull /* a holder that has not answered by then may be gone */
#define RECOVERY_NAP_NS 50000000ull
#define LEASE_NAP_NS 20000000ull
#define SETTLE_NAP_MIN_NS 5000000ull
#define SETTLE_NAP_MAX_NS 500000000ull

enum verdict_act { V_TAKE_EX, V_JOIN_SH, V_ASK, V_PEND, V_WAIT, V_BAD };

struct verdict {
	enum verdict_act act;
	bool died;  /* an exclusive holder is over: the payload may be newer than recorded */
	bool yield; /* blocked by an EX-pending host that waits for our own share, too */
	bool dark;  /* the slot of one of these could not be judged */
	unsigned n; /* whom to ask */
	uint64_t who[BOARD_COLS];
};

struct acq {
	struct locks *ls;
	struct lock *l;
	struct waiter *w;
	struct wish wish;
	bool asked;	   /* the wish is on the board */
	bool hinted;	   /* it was put there before the record was read */
	bool moved;	   /* from one host to another since */
	bool noted;	   /* it may come without having been asked for */
	bool impatient;	   /* the queue stands still: ask */
	uint64_t gave_seq; /* hinted: the image by which this host gave it away the last time */
	uint64_t still_ns, still_seq; /* the record was seen with that number first then */
	unsigned looks;		      /* at the record since then, or since it moved */
	uint64_t from_ns;	      /* when that was */
	uint64_t granter;
	bool cell_valid; /* w->cell was read with the record that l->known is */
	uint64_t read_ns; /* ... by a read that began then */
	bool cold;
	bool fresh;	  /* judge by slots read now */
	uint64_t dark_ns; /* since then a slot that matters could not be judged; 0: all could */
};

/* ---- judging a record ----------------------------------------------------------------------- */

uint64_t lock_sharer(struct locks *ls, const struct lunfs_lock_rec *r, unsigned slot)
{
	uint16_t ent = le16_get(r->entry[slot]);

	if (slot == ls->slot || !(ent & LUNFS_ENT_SHARED))
		return 0;
	return host_tag_owner(ls->host, slot, ent & LUNFS_ENT_TAG_MASK);
}

/* @dark: it cannot be judged now, so it is waited for and looked at again. */
static enum owner_state state_of(struct acq *a, uint64_t owner, bool *dark)
{
	enum owner_state st;

	if (LUNFS_OWNER_SLOT(owner) == a->ls->slot && owner < a->ls->owner)
		return OWNER_OVER; /* an earlier incarnation of ours */
	*dark = host_owner_state(a->ls->host, owner, a->fresh, &st);
	return *dark ? OWNER_RECOVERING : st;
}

static void judge_excl(struct acq *a, const struct lunfs_lock_rec *r, struct verdict *v)
{
	uint64_t owner = le64_get(r->owner);
	enum owner_state st;

	if (owner == a->ls->owner) { /* ours, and nobody here knew */
		v->act = V_TAKE_EX;
		return;
	}
	st = state_of(a, owner, &v->dark);
	v->died = true;
	if (st == OWNER_OVER)
		v->act = a->w->mode == LOCK_EX ? V_TAKE_EX : V_JOIN_SH;
	else if (st == OWNER_RECOVERING)
		v->act = V_WAIT;
	else
		v->act = V_ASK;
	v->who[v->n++] = owner;
}

/* A live host, not we, that keeps newcomers out. */
static uint64_t pending_other(struct acq *a, const struct lunfs_lock_rec *r)
{
	uint64_t p = le64_get(r->ex_pending);
	bool dark;

	if (!p || p == a->ls->owner || state_of(a, p, &dark) != OWNER_ALIVE)
		return 0;
	return p;
}

/*
 * Those who share it. As long as they answer that costs no I/O; the slots of those who do not are
 * looked at. Who is over is found out by its tag: where no slot is known its generation is a guess.
 */
static void find_sharers(struct acq *a, const struct lunfs_lock_rec *r, struct verdict *v)
{
	unsigned slots = geo_all_slots(a->ls->env.geo);

	for (unsigned i = 0; i < slots && i < LUNFS_MAX_SLOTS; i++) {
		uint64_t o = lock_sharer(a->ls, r, i);
		bool dark = false;

		if (!o)
			continue;
		v->who[v->n++] = o;
		if (a->fresh || a->dark_ns)
			state_of(a, o, &dark);
		v->dark |= dark;
	}
}

static void judge_shared(struct acq *a, const struct lunfs_lock_rec *r, struct verdict *v)
{
	uint64_t pending = pending_other(a, r);

	if (pending) {
		v->act = V_ASK;
		v->yield = true;
		v->who[v->n++] = pending;
		return;
	}
	if (a->w->mode == LOCK_SH) {
		v->act = V_JOIN_SH;
		return;
	}
	find_sharers(a, r, v);
	if (!v->n)
		v->act = V_TAKE_EX;
	else if (le64_get(r->ex_pending) != a->ls->owner)
		v->act = V_PEND;
	else
		v->act = V_ASK;
}

static void judge(struct acq *a, struct verdict *v)
{
	const struct lunfs_lock_rec *r = &a->l->known;

	v->act = V_BAD;
	v->died = v->yield = v->dark = false;
	v->n = 0;
	switch (le16_get(r->mode)) {
	case LUNFS_LOCK_FREE:
		v->act = a->w->mode == LOCK_EX ? V_TAKE_EX : V_JOIN_SH;
		break;
	case LUNFS_LOCK_EXCL:
		judge_excl(a, r, v);
		break;
	case LUNFS_LOCK_SHARED:
		judge_shared(a, r, v);
		break;
	default: /* multi-writer: no code of this version holds it */
		break;
	}
}

/* ---- waiting -------------------------------------------------------------------------------- */

static void nap(struct acq *a, uint64_t ns)
{
	struct stripe *s = table_stripe(a->ls, a->l->addr);

	mtx_lock(&s->mtx);
	if (!waiter_ended(a->ls, a->w))
		cond_wait(&a->l->cond, &s->mtx, lock_now(a->ls) + ns);
	mtx_unlock(&s->mtx);
}

static bool known_over(const struct acq *a, uint64_t owner)
{
	if (LUNFS_OWNER_SLOT(owner) == a->ls->slot)
		return owner < a->ls->owner;
	return host_owner_over_by(a->ls->host, owner, a->read_ns);
}

/*
 * The payload that was read together with the record is what is there if nobody changes the record
 * before this host holds the lock: the record names its version; or its last holder (where
 * @v says that there was one) had written it, or had it replayed, before the read began.
 */
static bool is_current(const struct acq *a, const uint8_t *cell, const struct verdict *v)
{
	const struct lunfs_blk_hdr *h = (const void *)(cell + a->ls->env.geo->payload_off);
	uint64_t recorded = le64_get(a->l->known.payload_version);

	if (le32_get(h->magic) != LUNFS_BLK_MAGIC || le64_get(h->addr) != a->l->addr)
		return false;
	if (v && v->died)
		return le64_get(h->version) >= recorded && known_over(a, v->who[0]);
	return le64_get(h->version) == recorded;
}

static bool payload_current(const struct acq *a)
{
	return a->cell_valid && is_current(a, a->w->cell, NULL);
}

/* A device that does not answer is waited for as long as this host lives; not by who only tries. */
static int read_record(struct acq *a)
{
	int rc;

	a->read_ns = lock_now(a->ls);
	rc = lock_read(a->ls, a->l, a->w->cell);
	while (rc == -ETIMEDOUT && !(a->w->flags & LOCK_TRY)) {
		nap(a, RECOVERY_NAP_NS);
		rc = waiter_ended(a->ls, a->w);
		if (!rc)
			rc = lock_read(a->ls, a->l, a->w->cell);
	}
	a->cell_valid = !rc;
	if (rc == -ETIMEDOUT)
		return a->w->flags & LOCK_TRY ? -EAGAIN : -EIO;
	return rc;
}

/* Nobody looks first later than that. A queue moves at its own pace. */
static uint64_t look_max_ns(const struct acq *a)
{
	return a->noted ? LOCK_POLL_MAX_NS : LOCK_LOOK_MAX_NS;
}

/* Where a grant takes @ns. A look more costs less than a late one where that is long. */
static uint64_t first_look_ns(const struct acq *a, uint64_t ns)
{
	if (ns > LOOK_LONG_NS)
		ns -= ns / 8;
	return ns < look_max_ns(a) ? ns : look_max_ns(a);
}

/* How long a grant takes. */
static void learn_grant(const struct acq *a, struct past *p)
{
	uint64_t took = lock_now(a->ls) - a->from_ns, most = look_max_ns(a);

	if (!p->grant.ns)
		p->grant.ns = LOCK_POLL_MIN_NS;
	timing_learn(&p->grant, a->looks <= 1, took < most ? took : most);
}

/*
 * While a wish of ours stands, seeing the lock in our name is the hand-over. Where it was put there
 * before anything was read, or none was, the record must be another host's image, and a later one
 * than that by which this host gave it away: what this host set itself tells nothing that it did
 * not know.
 */
static void notice_grant(struct acq *a)
{
	struct lock *l = a->l;
	struct stripe *s = table_stripe(a->ls, l->addr);
	enum lock_mode says = rec_holds(&l->known, a->ls->owner);
	uint64_t setter = le64_get(l->known.hdr.setter_owner);
	bool waiters = false, queue = rec_queue(&l->known);
	struct past *p;

	if (!a->asked || says <= l->held || l->unsettled)
		return;
	if (a->hinted &&
	    (setter == a->ls->owner || le64_get(l->known.hdr.image_seq) <= a->gave_seq))
		return;
	for (unsigned i = 0; i < sizeof(l->known.waiters); i++)
		waiters |= l->known.waiters[i] != 0;
	if (says == LOCK_EX)
		atomic_fetch_add(&a->ls->unproven, 1);
	mtx_lock(&s->mtx);
	lock_set_held(l, says);
	l->received_ns = lock_now(a->ls);
	l->served = false;
	l->eager = a->wish.mode > a->w->mode && says == LOCK_EX;
	p = table_past(s, l->addr, true);
	p->back = p->to && p->to == setter;
	past_came_back(p);
	if (!a->moved)
		learn_grant(a, p);
	l->asked_for = queue;
	l->again = queue && p->again;
	l->rests = 0;
	l->usual = queue ? p->rests : 0;
	l->until_ns = l->received_ns + queue_tenure_ns(a->ls);
	if (queue)
		queue_arm(a->ls, l, l->until_ns);
	mtx_unlock(&s->mtx);
	LOCK_COUNT(a->ls, received);
	a->granter = a->noted ? 0 : setter;
	a->w->current = payload_current(a);
	if (queue) {
		board_queued(a->ls);
		return;
	}
	if (waiters)
		board_heat(a->ls);
	board_received(a->ls);
}

/* Is it this host's turn soon? Then it need not ask. */
static bool in_queue(const struct acq *a)
{
	return !a->impatient && rec_place(&a->l->known, a->ls->slot);
}

/* The record was read: how fast does the queue move? */
static void learn_step(struct acq *a)
{
	struct stripe *s = table_stripe(a->ls, a->l->addr);
	uint64_t seq = le64_get(a->l->known.hdr.image_seq), now = lock_now(a->ls);

	if (a->still_ns && seq <= a->still_seq)
		return;
	mtx_lock(&s->mtx);
	if (a->still_ns)
		past_learn_step(table_past(s, a->l->addr, true), now - a->still_ns,
				seq - a->still_seq);
	mtx_unlock(&s->mtx);
	a->still_ns = now;
	a->still_seq = seq;
	a->impatient = false;
}

/*
 * When to look at the record again: first when it is likely, then seldomer and seldomer; who is
 * next in a queue sooner than others. Who is not sleeps for most of the turns before its own.
 */
static uint64_t until_look(struct acq *a)
{
	struct stripe *s = table_stripe(a->ls, a->l->addr);
	unsigned place =
	    a->l->known_valid && in_queue(a) ? rec_place(&a->l->known, a->ls->slot) : 0;
	uint64_t past = lock_now(a->ls) - a->from_ns, first = LOCK_POLL_MIN_NS;
	uint64_t ns = past / (place == 1 ? LOOKS_NEXT : LOOKS_OTHERS);
	struct past was = {.addr = 0};
	const struct past *p;

	mtx_lock(&s->mtx);
	p = table_past(s, a->l->addr, false);
	if (p)
		was = *p;
	mtx_unlock(&s->mtx);
	if (place > 1 && was.step_ns) {
		ns = (place - 1) * was.step_ns * 3 / 4;
		ns = ns > LOCK_LOOK_MIN_NS ? ns : LOCK_LOOK_MIN_NS;
		return ns < LOCK_STEP_MAX_NS ? ns : LOCK_STEP_MAX_NS;
	}
	if (!a->looks) {
		if (was.grant.ns && !a->moved)
			first = first_look_ns(a, was.grant.ns);
		else if (place && was.step_ns)
			first = was.step_ns / 2;
		ns = first > past ? first - past : 0;
		if (a->noted && lock_now(a->ls) > was.gave_ns + LOCK_STEP_MAX_NS)
			ns = 0; /* it may be here, and nobody knew */
	}
	ns = ns > LOCK_LOOK_MIN_NS ? ns : LOCK_LOOK_MIN_NS;
	return ns < LOCK_POLL_MAX_NS ? ns : LOCK_POLL_MAX_NS;
}

/* Wait, and look. */
static int look(struct acq *a)
{
	int rc;

	nap(a, until_look(a));
	rc = waiter_ended(a->ls, a->w);
	if (rc)
		return rc;
	a->looks++;
	rc = read_record(a);
	if (!rc)
		learn_step(a);
	return rc;
}

/*
 * If it is not ours now, then it is the next holder who is waited for. Where many want a lock,
 * nobody is given it before it has asked the one who has it, so here a look costs less than it
 * brings.
 */
static void moved_on(struct acq *a)
{
	if (rec_holds(&a->l->known, a->ls->owner) >= a->w->mode)
		return;
	a->moved = true;
	a->from_ns = lock_now(a->ls);
	a->looks = 0;
}

/* A beat, or until the queue has stood still for so long that it is not relied on. */
static uint64_t watch_ns(struct acq *a)
{
	struct stripe *s = table_stripe(a->ls, a->l->addr);
	uint64_t ns;

	if (!in_queue(a))
		return a->ls->beat_ns;
	mtx_lock(&s->mtx);
	ns = queue_patience_ns(table_past(s, a->l->addr, false),
			       rec_place(&a->l->known, a->ls->slot));
	mtx_unlock(&s->mtx);
	return ns < a->ls->beat_ns ? ns : a->ls->beat_ns;
}

/* Read the lock sector until it changes, for a beat at most. */
static int watch(struct acq *a)
{
	uint64_t until = lock_now(a->ls) + watch_ns(a);
	uint64_t suspect = lock_now(a->ls) + LOOK_AFTER_NS;
	struct lunfs_lock_rec before = a->l->known;
	unsigned over = atomic_load(&a->ls->owners_over);
	int rc;

	while (lock_now(a->ls) < until && over == atomic_load(&a->ls->owners_over)) {
		if (lock_now(a->ls) >= suspect) {
			host_kick(a->ls->host);
			suspect = lock_now(a->ls) + a->ls->beat_ns / 8;
		}
		rc = look(a);
		if (rc)
			return rc;
		if (memcmp(&before, &a->l->known, sizeof(before))) {
			moved_on(a);
			return 0;
		}
	}
	if (in_queue(a))
		a->impatient = true;
	else
		a->fresh = true;
	return 0;
}

/* One of those in the way will never let go, nor be known to be over. */
static bool in_vain(struct acq *a, const struct verdict *v)
{
	uint64_t dark_limit = 2ull * a->ls->env.geo->lease_ms * 1000000;
	uint64_t now = lock_now(a->ls);

	if (!v->dark)
		a->dark_ns = 0;
	else if (!a->dark_ns)
		a->dark_ns = now;
	if (a->dark_ns && now > a->dark_ns + dark_limit)
		return true; /* a record or a slot is damaged; the host layer has said which */
	for (unsigned i = 0; i < v->n; i++)
		if (host_recovery_hopeless(a->ls->host, v->who[i]))
			return true; /* the journal is; it has said so, too */
	return false;
}

static int wait_recovered(struct acq *a)
{
	host_kick(a->ls->host);
	nap(a, RECOVERY_NAP_NS);
	a->fresh = true;
	return read_record(a);
}

static int settle(struct acq *a)
{
	uint64_t step = SETTLE_NAP_MIN_NS;
	int rc;

	while ((rc = lock_settle(a->ls, a->l)) == -EINPROGRESS) {
		if (a->w->flags & LOCK_TRY)
			return -EAGAIN;
		nap(a, step);
		rc = waiter_ended(a->ls, a->w);
		if (rc)
			return rc;
		step = 2 * step < SETTLE_NAP_MAX_NS ? 2 * step : SETTLE_NAP_MAX_NS;
	}
	a->cell_valid = false;
	return rc;
}

/* ---- acting --------------------------------------------------------------------------------- */

static int after_ats(struct acq *a, int rc)
{
	if (rc == -EAGAIN) {
		a->cell_valid = false;
		return a->w->flags & LOCK_TRY ? -EAGAIN : 0;
	}
	return rc == -EINPROGRESS ? settle(a) : rc;
}

static int take(struct acq *a, const struct verdict *v)
{
	struct lunfs_lock_rec next = a->l->known;
	struct rec_me me = lock_me(a->ls, a->l->addr, false);
	bool upgrade = a->l->held == LOCK_SH, current;
	int rc;

	current = a->cell_valid && is_current(a, a->w->cell, v);
	if (v->act == V_TAKE_EX)
		rec_take_ex(&next, &me);
	else
		rec_join_sh(&next, &me);
	rc = lock_ats(a->ls, a->l, &next);
	if (rc)
		return after_ats(a, rc);
	a->w->current = current;
	if (upgrade)
		LOCK_COUNT(a->ls, upgraded);
	else if (a->cold)
		LOCK_COUNT(a->ls, cold);
	return 0;
}

static int pend(struct acq *a)
{
	struct lunfs_lock_rec next = a->l->known;

	next.ex_pending = le64_make(a->ls->owner);
	return after_ats(a, lock_ats(a->ls, a->l, &next));
}

/* Our own share stands in the way of a host that was first to want it exclusively. */
static int yield(struct acq *a)
{
	int rc = lock_retire(a->ls, a->l, LOCK_NONE, a->w);

	if (!rc)
		rc = lock_leave_shared(a->ls, a->l);
	return after_ats(a, rc);
}

/* @whole: an exclusive holder is asked, who may as well give it away as share it. */
static void begin_to_ask(struct acq *a, bool whole)
{
	struct stripe *s = table_stripe(a->ls, a->l->addr);
	const struct past *p;

	if (a->asked)
		return;
	mtx_lock(&s->mtx);
	p = table_past(s, a->l->addr, false);
	if (whole && p && p->upgrades)
		a->wish.mode = LOCK_EX;
	mtx_unlock(&s->mtx);
	LOCK_COUNT(a->ls, asked);
	a->asked = true;
	a->cold = false;
	a->from_ns = lock_now(a->ls);
}

/*
 * Two hosts hand it to and fro: then the other one most likely has it, and is asked at once. The
 * first look tells, and where the guess was wrong the record is judged as ever.
 */
static int ask_back(struct acq *a, bool *asked)
{
	struct stripe *s = table_stripe(a->ls, a->l->addr);
	const struct past *p;
	uint64_t who = 0;

	mtx_lock(&s->mtx);
	p = table_past(s, a->l->addr, false);
	if (p && (p->back || p->noted))
		who = p->to;
	a->noted = p && p->noted;
	a->gave_seq = p ? p->gave_seq : 0;
	if (a->noted && lock_now(a->ls) < p->gave_ns + LOCK_STEP_MAX_NS) {
		a->still_ns = p->gave_ns;
		a->still_seq = p->gave_seq;
	}
	mtx_unlock(&s->mtx);
	*asked = who && !(a->w->flags & LOCK_TRY) && host_lease_ok(a->ls->host) &&
		 host_live_owner(a->ls->host, LUNFS_OWNER_SLOT(who)) == who;
	if (!*asked)
		return 0;
	begin_to_ask(a, true);
	a->hinted = true;
	if (!a->noted)
		wish_ask(a->ls, &a->wish, &who, 1);
	return look(a);
}

static int ask(struct acq *a, const struct verdict *v)
{
	if (v->yield && a->l->held == LOCK_SH)
		return yield(a);
	if (v->yield && rec_holds(&a->l->known, a->ls->owner) == LOCK_SH)
		return after_ats(a, lock_put_right(a->ls, a->l)); /* a share nobody here knew of */
	begin_to_ask(a, v->died);
	a->fresh = false;
	if (in_queue(a))
		a->noted = true;
	else
		wish_ask(a->ls, &a->wish, v->who, v->n);
	return watch(a);
}

static int wait(struct acq *a, const struct verdict *v)
{
	if (a->w->flags & LOCK_TRY)
		return -EAGAIN;
	if (in_vain(a, v))
		return -EIO;
	if (v->act == V_ASK)
		return ask(a, v);
	return v->act == V_PEND ? pend(a) : wait_recovered(a);
}

static int step(struct acq *a)
{
	struct verdict v;
	int rc = waiter_ended(a->ls, a->w);

	if (rc)
		return rc;
	if (!host_lease_ok(a->ls->host)) {
		if (a->w->flags & LOCK_TRY)
			return -EAGAIN;
		a->dark_ns = 0; /* what cannot be read while this host cannot beat proves nothing */
		nap(a, LEASE_NAP_NS);
		return 0;
	}
	notice_grant(a);
	if (a->l->held >= a->w->mode)
		return 0;
	judge(a, &v);
	switch (v.act) {
	case V_TAKE_EX:
	case V_JOIN_SH:
		return take(a, &v);
	case V_BAD:
		return -EUCLEAN;
	default:
		return wait(a, &v);
	}
}

int lock_may_take(struct locks *ls, struct lock *l, enum lock_mode mode, const uint8_t *cell,
		  uint64_t read_ns, bool *current)
{
	struct waiter w = {.mode = mode, .flags = LOCK_TRY};
	struct acq a = {.ls = ls, .l = l, .w = &w, .read_ns = read_ns};
	struct verdict v;

	judge(&a, &v);
	*current = is_current(&a, cell, &v);
	return v.act == (mode == LOCK_EX ? V_TAKE_EX : V_JOIN_SH) ? 0 : -EAGAIN;
}

/* It was taken shared a moment ago: the next time all of it is asked for at once. */
static void note_upgrade(struct locks *ls, struct lock *l)
{
	struct stripe *s = table_stripe(ls, l->addr);

	mtx_lock(&s->mtx);
	if (lock_now(ls) < l->since_ns + LOCK_UPGRADE_NS)
		table_past(s, l->addr, true)->upgrades = true;
	mtx_unlock(&s->mtx);
}

int lock_acquire(struct locks *ls, struct lock *l, struct waiter *w)
{
	struct acq a = {.ls = ls, .l = l, .w = w};
	bool read = false;
	int rc = 0;

	env_waits(&ls->env);
	a.wish.addr = l->addr;
	a.wish.mode = w->mode;
	w->current = false;
	if (l->unsettled)
		rc = settle(&a);
	if (!rc && !l->known_valid) {
		a.cold = true;
		rc = ask_back(&a, &read);
		if (!rc && !read)
			rc = read_record(&a);
	}
	if (w->mode == LOCK_EX && l->held == LOCK_SH && !l->ahead)
		note_upgrade(ls, l);
	while (!rc && (l->held < w->mode || l->unsettled))
		rc = l->unsettled ? settle(&a) : step(&a);
	if (rc && l->known_valid)
		notice_grant(&a); /* given up, and granted all the same: it is cached */
	wish_cancel(ls, &a.wish, a.granter);
	if (rc && a.asked)
		board_heat(ls); /* it may come all the same, and somebody else waits for it */
	if (rc && l->known_valid && !l->unsettled)
		lock_clear_pending(ls, l);
	return rc;
}
