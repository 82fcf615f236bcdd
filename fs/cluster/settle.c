/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One ATS on a lock's record and what its outcome means for the lock. The caller made the lock busy
 * and does not hold the stripe's mutex.
 *
 * `known` and `held` always change together, by content: this host holds what the record on disk
 * says that it holds. While the fate of a command is unknown the lock is unsettled: it counts as
 * neither held nor free, and the first thing anybody does with it is another lock_settle().
 */
#include "cluster/lock_impl.h"

#include "base/bitmap.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DECODE_TRIES 5u
#define BATCH_MAX 64u
#define PAGE_BYTES 4096u
#define GATE_NAP_NS 10000000ull

int lock_gate(struct locks *ls)
{
	while (!host_lease_ok(ls->host)) {
		enum host_state st = host_state(ls->host);

		if (st == HOST_LOST || st == HOST_NONE || atomic_load(&ls->stopping))
			return -EIO;
		clock_sleep_ns(ls->env.clk, GATE_NAP_NS);
	}
	return host_write_gate(ls->host);
}

/* The same for who does not wait: -EAGAIN. */
static int gate_try(struct locks *ls)
{
	return host_lease_ok(ls->host) && host_write_may(ls->host) ? 0 : -EAGAIN;
}

struct rec_me lock_me(struct locks *ls, uint64_t addr, bool version)
{
	struct rec_me me = {.owner = ls->owner};

	if (ls->cb.is_open)
		me.open = ls->cb.is_open(ls->cb.ctx, addr);
	if (version && ls->cb.version)
		me.version = ls->cb.version(ls->cb.ctx, addr);
	return me;
}

/*
 * The record on disk is @r now. Where only a read says so, it makes us hold no more than @most.
 * @proven: by the device's answer to the test and set that put it there.
 */
static void adopt(struct locks *ls, struct lock *l, const struct lunfs_lock_rec *r,
		  enum lock_mode most, bool proven)
{
	struct stripe *s = table_stripe(ls, l->addr);
	enum lock_mode says = rec_holds(r, ls->owner);

	if (!proven && says == LOCK_EX && most == LOCK_EX)
		atomic_fetch_add(&ls->unproven, 1);
	mtx_lock(&s->mtx);
	l->known = *r;
	l->known_valid = true;
	l->born = false;
	l->unsettled = false;
	lock_set_held(l, says < most ? says : most);
	if (l->held != LOCK_EX)
		l->received_ns = 0;
	mtx_unlock(&s->mtx);
}

static void set_unsettled(struct locks *ls, struct lock *l)
{
	struct stripe *s = table_stripe(ls, l->addr);

	mtx_lock(&s->mtx);
	l->unsettled = true;
	mtx_unlock(&s->mtx);
}

/* ---- reading -------------------------------------------------------------------------------- */

static int read_once(struct locks *ls, struct lock *l, void *buf, bool whole,
		     struct lunfs_lock_rec *r)
{
	const struct geo *g = ls->env.geo;
	int rc = health_read(&ls->env, lock_off(l->addr),
			  whole ? geo_cell_bytes(g) : g->sector_bytes, buf);

	return rc ? rc : lock_rec_decode(g, buf, l->addr, r);
}

/* The number of the latest image that this host knows to have stood there, 0: of none. */
static uint64_t seen_seq(struct locks *ls, const struct lock *l)
{
	struct stripe *s = table_stripe(ls, l->addr);
	uint64_t seq = l->known_valid ? le64_get(l->known.hdr.image_seq) : 0;
	const struct past *p;

	mtx_lock(&s->mtx);
	p = table_past(s, l->addr, false);
	if (p && p->gave_seq > seq)
		seq = p->gave_seq;
	mtx_unlock(&s->mtx);
	return seq;
}

/*
 * The number of a record's image only grows, so a read that shows less than this host has seen
 * there shows the past; a lock in our own name in it would be one that was given up long ago.
 */
