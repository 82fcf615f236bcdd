/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of a host: made, its threads, its state and lease, the gate before writes, and the
 * end of an incarnation. How it begins is claim.c's.
 */
#include "cluster/host_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FREE_TRIES 2u
#define DRAIN_TRIES 4u

const char *host_label(const struct host_info *hi, char buf[HOST_LABEL_BYTES])
{
	snprintf(buf, HOST_LABEL_BYTES, "host %s (slot %u, generation %llu)",
		 hi->hostname[0] ? hi->hostname : "without a name", hi->slot,
		 (unsigned long long)hi->generation);
	return buf;
}

/* ---- made and freed ---------------------------------------------------------------------------
 */

static void config_fill(struct host *h, const struct host_config *cfg)
{
	const struct geo *g = h->env.geo;

	h->cfg = *cfg;
	h->cfg.name[LUNFS_HOSTNAME_BYTES - 1] = '\0';
	if (!h->cfg.name[0] && gethostname(h->cfg.name, LUNFS_HOSTNAME_BYTES - 1))
		snprintf(h->cfg.name, sizeof(h->cfg.name), "localhost");
	if (!h->cfg.beat_ms)
		h->cfg.beat_ms = g->beat_ms;
	if (!h->cfg.deadline_ms)
		h->cfg.deadline_ms = g->deadline_ms;
	if (!h->cfg.lease_ms)
		h->cfg.lease_ms = g->lease_ms;
	if (!h->cfg.claim_wait_ms)
		h->cfg.claim_wait_ms = 2 * h->cfg.lease_ms + 2 * h->cfg.deadline_ms + 1000;
}

static void sync_init(struct host *h)
{
	mtx_init(&h->mtx, h->env.clk);
	mtx_init(&h->rec_mtx, h->env.clk);
	cond_init(&h->changed, h->env.clk);
	cond_init(&h->beat_wake, h->env.clk);
	cond_init(&h->watch_wake, h->env.clk);
	cond_init(&h->rec_wake, h->env.clk);
	cond_init(&h->note_wake, h->env.clk);
}

int host_new(const struct env *env, struct ats *ats, const struct host_config *cfg,
	     const struct host_cb *cb, struct host **out)
{
	size_t len = env->geo->sector_bytes;
	struct host *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->env = *env;
	h->ats = ats;
	h->cb = *cb;
	h->n = geo_all_slots(env->geo);
	h->slot = LUNFS_NO_SLOT;
	config_fill(h, cfg);
	proc_identify(&h->self);
	if (!mem_is_zero(cfg->machine_id, sizeof(cfg->machine_id))) {
		memcpy(h->self.machine_id, cfg->machine_id, sizeof(h->self.machine_id));
		memcpy(h->self.boot_id, cfg->boot_id, sizeof(h->self.boot_id));
	}
	h->seen = calloc(h->n, sizeof(*h->seen));
	h->jobs = calloc(h->n, sizeof(*h->jobs));
	if (!h->seen || !h->jobs) {
		free(h->seen);
		free(h->jobs);
		free(h);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < h->n; i++)
		h->jobs[i].cur = dev_buf_alloc(len);
	h->table_buf = dev_buf_alloc(h->n * LUNFS_SLOT_STRIDE);
	h->cur = dev_buf_alloc(len);
	h->set = dev_buf_alloc(len);
	h->found = dev_buf_alloc(len);
	sync_init(h);
	dev_set_deadline(env->dev, h->cfg.deadline_ms);
	env->dev->conflict_ctx = h;
	env->dev->conflict = host_conflict;
	ats_set_names(ats, host_owner_name, h);
	*out = h;
	return 0;
}

