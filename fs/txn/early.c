/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Payloads that are read before anybody asks for them: with a lock, by the lock layer; since what
 * comes before them is being read; or since they were here when their lock went (refill.c). They
 * are kept as they are; mblk_get() judges each when it is wanted, and reads again what does not
 * pass.
 */
#include "txn/txn_impl.h"

#include <string.h>

static bool says(const void *payload, uint64_t addr, uint64_t guard_addr)
{
	const struct lunfs_blk_hdr *h = payload;

	return le32_get(h->magic) == LUNFS_BLK_MAGIC && le64_get(h->addr) == addr &&
	       le64_get(h->guard) == guard_addr;
}

static void keep(struct txns *t, struct cblk *b, uint64_t guard_addr)
{
	b->state = CBLK_VALID;
	b->unverified = true;
	cblk_adopt_header(b);
	cblk_set_guard(t, b, guard_addr);
	cblk_settle(t, b);
}

static uint64_t version_of(const void *payload)
{
	return le64_get(((const struct lunfs_blk_hdr *)payload)->version);
}

/*
 * Another thread, which came with the same lock while the one that got it was on its way here, may
 * have changed the block, and what it wrote may be in place by now.
 */
static bool is_newer(const struct cblk *b, const void *payload)
{
	return !b->unverified && b->version > version_of(payload);
}

void txn_loaded(struct txns *t, struct lock *guard, const void *payload)
{
	uint64_t addr = lock_addr(guard);
	struct cblk *b;

	if (!says(payload, addr, addr))
		return;
	mtx_lock(&t->mtx);
	b = cblk_find(t, addr);
	if (b && b->on_lru && !is_newer(b, payload)) {
		cblk_drop(t, b);
		b = NULL;
	}
	if (!b && recent_get(t, addr) <= version_of(payload)) {
		b = cblk_make(t, addr);
		memcpy(b->m.data, payload, LUNFS_PAYLOAD_BYTES);
		recent_put(t, addr, 0);
		keep(t, b, addr);
	}
	mtx_unlock(&t->mtx);
}

/* Those that are not here; t->mtx held. */
static size_t make_some(struct txns *t, const uint64_t *addr, size_t n, struct cblk **b)
{
	size_t made = 0;

	for (size_t k = 0; k < n; k++) {
		if (!cell_addr_ok(t->env.geo, addr[k]) || cblk_find(t, addr[k]))
			continue;
		b[made] = cblk_make(t, addr[k]);
		b[made++]->state = CBLK_LOADING;
	}
	return made;
}

size_t early_read(struct txns *t, uint64_t guard_addr, const uint64_t *addr, size_t n)
{
	struct cblk *b[MBLK_AHEAD_MAX];
	struct dev_io io[MBLK_AHEAD_MAX];
	size_t kept = 0;

	lunfs_assert(n <= MBLK_AHEAD_MAX);
	n = make_some(t, addr, n, b);
	if (!n)
		return 0;
	mtx_unlock(&t->mtx);
	for (size_t k = 0; k < n; k++)
		io[k] = (struct dev_io){.op = DEV_READ,
					.off_bytes = geo_payload_off(t->env.geo, b[k]->m.addr),
					.len_bytes = t->env.geo->payload_io_bytes,
					.buf = b[k]->m.data};
	atomic_fetch_add(&t->stats.cache_misses, n);
	txn_try_read(t, io, n); /* nobody may need them: who does asks again */
	mtx_lock(&t->mtx);
	for (size_t k = 0; k < n; k++) {
		b[k]->state = CBLK_VALID;
		if (!io[k].result && says(b[k]->m.data, b[k]->m.addr, guard_addr)) {
			keep(t, b[k], guard_addr);
			kept++;
		} else {
			cblk_drop(t, b[k]);
		}
	}
	cond_broadcast(&t->load_cv);
	return kept;
}

void mblk_read_ahead(struct txns *t, struct lock *guard, const uint64_t *addr, size_t n)
{
	mtx_lock(&t->mtx);
	if (n && !cblk_find(t, addr[0]))
		early_read(t, lock_addr(guard), addr, n);
	mtx_unlock(&t->mtx);
}