static bool shows_the_past(struct locks *ls, const struct lock *l, const struct lunfs_lock_rec *r)
{
	uint64_t seq = le64_get(r->hdr.image_seq), seen = seen_seq(ls, l);

	if (seq >= seen)
		return false;
	atomic_fetch_add(&ls->ats->stats.outcome[ATS_WENT_BACK], 1);
	log_err("lock-went-back",
		"The record of lock %llu shows image %llu, but this host has seen image %llu "
		"there: a stale cache, a lost write or a roll-back of the array. This host stops "
		"using the volume; look at the array before mounting it again.",
		(unsigned long long)l->addr, (unsigned long long)seq, (unsigned long long)seen);
	return true;
}

/* The record was read: this host knows it now. */
static int learn(struct locks *ls, struct lock *l, const struct lunfs_lock_rec *r)
{
	struct stripe *s = table_stripe(ls, l->addr);

	if (shows_the_past(ls, l, r))
		return -EIO;
	if (le64_get(r->hdr.setter_nonce) == ls->nonce &&
	    le64_get(r->hdr.image_seq) > l->sec.resolved_seq)
		l->sec.resolved_seq = le64_get(r->hdr.image_seq);
	mtx_lock(&s->mtx);
	l->known = *r;
	l->known_valid = true;
	mtx_unlock(&s->mtx);
	return 0;
}

int lock_read(struct locks *ls, struct lock *l, uint8_t *cell)
{
	void *buf = cell ? cell : dev_buf_alloc(PAGE_BYTES);
	struct lunfs_lock_rec r;
	int rc = -EUCLEAN;

	for (unsigned i = 0; i < DECODE_TRIES && rc == -EUCLEAN; i++) {
		if (i)
			clock_sleep_ns(ls->env.clk, LOCK_POLL_MIN_NS << i);
		rc = read_once(ls, l, buf, cell != NULL, &r);
	}
	if (!cell)
		free(buf);
	if (rc == -EUCLEAN)
		log_warn(
		    "lock-damaged",
		    "The lock record at block %llu is damaged; what it protects cannot be used "
		    "until fsck.lunfs has looked at the volume.",
		    (unsigned long long)l->addr);
	if (rc)
		return rc == -EUCLEAN || rc == -ETIMEDOUT ? rc : -EIO;
	return learn(ls, l, &r);
}

static void read_all(struct locks *ls, struct dev_io *io, size_t n)
{
	uint64_t sent = lock_now(ls);

	if (!n)
		return;
	dev_batch(ls->env.dev, io, n);
	health_count_io(ls->env.health, HEALTH_READ, lock_now(ls) - sent);
}

void lock_read_many(struct locks *ls, struct lock **l, uint8_t *cells, int *rc, size_t n)
{
	const struct geo *g = ls->env.geo;
	size_t cell_bytes = geo_cell_bytes(g), nio = 0;
	struct dev_io *io = calloc(n + 1, sizeof(*io));
	size_t *of = calloc(n + 1, sizeof(*of));

	lunfs_assert(io && of);
	for (size_t i = 0; i < n; i++) {
		if (!i || l[i]->addr != l[i - 1]->addr + g->cell_blks)
			io[nio++] = (struct dev_io){.op = DEV_READ,
						    .off_bytes = lock_off(l[i]->addr),
						    .buf = cells + i * cell_bytes};
		of[i] = nio - 1;
		io[of[i]].len_bytes += cell_bytes;
	}
	read_all(ls, io, nio);
	for (size_t i = 0; i < n; i++) {
		struct lunfs_lock_rec r;

		rc[i] = io[of[i]].result;
		if (!rc[i])
			rc[i] = lock_rec_decode(g, cells + i * cell_bytes, l[i]->addr, &r);
		if (!rc[i])
			rc[i] = learn(ls, l[i], &r);
	}
	free(of);
	free(io);
}

/* ---- test and set --------------------------------------------------------------------------- */

struct lock_bufs {
	uint8_t *mem, *test, *set, *found;
};

static void bufs_fill(struct locks *ls, struct lock *l, const struct lunfs_lock_rec *next,
		      uint8_t *mem, struct lock_bufs *b)
{
	*b = (struct lock_bufs){mem, mem, mem + PAGE_BYTES, mem + 2 * PAGE_BYTES};
	memcpy(b->test, &l->known, sizeof(l->known));
	memcpy(b->set, next, sizeof(*next));
	ats_stamp(ls->ats, (struct lunfs_ats_hdr *)b->set, &l->known.hdr, LUNFS_ATS_LOCK,
		  lock_off(l->addr));
}

