/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the layers below ask of the volume: the lock layer when a lock comes or goes, the host layer
 * when a host dies or the lease ends. All run on threads of those layers.
 */
#include "vol/vol_impl.h"

static bool is_anchor(uint64_t addr)
{
	for (int a = 0; a < LUNFS_ANCHORS; a++)
		if (addr == geo_anchor_cell((enum lunfs_anchor)a))
			return true;
	return false;
}

static void on_loaded(void *ctx, struct lock *l, const void *payload)
{
	struct volume *v = ctx;

	txn_loaded(v->txns, l, payload);
}

static void on_prepare(void *ctx, uint64_t addr)
{
	struct volume *v = ctx;

	if (v->running && !is_anchor(addr) && v->cb.prepare)
		v->cb.prepare(v->cb.ctx, addr);
}

static int on_invalidate(void *ctx, uint64_t addr, enum lock_mode keep)
{
	struct volume *v = ctx;

	if (!v->running || is_anchor(addr))
		return 0;
	if (keep == LOCK_SH && v->cb.downgrade)
		return v->cb.downgrade(v->cb.ctx, addr);
	return v->cb.invalidate ? v->cb.invalidate(v->cb.ctx, addr) : 0;
}

uint64_t vol_lease_left_ns(struct volume *v)
{
	return atomic_load(&v->lost) ? 0 : host_lease_left_ns(v->host);
}

static int on_flush(void *ctx, struct lock *l, enum lock_mode keep)
{
	struct volume *v = ctx;
	uint64_t addr = lock_addr(l);
	int rc;

	/* A write of unknown fate may still land under this lock, whichever one it is. */
	if (atomic_load(&v->lost) || txn_failed(v->txns))
		return -EIO;
	rc = txn_flush_guard(v->txns, addr, keep);
	if (rc || keep != LOCK_NONE)
		return rc;
	alloc_lock_gone(v->alloc, addr);
	if (addr == geo_anchor_cell(LUNFS_ANCHOR_VOLUME))
		atomic_store(&v->super_stale, true);
	return 0;
}

static uint64_t on_version(void *ctx, uint64_t addr)
{
	struct volume *v = ctx;

	return txn_guard_version(v->txns, addr);
}

static bool on_is_open(void *ctx, uint64_t addr)
{
	struct volume *v = ctx;

	return onodes_is_open(v->onodes, addr);
}

/* The first reason counts. */
static bool mark_lost(struct volume *v, const char *why)
{
	if (atomic_exchange(&v->lost, true))
		return false;
	if (v->cb.lost)
		v->cb.lost(v->cb.ctx, why);
	return true;
}

/*
 * The transactions end first: the caller is about to give back what it had reserved, and nobody may
 * commit that the space is his. Where they had failed before, or the slot is lost, that was told,
 * and may be all that is wrong: nobody asks the device any more then.
 */
void vol_fail(struct volume *v, const char *why)
{
	bool told = txn_failed(v->txns) || host_state(v->host) == HOST_LOST;

	txns_halt(v->txns);
	if (!told && mark_lost(v, why))
		log_err("volume-failed", "%s: the volume answers EIO from now on: %s.",
			v->env.dev->id.name, why);
}

static int on_replay(void *ctx, unsigned slot, uint64_t owner, uint64_t nonce)
{
	struct volume *v = ctx;
	bool failed = atomic_load(&v->lost) || txn_failed(v->txns);
	int rc = failed ? -EIO : txn_replay(v->txns, slot, owner, nonce);

	if (rc != -ETIMEDOUT)
		return rc;
	/* The dead host's slot stays as it is: whoever recovers both fences this one first. */
	vol_fail(v, "a write of a replay timed out and the device cannot say whether it will still "
		    "land");
	return -EIO;
}

static void on_recovered(void *ctx, unsigned slot, uint64_t owner)
{
	struct volume *v = ctx;

	(void)owner;
	locks_owner_over(v->locks, slot);
	orphans_scan(v->orphans);
}

static void on_suspended(void *ctx)
{
	vol_end_if_failed(ctx);
}

/* The host layer has told the admin. */
static void on_lost(void *ctx, const char *why)
{
	mark_lost(ctx, why);
}

/* A volume that has failed keeps all its locks: its slot is left to the others. */
static bool on_alive(void *ctx)
{
	struct volume *v = ctx;

	if (!v->running)
		return true;
	return !atomic_load(&v->lost) && locks_alive(v->locks) &&
	       (v->read_only || txns_alive(v->txns));
}

struct lock_cb vol_lock_cb(struct volume *v)
{
	return (struct lock_cb){.ctx = v,
				.loaded = on_loaded,
				.prepare = on_prepare,
				.invalidate = on_invalidate,
				.flush = on_flush,
				.version = on_version,
				.is_open = on_is_open};
}

struct host_cb vol_host_cb(struct volume *v)
{
	return (struct host_cb){.ctx = v,
				.replay = on_replay,
				.recovered = on_recovered,
				.suspended = on_suspended,
				.still_suspended = on_suspended,
				.lost = on_lost,
				.alive = on_alive};
}
