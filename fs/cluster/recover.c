/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Recovery of dead hosts, one step after the other: RECOVERING by ATS -> fence -> replay -> flush
 * -> is it fenced still? -> FREE by ATS. The first ATS decides which host does it; losing that race
 * is normal. Every step can be repeated, by this host or by one that takes over from it. Until FREE
 * stands on disk all locks of the dead generation hold. Only where the dead stands in the way of
 * the first ATS it is fenced before that: fence_in_the_way().
 */
#include "cluster/host_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GIVE_UP_FAILURES 4u /* for those who can do without: it is tried on and on */
#define TELL_FAILURES 8u    /* a sentence at the first failure and at every so many */

enum step { STEP_ON, STEP_RETRY, STEP_DROP, STEP_BACK };

void recover_begin(struct host *h, unsigned slot)
{
	struct job *j = &h->jobs[slot];

	if (j->stage != JOB_NONE || j->barred || !h->cb.replay)
		return;
	j->dead = h->seen[slot].hi;
	j->sec.off_bytes = geo_slot_off(slot); /* keeps its memory of what was sent */
	j->sec.kind = "slot";
	j->sec.addr = slot;
	j->failures = 0;
	j->damaged = false;
	j->next_ns = 0;
	j->stage = JOB_TAKE;
	cond_signal(&h->rec_wake);
}

bool recover_busy(struct host *h, unsigned slot)
{
	bool busy;

	mtx_lock(&h->mtx);
	busy = h->jobs[slot].stage != JOB_NONE && !h->jobs[slot].failures;
	mtx_unlock(&h->mtx);
	return busy;
}

bool host_recovery_fails(struct host *h, unsigned slot)
{
	bool fails;

	mtx_lock(&h->mtx);
	fails = h->jobs[slot].stage == JOB_REPLAY && h->jobs[slot].failures >= GIVE_UP_FAILURES;
	mtx_unlock(&h->mtx);
	return fails;
}

void host_recovery_bar(struct host *h, unsigned slot)
{
	mtx_lock(&h->mtx);
	h->jobs[slot].barred = true;
	while (h->rec_step_ns && h->rec_slot == slot)
		cond_wait(&h->changed, &h->mtx, CLOCK_FOREVER);
	h->jobs[slot].stage = JOB_NONE;
	mtx_unlock(&h->mtx);
}

bool host_recovery_hopeless(struct host *h, uint64_t owner)
{
	unsigned slot = LUNFS_OWNER_SLOT(owner);
	const struct job *j;
	bool hopeless;

	if (slot >= h->n)
		return false;
	mtx_lock(&h->mtx);
	j = &h->jobs[slot];
	hopeless = j->stage == JOB_REPLAY && j->damaged && j->failures >= GIVE_UP_FAILURES &&
		   j->dead.generation == LUNFS_OWNER_GEN(owner);
	mtx_unlock(&h->mtx);
	return hopeless;
}

/* A RECOVERING image that names this host, or the FREE one, after @prev. */
static void build(struct host *h, struct job *j, const void *prev, enum lunfs_slot_state state,
		  uint8_t *set)
{
	struct lunfs_slot_rec *rec = (void *)set;

	if (set != prev)
		memcpy(set, prev, h->env.geo->sector_bytes);
	rec->state = le16_make((uint16_t)state);
	rec->recoverer = le64_make(state == LUNFS_SLOT_RECOVERING ? host_owner(h) : 0);
	ats_stamp(h->ats, &rec->hdr, &rec_of(prev)->hdr, LUNFS_ATS_SLOT, j->sec.off_bytes);
}

static void note_now(struct host *h, unsigned slot, const void *sector)
{
	uint64_t now = host_now(h);

	watch_note(h, slot, sector, now, now);
}

/* ---- RECOVERING ----------------------------------------------------------------------------- */