/*
 * The command gave the lock away, and did not say that it was done: who has got the lock may have
 * given it on by now. A miscompare alone tells that where what stands there follows the command's
 * own image; what took the lock from this host would follow the one before. In its lease nobody
 * takes it for dead.
 */
static bool may_have_given(struct locks *ls, const struct ats_op *op,
			   const struct lunfs_lock_rec *found, enum lock_mode was)
{
	const struct lunfs_lock_rec *set = op->set;
	bool follows = le64_get(found->hdr.image_seq) > le64_get(set->hdr.image_seq);

	return rec_holds(set, ls->owner) < was &&
	       (op->error || (follows && host_lease_ok(ls->host)));
}

static void tell_lost(struct lock *l, const struct ats_op *op, bool given)
{
	if (given && !op->error)
		log_warn(
		    "lock-resent",
		    "This host gave lock %llu away and was told that the record did not match, "
		    "but others have gone on from what it wrote: the command was carried out "
		    "twice, and no harm was done. Look for what sends commands again below "
		    "lunfs: the paths, the adapter's driver, a gateway.",
		    (unsigned long long)l->addr);
	else if (!given)
		log_err("lock-lost",
			"Somebody else changed the record of lock %llu that this host held; the "
			"device may have lost a write, or this host was declared dead.",
			(unsigned long long)l->addr);
}

static int lost_race(struct locks *ls, struct lock *l, const struct ats_op *op)
{
	enum lock_mode was = l->held;
	struct lunfs_lock_rec r;

	if (lock_rec_decode(ls->env.geo, op->found, l->addr, &r))
		return -EUCLEAN;
	adopt(ls, l, &r, was, false);
	if (was != LOCK_NONE && l->held < was && le64_get(r.hdr.setter_nonce) != ls->nonce)
		tell_lost(l, op, may_have_given(ls, op, &r, was));
	return -EAGAIN;
}

static int outcome(struct locks *ls, struct lock *l, const struct ats_op *op)
{
	struct lunfs_lock_rec r;

	switch (op->outcome) {
	case ATS_DONE:
	case ATS_DONE_LATE:
		memcpy(&r, op->set, sizeof(r));
		adopt(ls, l, &r, LOCK_EX, op->outcome == ATS_DONE);
		return 0;
	case ATS_LOST_RACE:
		return lost_race(ls, l, op);
	case ATS_UNKNOWN:
		set_unsettled(ls, l);
		return -EINPROGRESS;
	case ATS_DAMAGED:
		return -EUCLEAN;
	case ATS_ERROR: /* busy all the time: nothing happened */
		return op->error == -EBUSY ? -EAGAIN : -EIO;
	case ATS_FENCED: /* nothing happened; the gate tells whether it was for good */
		return -EAGAIN;
	default:
		return -EIO;
	}
}

int lock_ats(struct locks *ls, struct lock *l, const struct lunfs_lock_rec *next)
{
	uint8_t *mem;
	struct lock_bufs b;
	struct ats_op op;
	int rc;

	lunfs_assert(!l->unsettled && l->known_valid);
	rc = lock_gate(ls);
	if (rc)
		return -EIO;
	mem = dev_buf_alloc(3 * PAGE_BYTES);
	bufs_fill(ls, l, next, mem, &b);
	op = (struct ats_op){.s = &l->sec, .test = b.test, .set = b.set, .found = b.found};
	op.outcome = ats(ls->ats, op.s, op.test, op.set, op.found, &op.error);
	rc = outcome(ls, l, &op);
	free(mem);
	return rc;
}

