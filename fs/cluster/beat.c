/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The beat: proves to the others, by ATS in our own slot, that this host lives, and to this host
 * that nobody has taken its slot. The lease counts from before the first submission of the beat
 * image that succeeded. A beat that ends after the lease did is a resumption: our slot still held
 * our own live image, so nobody can have taken a lock; recoveries of ours are renewed first.
 */
#include "cluster/host_impl.h"

#include <errno.h>
#include <string.h>

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
	active = host_now(h) < end && atomic_load(&h->state) == HOST_SUSPENDED;
	if (active) {
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

/* Another image than ours stands in our slot. */
static int slot_changed(struct host *h)
{
	char name[HOST_LABEL_BYTES];
	struct host_info hi;
	struct slot_seen by;

	if (slot_decode(h->env.geo, h->found, h->slot, &hi)) {
		host_set_lost(h, "its slot holds no valid record any more");
		return -EIO;
	}
	if (hi.state == LUNFS_SLOT_LIVE && hi.generation == h->generation && hi.nonce == h->nonce) {
		memcpy(h->cur, h->found, h->env.geo->sector_bytes);
		return -EAGAIN;
	}
	if (hi.state == LUNFS_SLOT_RECOVERING && hi.generation == h->generation) {
		watch_get(h, LUNFS_OWNER_SLOT(hi.recoverer), &by);
		host_set_lost(h,
			      "it did not beat for its lease of %u ms and is being recovered by %s",
			      h->cfg.lease_ms, host_label(&by.hi, name));
	} else {
		host_set_lost(h, "it did not beat for its lease of %u ms and was recovered",
			      h->cfg.lease_ms);
	}
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
	case ATS_FENCED:
		host_set_lost(h, "another host fenced it (reservation conflict)");
		return -EIO;
	default: /* unknown, unexplained, damaged, error: the lease tells how long that may last */
		return -EAGAIN;
	}
}

/* A daemon that beats but does not work is no use to anybody: it lets its lease run out. */
static bool works(struct host *h)
{
	uint64_t now = host_now(h);

	if (!h->cb.alive || h->temporary || h->cb.alive(h->cb.ctx)) {
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
	if (hi.state == LUNFS_SLOT_LIVE && hi.generation == h->generation)
		return 0;
	return slot_changed(h);
}

void beat_main(void *arg)
{
	struct host *h = arg;
	uint64_t next = host_now(h) + beat_ns(h);

	for (;;) {
		uint64_t start;
		bool stop;
		int r;

		mtx_lock(&h->mtx);
		while (!h->stop && !h->beat_now && host_now(h) < next)
			cond_wait(&h->beat_wake, &h->mtx, next);
		h->beat_now = false;
		stop = h->stop || atomic_load(&h->state) == HOST_LOST;
		mtx_unlock(&h->mtx);
		if (stop)
			return;
		start = host_now(h);
		r = works(h) ? beat_once(h) : look_at_own_slot(h);
		if (r == -EIO)
			return;
		next = r ? host_now(h) + beat_ns(h) / 4 : start + beat_ns(h);
	}
}
