/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Watching the others: the host table is read once a beat, just after the beats of the others are
 * due, for they all beat at about the same moment (beat.c). Where a beat was not seen at most a
 * step, an eighth of a beat, after it must have landed, the part of the table where there are hosts
 * is read every step, until it is: so a host's last beat is seen soon, and its death is noticed
 * hardly later than its lease ends; and whatever the others do, nothing is read more often than
 * that. Each record is kept with the local time at the end of the read that first showed it. A host
 * is dead when its record did not change for the lease it advertises itself, plus an allowance for
 * drift; the take-over's test image is that exact record, so it is itself the second look. A failed
 * read proves nothing: while the device was away from here it may have been so for all, and a host
 * that could not beat then has a whole lease from the first read that succeeds again. No clock of
 * another host is ever consulted.
 */
#include "cluster/host_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A lease is counted anew at most so often: a device that is slow for ever keeps no dead alive. */
#define WATCH_ANEW_MAX 8u

uint64_t watch_allowance_ns(const struct host_info *hi)
{
	uint64_t lease = hi->lease_ms * MS_NS;

	return lease + (lease >> HOST_DRIFT_SHIFT) + HOST_DRIFT_NS;
}

/* Without a good read for longer than this, a host might be called dead that only waits, as we do.
 */
static uint64_t blind_ns(const struct host *h)
{
	uint64_t lease = h->cfg.lease_ms * MS_NS, beat = h->cfg.beat_ms * MS_NS;

	return lease / 4 > beat + beat / 4 ? lease / 4 : beat + beat / 4;
}

static uint64_t step_ns(const struct host *h)
{
	return h->cfg.beat_ms * MS_NS / WATCH_STEPS_A_BEAT;
}

/*
 * When to look at a slot next. A live one whose beat landed at most a step ago beats again a beat
 * after that; looking a little earlier each time shows when it has moved. Any other is looked at
 * every step. mtx held.
 */
static void set_due(struct host *h, struct slot_seen *s, const struct host_info *was,
		    uint64_t was_read_ns, uint64_t now)
{
	uint64_t step = step_ns(h), beat = s->hi.beat_ms * MS_NS;
	bool next = s->hi.state == LUNFS_SLOT_LIVE && was->state == LUNFS_SLOT_LIVE &&
		    s->hi.generation == was->generation && s->hi.beat_seq == was->beat_seq + 1;

	if (next && now - was_read_ns <= step + step / 4)
		s->timed = true;
	else if (!next || now + step < s->due_ns)
		s->timed = false;
	if (!s->timed) {
		s->due_ns = now + step;
		return;
	}
	if (s->due_ns > now || s->due_ns + step < now)
		s->due_ns = now;
	s->due_ns += beat - (beat >> HOST_DRIFT_SHIFT);
}

void watch_get(struct host *h, unsigned slot, struct slot_seen *out)
{
	lunfs_assert(slot < h->n);
	mtx_lock(&h->mtx);
	*out = h->seen[slot];
	mtx_unlock(&h->mtx);
}

bool host_looks_dead(struct host *h, unsigned slot)
{
	struct slot_seen s;

	if (slot >= h->n)
		return false;
	watch_get(h, slot, &s);
	return s.valid && !s.damaged && s.hi.state != LUNFS_SLOT_FREE && watch_dead(h, &s);
}

/* ---- the table ------------------------------------------------------------------------------ */

/* What a changed record means to people; logged when no mutex is held any more. */
struct news {
	const char *event;
	char line[2 * HOST_LABEL_BYTES + 64];
};

/*
 * An incarnation that was there is no more: to be told. A recovery may begin and end between two
 * looks; then @setter, who set the image that stands there now, tells it from a clean end. mtx
 * held.
 */