void host_free(struct host *h)
{
	if (!h)
		return;
	lunfs_assert(!h->beat_task && !h->watch_task && !h->rec_task && !h->note_task);
	if (h->env.dev->conflict_ctx == h)
		h->env.dev->conflict = NULL;
	if (h->ats->name_ctx == h)
		ats_set_names(h->ats, NULL, NULL);
	watchdog_free(h->own_wd);
	cond_destroy(&h->changed);
	cond_destroy(&h->beat_wake);
	cond_destroy(&h->watch_wake);
	cond_destroy(&h->rec_wake);
	cond_destroy(&h->note_wake);
	mtx_destroy(&h->rec_mtx);
	mtx_destroy(&h->mtx);
	for (unsigned i = 0; i < h->n; i++)
		free(h->jobs[i].cur);
	free(h->seen);
	free(h->jobs);
	free(h->table_buf);
	free(h->cur);
	free(h->set);
	free(h->found);
	free(h);
}

/* ---- threads ----------------------------------------------------------------------------------
 */

int host_start_threads(struct host *h)
{
	struct clock *clk = h->env.clk;
	int r;

	h->stop = h->stop_recovery = h->beat_now = h->look_now = false;
	r = clk->ops->task_start(clk, "beat", beat_main, h, &h->beat_task);
	if (!r)
		r = clk->ops->task_start(clk, "watch", watch_main, h, &h->watch_task);
	if (!r)
		r = clk->ops->task_start(clk, "recover", recover_main, h, &h->rec_task);
	if (!r)
		r = clk->ops->task_start(clk, "notify", notify_main, h, &h->note_task);
	if (r)
		host_stop_threads(h);
	return r;
}

static void join(struct host *h, struct task **t)
{
	if (*t)
		h->env.clk->ops->task_join(h->env.clk, *t);
	*t = NULL;
}

/* Recovery ends first, while the beat still holds the lease for it. */
void host_stop_threads(struct host *h)
{
	mtx_lock(&h->mtx);
	h->stop_recovery = true;
	cond_broadcast(&h->rec_wake);
	cond_broadcast(&h->changed);
	mtx_unlock(&h->mtx);
	join(h, &h->rec_task);
	mtx_lock(&h->mtx);
	h->stop = true;
	cond_broadcast(&h->beat_wake);
	cond_broadcast(&h->watch_wake);
	cond_broadcast(&h->note_wake);
	mtx_unlock(&h->mtx);
	join(h, &h->beat_task);
	join(h, &h->watch_task);
	join(h, &h->note_task);
}

/* ---- state and lease ----------------------------------------------------------------------------
 */

bool host_check_lease(struct host *h)
{
	bool refused = atomic_load(&h->conflict);

	if (atomic_load(&h->state) != HOST_ACTIVE)
		return false;
	if (!refused && host_now(h) < atomic_load(&h->lease_end_ns))
		return true;
	if (h->giving_up) { /* nobody waits for the device to come back */
		atomic_store(&h->state, HOST_LOST);
		cond_broadcast(&h->changed);
		return false;
	}
	atomic_store(&h->state, HOST_SUSPENDED);
	h->suspensions++;
	h->refused = refused;
	cond_broadcast(&h->changed);
	cond_signal(&h->note_wake);
	return false;
}

/* From this store on no write starts; why, and whether for good, the beat thread finds out. */
void host_conflict(void *host)
{
	struct host *h = host;

	atomic_store(&h->conflict, true);
	mtx_lock(&h->mtx);
	host_check_lease(h);
	h->beat_now = true;
	cond_signal(&h->beat_wake);
	mtx_unlock(&h->mtx);
}

void host_set_lost(struct host *h, const char *fmt, ...)
{
	bool first;
	va_list ap;

	mtx_lock(&h->mtx);
	first = atomic_load(&h->state) != HOST_LOST;
	if (first) {
		va_start(ap, fmt);
		vsnprintf(h->lost_why, sizeof(h->lost_why), fmt, ap);
		va_end(ap);
		atomic_store(&h->state, HOST_LOST);
	}
	cond_broadcast(&h->changed);
	cond_broadcast(&h->note_wake);
	cond_broadcast(&h->rec_wake);
	cond_broadcast(&h->watch_wake);
	mtx_unlock(&h->mtx);
	if (first)
		log_err(
		    "host-lost",
		    "Host %s (slot %u, generation %llu) has lost its place on %s: %s. Everything "
		    "open here answers with an I/O error; unmount and mount again.",
		    h->cfg.name, h->slot, (unsigned long long)h->generation, h->env.dev->id.name,
		    h->lost_why);
}