static void ats_some(struct locks *ls, struct lock **l, const struct lunfs_lock_rec *next, int *rc,
		     size_t n)
{
	uint8_t *mem = dev_buf_alloc(n * 3 * PAGE_BYTES);
	struct ats_op *op = calloc(n, sizeof(*op));

	lunfs_assert(op);
	for (size_t i = 0; i < n; i++) {
		struct lock_bufs b;

		bufs_fill(ls, l[i], &next[i], mem + i * 3 * PAGE_BYTES, &b);
		op[i].s = &l[i]->sec;
		op[i].test = b.test;
		op[i].set = b.set;
		op[i].found = b.found;
	}
	ats_batch(ls->ats, op, n);
	for (size_t i = 0; i < n; i++)
		rc[i] = outcome(ls, l[i], &op[i]);
	free(op);
	free(mem);
}

void lock_ats_many(struct locks *ls, struct lock **l, const struct lunfs_lock_rec *next, int *rc,
		   size_t n, bool wait)
{
	for (size_t i = 0; i < n; i += BATCH_MAX) {
		size_t part = n - i < BATCH_MAX ? n - i : BATCH_MAX;
		int gate = wait ? lock_gate(ls) : gate_try(ls);

		if (gate) {
			for (size_t k = i; k < n; k++)
				rc[k] = wait ? -EIO : gate;
			return;
		}
		ats_some(ls, l + i, next + i, rc + i, part);
	}
}

/* ---- unknown fates -------------------------------------------------------------------------- */

/* A fresh image of what stands there: the late command then no longer matches. */
static int keep_content(void *ctx, const void *now, void *set)
{
	struct lock *l = ctx;
	struct lunfs_lock_rec r;

	if (lock_rec_decode(l->ls->env.geo, now, l->addr, &r))
		return -EUCLEAN;
	memcpy(set, &r, sizeof(r));
	return 0;
}

int lock_settle(struct locks *ls, struct lock *l)
{
	uint8_t *found;
	struct lunfs_lock_rec r;
	enum ats_outcome o;
	int error = 0, rc = 0;

	if (!l->unsettled)
		return 0;
	if (lock_gate(ls))
		return -EIO;
	found = dev_buf_alloc(PAGE_BYTES);
	o = ats_resolve(ls->ats, &l->sec, keep_content, l, found, &error);
	if (ats_ok(o) && !lock_rec_decode(ls->env.geo, found, l->addr, &r))
		adopt(ls, l, &r, LOCK_EX, o == ATS_DONE);
	else if (o == ATS_DAMAGED || error == -EUCLEAN)
		rc = -EUCLEAN;
	else
		rc = error == -EIO || error == -ENODEV ? -EIO : -EINPROGRESS;
	free(found);
	return rc;
}

/* ---- what we do not know of ----------------------------------------------------------------- */

void lock_clear_pending(struct locks *ls, struct lock *l)
{
	for (unsigned i = 0; i < 2 * LUNFS_MAX_SLOTS; i++) {
		struct lunfs_lock_rec next = l->known;

		if (l->unsettled || le64_get(next.ex_pending) != ls->owner)
			return;
		next.ex_pending = le64_make(0);
		if (lock_ats(ls, l, &next) != -EAGAIN)
			return;
	}
}

/*
 * The record was just read and l->held is what this host knew before. A hand-over to a waiter that
 * had given up, or a fate that an earlier life of this lock left behind: an EX is adopted (and then
 * given away as any other), a shared entry and a pending mark are taken back.
 */
int lock_put_right(struct locks *ls, struct lock *l)
{
	enum lock_mode says = rec_holds(&l->known, ls->owner);
	struct lunfs_lock_rec next = l->known;
	struct rec_me me = lock_me(ls, l->addr, false);

	if (l->held != LOCK_EX && says == LOCK_EX)
		rec_take_ex(&next, &me);
	else if (l->held == LOCK_NONE && says == LOCK_SH)
		rec_leave(&next, &me);
	else if (le64_get(next.ex_pending) == ls->owner)
		next.ex_pending = le64_make(0);
	else
		return 0;
	return lock_ats(ls, l, &next);
}

int lock_probe(struct locks *ls, struct lock *l)
{
	int rc = lock_settle(ls, l);

	for (unsigned i = 0; i < 2 * LUNFS_MAX_SLOTS && !rc; i++) {
		rc = lock_read(ls, l, NULL);
		if (!rc)
			rc = lock_put_right(ls, l);
		if (rc != -EAGAIN)
			break;
		rc = 0;
	}
	return rc;
}