static void note_over(struct host *h, struct slot_seen *s, const struct host_info *now,
		      uint64_t setter, struct news *news)
{
	const struct host_info *was = &s->hi;
	uint64_t owner = LUNFS_OWNER(was->generation, was->slot);
	bool freed = now->state == LUNFS_SLOT_FREE && now->generation == was->generation;
	bool left = was->state == LUNFS_SLOT_LIVE && (!freed || setter == owner);
	char name[HOST_LABEL_BYTES];

	if (was->state == LUNFS_SLOT_FREE ||
	    (now->state != LUNFS_SLOT_FREE && now->generation == was->generation))
		return;
	s->over = owner;
	cond_signal(&h->note_wake);
	news->event = left ? "host-left" : "host-recovered";
	snprintf(news->line, sizeof(news->line), left ? "%s has left." : "%s has been recovered.",
		 host_label(was, name));
}

static void note_change(struct host *h, struct slot_seen *s, const struct host_info *now,
			uint64_t setter, struct news news[2])
{
	char name[HOST_LABEL_BYTES], by[HOST_LABEL_BYTES];

	if (now->slot == h->slot)
		return;
	if (s->valid)
		note_over(h, s, now, setter, &news[0]);
	host_label(now, name);
	if (now->state == LUNFS_SLOT_LIVE && s->valid && now->generation == s->hi.generation) {
		s->moved = true;
	} else if (now->state == LUNFS_SLOT_LIVE && s->valid) {
		news[1].event = "host-joined";
		snprintf(news[1].line, sizeof(news[1].line), "%s has mounted the volume.", name);
	} else if (now->state == LUNFS_SLOT_RECOVERING &&
		   LUNFS_OWNER_SLOT(now->recoverer) != h->slot &&
		   (!s->valid || s->hi.recoverer != now->recoverer)) {
		host_label(&h->seen[LUNFS_OWNER_SLOT(now->recoverer)].hi, by);
		news[1].event = "host-recovering";
		snprintf(news[1].line, sizeof(news[1].line),
			 "%s is dead and being recovered by %s.", name, by);
	}
}

static void note_damaged(struct host *h, unsigned slot)
{
	bool first;

	mtx_lock(&h->mtx);
	first = !h->seen[slot].damaged;
	h->seen[slot].damaged = true;
	mtx_unlock(&h->mtx);
	if (first)
		log_err("slot-damaged",
			"Slot %u of the host table on %s fails its checks and is left alone; run "
			"fsck.lunfs when all hosts have unmounted.",
			slot, h->env.dev->id.name);
}

int watch_note(struct host *h, unsigned slot, const void *sector, uint64_t start_ns,
	       uint64_t end_ns)
{
	struct slot_seen *s = &h->seen[slot];
	const struct lunfs_slot_rec *rec = rec_of(sector);
	struct news news[2] = {{NULL}};
	struct host_info hi;

	if (slot_decode(h->env.geo, sector, slot, &hi)) {
		note_damaged(h, slot);
		return -EUCLEAN;
	}
	mtx_lock(&h->mtx);
	s->damaged = false;
	if (s->valid && !memcmp(&s->rec, rec, sizeof(*rec))) {
		if (end_ns > s->read_ns + blind_ns(h) && s->anew < WATCH_ANEW_MAX) {
			s->since_ns = end_ns;
			s->anew++;
		}
		if (s->read_ns < end_ns)
			s->read_ns = end_ns;
		if (end_ns >= s->due_ns)
			s->due_ns = end_ns + step_ns(h);
	} else if (!s->valid || start_ns >= s->read_ns ||
		   le64_get(rec->hdr.image_seq) > le64_get(s->rec.hdr.image_seq)) {
		struct host_info was = s->hi;
		uint64_t was_read_ns = s->read_ns;

		note_change(h, s, &hi, le64_get(rec->hdr.setter_owner), news);
		s->hi = hi;
		s->rec = *rec;
		s->since_ns = s->read_ns = end_ns;
		set_due(h, s, &was, was_read_ns, end_ns);
		s->anew = 0;
		s->valid = true;
		cond_broadcast(&h->changed);
	} /* else: a read that was overtaken by a later one */
	if (slot == h->slot && (hi.state != LUNFS_SLOT_LIVE || hi.generation != h->generation)) {
		h->slot_gone = h->beat_now = true; /* its ATS tells whether it was taken from us */
		cond_signal(&h->beat_wake);
	}
	mtx_unlock(&h->mtx);
	for (unsigned i = 0; i < 2; i++) {
		if (news[i].event)
			log_info(news[i].event, "%s", news[i].line);
	}
	return 0;
}

