/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The beat: proves to the others, by ATS in our own slot, that this host lives, and to this host
 * that nobody has taken its slot. The lease counts from before the first submission of the beat
 * image that succeeded. A beat that ends after the lease did is a resumption: our slot still held
 * our own live image, so nobody can have taken a lock; recoveries of ours are renewed first.
 */
#include "cluster/host_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BEAT_STAYS 16u /* beats at the least from one change of the moment to the next */

struct beat_turn {     /* when this host beats among the others */
	bool moved;    /* the beat just sent was far out of turn */
	unsigned stay; /* no such thing again for so many beats */
};

static uint64_t beat_ns(const struct host *h)
{
	return h->cfg.beat_ms * MS_NS;
}

static void build_beat(struct host *h)
{
	struct lunfs_slot_rec *set = (void *)h->set;
	const struct lunfs_slot_rec *cur = rec_of(h->cur);

	memcpy(h->set, h->cur, h->env.geo->sector_bytes);
	set->beat_seq = le64_make(le64_get(cur->beat_seq) + 1);
	ats_stamp(h->ats, &set->hdr, &cur->hdr, LUNFS_ATS_SLOT, h->sec.off_bytes);
}

/* The beat submitted at @since_ns stands. */
static int beat_stands(struct host *h, uint64_t since_ns)
{
	uint64_t end = since_ns + h->cfg.lease_ms * MS_NS;
	uint8_t *tmp = h->cur;
	bool active;

	h->cur = h->set;
	h->set = tmp;
	fence_fed(h, since_ns);
	mtx_lock(&h->mtx);
	active = host_check_lease(h);
	if (active) {
		atomic_store(&h->lease_end_ns, end);
		cond_broadcast(&h->changed);
		cond_signal(&h->note_wake);
	}
	mtx_unlock(&h->mtx);
	if (active)
		return 0;
	if (atomic_load(&h->state) == HOST_LOST)
		return -EIO;
	if (recover_renew(h))
		return atomic_load(&h->state) == HOST_LOST ? -EIO : -EAGAIN;
	mtx_lock(&h->mtx);
	active = host_now(h) < end && atomic_load(&h->state) == HOST_SUSPENDED &&
		 !atomic_load(&h->conflict);
	if (active) {
		if (h->rec_step_ns)
			h->rec_step_ns = host_now(h) | 1;
		atomic_store(&h->lease_end_ns, end);
		atomic_store(&h->state, HOST_ACTIVE);
		cond_broadcast(&h->changed);
		cond_broadcast(&h->note_wake);
		cond_broadcast(&h->watch_wake);
		cond_broadcast(&h->rec_wake);
	}
	mtx_unlock(&h->mtx);
	if (active)
		log_info("host-resumed",
			 "Host %s (slot %u, generation %llu) beats again and its slot was not "
			 "touched: work goes on with all locks and data kept.",
			 h->cfg.name, h->slot, (unsigned long long)h->generation);
	return active ? 0 : -EAGAIN;
}

/* The host that set the image in h->found, as its slot says now, or as it was seen last. */
static const char *name_of(struct host *h, uint64_t owner, char buf[HOST_LABEL_BYTES])
{
	unsigned slot = LUNFS_OWNER_SLOT(owner);
	struct slot_seen by;

	if (!owner || slot >= h->n || slot == h->slot)
		return "another host";
	if (watch_read_slot(h, slot, &by))
		watch_get(h, slot, &by);
	if (by.hi.generation == LUNFS_OWNER_GEN(owner))
		return host_label(&by.hi, buf);
	snprintf(buf, HOST_LABEL_BYTES, "a host that is gone (slot %u, generation %llu)", slot,
		 (unsigned long long)LUNFS_OWNER_GEN(owner));
	return buf;
}

/* What fsck.lunfs makes anew, or an array rolls back, counts its generations again. */
static bool own_live(const struct host *h, const struct host_info *hi)
{
	return hi->state == LUNFS_SLOT_LIVE && hi->generation == h->generation &&
	       hi->nonce == h->nonce;
}