enum host_state host_state(struct host *h)
{
	enum host_state st = atomic_load(&h->state);

	if (st == HOST_ACTIVE &&
	    (atomic_load(&h->conflict) || host_now(h) >= atomic_load(&h->lease_end_ns)))
		return HOST_SUSPENDED;
	return st;
}

bool host_lease_ok(struct host *h)
{
	return host_state(h) == HOST_ACTIVE;
}

uint64_t host_lease_left_ns(struct host *h)
{
	uint64_t end = atomic_load(&h->lease_end_ns), now = host_now(h);

	return host_state(h) == HOST_ACTIVE && now < end ? end - now : 0;
}

/* Wait until at least @need_ns of the lease are left. */
static int wait_lease(struct host *h, uint64_t need_ns)
{
	int r = 0;

	if (host_lease_left_ns(h) >= need_ns && host_lease_ok(h))
		return 0;
	mtx_lock(&h->mtx);
	while (!host_check_lease(h) || host_lease_left_ns(h) < need_ns) {
		enum host_state st = atomic_load(&h->state);

		if (st == HOST_LOST || st == HOST_NONE || h->stop_recovery) {
			r = -EIO;
			break;
		}
		cond_wait(&h->changed, &h->mtx, CLOCK_FOREVER);
	}
	mtx_unlock(&h->mtx);
	return r;
}

static uint64_t write_need_ns(const struct host *h)
{
	return h->fence == LUNFS_FENCE_PR ? 1 : h->cfg.deadline_ms * MS_NS;
}

int host_write_gate(struct host *h)
{
	return wait_lease(h, write_need_ns(h));
}

bool host_write_may(struct host *h)
{
	return host_lease_left_ns(h) >= write_need_ns(h);
}

/* Counted first, looked second: whoever registers anew has closed the gate before it looks here. */
int host_write_begin(struct host *h)
{
	for (;;) {
		int r;

		atomic_fetch_add(&h->writing, 1);
		if (host_write_may(h))
			return 0;
		atomic_fetch_sub(&h->writing, 1);
		r = host_write_gate(h);
		if (r)
			return r;
	}
}

bool host_write_try(struct host *h)
{
	atomic_fetch_add(&h->writing, 1);
	if (host_write_may(h))
		return true;
	atomic_fetch_sub(&h->writing, 1);
	return false;
}

void host_write_end(struct host *h)
{
	atomic_fetch_add(&h->written, 1);
	atomic_fetch_sub(&h->writing, 1);
}

uint64_t host_written(struct host *h)
{
	return atomic_load(&h->written);
}

int host_wait_active(struct host *h)
{
	return wait_lease(h, 1);
}

unsigned host_slot(const struct host *h)
{
	return h->slot;
}

uint64_t host_owner(const struct host *h)
{
	return h->generation ? LUNFS_OWNER(h->generation, h->slot) : 0;
}

uint64_t host_nonce(const struct host *h)
{
	return h->nonce;
}

enum lunfs_fence_mode host_fence(const struct host *h)
{
	return h->fence;
}

/* ---- the end ------------------------------------------------------------------------------------
 */

static void no_slot(struct host *h)
{
	mtx_lock(&h->mtx);
	h->slot = LUNFS_NO_SLOT;
	h->generation = 0;
	atomic_store(&h->state, HOST_NONE);
	cond_broadcast(&h->changed);
	mtx_unlock(&h->mtx);
}