static int read_slots(struct host *h, unsigned first, unsigned n, uint8_t *buf)
{
	uint64_t start = host_now(h), end;
	int r = health_read(&h->env, geo_slot_off(first), n * LUNFS_SLOT_STRIDE, buf);

	if (r)
		return r;
	end = host_now(h);
	for (unsigned i = 0; i < n; i++)
		watch_note(h, first + i, buf + i * LUNFS_SLOT_STRIDE, start, end);
	return 0;
}

/* Others than the watch thread may: who claims, or finds a registration gone. */
int watch_read_table(struct host *h)
{
	uint8_t *buf = dev_buf_alloc(h->n * LUNFS_SLOT_STRIDE);
	int r = read_slots(h, 0, h->n, buf);

	free(buf);
	return r;
}

/* The slots between the first and the last that another host is known to hold. */
static void read_others(struct host *h)
{
	unsigned first = h->n, last = 0;

	mtx_lock(&h->mtx);
	for (unsigned i = 0; i < h->n; i++) {
		if (i == h->slot || !h->seen[i].valid || h->seen[i].hi.state == LUNFS_SLOT_FREE)
			continue;
		first = first < i ? first : i;
		last = i;
	}
	mtx_unlock(&h->mtx);
	if (first < h->n)
		read_slots(h, first, last - first + 1, h->table_buf);
}

int watch_read_slot(struct host *h, unsigned slot, struct slot_seen *out)
{
	uint8_t *buf = dev_buf_alloc(h->env.geo->sector_bytes);
	uint64_t start = host_now(h);
	int r = health_read(&h->env, geo_slot_off(slot), h->env.geo->sector_bytes, buf);

	if (!r)
		r = watch_note(h, slot, buf, start, host_now(h));
	free(buf);
	if (!r)
		watch_get(h, slot, out);
	return r;
}

bool watch_ended_cleanly(const struct slot_seen *s)
{
	return s->hi.state == LUNFS_SLOT_FREE &&
	       le64_get(s->rec.hdr.setter_owner) == LUNFS_OWNER(s->hi.generation, s->hi.slot);
}

/* ---- deaths --------------------------------------------------------------------------------- */

/* Has the recovering host's incarnation left its live generation? */
static bool recoverer_over(struct host *h, uint64_t recoverer)
{
	struct slot_seen r;

	watch_get(h, LUNFS_OWNER_SLOT(recoverer), &r);
	if (!r.valid || r.hi.generation < LUNFS_OWNER_GEN(recoverer))
		return false;
	return r.hi.generation > LUNFS_OWNER_GEN(recoverer) || r.hi.state != LUNFS_SLOT_LIVE;
}

bool watch_dead(struct host *h, const struct slot_seen *s)
{
	uint64_t now;

	if (!s->valid || s->hi.slot == h->slot)
		return false;
	switch (s->hi.state) {
	case LUNFS_SLOT_LIVE:
		if (h->env.dev->id.one_machine && slot_owner_proven_gone(&s->hi))
			return true;
		now = host_now(h);
		return now >= s->since_ns + watch_allowance_ns(&s->hi) &&
		       now <= s->read_ns + blind_ns(h);
	case LUNFS_SLOT_RECOVERING:
		return s->hi.recoverer == host_owner(h) || recoverer_over(h, s->hi.recoverer);
	default:
		return false;
	}
}