/* Another image than ours stands in our slot. */
static int slot_changed(struct host *h)
{
	const char *fenced = h->fence == LUNFS_FENCE_PR ? "fenced and " : "";
	const char *refused =
	    atomic_load(&h->conflict) ? "; the device refuses its writes since then" : "";
	uint64_t setter = le64_get(rec_of(h->found)->hdr.setter_owner);
	char name[HOST_LABEL_BYTES];
	struct host_info hi;

	if (slot_decode(h->env.geo, h->found, h->slot, &hi)) {
		host_set_lost(h, "its slot holds no valid record any more");
		return -EIO;
	}
	if (own_live(h, &hi)) {
		memcpy(h->cur, h->found, h->env.geo->sector_bytes);
		return -EAGAIN;
	}
	if (hi.generation == h->generation && hi.state == LUNFS_SLOT_RECOVERING)
		host_set_lost(h,
			      "it did not beat for its lease of %u ms and is being %srecovered by "
			      "%s%s",
			      h->cfg.lease_ms, fenced, name_of(h, hi.recoverer, name), refused);
	else if (hi.generation == h->generation && hi.state == LUNFS_SLOT_FREE)
		host_set_lost(h,
			      "it did not beat for its lease of %u ms and was %srecovered by %s%s",
			      h->cfg.lease_ms, fenced, name_of(h, setter, name), refused);
	else
		host_set_lost(h,
			      "it did not beat for its lease of %u ms and was %srecovered; its "
			      "slot now belongs to %s%s",
			      h->cfg.lease_ms, fenced, host_label(&hi, name), refused);
	return -EIO;
}

int beat_once(struct host *h)
{
	uint64_t since = host_now(h);
	int error = 0;

	build_beat(h);
	switch (ats(h->ats, &h->sec, h->cur, h->set, h->found, &error)) {
	case ATS_DONE:
	case ATS_DONE_LATE:
		return beat_stands(h, since);
	case ATS_LOST_RACE:
		return slot_changed(h);
	case ATS_WENT_BACK:
		host_set_lost(h,
			      "the device shows an older state of its slot: a lost write, a stale "
			      "cache or a roll-back of the array");
		return -EIO;
	default: /* fenced (the front door told host_why_refused()), unknown, unexplained, damaged,
		    error: the lease tells how long that may last */
		return -EAGAIN;
	}
}

/* A step of a recovery ends; one that does not keeps everybody from what the dead had locked. */
static bool recovers(struct host *h)
{
	uint64_t since;

	mtx_lock(&h->mtx);
	since = h->rec_step_ns;
	mtx_unlock(&h->mtx);
	return !since || host_now(h) - since < HOST_STEP_LEASES * h->cfg.lease_ms * MS_NS;
}

/*
 * While an outage suspends a host its threads wait for the beat, so nothing is demanded of them. A
 * host that stopped beating by itself goes on when nobody has taken its slot for long.
 */
static bool excused(struct host *h)
{
	uint64_t lease = h->cfg.lease_ms * MS_NS;

	if (host_state(h) == HOST_ACTIVE)
		return false;
	return !h->idle_told || host_now(h) > atomic_load(&h->lease_end_ns) + 2 * lease;
}

/* A daemon that beats but does not work is no use to anybody: it lets its lease run out. */
static bool works(struct host *h)
{
	uint64_t now = host_now(h);

	if (h->temporary || excused(h) ||
	    ((!h->cb.alive || h->cb.alive(h->cb.ctx)) && recovers(h))) {
		h->idle_since_ns = 0;
		h->idle_told = false;
		return true;
	}
	if (!h->idle_since_ns)
		h->idle_since_ns = now;
	if (now - h->idle_since_ns < HOST_IDLE_LEASES * h->cfg.lease_ms * MS_NS)
		return true;
	if (!h->idle_told)
		log_err(
		    "host-stuck",
		    "Host %s (slot %u) made no progress for %u ms; it stops beating so that the "
		    "others can go on without it.",
		    h->cfg.name, h->slot, HOST_IDLE_LEASES * h->cfg.lease_ms);
	h->idle_told = true;
	return false;
}

/* Without a beat of our own, still see when the others give us up. */
static int look_at_own_slot(struct host *h)
{
	const struct geo *g = h->env.geo;
	struct host_info hi;

	if (dev_read(h->env.dev, h->sec.off_bytes, g->sector_bytes, h->found) ||
	    slot_decode(g, h->found, h->slot, &hi))
		return -EAGAIN;
	return own_live(h, &hi) ? 0 : slot_changed(h);
}