static void tell_taken(struct host *h, const struct slot_seen *s, uint64_t now_ns)
{
	char name[HOST_LABEL_BYTES], by[HOST_LABEL_BYTES];
	struct slot_seen r;

	if (s->hi.state == LUNFS_SLOT_RECOVERING) {
		watch_get(h, LUNFS_OWNER_SLOT(s->hi.recoverer), &r);
		log_warn(
		    "host-taken-over",
		    "The recovery of %s is taken over by this host (%s, slot %u): %s, which had "
		    "begun it, is gone.",
		    host_label(&s->hi, name), h->cfg.name, h->slot, host_label(&r.hi, by));
	} else if (now_ns < s->since_ns + watch_allowance_ns(&s->hi)) {
		log_warn("host-dead",
			 "%s is dead: its process %u on this machine is gone; this host (%s, slot "
			 "%u) recovers it.",
			 host_label(&s->hi, name), s->hi.pid, h->cfg.name, h->slot);
	} else {
		log_warn(
		    "host-dead",
		    "%s stopped beating %llu ms ago, its lease of %u ms is over; this host (%s, "
		    "slot %u) recovers it.",
		    host_label(&s->hi, name), (unsigned long long)((now_ns - s->since_ns) / MS_NS),
		    s->hi.lease_ms, h->cfg.name, h->slot);
	}
}

static enum step taken(struct host *h, unsigned slot, const struct slot_seen *s, const void *set)
{
	struct job *j = &h->jobs[slot];
	bool again = s->hi.state == LUNFS_SLOT_RECOVERING && s->hi.recoverer == host_owner(h);

	if (!again)
		tell_taken(h, s, host_now(h));
	mtx_lock(&h->rec_mtx);
	memcpy(j->cur, set, h->env.geo->sector_bytes);
	mtx_unlock(&h->rec_mtx);
	j->taken_ns = host_now(h);
	j->silent_ns = j->taken_ns - s->since_ns;
	note_now(h, slot, set);
	return STEP_ON;
}

static bool is_of(const struct job *j, const struct slot_seen *s)
{
	return s->hi.generation == j->dead.generation && s->hi.nonce == j->dead.nonce;
}

/*
 * On one machine a process that was stopped in the middle of a test and set of its own slot holds
 * that sector, and nothing but its end lets ours through: here the dead is fenced before its slot
 * is taken. Nothing on disk calls it dead yet, and our command has waited for long: so it must be
 * dead by what stands there now, and our own lease must not be over.
 */
static void fence_in_the_way(struct host *h, unsigned slot)
{
	struct job *j = &h->jobs[slot];
	struct slot_seen s;

	if (!h->env.dev->id.one_machine || watch_read_slot(h, slot, &s))
		return;
	if (is_of(j, &s) && watch_dead(h, &s) && host_lease_ok(h))
		fence_host(h, j, &s.hi);
}

static enum step take(struct host *h, unsigned slot)
{
	struct job *j = &h->jobs[slot];
	size_t len = h->env.geo->sector_bytes;
	struct slot_seen s;
	uint8_t *test, *set, *found;
	enum step step = STEP_RETRY;
	char name[HOST_LABEL_BYTES];
	enum ats_outcome o;
	int error = 0;

	watch_get(h, slot, &s);
	if (!watch_dead(h, &s) || !is_of(j, &s)) /* or it came back since, and is dead again */
		return STEP_DROP;
	test = dev_buf_alloc(len);
	set = dev_buf_alloc(len);
	found = dev_buf_alloc(len);
	memcpy(test, &s.rec, sizeof(s.rec));
	build(h, j, test, LUNFS_SLOT_RECOVERING, set);
	o = ats(h->ats, &j->sec, test, set, found, &error);
	if (ats_ok(o)) {
		step = taken(h, slot, &s, set);
	} else if (o == ATS_LOST_RACE) {
		note_now(h, slot, found);
		log_info("host-take-over-lost",
			 "%s was about to be recovered here, but its slot has changed: it beats "
			 "again, or another host was faster.",
			 host_label(&s.hi, name));
		step = STEP_DROP;
	} else if (o == ATS_DAMAGED || o == ATS_WENT_BACK) {
		step = STEP_DROP;
	} else if (o == ATS_ERROR && error == -EBUSY) {
		fence_in_the_way(h, slot);
	}
	free(test);
	free(set);
	free(found);
	return step;
}

/* ---- fence, replay -------------------------------------------------------------------------- */

/*
 * Others that are being recovered, too: any of them may have begun this recovery before, and be
 * stopped in the middle of a write. Who had and is FREE again was fenced before it came there.
 */
static enum step fence(struct host *h, unsigned slot)
{
	struct job *j = &h->jobs[slot];
	struct slot_seen r;

	mtx_lock(&h->mtx);
	j->pr_epoch = h->pr_epoch;
	mtx_unlock(&h->mtx);
	if (fence_host(h, j, &j->dead))
		return STEP_RETRY;
	for (unsigned i = 0; i < h->n; i++) {
		watch_get(h, i, &r);
		if (i != slot && r.valid && r.hi.state == LUNFS_SLOT_RECOVERING &&
		    fence_host(h, j, &r.hi))
			return STEP_RETRY;
	}
	return STEP_ON;
}