/* Hand the dead to the recovery thread; returns when the next one may die. */
static uint64_t find_dead(struct host *h)
{
	uint64_t next = CLOCK_FOREVER;

	for (unsigned i = 0; i < h->n; i++) {
		struct slot_seen s;

		watch_get(h, i, &s);
		if (!s.valid || i == h->slot || s.hi.state == LUNFS_SLOT_FREE)
			continue;
		if (watch_dead(h, &s)) {
			mtx_lock(&h->mtx);
			recover_begin(h, i);
			mtx_unlock(&h->mtx);
		} else if (s.hi.state == LUNFS_SLOT_LIVE) {
			uint64_t due = s.since_ns + watch_allowance_ns(&s.hi);

			if (due > host_now(h) && due < next) /* else the next good read decides */
				next = due;
		}
	}
	return next;
}

/* When another host's slot has to be looked at next. */
static uint64_t others_due(struct host *h)
{
	uint64_t due = CLOCK_FOREVER;

	mtx_lock(&h->mtx);
	for (unsigned i = 0; i < h->n; i++) {
		const struct slot_seen *s = &h->seen[i];

		if (i != h->slot && s->valid && s->hi.state != LUNFS_SLOT_FREE && s->due_ns < due)
			due = s->due_ns;
	}
	mtx_unlock(&h->mtx);
	return due;
}

uint64_t watch_leader_ns(struct host *h)
{
	uint64_t seen = 0;

	mtx_lock(&h->mtx);
	for (unsigned i = 0; i < h->slot && i < h->n && !seen; i++) {
		const struct slot_seen *s = &h->seen[i];

		if (s->valid && s->timed && s->hi.state == LUNFS_SLOT_LIVE &&
		    s->hi.beat_ms == h->cfg.beat_ms)
			seen = s->since_ns;
	}
	mtx_unlock(&h->mtx);
	return seen;
}

void watch_main(void *arg)
{
	struct host *h = arg;
	uint64_t beat = h->cfg.beat_ms * MS_NS, step = step_ns(h), table_ns = 0, read_ns = 0;
	uint64_t lease = h->cfg.lease_ms * MS_NS, next_pr = host_now(h) + lease;
	uint64_t next_read = 0;
	bool stop = false, kicked = false, full = true;

	while (!stop) {
		uint64_t start = host_now(h), wake, death = CLOCK_FOREVER;

		if (start >= next_read) {
			/* The second look after a beat that was late finds the newcomers, too. */
			if (!table_ns || full || start >= table_ns + beat - step) {
				full = start >= table_ns + beat - step;
				read_slots(h, 0, h->n, h->table_buf);
				table_ns = start;
			} else {
				read_others(h);
			}
			read_ns = start;
			kicked = false;
		}
		if (h->fence == LUNFS_FENCE_PR && start >= next_pr) {
			if (host_lease_ok(h) && !pr_intact(h))
				host_conflict(h);
			next_pr = start + lease;
		}
		if (h->cb.replay && host_lease_ok(h))
			death = find_dead(h);
		next_read = others_due(h);
		if (next_read > table_ns + beat)
			next_read = table_ns + beat;
		if (kicked || next_read < read_ns + step)
			next_read = read_ns + step;
		wake = next_read < start + step ? next_read : start + step;
		wake = death < wake ? death : wake;
		mtx_lock(&h->mtx);
		if (!h->stop && !h->look_now && host_now(h) < wake)
			cond_wait(&h->watch_wake, &h->mtx, wake);
		if (h->look_now) {
			next_read = read_ns + step;
			kicked = true;
		}
		h->look_now = false;
		stop = h->stop;
		mtx_unlock(&h->mtx);
	}
}

void host_kick(struct host *h)
{
	mtx_lock(&h->mtx);
	h->look_now = true;
	cond_signal(&h->watch_wake);
	mtx_unlock(&h->mtx);
}

void host_table(struct host *h, struct host_info *out, size_t n)
{
	lunfs_assert(n <= h->n);
	mtx_lock(&h->mtx);
	for (size_t i = 0; i < n; i++) {
		out[i] = h->seen[i].hi;
		out[i].slot = (unsigned)i;
	}
	mtx_unlock(&h->mtx);
}