/*
 * A slot is not freed while a command of its owner may still land: in the next possession of
 * whatever it was meant for.
 */
static int drain_own(struct host *h)
{
	struct dev *d = h->env.dev;
	int r = 0;

	if (!atomic_load(&d->unanswered))
		return 0;
	for (unsigned i = 0; i < DRAIN_TRIES; i++) {
		atomic_store(&d->unanswered, false);
		r = dev_drain(d);
		if (!r || r == -EOPNOTSUPP || r == -ENODEV)
			break;
	}
	if (r)
		atomic_store(&d->unanswered, true);
	return r;
}

static int not_released(struct host *h, const char *why)
{
	log_warn("host-not-released",
		 "Slot %u of host %s could not be set free (%s); the other hosts recover it when "
		 "its lease of %u ms is over.",
		 h->slot, h->cfg.name, why, h->cfg.lease_ms);
	fence_abandoned(h);
	no_slot(h);
	return -EIO;
}

/* Fenced, or did a reset of the target take our key? Then it is there again now. */
static bool may_free_again(struct host *h, enum ats_outcome o)
{
	if (o == ATS_FENCED && !h->sec.unresolved)
		return host_why_refused(h) == 0;
	return o == ATS_UNKNOWN || o == ATS_UNEXPLAINED;
}

int host_free_slot(struct host *h)
{
	struct lunfs_slot_rec *set = (void *)h->set;
	enum ats_outcome o = ATS_UNKNOWN;
	uint64_t now;

	if (drain_own(h))
		return not_released(h, "a command of it may still be on its way");
	for (unsigned i = 0; i < FREE_TRIES && (!i || may_free_again(h, o)); i++) {
		memcpy(h->set, h->cur, h->env.geo->sector_bytes);
		set->state = le16_make(LUNFS_SLOT_FREE);
		ats_stamp(h->ats, &set->hdr, &rec_of(h->cur)->hdr, LUNFS_ATS_SLOT,
			  h->sec.off_bytes);
		o = ats(h->ats, &h->sec, h->cur, h->set, h->found, NULL);
	}
	now = host_now(h);
	if (!ats_ok(o)) {
		if (h->pr_restored_ns) /* the slot may not be ours any more */
			pr_leave(h);
		return not_released(h, ats_outcome_name(o));
	}
	fence_end(h);
	watch_note(h, h->slot, h->set, now, now);
	no_slot(h);
	return 0;
}

int host_release(struct host *h)
{
	if (h->slot == LUNFS_NO_SLOT)
		return 0;
	host_stop_threads(h);
	if (atomic_load(&h->state) != HOST_LOST)
		return host_free_slot(h);
	fence_abandoned(h);
	return -EIO;
}

/*
 * Not LOST at once: beats go on while they land, and keep the watchdog quiet until all commands
 * that are under way have ended.
 */
static void give_up_locked(struct host *h)
{
	h->giving_up = true;
	if (!host_check_lease(h) && atomic_load(&h->state) == HOST_SUSPENDED)
		atomic_store(&h->state, HOST_LOST);
	cond_broadcast(&h->changed);
	cond_signal(&h->note_wake);
}

void host_give_up(struct host *h)
{
	mtx_lock(&h->mtx);
	h->lost_told = true;
	give_up_locked(h);
	mtx_unlock(&h->mtx);
}

void host_end(struct host *h, const char *why)
{
	mtx_lock(&h->mtx);
	if (!h->giving_up && atomic_load(&h->state) != HOST_LOST)
		snprintf(h->lost_why, sizeof(h->lost_why), "%s", why);
	give_up_locked(h);
	mtx_unlock(&h->mtx);
}

void host_abandon(struct host *h)
{
	mtx_lock(&h->mtx);
	h->lost_told = true;
	atomic_store(&h->state, HOST_LOST);
	cond_broadcast(&h->changed);
	mtx_unlock(&h->mtx);
	host_stop_threads(h);
	fence_abandoned(h);
}