/*
 * Nothing of the dead can have landed since the replay began; else all is done again. An own
 * registration that was made anew in between proves nothing about the time before.
 */
static enum step check(struct host *h, unsigned slot)
{
	struct job *j = &h->jobs[slot];
	bool same;
	int r = host_wait_active(h);

	if (r)
		return STEP_RETRY;
	r = fence_check(h, &j->dead);
	mtx_lock(&h->mtx);
	same = j->pr_epoch == h->pr_epoch && !atomic_load(&h->conflict);
	mtx_unlock(&h->mtx);
	return r || !same ? STEP_BACK : STEP_ON;
}

static enum step replay(struct host *h, unsigned slot)
{
	struct job *j = &h->jobs[slot];
	uint64_t owner = LUNFS_OWNER(j->dead.generation, slot);
	char name[HOST_LABEL_BYTES];
	int r = host_wait_active(h);

	if (!r && slot_has_journal(h, slot))
		r = h->cb.replay(h->cb.ctx, slot, owner, j->dead.nonce);
	if (!r)
		r = dev_flush(h->env.dev);
	mtx_lock(&h->mtx);
	j->damaged = r == -EUCLEAN;
	mtx_unlock(&h->mtx);
	if (!r)
		return STEP_ON;
	if (j->failures % TELL_FAILURES == 0)
		log_err(
		    "host-replay-failed",
		    "The journal of %s could not be replayed (error %d); it is tried again, and "
		    "what that host had locked stays locked until then%s.",
		    host_label(&j->dead, name), r,
		    r == -EUCLEAN ? " and answers with an I/O error: unmount everywhere and run "
				    "fsck.lunfs"
				  : "");
	return STEP_RETRY;
}

/* ---- FREE ----------------------------------------------------------------------------------- */

static enum step set_free(struct host *h, unsigned slot)
{
	struct job *j = &h->jobs[slot];
	size_t len = h->env.geo->sector_bytes;
	uint8_t *set = dev_buf_alloc(len), *found = dev_buf_alloc(len);
	enum step step = STEP_RETRY;
	char name[HOST_LABEL_BYTES];
	enum ats_outcome o;

	mtx_lock(&h->rec_mtx);
	build(h, j, j->cur, LUNFS_SLOT_FREE, set);
	o = ats(h->ats, &j->sec, j->cur, set, found, NULL);
	mtx_unlock(&h->rec_mtx);
	if (ats_ok(o)) {
		note_now(h, slot, set);
		step = STEP_ON;
	} else if (o == ATS_LOST_RACE) {
		note_now(h, slot, found);
		log_info("host-recovery-moved",
			 "The slot of %s changed during its recovery by this host: another one has "
			 "ended it.",
			 host_label(&j->dead, name));
		step = STEP_DROP;
	} else if (o == ATS_DAMAGED || o == ATS_WENT_BACK) {
		step = STEP_DROP;
	}
	free(set);
	free(found);
	return step;
}

/* ---- the thread ----------------------------------------------------------------------------- */

static void tell_times(struct host *h, const struct job *j)
{
	char name[HOST_LABEL_BYTES];

	log_info(
	    "host-recovery-took",
	    "%s is recovered, and what it had locked can be had again: silent for %llu ms when "
	    "it was taken for dead, then fenced in %llu ms, its journal replayed in %llu ms, the "
	    "rest in %llu ms.",
	    host_label(&j->dead, name), (unsigned long long)(j->silent_ns / MS_NS),
	    (unsigned long long)((j->fenced_ns - j->taken_ns) / MS_NS),
	    (unsigned long long)((j->replayed_ns - j->fenced_ns) / MS_NS),
	    (unsigned long long)((host_now(h) - j->replayed_ns) / MS_NS));
}

/* Step @stage of the recovery in @slot was done. */
static void note_times(struct host *h, unsigned slot, enum job_stage stage)
{
	struct job *j = &h->jobs[slot];

	if (stage == JOB_FENCE)
		j->fenced_ns = host_now(h);
	else if (stage == JOB_REPLAY)
		j->replayed_ns = host_now(h);
	else if (stage == JOB_FREE)
		tell_times(h, j);
}

