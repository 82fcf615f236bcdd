/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Giving free space back to the device, as fstrim(8) asks for it. One operation a piece of a group,
 * so that between two of them nothing is held: alloc/trim.c says why it is safe.
 */
#include "vol/vol_impl.h"

#define SETTLE_NS (5ull * 1000 * 1000 * 1000)

/* What the device refused had no effect; what had no answer must be known to have none any more. */
static int discard_one(struct volume *v, uint64_t off_bytes, uint64_t len_bytes)
{
	int rc = host_write_begin(v->host);

	if (rc)
		return rc;
	rc = dev_discard(v->env.dev, off_bytes, len_bytes);
	host_write_end(v->host);
	if (rc != -ETIMEDOUT || host_io_drain(&v->io) == 0)
		return rc;
	vol_fail(v, "a discard of free space timed out and the device cannot say whether it will "
		    "still land");
	return -ESHUTDOWN;
}

/* One command at a time: each only while this host may write. */
static int discard(void *ctx, uint64_t off_bytes, uint64_t len_bytes)
{
	struct volume *v = ctx;
	uint64_t most = v->env.dev->id.discard_max_bytes / BLK * BLK;
	int rc = 0;

	while (rc == 0 && len_bytes) {
		uint64_t n = most && most < len_bytes ? most : len_bytes;

		rc = discard_one(v, off_bytes, n);
		off_bytes += n;
		len_bytes -= n;
	}
	return rc;
}

static int trim_body(struct op *o, void *arg)
{
	struct alloc_trim *t = arg;
	int rc = alloc_trim(o->v->alloc, t);

	if (rc == -EAGAIN)
		o->want = t->want;
	return rc;
}

/* What was removed before this call is to be among it. */
static int settle(struct volume *v)
{
	unsigned long long freed;
	int rc;

	orphans_settle(v->orphans, SETTLE_NS);
	freed = atomic_load(&v->freed);
	if (freed == atomic_load(&v->freed_committed))
		return 0;
	rc = alloc_settle_frees(v->alloc);
	if (rc == 0)
		atomic_store(&v->freed_committed, freed);
	return rc;
}

static bool interrupted(const struct op_ctx *c)
{
	return c && c->intr && atomic_load(&c->intr->interrupted);
}

int vol_trim(struct volume *v, const struct op_ctx *c, uint64_t off_bytes, uint64_t len_bytes,
	     uint64_t min_bytes, uint64_t *done_bytes)
{
	uint64_t end = v->geo.end_blk, blk = off_bytes / BLK + (off_bytes % BLK != 0);
	uint64_t stop = len_bytes < UINT64_MAX - off_bytes ? off_bytes + len_bytes : UINT64_MAX;
	struct alloc_trim t;
	int rc;

	*done_bytes = 0;
	if (off_bytes / BLK >= v->geo.dev_blks || len_bytes < BLK)
		return -EINVAL;
	if (v->read_only)
		return -EROFS;
	if (!v->env.dev->id.has_discard)
		return -EOPNOTSUPP;
	if (stop / BLK < end)
		end = stop / BLK;
	alloc_trim_init(&t, blk, end);
	t.min_blks = min_bytes / BLK < UINT32_MAX ? (uint32_t)(min_bytes / BLK) : UINT32_MAX;
	t.discard = discard;
	t.ctx = v;
	rc = settle(v);
	while (rc == 0 && t.blk < t.end) {
		struct op o;

		op_init(&o, v, c);
		rc = interrupted(c) ? -EINTR : op_run(&o, trim_body, &t);
	}
	*done_bytes = t.done_blks * BLK;
	if (rc == -ESHUTDOWN)
		return -EIO;
	return rc == -ENOSPC ? -EBUSY : rc; /* other hosts kept taking the group */
}