/*
 * The device refused a command. Whoever fences us has changed our slot first, so that tells; if it
 * holds our own live image, nobody did, and the registration is put right before the next beat.
 */
int host_why_refused(struct host *h)
{
	int r;

	mtx_lock(&h->mtx);
	host_check_lease(h);
	mtx_unlock(&h->mtx);
	r = look_at_own_slot(h);
	if (!r && h->fence == LUNFS_FENCE_PR)
		r = pr_restore(h);
	if (!r)
		atomic_store(&h->conflict, false);
	return r;
}

static bool slot_seen_gone(struct host *h)
{
	bool gone;

	mtx_lock(&h->mtx);
	gone = h->slot_gone;
	h->slot_gone = false;
	mtx_unlock(&h->mtx);
	return gone;
}

/* What a host is told of its locks by such a device proves nothing: it stops before it does harm.
 */
static bool went_back(struct host *h)
{
	if (!atomic_load(&h->ats->stats.outcome[ATS_WENT_BACK]))
		return false;
	host_set_lost(h, "the device shows an older state of a sector that it had changed: a lost "
			 "write, a stale cache or a roll-back of the array");
	return true;
}

/* *stands: a beat of this host does, not only its slot. */
static int next_beat(struct host *h, bool *stands)
{
	int r = 0;

	if (went_back(h))
		return -EIO;
	if (atomic_load(&h->conflict))
		r = host_why_refused(h);
	if (!r && !works(h))
		return look_at_own_slot(h);
	if (!r)
		r = beat_once(h);
	*stands = !r;
	/* A device may serve reads and fail all else; what the watch has read is final. */
	if (r == -EAGAIN && slot_seen_gone(h) && look_at_own_slot(h) == -EIO)
		r = -EIO;
	return r;
}

/* The slot is not ours any more, yet our key may have been registered anew just before. */
static void leave_when_lost(struct host *h)
{
	if (h->pr_restored_ns)
		pr_leave(h);
}

/*
 * All hosts beat at about the same moment, that of the lowest slot, so that one read of the table
 * sees all beats soon after they landed. A beat may come sooner than it must, never later. One far
 * out of turn is followed by another, by which the others know that its moment has moved; that is
 * not done again for a while, lest a leader without a rhythm make all others beat more often.
 */
static uint64_t next_after(struct host *h, uint64_t start, struct beat_turn *t)
{
	uint64_t beat = beat_ns(h), step = beat / WATCH_STEPS_A_BEAT, next = start + beat;
	uint64_t seen = watch_leader_ns(h), past;

	if (t->moved) {
		t->moved = false;
		return start + step / 2;
	}
	if (t->stay)
		t->stay--;
	if (!seen || seen > next)
		return next;
	past = (next - seen) % beat;
	if (past > beat - step - step / 2)
		return next;
	if (past > step + step / 4) {
		if (t->stay)
			return next;
		t->moved = true;
		t->stay = BEAT_STAYS;
	}
	return next - past;
}

void beat_main(void *arg)
{
	struct host *h = arg;
	uint64_t next = host_now(h) + beat_ns(h);
	struct beat_turn turn = {.moved = false};

	health_beats_begin(&h->ats->health);
	for (;;) {
		struct health_beat b = {.beat_ms = h->cfg.beat_ms,
					.deadline_ms = h->cfg.deadline_ms};
		uint64_t start;
		bool stop;
		int r;

		mtx_lock(&h->mtx);
		while (!h->stop && !h->beat_now && host_now(h) < next)
			cond_wait(&h->beat_wake, &h->mtx, next);
		b.due_ns = next;
		h->beat_now = false;
		stop = h->stop || atomic_load(&h->state) == HOST_LOST;
		mtx_unlock(&h->mtx);
		if (stop)
			return;
		start = b.sent_ns = host_now(h);
		b.lease_end_ns = atomic_load(&h->lease_end_ns);
		r = next_beat(h, &b.stands);
		b.returned_ns = host_now(h);
		health_beat(&h->ats->health, &b);
		if (r == -EIO) {
			leave_when_lost(h);
			return;
		}
		next = r ? host_now(h) + beat_ns(h) / 4 : next_after(h, start, &turn);
		mtx_lock(&h->mtx);
		if (r) /* whatever is in the way: not at once again */
			h->beat_now = false;
		mtx_unlock(&h->mtx);
	}
}