static enum step do_step(struct host *h, unsigned slot, enum job_stage stage)
{
	switch (stage) {
	case JOB_TAKE:
		return take(h, slot);
	case JOB_FENCE:
		return fence(h, slot);
	case JOB_REPLAY:
		return replay(h, slot);
	case JOB_CHECK:
		return check(h, slot);
	default:
		return set_free(h, slot);
	}
}

/* mtx held. */
static void after_step(struct host *h, struct job *j, enum step step)
{
	uint64_t wait = h->cfg.beat_ms * MS_NS / 4;

	if (step == STEP_ON) {
		j->stage = j->stage == JOB_FREE ? JOB_NONE : j->stage + 1;
		j->failures = 0;
	} else if (step == STEP_DROP) {
		j->stage = JOB_NONE;
	} else {
		if (step == STEP_BACK)
			j->stage = JOB_FENCE;
		j->next_ns = host_now(h) + (wait << (j->failures < 4 ? j->failures : 4));
		j->failures++;
	}
	cond_broadcast(&h->changed);
}

/* The job whose turn it is, or h->n and when to look again. mtx held. */
static unsigned pick(struct host *h, uint64_t *wake)
{
	uint64_t now = host_now(h);

	*wake = CLOCK_FOREVER;
	for (unsigned i = 0; i < h->n; i++) {
		if (h->jobs[i].stage == JOB_NONE)
			continue;
		if (h->jobs[i].next_ns <= now)
			return i;
		if (h->jobs[i].next_ns < *wake)
			*wake = h->jobs[i].next_ns;
	}
	return h->n;
}

void recover_main(void *arg)
{
	struct host *h = arg;

	mtx_lock(&h->mtx);
	while (!h->stop_recovery) {
		uint64_t wake = CLOCK_FOREVER;
		unsigned slot = host_check_lease(h) ? pick(h, &wake) : h->n;
		enum job_stage stage;
		enum step step;

		if (slot == h->n) {
			cond_wait(&h->rec_wake, &h->mtx, wake);
			continue;
		}
		stage = h->jobs[slot].stage;
		h->rec_step_ns = host_now(h) | 1;
		h->rec_slot = slot;
		mtx_unlock(&h->mtx);
		step = do_step(h, slot, stage);
		if (step == STEP_ON)
			note_times(h, slot, stage);
		mtx_lock(&h->mtx);
		h->rec_step_ns = 0;
		after_step(h, &h->jobs[slot], step);
	}
	for (unsigned i = 0; i < h->n; i++) {
		h->jobs[i].stage = JOB_NONE;
		h->jobs[i].barred = false;
		h->jobs[i].sec =
		    (struct ats_sector){0}; /* the next incarnation has another nonce */
	}
	mtx_unlock(&h->mtx);
}

/* ---- after a suspension --------------------------------------------------------------------- */

static int renew_one(struct host *h, unsigned slot, uint8_t *set, uint8_t *found)
{
	struct job *j = &h->jobs[slot];
	char name[HOST_LABEL_BYTES];
	enum ats_outcome o;

	build(h, j, j->cur, LUNFS_SLOT_RECOVERING, set);
	o = ats(h->ats, &j->sec, j->cur, set, found, NULL);
	if (ats_ok(o)) {
		memcpy(j->cur, set, h->env.geo->sector_bytes);
		return 0;
	}
	if (o == ATS_LOST_RACE)
		host_set_lost(h, "the recovery of %s was taken from it during a suspension",
			      host_label(&j->dead, name));
	else if (o == ATS_DAMAGED || o == ATS_WENT_BACK) /* that does not get better by itself */
		host_set_lost(h,
			      "the slot of %s, which it was recovering, is damaged since a "
			      "suspension (run fsck.lunfs)",
			      host_label(&j->dead, name));
	else
		return -EAGAIN;
	return -EIO;
}

int recover_renew(struct host *h)
{
	size_t len = h->env.geo->sector_bytes;
	uint8_t *set = dev_buf_alloc(len), *found = dev_buf_alloc(len);
	int r = 0;

	mtx_lock(&h->rec_mtx);
	for (unsigned i = 0; i < h->n && !r; i++) {
		enum job_stage stage;

		mtx_lock(&h->mtx);
		stage = h->jobs[i].stage;
		mtx_unlock(&h->mtx);
		/* FREE writes nothing but its ATS. */
		if (stage == JOB_FENCE || stage == JOB_REPLAY || stage == JOB_CHECK)
			r = renew_one(h, i, set, found);
	}
	mtx_unlock(&h->rec_mtx);
	free(set);
	free(found);
	return r;
}
