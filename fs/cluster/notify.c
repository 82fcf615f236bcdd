/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The thread that makes the upcalls of a host (suspended, resumed, lost, recovered), so that none
 * of them can hold up the beat. It also notices the end of the lease on time while all other
 * threads may be waiting for the device. Nothing is logged with h->mtx held: a log that blocks must
 * not hold up the beat either.
 */
#include "cluster/host_impl.h"

static void log_suspended(struct host *h, bool refused)
{
	if (refused)
		log_warn(
		    "host-refused",
		    "%s refused a command of host %s (slot %u, generation %llu) by its "
		    "reservation, or shows no key of it any more. It stops writing at once and "
		    "finds out why.",
		    h->env.dev->id.name, h->cfg.name, h->slot, (unsigned long long)h->generation);
	else
		log_warn(
		    "host-suspended",
		    "Host %s (slot %u, generation %llu) could not beat on %s for its lease of %u "
		    "ms: it stops writing and keeps everything until the device answers again.",
		    h->cfg.name, h->slot, (unsigned long long)h->generation, h->env.dev->id.name,
		    h->cfg.lease_ms);
}

static bool tell_state(struct host *h, bool *told_suspended)
{
	enum host_state st = atomic_load(&h->state);

	if (h->suspensions_told != h->suspensions && !*told_suspended) {
		bool refused = h->refused;

		h->suspensions_told = h->suspensions;
		*told_suspended = true;
		mtx_unlock(&h->mtx);
		log_suspended(h, refused);
		if (h->cb.suspended)
			h->cb.suspended(h->cb.ctx);
	} else if (*told_suspended && st == HOST_ACTIVE) {
		*told_suspended = false;
		mtx_unlock(&h->mtx);
		if (h->cb.resumed)
			h->cb.resumed(h->cb.ctx);
	} else if (st == HOST_LOST && !h->lost_told) {
		h->lost_told = true;
		mtx_unlock(&h->mtx);
		if (h->cb.lost)
			h->cb.lost(h->cb.ctx, h->lost_why);
	} else {
		return false;
	}
	mtx_lock(&h->mtx);
	return true;
}

static bool tell_over(struct host *h)
{
	for (unsigned i = 0; i < h->n; i++) {
		uint64_t owner = h->seen[i].over;

		if (!owner)
			continue;
		h->seen[i].over = 0;
		mtx_unlock(&h->mtx);
		if (h->cb.recovered)
			h->cb.recovered(h->cb.ctx, i, owner);
		mtx_lock(&h->mtx);
		return true;
	}
	return false;
}

/* What uses this host may fail while it is suspended, too, and nobody would hear of it. */
static void remind_suspended(struct host *h)
{
	mtx_unlock(&h->mtx);
	if (h->cb.still_suspended)
		h->cb.still_suspended(h->cb.ctx);
	mtx_lock(&h->mtx);
}

void notify_main(void *arg)
{
	struct host *h = arg;
	bool told_suspended = false;

	mtx_lock(&h->mtx);
	for (;;) {
		bool active = host_check_lease(h);
		uint64_t until_ns = CLOCK_FOREVER;

		if (!h->temporary && tell_state(h, &told_suspended))
			continue;
		if (h->stop)
			break;
		if (!h->temporary && tell_over(h))
			continue;
		if (active)
			until_ns = atomic_load(&h->lease_end_ns);
		else if (told_suspended && atomic_load(&h->state) == HOST_SUSPENDED)
			until_ns = host_now(h) + h->cfg.beat_ms * MS_NS;
		if (cond_wait(&h->note_wake, &h->mtx, until_ns) == -ETIMEDOUT && !active)
			remind_suspended(h);
	}
	mtx_unlock(&h->mtx);
}
